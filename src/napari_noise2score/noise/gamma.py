"""Gamma noise: speckle in images of intensity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ._incomplete_gamma import incomplete_gamma
from ._torch import torch
from .base import Array
from .family import Form, NoiseFamily
from .fitting import (
    READ_NOISE,
    FittedParameters,
    FromScore,
    coefficient_of_variation,
    read_noise_beside,
)
from .parameter import MAX_LOOKS, Parameter

if TYPE_CHECKING:
    from torch import Tensor

# the smallest α − 1 − ys in units of α: x is at most 1000 y, even for a wrong score
MIN_DENOMINATOR = 1e-3

ALPHA = Parameter(
    "alpha",
    "Alpha",
    "Number of looks: the noise is the signal divided by the root of alpha. 1 is a single look "
    "at fully developed speckle.",
    "looks",
    initial=26.0,
    at_least=1.0,
    low=1.0,
    high=MAX_LOOKS,
    variance_power=-1.0,
)


def _start(mean: Array, variance: Array) -> tuple[float]:
    return (coefficient_of_variation(mean, variance) ** -2,)


def _looks_of_perturbation(y: Array, reading: Array) -> float:
    """Return α of Var[y | x] = x²/α from readings that estimate y²/(α − 1)."""
    y, reading = y[y > 0], reading[y > 0]
    with np.errstate(divide="ignore"):
        return max(1.0, 1 + float(np.median(y**2 / reading)))


@dataclass(frozen=True)
class Gamma(NoiseFamily):
    """Multiplicative speckle of mean 1: ``y = η x``, ``η ~ Gamma(α, α)``.

    This is the intensity of speckle averaged over α looks, in SAR, OCT and ultrasound;
    alpha = 1 is fully developed speckle in a single look, whose intensity is exponential.

    - p(y | x) = (α/x)^α y^(α−1) e^(−αy/x) / Γ(α)
    - f(x, y) = (α − 1) / y − α / x

    Parameters
    ----------
    alpha : float
        Number of looks, at least 1, without unit; the relative standard deviation of y is
        1 / √alpha.

    Raises
    ------
    UserError
        If alpha is out of range.

    Notes
    -----
    Model 5 of Xie et al., NeurIPS 2023, Table 1, and the Gamma case of Kim & Ye, NeurIPS 2021:
    ``x = α y / (α − 1 − y s)``.

    Examples
    --------
    >>> import torch
    >>> print(Gamma(alpha=26))
    gamma(alpha=26)
    >>> Gamma(26).solve(torch.tensor(100.0), torch.tensor(-0.01))
    tensor(100.)
    """

    alpha: float

    name: ClassVar[str] = "gamma"
    aliases: ClassVar[tuple[str, ...]] = (
        "speckle intensity", "SAR intensity", "OCT intensity", "ultrasound intensity",
        "multiplicative", "exponential",
    )  # fmt: skip
    source: ClassVar[str] = (
        "Goodman, Speckle Phenomena in Optics, 2007; "
        "Xie et al., NeurIPS 2023, model 5, doi:10.48550/arXiv.2304.08384"
    )
    position: ClassVar[float] = 3
    multiplicative: ClassVar[bool] = True
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            "Gamma: speckle, intensity",
            (ALPHA,),
            "gamma(alpha=26)",
            "speckle intensity, not in decibels: SAR, OCT, ultrasound; alpha = 1 for a single look",
            "(α/x)^α y^(α−1) e^(−αy/x)/Γ(α)",
            "(α − 1)/y − α/x",
        ),
    )
    fitted: ClassVar[tuple[FittedParameters, ...]] = (
        FittedParameters(("alpha",), _start),
        FittedParameters(("alpha", READ_NOISE), lambda m, v: (*_start(m, v), read_noise_beside(v))),
    )
    from_score: ClassVar[FromScore | None] = FromScore(
        "alpha",
        max_power=math.inf,
        from_perturbation=_looks_of_perturbation,
        from_variance=lambda y, variance: y**2 / variance,
        fidelity=lambda x, y: torch.log(x) + y / x + (y / x) ** 2,
    )

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x; an x below 0 counts as 0."""
        x = np.asarray(x, dtype=np.float64)
        y: Array = np.maximum(x, 0) * rng.gamma(self.alpha, 1 / self.alpha, x.shape)
        return y

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x] = x."""
        return x

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x] = x² / α."""
        return x**2 / self.alpha

    def third_cumulant(self, x: Tensor) -> Tensor:
        """Return 2 x³ / α²."""
        return 2 * x**3 / self.alpha**2

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the x that has this E[y | x]."""
        return mean

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y) = (α − 1) / y − α / x."""
        return (self.alpha - 1) / y - self.alpha / x

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f(x, y) = s; 0 if y is 0 or negative."""
        y = y.clamp(min=0)
        return self.alpha * y / (self.alpha - 1 - y * s).clamp(min=MIN_DENOMINATOR * self.alpha)

    def cdf(self, y: Tensor, x: Tensor) -> Tensor:
        """Return P(Y < y | x)."""
        return incomplete_gamma(self.alpha, self.alpha * y.clamp(min=0) / x.clamp(min=1e-300))
