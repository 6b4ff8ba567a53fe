"""Which noise model has the moments that were measured, and with what parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..noise.base import NoiseModel
from ..noise.gaussian import Gaussian
from ..noise.rescale import short
from ..noise.rician import Rician
from ..noise.speckle import Gamma, Rayleigh
from ..noise.sum import Sum
from ._families import FAMILIES, READ, Family
from ._moments import Moments
from ._noise_variance import NEXT_TO_NONE, at_least_some

# what a variance may be off besides its own error
SYSTEMATIC = 0.002
# and a third moment, as a share of the variance to the power of 3/2, of subtracted shots, of
# single frames and of shots of a scene that keeps still
SKEW_SYSTEMATIC, SKEW_STILL = {False: 0.02, True: 0.04}, 0.002
# and what all variances of these may be off together
COMMON, COMMON_STILL = {False: 0.01, True: 0.04}, 0.003
# further away than so many errors a bin is an outlier, and counts no more for being further still
OUTLIER = 3.0
# what a further parameter must explain, in squared errors; what single frames hold of a picture
# goes through many ranges of brightness, and A⁻¹ makes it as white as the noise
PRICE = {False: 6.0, True: 18.0}
# and what cameras have anyway: an offset above 0, multiplied counts, and read noise above an offset
PRICE_USUAL, PRICE_READ = {False: 6.0, True: 9.0}, {False: 4.0, True: 10.0}
STEPS = 60
# the fit has settled when a step gains no more than this, or none is short enough to gain anything
SETTLED = 1e-5
HOPELESS = 1e6
# what is added for pixels of a sign that cannot be, where there are more of them than this share
IMPOSSIBLE = 50.0
SOME = 1e-4
# by as many A⁻¹ may make what cannot be negative so, as its kernel is not exactly known
SOME_UNDONE = 5e-3


@dataclass(frozen=True)
class Fit:
    """A noise model fitted to moments.

    Attributes
    ----------
    noise : NoiseModel
        The model.
    misfit : float
        Sum of the squared deviations from the moments in units of their errors, outliers cut off,
        and a price for each parameter: the smaller, the likelier.
    intervals : dict
        For each parameter the ends of its 95 % confidence interval.
    """

    noise: NoiseModel
    misfit: float
    intervals: dict[str, tuple[float, float]]


def fit_families(
    moments: Moments,
    lower: bool = False,
    below: float | None = None,
    undone: bool = False,
    still: bool = False,
) -> list[Fit]:
    """Fit every family to moments, the likeliest first.

    Parameters
    ----------
    moments : Moments
        Mean, variance and third moment by brightness.
    lower : bool
        Whether variances may hold structure besides noise, as those of single frames do: too
        large a one then counts for less than too small a one.
    below : float, optional
        Share of the pixels that are negative, if they could be.
    undone : bool
        Whether the images were decorrelated first.
    still : bool
        Whether the moments are those of pixels of which nothing but noise differs.

    Returns
    -------
    list of Fit

    Examples
    --------
    >>> m = np.linspace(10, 200, 12)
    >>> found = Moments(m, 5 * m, 25 * m, 0.01 * m, 10 * m)
    >>> print(fit_families(found)[0].noise)
    poisson(gain=5)
    """
    widths = widths_of(moments, lower, still)
    common = COMMON_STILL if still else COMMON[lower]
    tried = [_fit(family, moments, widths, lower, common) for family in FAMILIES]
    fits = [fit for fit in tried if fit is not None]
    if lower:
        fits = [fit for fit in fits if not _is_grain(fit.noise, moments.variance)]
    if undone:
        against = [_no_magnitude(f.noise, below, PRICE[lower]) for f in fits]
    elif below is not None:
        away = -moments.mean / np.sqrt(moments.variance)
        expected = float(torch.special.ndtr(torch.from_numpy(away)).mean())
        against = [_wrong_sign(f.noise, below, expected) for f in fits]
    else:
        against = [0.0] * len(fits)
    fits = [replace(f, misfit=f.misfit + a) for f, a in zip(fits, against, strict=True)]
    return sorted(fits, key=lambda fit: fit.misfit)


def widths_of(moments: Moments, lower: bool, still: bool) -> tuple[np.ndarray, np.ndarray]:
    """Give the errors of variances and third moments, with what is not statistical in them.

    Parameters
    ----------
    moments : Moments
        Mean, variance and third moment by brightness.
    lower, still : bool
        As for `fit_families`.
    """
    skew = SKEW_STILL if still else SKEW_SYSTEMATIC[lower]
    # where there is next to no noise, rounding and cutting off are not in proportion to it
    part = at_least_some(moments.variance)
    width = np.hypot(moments.variance_error, SYSTEMATIC * part)
    return width, np.hypot(moments.third_error, skew * part**1.5)


def _is_grain(noise: NoiseModel, variance: np.ndarray) -> bool:
    """Say whether what adds to speckle is so little that the grain of a picture does as much.

    Speckle vanishes where it is dark, grain does not.
    """
    if not isinstance(noise, Sum) or not isinstance(noise.base, Gamma | Rayleigh):
        return False
    return noise.read.level**2 < NEXT_TO_NONE * float(np.median(variance))


def _no_magnitude(noise: NoiseModel, below: float | None, price: float) -> float:
    """Give what counts against magnitudes as what A⁻¹ was applied to.

    They differ from Gaussian noise in little but their signs, all other families in more: with
    signs that are not exactly known, that they are magnitudes counts as a parameter.
    """
    if not isinstance(noise, Rician):
        return 0.0
    return IMPOSSIBLE if below is not None and below > SOME_UNDONE else price


def _wrong_sign(noise: NoiseModel, below: float, expected: float) -> float:
    """Give what counts against a model that cannot be negative where pixels are, or the reverse."""
    signed = isinstance(noise, Sum | Gaussian) or noise.offset < 0
    if signed:
        return IMPOSSIBLE if expected > 10 * SOME and below < SOME else 0.0
    return IMPOSSIBLE if below > SOME and not noise.offset > 0 else 0.0


def _fit(
    family: Family,
    moments: Moments,
    widths: tuple[np.ndarray, np.ndarray],
    lower: bool,
    common: float,
) -> Fit | None:
    """Fit one family; None if its parameters run out of range."""
    m, v = moments.mean, moments.variance
    lowest, highest = np.array(family.lowest), np.array(family.highest)

    def residuals(at: np.ndarray, family: Family = family) -> np.ndarray:
        with np.errstate(all="ignore"):
            first = (v - moments.over(lambda m: family.variance(m, at))) / widths[0]
            second = (moments.third - moments.over(lambda m: family.third(m, at))) / widths[1]
        return np.nan_to_num(np.concatenate([first, second]), nan=1e6, posinf=1e6, neginf=-1e6)

    def weights(away: np.ndarray) -> np.ndarray:
        # Geman and McClure: beyond a few errors a bin has no more say
        scale = np.full(len(away), OUTLIER)
        if lower:
            scale[: len(v)] = np.where(away[: len(v)] > 0, OUTLIER, 2 * OUTLIER)
        return 1 / (1 + (away / scale) ** 2) ** 2

    at = np.clip(np.array(family.start(m, v), dtype=float), lowest, highest)
    if not np.isfinite(at).all():
        return None
    damping, away = 1e-3, residuals(at)
    for _ in range(STEPS):
        w = weights(away)
        slope = _slope(residuals, at, away)
        matrix = (slope.T * w) @ slope
        scale = np.diag(matrix) + 1e-12
        new = at - np.linalg.solve(matrix + damping * np.diag(scale), slope.T @ (w * away))
        new = np.clip(new, lowest, highest)
        moved = residuals(new)
        better = _misfit(away, weights) - _misfit(moved, weights)
        if better >= 0:
            at, away, damping = new, moved, max(damping / 5, 1e-9)
            if better < SETTLED:
                break
        elif damping > HOPELESS:
            break
        else:
            damping *= 5
    try:
        noise = family.build(*(short(value) for value in at))
    except ValueError:
        return None
    w = weights(away)
    # where the family does not quite fit, the errors are larger than the bins alone say
    excess = max(1.0, float((w * away**2).sum() / max(1.0, w.sum() - len(at))))
    # a camera may have an offset and read noise that it is simpler to do without
    whole = family.whole or family
    values = dict.fromkeys(whole.names, 0.0) | dict(zip(family.names, at, strict=True))

    def wider(at: np.ndarray) -> np.ndarray:
        # read noise shows by its square alone
        roots = [np.sqrt(a) if n == READ else a for n, a in zip(whole.names, at, strict=True)]
        return residuals(np.array(roots), whole)

    full = np.array([x**2 if name == READ else x for name, x in values.items()])
    slope = _slope(wider, full, away, 1e-3 * float(np.median(v)))
    matrix = (slope.T * w) @ slope
    unit = np.sqrt(np.diag(matrix)) + 1e-12
    inverse = np.linalg.pinv(matrix / np.outer(unit, unit)) / np.outer(unit, unit)
    spread = np.diag(inverse).clip(min=0) * excess
    # what all ranges of brightness have in common does not average out
    shared = np.concatenate([common * v / widths[0], np.zeros(len(v))])
    shift = inverse @ ((slope.T * w) @ shared)
    error = 1.96 * np.sqrt(spread + shift**2)
    intervals = {}
    for name, value, off, low in zip(whole.names, full, error, whole.lowest, strict=True):
        ends = float(max(value - off, low)), float(value + off)
        intervals[name] = (ends[0] ** 0.5, ends[1] ** 0.5) if name == READ else ends
    offset = values.get("offset", 0) > 0
    read = offset and values.get(READ, 0) > 0
    paid = PRICE[lower] * (len(at) - offset - read) + PRICE_READ[lower] * read
    paid += PRICE_USUAL[lower] * (offset + family.chosen)
    return Fit(noise, _misfit(away, weights) + paid, intervals)


def _misfit(away: np.ndarray, weights: Callable[[np.ndarray], np.ndarray]) -> float:
    """Sum of the squares of what is not an outlier, and about as much as its bound for what is."""
    return float((away**2 * np.sqrt(weights(away))).sum())


def _slope(
    residuals: Callable[[np.ndarray], np.ndarray],
    at: np.ndarray,
    away: np.ndarray,
    least: float = 1e-3,
) -> np.ndarray:
    columns = []
    for i, value in enumerate(at):
        moved = at.copy()
        moved[i] += 1e-4 * max(abs(value), least)
        columns.append((residuals(moved) - away) / (moved[i] - value))
    return np.stack(columns, axis=1)
