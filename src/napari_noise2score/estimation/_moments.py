"""How the noise of images grows with the signal, read off the images themselves.

Small patches of them, at random, are sorted by their brightness. Of those of one brightness the
variance of the noise and its third moment are told from the picture they are on; and likewise
from what motion and drift leave of it where shots of one scene are subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ._dct import ORDER, SIDE, WAVES
from ._noise_variance import COARSE, along, variances, wave_power

BINS = 12
# patches looked at in all, and the least number of a brightness that can be told anything from
MOST = 200_000
LEAST = 600
# ranges of brightness as shares of the patches: both ends say most of how the noise grows
EDGES = 0, 0.01, 0.03, *np.linspace(0, 1, BINS + 1)[1:-1], 0.97, 0.99, 1
# they differ by so many of the standard deviations that noise gives the mean of a patch: the
# darkest are so by chance, too, and what made them dark took of their noise
APART = 4.0
# the share of the patches of a brightness with the least structure, by the slope of the picture
# averaged over this radius in pixels; more would be biased by the noise itself
FLAT = 0.3
SMOOTH = 2.0
# fine waves are from one of these orders on, whichever tells the noise better, in frames and in
# what is left of subtracted shots
FINE, FINE_LEFT = (7, 9), (5,)
LEFT = WAVES[:, ORDER > 2]
# how far the third moment that pictures and growing noise have together is known, as a share of it
BIAS_ERROR = 0.5
# frames of one recording share their noise: one whose variance is larger by more than so many
# standard errors than it can be has grain
SURE = 1.5
# the share of a patch that may lie where recording ends: few photons are often none at all
CUT = 0.1
# a standard deviation that is less than this share of an offset is not told in single precision
LOST = 1e-3


@dataclass(frozen=True)
class Moments:
    """Mean, variance and third central moment of y, in ranges of brightness.

    Attributes
    ----------
    mean, variance, third : ndarray
        In grey levels, squared and cubed, shape ``(bins,)``; third is 0 where it is not known.
    variance_error, third_error : ndarray
        Standard errors, by the number of pixels; infinite where it is not known.
    spread : ndarray or float
        Standard deviation of the clean brightness within a range, where the variance is the mean
        of those of its pixels; 0 where it is that of a pixel of mean brightness.
    """

    mean: np.ndarray
    variance: np.ndarray
    third: np.ndarray
    variance_error: np.ndarray
    third_error: np.ndarray
    spread: np.ndarray | float = 0.0

    def over(self, curve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Give the mean of a function of brightness over each range."""
        if not np.any(self.spread):
            return curve(self.mean)
        return (curve(self.mean - self.spread) + curve(self.mean + self.spread)) / 2


def measure_moments(
    frames: Sequence[np.ndarray],
    noises: Sequence[np.ndarray] = (),
    skew: float = 0.0,
    cut: Sequence[np.ndarray] = (),
) -> Moments:
    """Measure the noise of frames by brightness.

    Parameters
    ----------
    frames : sequence of 2-D ndarray
        Noisy planes, in grey levels: single shots or means of some.
    noises : sequence of 2-D ndarray
        What is left of each frame's shots when they are subtracted from each other: noise of the
        variance of a single shot, which the mean says nothing of.
    skew : float
        Third moment of the noises as a share of that of a single shot. If it is 0, as for the
        difference of two shots, the frames tell it: the means of these two.
    cut : sequence of 2-D ndarray
        1 where recording ended in any of the shots: patches with much of it are left out, as is
        every patch that holds an infinite value.

    Returns
    -------
    Moments
        Of single frames, those of the frames that have the least noise.

    Raises
    ------
    ValueError
        If there are too few patches to tell anything.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scene = np.kron(rng.uniform(20, 200, (6, 6)), np.ones((40, 40)))
    >>> found = measure_moments([5.0 * rng.poisson(scene / 5)])
    >>> gain = found.variance / found.mean
    >>> bool(abs(np.median(gain) - 5) < 0.5)
    True
    """
    most = MOST // len(frames)
    found = _measured(frames, noises, skew, cut, most)
    if noises or len(frames) == 1:
        return found
    plain = _without_grain(frames, cut, most, found)
    if len(plain) == len(frames):
        return found
    cut = [cut[i] for i in plain] if cut else cut
    return _measured([frames[i] for i in plain], (), 0.0, cut, MOST // len(plain))


def _without_grain(
    frames: Sequence[np.ndarray], cut: Sequence[np.ndarray], most: int, together: Moments
) -> list[int]:
    """Give the numbers of the frames that have no more noise than any of the others shows.

    A picture can only add to the variance of the noise: no frame has less than all share.
    """
    ratios, errors = np.full((2, len(frames)), np.inf)
    for i, frame in enumerate(frames):
        try:
            own = _measured([frame], (), 0.0, cut[i : i + 1], most)
        except ValueError:
            continue  # it says nothing
        level = along(together.mean, together.variance, own.mean)
        weight = (level / own.variance_error) ** 2
        ratios[i] = (weight * own.variance / level).sum() / weight.sum()
        errors[i] = weight.sum() ** -0.5
    return [int(i) for i in np.flatnonzero(ratios <= (ratios + SURE * errors).min())]


def _measured(
    frames: Sequence[np.ndarray],
    noises: Sequence[np.ndarray],
    skew: float,
    cut: Sequence[np.ndarray],
    most: int,
) -> Moments:
    """Measure the noise of frames by brightness in so many patches of each."""
    chance = np.random.default_rng(0)
    sets = [
        random_patches(
            frame,
            noises[i] if noises else frame,
            noises[i] if skew else frame,
            cut[i] if cut else np.zeros(frame.shape, bool),
            most,
            chance,
        )
        for i, frame in enumerate(frames)
    ]
    light, spread, steep, noise, skewed = (np.concatenate(p) for p in zip(*sets, strict=True))
    edges = np.unique(np.quantile(light, EDGES)) if len(light) else np.zeros(2)
    ranges = [np.flatnonzero((light >= a) & (light <= b)) for a, b in pairwise(edges)]
    ranges = [inside for inside in ranges if len(inside) >= LEAST]
    if not ranges:
        raise ValueError("too few patches to tell their noise")
    # how much of the variance of a shot is left in the frames
    alone = 1.0 if not noises else 1 / 3 if skew else 1 / 2
    waves = [start <= ORDER for start in (FINE_LEFT if noises else FINE)]
    power = wave_power(noise, waves)

    def apart(inside: np.ndarray) -> float:
        return APART * math.sqrt(alone * float(np.quantile(power[2][inside], 0.3)) / SIDE**2)

    ranges = told_apart(ranges, light, apart)
    flat = [_flattest(inside, steep) for inside in ranges]
    if noises:
        varying, own = spread, 1 - 1 / SIDE**2
    else:  # by waves that did not sort the patches: those that did say too little of the calm
        own = COARSE.sum() / SIDE**2
        varying = own * power[1]
    mean, variance, error = variances(power, waves, light, varying, own * alone, ranges)
    # patches share pixels, but of their cubes only about half as much
    overlap = 1 + SIDE**2 / 2 * len(light) / sum(frame.size for frame in frames)
    alone = 0.0 if skew else alone
    third, third_error = np.array(
        [_third(skewed[i], light[i], mean, variance, alone, overlap) for i in flat]
    ).T
    share = skew or (0.25 if noises else 1.0)
    kept = (variance > 0) & np.isfinite(variance)
    if not kept.any():
        raise ValueError("too few patches to tell their noise")
    parts = mean, variance, third / share, error, third_error / share
    return Moments(*(part[kept] for part in parts))


def random_patches(
    frame: np.ndarray,
    noise: np.ndarray,
    skewed: np.ndarray,
    cut: np.ndarray,
    most: int,
    chance: np.random.Generator,
) -> tuple[np.ndarray, ...]:
    """Give brightness, its variance and slope in random patches, and their pixels in two planes."""
    # on a large offset the noise would be lost in single precision
    middle = float(np.median(frame))
    shift = middle if abs(middle) * LOST > float(frame.std()) else 0.0
    off = (0.0, shift, shift if noise is frame else 0.0, shift if skewed is frame else 0.0)
    planes = [
        np.asarray(a - o if o else a, dtype=np.float32)
        for a, o in zip((cut, frame, noise, skewed), off, strict=True)
    ]
    views = [np.lib.stride_tricks.sliding_window_view(a, (SIDE, SIDE)) for a in planes]
    rows, columns = views[0].shape[:2]
    at = np.unravel_index(chance.permutation(rows * columns)[: 2 * most], (rows, columns))
    if np.any(cut):
        kept = np.flatnonzero(views[0][at].reshape(len(at[0]), -1).mean(1) <= CUT)
        at = at[0][kept], at[1][kept]
    at = at[0][:most], at[1][:most]
    values = [view[at].reshape(len(at[0]), SIDE**2) for view in views[1:3]]
    values.append(values[1] if skewed is noise else views[3][at].reshape(len(at[0]), SIDE**2))
    steep = slope(frame)[SIDE // 2 :, SIDE // 2 :][at]
    light = values[0].mean(1)
    light = light.astype(np.float64) + shift if shift else light
    return light, values[0].var(1), steep, values[1], values[2]


def told_apart(
    ranges: Sequence[np.ndarray], light: np.ndarray, apart: Callable[[np.ndarray], float]
) -> list[np.ndarray]:
    """Join ranges of brightness that differ by no more than the noise of what tells it.

    What is sorted by noise shows how its variance goes with itself, and not with the signal.

    Parameters
    ----------
    ranges : sequence of ndarray
        The numbers of what lies in each range, the darkest first.
    light : ndarray
        Brightness.
    apart : callable
        From a range to how far above its mean that of the next has to be.

    Returns
    -------
    list of ndarray
    """
    joined = [ranges[0]]
    for inside in ranges[1:]:
        if light[inside].mean() - light[joined[-1]].mean() < apart(joined[-1]):
            joined[-1] = np.concatenate([joined[-1], inside])
        else:
            joined.append(inside)
    return joined


def _flattest(inside: np.ndarray, steep: np.ndarray) -> np.ndarray:
    return inside[steep[inside] <= np.quantile(steep[inside], FLAT)]


def _third(
    patches: np.ndarray,
    light: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    share: float,
    overlap: float,
) -> tuple[float, float]:
    """Third central moment of the noise of flat patches, and its standard error.

    The share is that of the variance of a shot which noise has in patches of a picture, 0 if the
    patches are those of noise alone.
    """
    level = along(mean, variance, np.append(light, light.mean()))
    onto = LEFT @ LEFT.T if not share else _directions(patches)
    left = (patches - patches.mean(0)) @ onto
    # of pixel j is left Σ onto_ij n_i, whose third moment is Σ onto_ij³ times that of n
    weight = (onto**3).sum(0)
    each = (left * left * left) @ (weight / (weight @ weight))
    # in units of what it is at the brightness, as noise grows within a range, too
    each = each * (level[-1] / level[:-1]) ** 1.5
    error = float(each.std() * np.sqrt(overlap / len(each)))
    bias = unsure = 0.0
    if share:
        # what is left of the picture, and how it goes with the picture of each pixel
        picture = max(float((left**2).mean() / (onto**2).sum(0).mean()) - share * level[-1], 0.0)
        held = left.T @ (patches - patches.mean(0)) / len(left) - share * level[-1] * onto
        # noise is stronger where the picture is brighter: E (p + n)³ holds 3 cov(p, n²)
        rise = np.gradient(variance, mean) if len(mean) > 1 else np.zeros(1)
        tripled = 3 * share * float(np.interp(light.mean(), mean, rise))
        bias = tripled * float((onto**2 * held).sum(1) @ weight / (weight @ weight))
        unsure = math.hypot(picture**1.5, BIAS_ERROR * bias)
    return float(each.mean()) - bias, math.hypot(error, unsure)


def _directions(patches: np.ndarray) -> np.ndarray:
    """Give the projection onto the directions in which patches hold the least (Chen et al.)."""
    centred = patches - patches.mean(0)
    sizes, directions = np.linalg.eigh(centred.T @ centred / (len(patches) - 1))
    # the longest run of the smallest ones that is not skewed by a picture: mean equals median
    count = len(sizes)
    while count > 1 and sizes[:count].mean() > np.median(sizes[:count]):
        count -= 1
    return (directions[:, :count] @ directions[:, :count].T).astype(np.float32)


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
