"""The same noise, more or less of it, and in other units."""

from __future__ import annotations

import math
from typing import Any

from ..errors import UserError
from .base import MAX_SHAPE, NoiseModel
from .correlated import Correlated
from .emccd import Emccd
from .gaussian import Gaussian
from .poisson import Poisson
from .rician import Rician
from .speckle import Gamma, Nakagami, Rayleigh
from .sum import Sum
from .tweedie import Tweedie


def scaled(noise: NoiseModel, factor: float) -> NoiseModel:
    """Give the noise model with its variance multiplied by a factor.

    Parameters
    ----------
    noise : NoiseModel
        Any model but an `Empirical` one.
    factor : float
        Above 0. For `Nakagami`, `Rayleigh` and `Rician` noise the variance follows it nearly.

    Returns
    -------
    NoiseModel
        Of the same family, offset and correlation, parameters to four digits.

    Raises
    ------
    UserError
        If the noise was measured and has no parameters.

    Examples
    --------
    >>> print(scaled(Poisson(2, offset=100) + Gaussian(3), 4))
    poisson(gain=8, offset=100) + gaussian(sigma=6)
    """
    root = math.sqrt(factor)
    made: Any
    match noise:
        case Sum():
            made = scaled(noise.base, factor) + scaled(noise.read, factor)  # type: ignore[operator]
        case Correlated():
            made = scaled(noise.base, factor) @ noise.kernel  # type: ignore[operator]
        case Gaussian(sigma=None):
            made = Gaussian(a=short(noise.growth * root), b=short(noise.level * root))
        case Gaussian():
            made = Gaussian(short(noise.level * root))
        case Poisson():
            made = Poisson(short(noise.gain * factor), noise.offset)
        case Emccd():
            made = Emccd(short(noise.gain * factor), noise.offset, noise.excess)
        case Tweedie():
            made = Tweedie(noise.power, short(noise.dispersion * factor), noise.offset)
        case Gamma():
            made = Gamma(min(max(1.0, short(noise.alpha / factor)), MAX_SHAPE))
        case Nakagami():
            made = Nakagami(min(max(0.5, short(noise.m / factor)), MAX_SHAPE))
        case Rayleigh():
            made = Rayleigh(short(noise.sigma * root))
        case Rician():
            made = Rician(short(noise.sigma * root))
        case _:
            raise UserError(f"{noise} was measured: there is no level of it to choose")
    return made


def in_unit(noise: NoiseModel, unit: float) -> NoiseModel:
    """Return the noise model of images multiplied by a number.

    Parameters
    ----------
    noise : NoiseModel
        Any model but an `Empirical` one.
    unit : float
        Above 0.

    Returns
    -------
    NoiseModel
        Of the same family and correlation, parameters to four digits.

    Raises
    ------
    UserError
        If the noise was measured and has no parameters.

    Examples
    --------
    >>> print(in_unit(Poisson(2, offset=100) + Gaussian(3), 1e-12))
    poisson(gain=2e-12, offset=1e-10) + gaussian(sigma=3e-12)
    """

    def of(value: float) -> float:
        return short(value * unit)

    made: Any
    match noise:
        case Sum():
            made = in_unit(noise.base, unit) + in_unit(noise.read, unit)  # type: ignore[operator]
        case Correlated():
            made = in_unit(noise.base, unit) @ noise.kernel  # type: ignore[operator]
        case Gaussian(sigma=None):
            made = Gaussian(a=noise.growth, b=of(noise.level))
        case Gaussian():
            made = Gaussian(of(noise.level))
        case Poisson():
            made = Poisson(of(noise.gain), of(noise.offset))
        case Emccd():
            made = Emccd(of(noise.gain), of(noise.offset), noise.excess)
        case Tweedie():
            dispersion = short(noise.dispersion * unit ** (2 - noise.power))
            made = Tweedie(noise.power, dispersion, of(noise.offset))
        case Gamma() | Nakagami() | Rayleigh():
            made = noise
        case Rician():
            made = Rician(of(noise.sigma))
        case _:
            raise UserError(f"{noise} was measured: give images in the unit of its table")
    return made


def unit_power(noise: NoiseModel, name: str) -> float:
    """Return the power of the unit of grey levels that a parameter of a model is measured in.

    Examples
    --------
    >>> unit_power(Poisson(2), "gain"), unit_power(Gamma(26), "alpha")
    (1, 0)
    """
    base = noise.base if isinstance(noise, Sum | Correlated) else noise
    if isinstance(base, Correlated):
        base = base.base
    if name == "dispersion" and isinstance(base, Tweedie):
        return 2 - base.power
    if name in ("a", "alpha", "m", "power") or (name == "sigma" and isinstance(base, Rayleigh)):
        return 0
    return 1


def short(value: float) -> float:
    """Give a parameter with four digits."""
    return float(f"{value:.4g}")
