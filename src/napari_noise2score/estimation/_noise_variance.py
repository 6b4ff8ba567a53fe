"""The variance of noise by brightness, told from the picture it is on.

White noise has the same power in every wave of a patch. A picture has most of it in the coarse
ones, and where it has more in these it has more in the fine ones, too: groups of patches of one
brightness, sorted by structure, say how much, and so what is left without a picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.polynomial import Polynomial

from ._dct import ORDER, SIDE, SORTS, WAVES

# waves that are coarse, and half of them, which are not those that sort
COARSE = (ORDER > 0) & (ORDER <= 4)
SHOWING = COARSE & ~SORTS
# shares of the patches of a brightness, those of the least structure first
GROUPS = 0.06, 0.12, 0.2, 0.3, 0.45, 0.6, 0.8
# of pictures the fine waves have about this share of the power of the coarse ones, give or take
# this, and at most this: of photographs a tenth, of what a microscope blurs next to nothing
SHARE, SHARE_ERROR, MOST_SHARE, LEAST_SHARE = 0.1, 0.2, 0.4, 0.003
# how far that goes as the share in one part of an image says it of another
TRUSTED = 0.5
ROUNDS = 8
# the noise is at least this share of the least power of any group
LEAST = 0.2
# by no more ranges of brightness it is not told how variance bends
FEW = 3
# beside a variance a parabola is no less than this share of it, and there is no less than this
# share of that of the darkest or brightest anywhere; what is less than this of the middle one is
# next to nothing
FALL, DARKEST, NEXT_TO_NONE = 0.5, 0.02, 0.05


def wave_power(patches: np.ndarray, fine: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Give the mean power of each patch in the sorting, the coarse and each set of fine waves.

    Parameters
    ----------
    patches : ndarray
        Shape ``(patches, pixels)``.
    fine : sequence of ndarray
        The fine waves of each set, bool, shape ``(waves,)``.

    Returns
    -------
    list of ndarray
        Each of shape ``(patches,)``.
    """
    sets = [SORTS, SHOWING, *fine]
    weights = np.stack([s / s.sum() for s in sets], axis=1).astype(np.float32)
    parts = [(piece @ WAVES) ** 2 @ weights for piece in np.array_split(patches, 16)]
    return list(np.concatenate(parts).astype(np.float64).T)


def variances(
    power: Sequence[np.ndarray],
    fine: Sequence[np.ndarray],
    light: np.ndarray,
    spread: np.ndarray,
    alone: float,
    ranges: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the variance of the noise in ranges of brightness.

    Parameters
    ----------
    power, fine : sequence of ndarray
        As of `wave_power`.
    light, spread : ndarray
        Mean of each patch, and how its pixels vary about it, shape ``(patches,)``.
    alone : float
        How often the latter holds the variance of the noise, besides that of the picture.
    ranges : sequence of ndarray
        The numbers of the patches in each range.

    Returns
    -------
    mean, variance, error : ndarray
        Brightness, variance there, and its standard error, shape ``(ranges,)``.
    """
    sorting, *shown = power
    mean = np.array([light[inside].mean() for inside in ranges])
    variance = np.array([np.quantile(shown[1][inside], 0.3) for inside in ranges])
    # noise grows within a range, too: power is counted in units of what it is at the brightness
    for _ in range(3):
        level = along(mean, variance, light)
        groups = [_groups(inside[np.argsort(sorting[inside] / level[inside])]) for inside in ranges]
        count = np.array([[len(group) for group in row] for row in groups])
        levels, spreads, coarse, *parts = (
            np.array([[values[group].mean() for group in row] for row in groups])
            for values in (level, spread, *shown)
        )
        if len(mean) > FEW:
            # and the mean of the noise of light and dark pixels is not the noise of their mean
            bend = max(_parabola(mean, variance).deriv(2)(0) / 2, 0.0)
            levels += bend * np.maximum(spreads - alone * levels, 0)
        found = []
        for part, waves in zip(parts, fine, strict=True):
            # patches overlap: they hold no more values than pixels
            off = part * np.sqrt(2 * SIDE**2 / (count * waves.sum()))
            found.append(_without_pictures(coarse / levels, part / levels, off / levels))
        factors, offs = np.moveaxis(np.array(found), 1, 0)
        best = np.argmin(offs / factors, axis=0), np.arange(len(ranges))
        variance *= factors[best]
        error = variance * offs[best] / factors[best]
    return mean, variance, error


def _groups(order: np.ndarray) -> list[np.ndarray]:
    return np.split(order, [int(share * len(order)) for share in GROUPS])


def _without_pictures(
    coarse: np.ndarray, fine: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Power of the noise and its error, ``(ranges,)``, given that in coarse and in fine waves.

    They and the errors of the fine are those of groups of patches, shape ``(ranges, groups)``.
    """
    *_, share, told = _line(coarse, fine, error, SHARE, SHARE_ERROR)
    # the pictures of one data set are alike, dark or bright: what some tell goes for all
    own = SHARE
    for _ in range(ROUNDS):
        weight = 1 / (1 / told + own**2)
        own = (weight @ share + SHARE / SHARE_ERROR**2) / (weight.sum() + SHARE_ERROR**-2)
    own = max(own, LEAST_SHARE)
    level, off, *_ = _line(coarse, fine, error, own, own)
    return level, off


def _line(
    coarse: np.ndarray, fine: np.ndarray, error: np.ndarray, expected: float, unsure: float
) -> tuple[np.ndarray, ...]:
    """Power where a line through groups of patches has it alike in coarse and in fine waves.

    Its slope is the share that fine waves have of pictures, expected to be this, more or less.
    Gives the power and its error, the share, and what tells it (its inverse variance).
    """
    picture, share = np.maximum(coarse - fine, 0), np.full(len(fine), expected)
    for _ in range(ROUNDS):
        weight = 1 / (error**2 + (TRUSTED * share[:, None] * picture) ** 2)
        total = weight.sum(1)
        x, y = ((weight * power).sum(1) / total for power in (coarse, fine))
        away = weight * (coarse - x[:, None])
        told = np.maximum((away * coarse).sum(1), 1e-9)
        known = told + unsure**-2
        share = ((away * fine).sum(1) + expected / unsure**2) / known
        share = np.clip(share, 0, MOST_SHARE)
    level = np.maximum((y - share * x) / (1 - share), LEAST * fine.min(1))
    off = np.hypot(total**-0.5, (x - y) / (1 - share) * known**-0.5) / (1 - share)
    return level, off, share, told


def along(mean: np.ndarray, variance: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Give the variance at a brightness, between ranges and beyond them.

    Parameters
    ----------
    mean, variance : ndarray
        Of ranges of brightness, the darkest first.
    light : ndarray
        Brightness.

    Returns
    -------
    ndarray
        Of the shape of light. In between it bends as all do; beyond, it goes on straight.
    """
    level = np.interp(light, mean, variance)
    if len(mean) < 2:
        return level
    if len(mean) > FEW:
        curve = _parabola(mean, variance)
        at, beside = (np.maximum(curve(p), FALL * v) for p, v in ((mean, variance), (light, level)))
        level = np.interp(light, mean, variance / at) * beside
    slope = np.diff(variance) / np.maximum(np.diff(mean), 1e-9)
    level = np.where(light < mean[0], variance[0] + slope[0] * (light - mean[0]), level)
    level = np.where(light > mean[-1], variance[-1] + slope[-1] * (light - mean[-1]), level)
    return np.maximum(level, DARKEST * min(variance[0], variance[-1]))


def _parabola(mean: np.ndarray, variance: np.ndarray) -> Polynomial:
    """Fit how variance bends, all ranges of brightness alike but where there is next to none."""
    return Polynomial.fit(mean, variance, 2, w=1 / at_least_some(variance))


def at_least_some(variance: np.ndarray) -> np.ndarray:
    """Give variances by brightness, none of them next to nothing."""
    return np.maximum(variance, NEXT_TO_NONE * np.median(variance))
