"""How the noise of images grows with the signal, read off the images themselves.

White noise has the same power in every cosine wave of a small patch. A picture has most of it in
the coarse ones, and where it has more in these it has more in the fine ones, too: groups of patches
of one brightness, sorted by structure, say how much, and so what is left without a picture. What
motion and drift leave of it where shots of one scene are subtracted goes the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.polynomial import Polynomial

SIDE = 7
BINS = 12
# patches looked at in all, and the least number of a brightness that can be told anything from
MOST = 200_000
LEAST = 600
# ranges of brightness as shares of the patches: both ends say most of how the noise grows
EDGES = 0, 0.01, 0.03, *np.linspace(0, 1, BINS + 1)[1:-1], 0.97, 0.99, 1
# they differ by so many of the standard deviations that noise gives the mean of a patch
APART = 3.0
# the share of the patches of a brightness with the least structure, by the slope of the picture
# averaged over this radius in pixels; more would be biased by the noise itself
FLAT = 0.3
SMOOTH = 2.0
# waves of patches by the sum of their wave numbers, from 0 to 12: coarse up to this, fine from one
# of these on, whichever tells the noise better, in frames and in what is left of subtracted shots
COARSE, FINE, FINE_LEFT = 4, (7, 9), (5,)
# half of the coarse waves sort the patches of single frames, the other half says how much picture
# there is; both are alike in direction and in scale
SORTING = (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (0, 4), (4, 0)
SORTED = 0.06, 0.12, 0.2, 0.3, 0.45, 0.6, 0.8
# of natural images the fine waves have about this share of the power of the coarse ones, give or
# take this; and how far that goes as the share in one part of an image says it of another
SHARE, SHARE_ERROR, TRUSTED = 0.1, 0.05, 0.5
# how far the third moment that pictures and growing noise have together is known, as a share of it
BIAS_ERROR = 0.5
# frames of one recording share their noise: one whose variance is larger by more than so many
# standard errors than it can be has grain
SURE = 2.0
# the share of a patch that may lie where recording ends: few photons are often none at all
CUT = 0.1


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
        Where recording ended in any of the shots, bool: patches with much of it are left out.

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
        level = _along(together.mean, together.variance, own.mean)
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
    power = _wave_power(noise, waves)

    def blur(inside: np.ndarray) -> float:
        return math.sqrt(alone * float(np.quantile(power[2][inside], 0.3)) / SIDE**2)

    ranges = told_apart(ranges, light, blur)
    flat = [_flattest(inside, steep) for inside in ranges]
    mean, variance, error = _variances(power, waves, light, spread, ranges, alone)
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
    planes = [np.asarray(a, dtype=np.float32) for a in (cut, frame, noise, skewed)]
    views = [np.lib.stride_tricks.sliding_window_view(a, (SIDE, SIDE)) for a in planes]
    rows, columns = views[0].shape[:2]
    at = np.unravel_index(chance.permutation(rows * columns)[: 2 * most], (rows, columns))
    if cut.any():
        kept = np.flatnonzero(views[0][at].reshape(len(at[0]), -1).mean(1) <= CUT)
        at = at[0][kept], at[1][kept]
    at = at[0][:most], at[1][:most]
    values = [view[at].reshape(len(at[0]), SIDE**2) for view in views[1:3]]
    values.append(values[1] if skewed is noise else views[3][at].reshape(len(at[0]), SIDE**2))
    steep = slope(frame)[SIDE // 2 :, SIDE // 2 :][at]
    return values[0].mean(1), values[0].var(1), steep, values[1], values[2]


def told_apart(
    ranges: Sequence[np.ndarray], light: np.ndarray, blur: Callable[[np.ndarray], float]
) -> list[np.ndarray]:
    """Join ranges of brightness that differ by no more than the noise of what tells it.

    What is sorted by noise shows how its variance goes with itself, and not with the signal.

    Parameters
    ----------
    ranges : sequence of ndarray
        The numbers of what lies in each range, the darkest first.
    light : ndarray
        Brightness.
    blur : callable
        From a range to the standard deviation that noise gives the brightness there.

    Returns
    -------
    list of ndarray
    """
    joined = [ranges[0]]
    for inside in ranges[1:]:
        if light[inside].mean() - light[joined[-1]].mean() < APART * blur(joined[-1]):
            joined[-1] = np.concatenate([joined[-1], inside])
        else:
            joined.append(inside)
    return joined


def _flattest(inside: np.ndarray, steep: np.ndarray) -> np.ndarray:
    return inside[steep[inside] <= np.quantile(steep[inside], FLAT)]


def _variances(
    power: Sequence[np.ndarray],
    sets: Sequence[np.ndarray],
    light: np.ndarray,
    spread: np.ndarray,
    ranges: Sequence[np.ndarray],
    alone: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brightness of ranges of patches, the variance of the noise there, and its standard error.

    The power is that in the sorting, the coarse, and each set of fine waves. The spread of the
    brightness within a patch holds the variance of the noise times the number last given.
    """
    sorting, coarse, *fine = power
    mean = np.array([light[inside].mean() for inside in ranges])
    variance = np.array([np.quantile(fine[0][inside], 0.3) for inside in ranges])
    error = np.zeros(len(ranges))
    # noise grows within a range, too: power is counted in units of what it is at the brightness
    for _ in range(3):
        level = _along(mean, variance, light)
        # and the mean of the noise of light and dark pixels is not the noise of their mean
        if len(mean) > 3:
            weight = 1 / np.maximum(variance, 0.05 * np.median(variance))
            bend = Polynomial.fit(mean, variance, 2, w=weight).deriv(2)(0) / 2
            level += max(bend, 0.0) * np.maximum(spread - alone * level, 0)
        for i, inside in enumerate(ranges):
            order = inside[np.argsort(sorting[inside] / level[inside])]
            groups = _groups(order)
            count = np.array([len(group) for group in groups])
            means = [
                np.array([np.mean(p[group] / level[group]) for group in groups])
                for p in (coarse, *fine)
            ]
            # patches overlap: they hold no more values than pixels
            found = [
                _without_picture(means[0], p, p * np.sqrt(2 * SIDE**2 / (count * waves.sum())))
                for p, waves in zip(means[1:], sets, strict=True)
            ]
            factor, off = min(found, key=lambda pair: pair[1] / pair[0])
            variance[i] *= factor
            error[i] = variance[i] * off / factor
    return mean, variance, error


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
SORTS = np.array([tuple(pair) in SORTING for pair in NUMBERS.T])
LEFT = WAVES[:, ORDER > 2]


def power_of(shared: np.ndarray) -> np.ndarray:
    """Give the power of each wave, from the mean product of each pair of pixels of a patch."""
    return np.einsum("iw,ij,jw->w", WAVES, shared, WAVES)


def _wave_power(patches: np.ndarray, fine: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Mean power of each patch in the sorting, the other coarse and each set of fine waves."""
    sets = [SORTS, (ORDER > 0) & (ORDER <= COARSE) & ~SORTS, *fine]
    weights = np.stack([s / s.sum() for s in sets], axis=1).astype(np.float32)
    parts = [(piece @ WAVES) ** 2 @ weights for piece in np.array_split(patches, 16)]
    return list(np.concatenate(parts).astype(np.float64).T)


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
    level = _along(mean, variance, np.append(light, light.mean()))
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
        along = left.T @ (patches - patches.mean(0)) / len(left) - share * level[-1] * onto
        # noise is stronger where the picture is brighter: E (p + n)³ holds 3 cov(p, n²)
        rise = np.gradient(variance, mean) if len(mean) > 1 else np.zeros(1)
        tripled = 3 * share * float(np.interp(light.mean(), mean, rise))
        bias = tripled * float((onto**2 * along).sum(1) @ weight / (weight @ weight))
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


def _groups(order: np.ndarray) -> list[np.ndarray]:
    return np.split(order, [int(share * len(order)) for share in SORTED])


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
