"""How the noise of images grows with the signal, read off the images themselves.

Small patches of a picture are alike: their variation needs few directions, and what is left in all
others is noise. So the smallest eigenvalues of the covariance of the patches of one brightness are
the variance of the noise there (Chen, Zhu & Heng, ICCV 2015). What is left of structure where
shots of one scene are subtracted, by motion or drift, goes the same way. Of single frames the
finest cosine waves of patches are looked at, where the coarse ones are weak: few directions are
free of the picture there, and these are.
"""

from __future__ import annotations

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
# of patches of single frames, the share with the least power in coarse waves, and what counts as
# coarse and as fine: by the sum of the wave numbers, from 0 to 12
CALM = 0.15
COARSE, FINE = 4, 7
# patches with more fine power than others by so many of the standard deviations that others are
# below them hold detail; few photons scatter more than a normal distribution does
DETAILED = 4.0
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
    rows = []
    for low, high in pairwise(edges):
        inside = np.flatnonzero((light >= low) & (light <= high))
        if len(inside) < LEAST:
            continue
        flat = inside[flatness[inside] <= np.quantile(flatness[inside], FLAT)]
        variance, count = (
            _level(noise[inside])[:2] if differences else _fine(values[inside], light[inside])
        )
        if variance > 0:
            rows.append((light[inside].mean(), variance, *_skewness(values[flat]), count))
    if not rows:
        raise ValueError("too few patches to tell their noise")
    mean, variance, third, third_error, count = np.array(rows).T
    return Moments(mean, variance, third, variance * np.sqrt(2 / count), third_error)


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
    """Noise variance of patches, how many independent values it stands on, and its directions."""
    centred = patches - patches.mean(0)
    sizes, directions = np.linalg.eigh(centred.T @ centred / (len(patches) - 1))
    # the longest run of the smallest ones that is not skewed by a picture: mean equals median
    count = len(sizes)
    while count > 1 and sizes[:count].mean() > np.median(sizes[:count]):
        count -= 1
    # patches overlap: they hold no more values than pixels
    independent = len(patches) * count / SIDE**2
    return float(sizes[:count].mean()), independent, directions[:, :count]


def _fine(patches: np.ndarray, light: np.ndarray) -> tuple[float, float]:
    """Noise variance of patches of single frames, and how many independent values it stands on.

    Where a patch has little power in coarse waves it has little detail, and as the coarse waves of
    white noise know nothing of its fine ones, choosing by them does not choose the noise.
    """
    power, order, calm = _calm_power(patches)
    fine = power[:, order >= FINE].mean(1)
    # calm ones are the darker ones: the line through them is read at the middle of all
    away = light[calm] - light.mean()
    rows = np.stack([np.ones(len(away)), away], axis=1)
    kept = np.ones(len(fine), bool)
    for _ in range(20):
        level, growth = np.linalg.lstsq(rows[kept], fine[kept], rcond=None)[0]
        usual = np.maximum(rows @ (level, growth), level / 4)
        spread = 1 - np.quantile((fine / usual)[kept], 0.16)
        before, kept = kept, fine <= (1 + DETAILED * spread) * usual
        if (before == kept).all():
            break
    return float(level), len(fine) * (order >= FINE).sum() / SIDE**2


def _calm_power(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Power of the cosine waves of the patches with the least in coarse ones.

    Given are the power, shape (calm patches, waves), the sum of the wave numbers of each wave, and
    which patches are calm.
    """
    at = np.arange(SIDE)
    waves = np.cos(np.pi * at[:, None] * (at + 0.5) / SIDE) * np.sqrt(2 / SIDE)
    waves[0] /= np.sqrt(2)
    order = (at[:, None] + at).ravel()
    power = (patches @ np.kron(waves, waves).T.astype(np.float32)) ** 2
    coarse = power[:, (order > 0) & (order <= COARSE)].mean(1)
    calm = coarse <= np.quantile(coarse, CALM)
    return power[calm].astype(np.float64), order, calm


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
        power, order = _calm_power(values)[:2]
        # noise may grow with the signal: each patch counts alike
        power = np.median(power / power[:, order >= FINE].mean(1, keepdims=True), axis=0)
        finest, before = order > FINE + 1, (order > COARSE) & (order <= FINE)
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
