"""How the noise of images grows with the signal, read off the images themselves.

Small patches of a picture are alike: their variation needs few directions, and what is left in all
others is noise. So the smallest eigenvalues of the covariance of the patches of one brightness are
the variance of the noise there (Chen, Zhu & Heng, ICCV 2015). What is left of structure where
shots of one scene are subtracted, by motion or drift, goes the same way. Of single frames the
finest cosine waves of patches are looked at, where the coarse ones are weak: few directions are
free of the picture there, and these are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

SIDE = 7
BINS = 12
# patches looked at in all, and the least number of a brightness that can be told anything from
MOST = 200_000
LEAST = 600
# the share of the patches of a brightness with the least structure, by the slope of the picture
# averaged over this radius in pixels; more would be biased by the noise itself
FLAT = 0.3
SMOOTH = 2.0
# waves of patches by the sum of their wave numbers, from 0 to 12: coarse up to this, fine from one of
# these on, whichever tells the noise better
COARSE, FINE = 4, (7, 9)
# half of the coarse waves sort the patches of single frames, the other half says how much picture
# there is; both are alike in direction and in scale
SORTING = (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (0, 4), (4, 0)
SORTED = 0.06, 0.12, 0.2, 0.3, 0.45, 0.6, 0.8
# of natural images the fine waves have about this share of the power of the coarse ones, give or
# take this; and how far that goes as the share in one part of an image says it of another
SHARE, SHARE_ERROR, TRUSTED = 0.1, 0.05, 0.5
# the share of patches with the least power in coarse waves
CALM = 0.15
# the share of a patch that may lie where recording ends: few photons are often none at all
CUT = 0.1
# how much more power waves before the finest have, of white noise and what is left of a picture
LEVEL = 1.2


@dataclass(frozen=True)
class Moments:
    """Mean, variance and third central moment of y, in ranges of brightness.

    Attributes
    ----------
    mean, variance, third : ndarray
        In grey levels, squared and cubed, shape ``(bins,)``; third is 0 where it is not known.
    variance_error, third_error : ndarray
        Standard errors, by the number of pixels; infinite where it is not known.
    """

    mean: np.ndarray
    variance: np.ndarray
    third: np.ndarray
    variance_error: np.ndarray
    third_error: np.ndarray


def measure_moments(
    frames: Sequence[np.ndarray],
    differences: Sequence[np.ndarray] = (),
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Moments:
    """Measure the noise of frames by brightness.

    Parameters
    ----------
    frames : sequence of 2-D ndarray
        Noisy planes, in grey levels.
    differences : sequence of 2-D ndarray
        Each frame's next shot less the frame, divided by √2. Without them the variance is that of
        the finest waves in the calmest patches of the frames.
    limits : tuple of float
        Grey levels at which recording ends: patches with many pixels there are left out.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If there are too few patches to tell anything.

    Notes
    -----
    The third moment is always that of the frames: in a difference of two it vanishes.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scene = np.kron(rng.uniform(20, 200, (6, 6)), np.ones((40, 40)))
    >>> found = measure_moments([5.0 * rng.poisson(scene / 5)])
    >>> gain = found.variance / found.mean
    >>> bool(abs(np.median(gain) - 5) < 0.5)
    True
    """
    chance = np.random.default_rng(0)
    sets = []
    for i, frame in enumerate(frames):
        share = MOST // len(frames)
        sets.append(_patches(frame, differences[i] if differences else None, limits, share, chance))
    light, flatness, values, noise = (np.concatenate(part) for part in zip(*sets, strict=True))
    edges = np.quantile(light, np.linspace(0, 1, BINS + 1)) if len(light) else np.zeros(2)
    ranges = [np.flatnonzero((light >= a) & (light <= b)) for a, b in pairwise(edges)]
    ranges = [inside for inside in ranges if len(inside) >= LEAST]
    if not ranges:
        raise ValueError("too few patches to tell their noise")
    if differences:
        variance, error = np.array([_level(noise[inside])[:2] for inside in ranges]).T
    else:
        variance, error = _fine(values, light, ranges)
    flat = [i[flatness[i] <= np.quantile(flatness[i], FLAT)] for i in ranges]
    mean = np.array([light[inside].mean() for inside in ranges])
    third, third_error = np.array([_skewness(values[inside]) for inside in flat]).T
    kept = variance > 0
    if not kept.any():
        raise ValueError("too few patches to tell their noise")
    return Moments(*(a[kept] for a in (mean, variance, third, error, third_error)))


def _patches(
    frame: np.ndarray,
    difference: np.ndarray | None,
    limits: tuple[float, float],
    most: int,
    chance: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Brightness and structure of random patches, their pixels, and those of the noise image."""
    frame = np.asarray(frame, dtype=np.float32)
    noise = frame if difference is None else np.asarray(difference, dtype=np.float32)
    # brightness and structure are those of the mean of both shots: their difference is independent
    # of it, and so patches are not chosen by the noise that is measured
    scene = frame if difference is None else frame + noise / np.float32(np.sqrt(2))
    views = [
        np.lib.stride_tricks.sliding_window_view(a, (SIDE, SIDE)) for a in (frame, noise, scene)
    ]
    rows, columns = views[0].shape[:2]
    at = np.unravel_index(chance.permutation(rows * columns)[: 2 * most], (rows, columns))
    steep = slope(scene)[SIDE // 2 :, SIDE // 2 :][at]
    values, other, light = (view[at].reshape(len(at[0]), -1) for view in views)
    second = 2 * light - values
    cut = [(a <= limits[0]) | (a >= limits[1]) for a in (values, second)]
    kept = np.flatnonzero(np.maximum(*(c.mean(1) for c in cut)) <= CUT)[:most]
    return light[kept].mean(1), steep[kept], values[kept], other[kept]


def _level(patches: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Noise variance of patches, its standard error, and its directions."""
    centred = patches - patches.mean(0)
    sizes, directions = np.linalg.eigh(centred.T @ centred / (len(patches) - 1))
    # the longest run of the smallest ones that is not skewed by a picture: mean equals median
    count = len(sizes)
    while count > 1 and sizes[:count].mean() > np.median(sizes[:count]):
        count -= 1
    # patches overlap: they hold no more values than pixels
    independent = len(patches) * count / SIDE**2
    variance = float(sizes[:count].mean())
    return variance, variance * math.sqrt(2 / independent), directions[:, :count]


def _fine(
    values: np.ndarray, light: np.ndarray, ranges: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Noise variance of patches of single frames in ranges of brightness, and its standard error.

    White noise has the same power in coarse waves as in fine ones. A picture has most of it in the
    coarse ones, and the more it has there, the more it has in the fine ones, too. So patches are
    sorted by structure, and from the power of both in each group the line is drawn to where they
    would be the same: there is no picture any more.
    """
    sorting, coarse, *fine = _wave_power(values)
    mean = np.array([light[inside].mean() for inside in ranges])
    variance = np.array([np.quantile(fine[0][inside], 0.3) for inside in ranges])
    error = np.zeros(len(ranges))
    # noise grows within a range, too: power is counted in units of what it is at the brightness
    for _ in range(3):
        level = _along(mean, variance, light)
        for i, inside in enumerate(ranges):
            order = inside[np.argsort(sorting[inside] / level[inside])]
            groups = np.split(order, [int(share * len(order)) for share in SORTED])
            count = np.array([len(group) for group in groups])
            power = [
                np.array([np.mean(p[group] / level[group]) for group in groups])
                for p in (coarse, *fine)
            ]
            found = [
                _without_picture(power[0], p, p * np.sqrt(2 * SIDE**2 / (count * waves)))
                for p, waves in zip(power[1:], FINE_WAVES, strict=True)
            ]
            factor, off = min(found, key=lambda pair: pair[1] / pair[0])
            variance[i] *= factor
            error[i] = variance[i] * off / factor
    return variance, error


def _without_picture(
    coarse: np.ndarray, fine: np.ndarray, error: np.ndarray
) -> tuple[float, float]:
    """Power of the noise in groups of patches, given theirs in coarse and in fine waves."""
    level, share = fine[0], SHARE
    picture = np.maximum(coarse - fine, 0)
    for _ in range(30):
        weight = 1 / (error**2 + (TRUSTED * share * picture) ** 2)
        away = coarse - level
        top = (weight * away * (fine - level)).sum() + SHARE / SHARE_ERROR**2
        share = min(max(top / ((weight * away**2).sum() + SHARE_ERROR**-2), 0.0), 4 * SHARE)
        alone = fine - share * (coarse - fine) / (1 - share)
        level = max((weight * alone).sum() / weight.sum(), 0.2 * fine.min())
    taken = share / (1 - share) * (weight * picture).sum() / weight.sum()
    return level, math.hypot(weight.sum() ** -0.5, TRUSTED / 2 * taken)


def _along(mean: np.ndarray, variance: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Variance at a brightness, along straight lines that go on beyond both ends."""
    level = np.interp(light, mean, variance)
    if len(mean) < 2:
        return level
    rise = np.diff(variance) / np.maximum(np.diff(mean), 1e-9)
    level += rise[0] * np.minimum(light - mean[0], 0) + rise[-1] * np.maximum(light - mean[-1], 0)
    return np.maximum(level, 0.02 * min(variance[0], variance[-1]))


def _waves() -> tuple[np.ndarray, np.ndarray]:
    """Cosine waves of a patch, shape (pixels, waves), and their two wave numbers."""
    at = np.arange(SIDE)
    waves = np.cos(np.pi * at[:, None] * (at + 0.5) / SIDE) * np.sqrt(2 / SIDE)
    waves[0] /= np.sqrt(2)
    return np.kron(waves, waves).T.astype(np.float32), np.stack(np.divmod(np.arange(SIDE**2), SIDE))


WAVES, NUMBERS = _waves()
ORDER = NUMBERS.sum(0)
FINE_WAVES = [int((ORDER >= least).sum()) for least in FINE]


def _wave_power(patches: np.ndarray) -> list[np.ndarray]:
    """Mean power of each patch in the sorting, the other coarse and each set of fine waves."""
    sorts = np.array([tuple(pair) in SORTING for pair in NUMBERS.T])
    sets = [sorts, (ORDER > 0) & (ORDER <= COARSE) & ~sorts, *(ORDER >= least for least in FINE)]
    weights = np.stack([s / s.sum() for s in sets], axis=1).astype(np.float32)
    parts = [(piece @ WAVES) ** 2 @ weights for piece in np.array_split(patches, 16)]
    return list(np.concatenate(parts).astype(np.float64).T)


def _skewness(patches: np.ndarray) -> tuple[float, float]:
    """Third central moment of the noise of flat patches, and its standard error."""
    variance, _, directions = _level(patches)
    onto = (directions @ directions.T).astype(np.float32)
    left = (patches - patches.mean(0)) @ onto
    cubes = left * left * left
    # of pixel j is left Σ onto_ij n_i, whose third moment is Σ onto_ij³ times that of n
    weight = (onto**3).sum(0)
    third = cubes.mean(0) @ weight / (weight @ weight)
    # patches share pixels, so this is on the safe side: as if each held but one
    error = np.sqrt(15 * variance**3 / len(patches))
    return float(third), float(error)


def levelled(frames: Sequence[np.ndarray]) -> bool:
    """Say whether finer waves of calm patches have no less power, as those of white noise do."""
    chance = np.random.default_rng(0)
    ratios = []
    for frame in frames:
        limits = -np.inf, np.inf
        _, _, values, _ = _patches(frame, None, limits, MOST // len(frames), chance)
        power = (values @ WAVES) ** 2
        coarse = power[:, (ORDER > 0) & (ORDER <= COARSE)].mean(1)
        power = power[coarse <= np.quantile(coarse, CALM)]
        # noise may grow with the signal: each patch counts alike
        power = np.median(power / power[:, ORDER >= FINE[0]].mean(1, keepdims=True), axis=0)
        finest, before = ORDER > FINE[0] + 1, (ORDER > COARSE) & (ORDER <= FINE[0])
        ratios.append(power[before].mean() / power[finest].mean())
    return 1 / LEVEL < float(np.median(ratios)) < LEVEL


def slope(frame: np.ndarray) -> np.ndarray:
    """Give how steep a picture is where its noise is averaged out, in grey levels per pixel."""
    return np.hypot(*np.gradient(blurred(frame, SMOOTH)))


def blurred(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a plane by a Gaussian, reflected at its edges."""
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    wide = np.pad(plane, reach, mode="reflect")
    rows = sum(t * wide[i : i + plane.shape[0]] for i, t in enumerate(taps))
    return sum(t * rows[:, i : i + plane.shape[1]] for i, t in enumerate(taps))
