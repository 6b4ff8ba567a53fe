"""Fit every noise family to measured moments, and order the models by how likely they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from ..errors import UserError
from ..noise.base import Array, NoiseModel
from ..noise.family import NoiseFamily
from ..noise.fitting import READ_NOISE, FittedParameters
from ..noise.parameter import round_to_four_digits
from ..noise.registry import families
from ._clipped_moments import PixelsAtFloor, clipped_cumulants
from ._moments import Moments
from ._noise_variance import MIN_VARIANCE_SHARE, with_floor
from ._robust_fit import MAX_RESIDUAL, Problem, derivatives, minimize, misfit

# systematic errors, besides the statistical ones: of a variance, as a fraction of it
SYSTEMATIC_VARIANCE = 0.002
# of a third moment, as a fraction of the variance to the power of 3/2: of repeats, of single frames
# (key True), and of repeats of a scene that does not move
SYSTEMATIC_THIRD, SYSTEMATIC_THIRD_STATIC = {False: 0.02, True: 0.04}, 0.002
# and an error common to all variances, as a fraction of them
COMMON_ERROR, COMMON_ERROR_STATIC = {False: 0.01, True: 0.04}, 0.003
# by how much an additional parameter must reduce the misfit. Single frames (key True) contain image
# structure in many intensity bins, and A⁻¹ makes it as white as the noise
PARAMETER_PENALTY = {False: 6.0, True: 18.0}
# smaller for what cameras usually have: an offset above 0 or multiplied counts, and read noise with
# an offset
USUAL_PENALTY, READ_NOISE_PENALTY = {False: 6.0, True: 9.0}, {False: 4.0, True: 10.0}
# added to the misfit of a model for which the pixels have an impossible sign, if there are more of
# them than this fraction; A⁻¹ can make more of them negative, as its kernel is not exactly known
SIGN_PENALTY = 50.0
MAX_WRONG_SIGN, MAX_WRONG_SIGN_DECORRELATED = 1e-4, 5e-3
# negative pixels are missing if this many times that fraction was expected
MANY_EXPECTED = 10
# single pixels at the floor of the grey levels are clipped noise if there are more of them than
# this fraction, and this many times what the model predicts where it is darkest
MIN_AT_FLOOR, MANY_AT_FLOOR = 5e-3, 10
# largest distance of the darkest intensity from that without signal, in standard deviations
NEAR_DARKEST = 0.1
# a normal variable is within this many standard deviations in 95 % of cases
NORMAL_95 = 1.96
# the smallest change of a squared parameter in a derivative, as a fraction of the median variance
DERIVATIVE_SCALE = 1e-3


@dataclass(frozen=True)
class Fit:
    """A noise model fitted to moments.

    Attributes
    ----------
    noise : NoiseModel
        The model.
    misfit : float
        Sum of the squared residuals in units of their errors, limited for outliers, plus a penalty
        for each parameter; smaller means likelier.
    intervals : dict
        For each parameter, the two ends of its 95 % confidence interval.
    """

    noise: NoiseModel
    misfit: float
    intervals: dict[str, tuple[float, float]]


class Errors(NamedTuple):
    """Standard errors of moments, each of shape ``(bins,)``."""

    variance: Array
    third: Array


def fit_families(
    moments: Moments,
    single_frames: bool = False,
    negative_fraction: float | None = None,
    decorrelated: bool = False,
    static: bool = False,
    at_floor: PixelsAtFloor | None = None,
) -> list[Fit]:
    """Fit every family to moments, and return the fits, the likeliest first.

    Parameters
    ----------
    moments : Moments
        Mean, variance and third moment in intensity bins.
    single_frames : bool
        Whether variances may contain image structure besides noise; if so, a variance above the
        model counts less than one below it.
    negative_fraction : float, optional
        Fraction of the pixels that are negative; None if no pixel can be negative.
    decorrelated : bool
        Whether a correlation was removed beforehand.
    static : bool
        Whether the moments are those of repeats that differ only by noise.
    at_floor : PixelsAtFloor, optional
        Pixels at the floor of the grey levels, if there is one and no correlation was removed.

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
    errors = errors_of(moments, single_frames, static)
    common = COMMON_ERROR_STATIC if static else COMMON_ERROR[single_frames]
    if at_floor is not None and at_floor.share <= MIN_AT_FLOOR:
        at_floor = None
    tried = [
        _fit(family, fitted, moments, errors, single_frames, common, at_floor)
        for family in families()
        for fitted in family.fitted
    ]
    fits = [fit for fit in tried if fit is not None]
    if single_frames:
        fits = [fit for fit in fits if not _is_structure(fit.noise, moments.variance)]
    if decorrelated:
        penalty = PARAMETER_PENALTY[single_frames]
        against = [_magnitude_penalty(f.noise, negative_fraction, penalty) for f in fits]
    elif negative_fraction is not None:
        away = -moments.mean / np.sqrt(moments.variance)
        expected = float(torch.special.ndtr(torch.from_numpy(away)).mean())
        against = [_sign_penalty(f.noise, negative_fraction, expected) for f in fits]
    elif at_floor is not None:
        against = [_floor_penalty(f.noise, at_floor, float(moments.mean.min())) for f in fits]
    else:
        against = [0.0] * len(fits)
    fits = [replace(f, misfit=f.misfit + a) for f, a in zip(fits, against, strict=True)]
    relief = PARAMETER_PENALTY[single_frames]
    fits = [replace(f, misfit=f.misfit - relief * _is_confirmed(f, fits, moments)) for f in fits]
    return sorted(fits, key=lambda fit: fit.misfit)


def errors_of(moments: Moments, single_frames: bool, static: bool) -> Errors:
    """Return the standard errors of variances and third moments, systematic ones included.

    Parameters
    ----------
    moments : Moments
        Mean, variance and third moment in intensity bins.
    single_frames, static : bool
        As for `fit_families`.

    Returns
    -------
    Errors
    """
    third = SYSTEMATIC_THIRD_STATIC if static else SYSTEMATIC_THIRD[single_frames]
    # where there is almost no noise, rounding and clipping are not proportional to it
    variance = with_floor(moments.variance)
    return Errors(
        np.hypot(moments.variance_error, SYSTEMATIC_VARIANCE * variance),
        np.hypot(moments.third_error, third * variance**1.5),
    )


def _is_structure(noise: NoiseModel, variance: Array) -> bool:
    """Return whether read noise fitted on top of multiplicative noise may be image structure.

    Multiplicative noise vanishes where the image is dark, structure does not.
    """
    base, _, read_noise = noise.components
    if not read_noise or not base.multiplicative:
        return False
    return read_noise**2 < MIN_VARIANCE_SHARE * float(np.median(variance))


def _magnitude_penalty(noise: NoiseModel, negative_fraction: float | None, penalty: float) -> float:
    """Return the penalty of magnitude families after a correlation was removed.

    Magnitudes differ from Gaussian noise mainly in their signs, which are not exactly known here;
    therefore the assumption that y is a magnitude counts as a parameter.
    """
    if not noise.components.base.is_magnitude:
        return 0.0
    many = negative_fraction is not None and negative_fraction > MAX_WRONG_SIGN_DECORRELATED
    return SIGN_PENALTY if many else penalty


def _sign_penalty(noise: NoiseModel, negative_fraction: float, expected: float) -> float:
    """Return the penalty of a model that allows signs other than those of the pixels."""
    if noise.signed:
        missing = expected > MANY_EXPECTED * MAX_WRONG_SIGN and negative_fraction < MAX_WRONG_SIGN
        return SIGN_PENALTY if missing else 0.0
    impossible = negative_fraction > MAX_WRONG_SIGN and not noise.offset > 0
    return SIGN_PENALTY if impossible else 0.0


def _floor_penalty(noise: NoiseModel, at_floor: PixelsAtFloor, darkest: float) -> float:
    """Return the penalty of a model that does not explain why pixels are at the floor."""
    if noise.signed:
        return 0.0
    mean = torch.tensor([darkest], dtype=torch.float64)
    x = noise.clean_from_mean(mean).clamp(min=noise.lowest)
    edges = torch.tensor([min(noise.offset, at_floor.below) - 1, at_floor.below])
    expected = float(noise.bin_probabilities(edges.double(), x))
    return SIGN_PENALTY if at_floor.share > MANY_AT_FLOOR * expected else 0.0


def _fit(
    family: type[NoiseFamily],
    fitted: FittedParameters,
    moments: Moments,
    errors: Errors,
    single_frames: bool,
    common: float,
    at_floor: PixelsAtFloor | None,
) -> Fit | None:
    """Fit one set of parameters of a family; return None if they leave their range."""
    low, high = fitted.ranges(family)
    start = np.array(fitted.start(moments.mean, moments.variance), dtype=float).clip(low, high)
    if not np.isfinite(start).all():
        return None
    # the square of the read noise is fitted, as residuals do not change with its root near 0
    low, high, start = (_squared(fitted.names, values) for values in (low, high, start))
    positive_scale = np.full(2 * len(moments.mean), MAX_RESIDUAL)
    negative_scale = positive_scale.copy()
    if single_frames:
        # structure of the image makes a variance too large, never too small
        negative_scale[: len(moments.mean)] *= 2

    def residuals(values: Array, names: Sequence[str] = fitted.names) -> Array:
        with np.errstate(all="ignore"):
            variance, third = moments.over(
                lambda mean: np.stack(_cumulants(family, fitted, names, values, mean, at_floor))
            )
            each = np.concatenate(
                [
                    (moments.variance - variance) / errors.variance,
                    (moments.third - third) / errors.third,
                ]
            )
        finite: Array = np.nan_to_num(each, nan=1e6, posinf=1e6, neginf=-1e6)
        return finite

    problem = Problem(residuals, low, high, positive_scale, negative_scale)
    fitted_values, residual, weight = minimize(problem, start)
    values = _squared(fitted.names, fitted_values, 0.5)
    try:
        rounded = [round_to_four_digits(value) for value in values]
        noise = _model(family, fitted, fitted.names, rounded)
    except UserError:
        return None
    if noise.offset >= moments.mean.max():  # no pixel would contain any signal
        return None
    found = dict(zip(fitted.names, map(float, values), strict=True))
    general = fitted.general or fitted.names
    full = dict.fromkeys(general, 0.0) | found
    # if the family does not fit well, errors are larger than the bins alone suggest
    freedom = max(1.0, weight.sum() - len(values))
    excess = max(1.0, float((weight * residual**2).sum() / freedom))
    # the error common to all variances does not average out
    relative = common * moments.variance / errors.variance
    shared = np.concatenate([relative, np.zeros(len(relative))])

    squared = _squared(general, list(full.values()))
    smallest = DERIVATIVE_SCALE * float(np.median(moments.variance))
    jacobian = derivatives(lambda values: residuals(values, general), squared, residual, smallest)
    error = NORMAL_95 * _standard_errors(jacobian, weight, excess, shared)
    lowest, _ = replace(fitted, names=general).ranges(family)
    intervals = {}
    for name, value, off, least in zip(general, squared, error, lowest, strict=True):
        ends = float(max(value - off, least)), float(value + off)
        intervals[name] = (ends[0] ** 0.5, ends[1] ** 0.5) if name == READ_NOISE else ends
    penalty = _parameter_penalty(full, len(values), len(fitted.fixed), single_frames)
    return Fit(noise, misfit(residual, weight) + penalty, intervals)


def _is_confirmed(fit: Fit, among: Sequence[Fit], moments: Moments) -> bool:
    """Return whether the dark confirms one of several parameters of a magnitude family.

    The darkest intensity is then that without signal, which could have been any other. It confirms
    nothing if a magnitude family with fewer parameters is as likely.
    """
    if not fit.noise.components.base.is_magnitude:
        return False
    count = len(fit.intervals)
    simpler = [
        other.misfit
        for other in among
        if other.noise.components.base.is_magnitude and len(other.intervals) < count
    ]
    if count < 2 or min(simpler, default=np.inf) <= fit.misfit:
        return False
    away = abs(float(fit.noise.mean(torch.zeros(1, dtype=torch.float64))) - moments.mean[0])
    return bool(away < NEAR_DARKEST * moments.variance[0] ** 0.5)


def _squared(names: Sequence[str], values: Sequence[float] | Array, power: float = 2.0) -> Array:
    """Return parameters with the read noise among them squared, or its square root taken."""
    named = zip(names, values, strict=True)
    return np.array([value**power if name == READ_NOISE else value for name, value in named])


def _parameter_penalty(
    found: dict[str, float], count: int, fixed: int, single_frames: bool
) -> float:
    """Return the penalty for the number of parameters of a fit."""
    offset = found.get("offset", 0) > 0
    read_noise = offset and found.get(READ_NOISE, 0) > 0
    penalty = PARAMETER_PENALTY[single_frames] * (count - offset - read_noise)
    penalty += READ_NOISE_PENALTY[single_frames] * read_noise
    return penalty + USUAL_PENALTY[single_frames] * (offset + fixed)


def _standard_errors(jacobian: Array, weight: Array, excess: float, shared: Array) -> Array:
    """Return the standard errors of parameters.

    Parameters
    ----------
    jacobian : ndarray
        Derivatives of the residuals, shape ``(residuals, parameters)``.
    weight : ndarray
        Weights of the residuals.
    excess : float
        Factor of the variance of the residuals.
    shared : ndarray
        Change of all residuals by their common error.
    """
    matrix = (jacobian.T * weight) @ jacobian
    unit = np.sqrt(np.diag(matrix)) + 1e-12
    inverse = np.linalg.pinv(matrix / np.outer(unit, unit)) / np.outer(unit, unit)
    variance = np.diag(inverse).clip(min=0) * excess
    shift = inverse @ ((jacobian.T * weight) @ shared)
    errors: Array = np.sqrt(variance + shift**2)
    return errors


def _model(
    family: type[NoiseFamily],
    fitted: FittedParameters,
    names: Sequence[str],
    values: Sequence[float],
) -> NoiseModel:
    """Return the model with the fitted values.

    Raises
    ------
    UserError
        If a value is out of range.
    """
    named = dict(zip(names, map(float, values), strict=True))
    read_noise = named.pop(READ_NOISE, 0.0)
    return family(**named, **fitted.fixed).with_read_noise(read_noise)


def _cumulants(
    family: type[NoiseFamily],
    fitted: FittedParameters,
    names: Sequence[str],
    values: Array,
    mean: Array,
    at_floor: PixelsAtFloor | None,
) -> tuple[Array, Array]:
    """Return variance and third moment at each mean; NaN if a value is out of range.

    The value of the read noise is its square.
    """
    named = dict(zip(names, map(float, values), strict=True))
    read_variance = named.pop(READ_NOISE, 0.0)
    try:
        noise = family(**named, **fitted.fixed)
        if at_floor is not None and noise.signed and noise.constant_variance and not read_variance:
            variance, third = clipped_cumulants(noise, mean, at_floor)
        else:
            variance, third = noise.cumulants(mean)
    except UserError:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    return variance + read_variance, third
