"""Which noise model has the moments that were measured, and with what parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.polynomial import Polynomial

from .base import NoiseModel
from .emccd import Emccd
from .gaussian import Gaussian
from .moments import Moments
from .poisson import Poisson
from .rician import Rician
from .speckle import Gamma, Nakagami, Rayleigh
from .sum import Sum
from .tweedie import Tweedie

# what a variance may be off besides its statistical error, by structure, rounding or motion: from
# the least to the most, as the variances scatter about a smooth curve of so many parameters
SYSTEMATIC = np.geomspace(0.005, 0.03, 8)
SMOOTH = 4
NEXT_TO_NONE = 0.05
# and a third moment, as a share of the variance to the power of 3/2, of subtracted shots and of
# single frames
SKEW_SYSTEMATIC = {False: 0.02, True: 0.05}
# and what all variances of subtracted shots, and of single frames, may be off together
COMMON = {False: 0.01, True: 0.04}
# further away than so many errors a bin is an outlier, and counts no more for being further still
OUTLIER = 3.0
# what a further parameter must explain, in squared errors; what single frames hold of a picture
# goes through many ranges of brightness
PRICE = {False: 6.0, True: 9.0}
# and more of them, where A⁻¹ has made it as white as the noise
PRICE_UNDONE = 18.0
STEPS = 60
# the fit has settled when a step gains no more than this, or none is short enough to gain anything
SETTLED = 1e-5
HOPELESS = 1e6
# what is added for pixels of a sign that cannot be, where there are more of them than this share
IMPOSSIBLE = 50.0
SOME = 1e-4
# by as many A⁻¹ may make what cannot be negative so, as its kernel is not exactly known
SOME_UNDONE = 5e-3

READ = "read noise"

Curve = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Family(NamedTuple):
    """A family of noise: its variance and third moment as functions of the mean.

    Attributes
    ----------
    names : tuple of str
        Its parameters, in the order in which ``build`` takes them.
    start : callable
        First parameters, from a straight line and a parabola through the variances.
    variance, third : callable
        Of mean and parameters.
    build : callable
        The noise model of parameters.
    lowest, highest : tuple of float
        Ends of the range of each parameter.
    chosen : int
        How many more parameters stand in it, chosen beforehand.
    whole : Family, optional
        The family of which this is a special case.
    """

    names: tuple[str, ...]
    start: Callable[[np.ndarray, np.ndarray], Sequence[float]]
    variance: Curve
    third: Curve
    build: Callable[..., Any]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    chosen: int = 0
    whole: Family | None = None


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
    moments: Moments, lower: bool = False, below: float | None = None, undone: bool = False
) -> list[Fit]:
    """Fit every family to moments, the likeliest first.

    Parameters
    ----------
    moments : Moments
        Mean, variance and third moment by brightness.
    lower : bool
        Whether variances may hold structure besides noise, as those of single frames do: too
        large a one then counts for less than too small a one.

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
    widths = _widths(moments, lower)
    price = PRICE_UNDONE if lower and undone else PRICE[lower]
    tried = [_fit(family, moments, widths, lower, price) for family in FAMILIES]
    fits = [fit for fit in tried if fit is not None]
    if lower:
        fits = [fit for fit in fits if not _is_grain(fit.noise, moments.variance)]
    if undone:
        against = [_no_magnitude(f.noise, below, price) for f in fits]
    elif below is not None:
        away = -moments.mean / np.sqrt(moments.variance)
        expected = float(torch.special.ndtr(torch.from_numpy(away)).mean())
        against = [_wrong_sign(f.noise, below, expected) for f in fits]
    else:
        against = [0.0] * len(fits)
    fits = [replace(f, misfit=f.misfit + a) for f, a in zip(fits, against, strict=True)]
    return sorted(fits, key=lambda fit: fit.misfit)


def _widths(moments: Moments, lower: bool) -> tuple[np.ndarray, np.ndarray]:
    """Give the errors of variances and third moments, with what is not statistical in them."""
    m, v = moments.mean, moments.variance
    # where there is next to no noise, rounding and cutting off are not in proportion to it
    part = np.maximum(v, NEXT_TO_NONE * np.median(v))
    width = np.hypot(moments.variance_error, SYSTEMATIC[-1] * part)
    if len(m) > 2 * SMOOTH:
        for share in SYSTEMATIC:
            width = np.hypot(moments.variance_error, share * part)
            smooth = Polynomial.fit(m, v, SMOOTH - 1, w=1 / width)(m)
            scatter = 1.48 * np.median(np.abs(v - smooth) / width)
            if scatter <= np.sqrt(1 - SMOOTH / len(m)):
                break
    return width, np.hypot(moments.third_error, SKEW_SYSTEMATIC[lower] * part**1.5)


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
    price: float,
) -> Fit | None:
    """Fit one family; None if its parameters run out of range."""
    m, v = moments.mean, moments.variance
    lowest, highest = np.array(family.lowest), np.array(family.highest)

    def residuals(at: np.ndarray, family: Family = family) -> np.ndarray:
        with np.errstate(all="ignore"):
            first = (v - family.variance(m, at)) / widths[0]
            second = (moments.third - family.third(m, at)) / widths[1]
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
        noise = family.build(*(float(f"{value:.4g}") for value in at))
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
    common = np.concatenate([COMMON[lower] * v / widths[0], np.zeros(len(v))])
    shift = inverse @ ((slope.T * w) @ common)
    error = 1.96 * np.sqrt(spread + shift**2)
    intervals = {}
    for name, value, off, low in zip(whole.names, full, error, whole.lowest, strict=True):
        ends = float(max(value - off, low)), float(value + off)
        intervals[name] = (ends[0] ** 0.5, ends[1] ** 0.5) if name == READ else ends
    return Fit(noise, _misfit(away, weights) + price * (len(at) + family.chosen), intervals)


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


def _line(m: np.ndarray, v: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of a straight line, relative errors alike."""
    rows = np.stack([m, np.ones_like(m)], axis=1) / v[:, None]
    slope, rest = np.linalg.lstsq(rows, np.ones_like(v), rcond=None)[0]
    return float(slope), float(rest)


def _share(m: np.ndarray, v: np.ndarray) -> float:
    """Coefficient of variation of multiplicative noise."""
    return float(np.sqrt(np.median(v / np.maximum(m, 1e-9) ** 2)))


def _camera_start(m: np.ndarray, v: np.ndarray) -> tuple[float, float, float]:
    gain, rest = _line(m, v)
    gain = max(gain, 0.01 * float(np.median(v)) / float(np.ptp(m) + 1))
    return gain, -rest / gain, 0.1 * float(np.sqrt(v.min()))


def _tweedie_start(m: np.ndarray, v: np.ndarray) -> tuple[float, float]:
    rows = np.stack([np.log(np.maximum(m, 1e-9)), np.ones_like(m)], axis=1)
    power, _ = np.linalg.lstsq(rows, np.log(v), rcond=None)[0]
    power = min(max(float(power), 1.1), 1.9)
    return power, float(np.exp(np.median(np.log(v) - power * rows[:, 0])))


# mean and standard deviation of η in y = (1 + η) x, and the skewness of its distribution
RAYLEIGH_MEAN, RAYLEIGH_STD = math.sqrt(math.pi / 2), math.sqrt(2 - math.pi / 2)
RAYLEIGH_SKEW = 2 * math.sqrt(math.pi) * (math.pi - 3) / (4 - math.pi) ** 1.5


def _rayleigh_share(sigma: float) -> float:
    return RAYLEIGH_STD * sigma / (1 + RAYLEIGH_MEAN * sigma)


def _rayleigh_sigma(share: float) -> float:
    share = min(share, 0.29)
    return share / (RAYLEIGH_STD - RAYLEIGH_MEAN * share)


def _nakagami(looks: float) -> tuple[float, float]:
    """Coefficient of variation and skewness of an amplitude of so many looks."""
    looks = max(looks, 0.5)
    first = math.exp(math.lgamma(looks + 0.5) - math.lgamma(looks)) / math.sqrt(looks)
    third = math.exp(math.lgamma(looks + 1.5) - math.lgamma(looks)) / looks**1.5
    variance = max(1 - first**2, 1e-12)
    return math.sqrt(variance) / first, (third - 3 * first + 2 * first**3) / variance**1.5


@cache
def _rice() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and third moment of magnitudes with σ = 1."""
    x = torch.linspace(0, 12, 121, dtype=torch.float64)
    edges = torch.linspace(0, 24, 1201, dtype=torch.float64)
    masses = Rician(1.0).masses(edges, x.clamp(min=1e-6))
    middle = (edges[1:] + edges[:-1]) / 2
    mean = masses @ middle
    away = middle - mean[:, None]
    return mean.numpy(), (masses * away**2).sum(1).numpy(), (masses * away**3).sum(1).numpy()


def _rician(which: int) -> Curve:
    def curve(m: np.ndarray, at: np.ndarray) -> np.ndarray:
        table = _rice()
        inside = np.interp(m / at[0], table[0], table[which])
        # darker than magnitudes of nothing can be
        missing = np.maximum(table[0][0] - m / at[0], 0) if which == 1 else 0.0
        return at[0] ** (which + 1) * (inside + missing)

    return curve


def _with_read(base: Any) -> Callable[..., Any]:
    """Build a model with read noise on top, unless that is next to nothing."""

    def build(*values: float) -> Any:
        *own, level = values
        return base(*own) + Gaussian(level) if level > 0 else base(*own)

    return build


INF = np.inf


def _cameras(base: Callable[..., Any], factor: float, skew: float, chosen: int) -> list[Family]:
    """Give counts with and without an offset and read noise.

    Their variance is ``factor × gain × signal``, their third moment ``skew × gain² × signal``.
    """

    def counts(names: tuple[str, ...], whole: Family | None) -> Family:
        def parts(at: np.ndarray) -> dict[str, Any]:
            return {"offset": 0.0, READ: 0.0} | dict(zip(names, at, strict=True))

        def start(m: np.ndarray, v: np.ndarray) -> list[float]:
            if names == ("gain",):
                return [float(np.median(v / np.maximum(m, 1e-9))) / factor]
            gain, offset, read = _camera_start(m, v)
            if "offset" not in names:
                gain, read = max(_line(m, v)[0], 1e-6), float(np.sqrt(v.min()))
            values = {"gain": gain / factor, "offset": offset, READ: read}
            return [values[name] for name in names]

        def variance(m: np.ndarray, at: np.ndarray) -> np.ndarray:
            own = parts(at)
            return factor * at[0] * (m - own["offset"]) + own[READ] ** 2

        def third(m: np.ndarray, at: np.ndarray) -> np.ndarray:
            return skew * at[0] ** 2 * (m - parts(at)["offset"])

        lowest = {"gain": 1e-9, "offset": -INF, READ: 0.0}
        return Family(
            names, start, variance, third, _with_read(base) if READ in names else base,
            tuple(lowest[name] for name in names), (INF,) * len(names), chosen, whole,
        )  # fmt: skip

    whole = counts(("gain", "offset", READ), None)
    fewer: list[tuple[str, ...]] = [("gain",), ("gain", "offset"), ("gain", READ)]
    return [*(counts(names, whole) for names in fewer), whole]


def _multiplied(excess: float) -> list[Family]:
    """Give the same of multiplied counts, whose excess noise is one parameter more."""

    def build(gain: float, offset: float = 0.0) -> Emccd:
        return Emccd(gain, offset, excess)

    return _cameras(build, excess, excess * (2 * excess - 1), 1)


FAMILIES = (
    Family(
        ("sigma",),
        lambda m, v: (float(np.sqrt(np.median(v))),),
        lambda m, at: np.full_like(m, at[0] ** 2),
        lambda m, at: np.zeros_like(m),
        Gaussian,
        (1e-9,), (INF,),
    ),
    Family(
        ("a", "b"),
        lambda m, v: _line(m, np.sqrt(v)),
        lambda m, at: (at[0] * m + at[1]) ** 2,
        lambda m, at: np.zeros_like(m),
        lambda a, b: Gaussian(a=a, b=b),
        (0.0, 1e-6), (INF, INF),
    ),
    *_cameras(Poisson, 1, 1, 0),
    # an EMCCD, and a photomultiplier as most are
    *_multiplied(2),
    *_multiplied(1.25),
    Family(
        ("alpha",),
        lambda m, v: (_share(m, v) ** -2,),
        lambda m, at: m**2 / at[0],
        lambda m, at: 2 * m**3 / at[0] ** 2,
        Gamma,
        (1.0,), (INF,),
    ),
    Family(
        ("alpha", READ),
        lambda m, v: (_share(m, v) ** -2, float(np.sqrt(v.min()) / 2)),
        lambda m, at: m**2 / at[0] + at[1] ** 2,
        lambda m, at: 2 * m**3 / at[0] ** 2,
        _with_read(Gamma),
        (1.0, 0.0), (INF, INF),
    ),
    Family(
        ("sigma",),
        lambda m, v: (_rayleigh_sigma(_share(m, v)),),
        lambda m, at: (_rayleigh_share(at[0]) * m) ** 2,
        lambda m, at: RAYLEIGH_SKEW * (_rayleigh_share(at[0]) * m) ** 3,
        Rayleigh,
        (1e-6,), (1.0,),
    ),
    Family(
        ("sigma", READ),
        lambda m, v: (_rayleigh_sigma(_share(m, v)), float(np.sqrt(v.min()) / 2)),
        lambda m, at: (_rayleigh_share(at[0]) * m) ** 2 + at[1] ** 2,
        lambda m, at: RAYLEIGH_SKEW * (_rayleigh_share(at[0]) * m) ** 3,
        _with_read(Rayleigh),
        (1e-6, 0.0), (1.0, INF),
    ),
    Family(
        ("m",),
        lambda m, v: (_share(m, v) ** -2 / 4,),
        lambda m, at: (_nakagami(at[0])[0] * m) ** 2,
        lambda m, at: _nakagami(at[0])[1] * (_nakagami(at[0])[0] * m) ** 3,
        Nakagami,
        (0.5,), (INF,),
    ),
    Family(
        ("sigma",),
        lambda m, v: (float(np.sqrt(v.max())),),
        _rician(1),
        _rician(2),
        Rician,
        (1e-9,), (INF,),
    ),
    Family(
        ("power", "dispersion"),
        _tweedie_start,
        lambda m, at: at[1] * np.maximum(m, 0) ** at[0],
        lambda m, at: at[0] * at[1] ** 2 * np.maximum(m, 0) ** (2 * at[0] - 1),
        Tweedie,
        # nearer to 1 and 2 it is but another name for photons and speckle
        (1.1, 1e-9), (1.9, INF),
    ),
)  # fmt: skip
