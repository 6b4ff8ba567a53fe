"""Rayleigh noise in its multiplicative form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ._torch import torch
from .base import Array
from .family import Form, NoiseFamily
from .fitting import READ_NOISE, FittedParameters, coefficient_of_variation, read_noise_beside
from .parameter import MIN_GREY_LEVEL, Parameter

if TYPE_CHECKING:
    from torch import Tensor

# mean, standard deviation and skewness of a Rayleigh variable with scale 1
MEAN, STD = math.sqrt(math.pi / 2), math.sqrt(2 - math.pi / 2)
SKEWNESS = 2 * math.sqrt(math.pi) * (math.pi - 3) / (4 - math.pi) ** 1.5
# the range in which sigma is fitted, and the coefficient of variation that its start stays below
FITTED_RANGE = 1e-6, 1.0
MAX_VARIATION = 0.29
# Newton's method stops at this relative change, or after this many steps
TOLERANCE, MAX_STEPS = 1e-7, 60

SIGMA = Parameter(
    "sigma",
    "Sigma",
    "Size of the noise as a fraction of the signal.",
    "× signal",
    initial=0.3,
    above=0.0,
    low=MIN_GREY_LEVEL,
    variance_power=0.5,
)


def _start(mean: Array, variance: Array) -> tuple[float]:
    variation = min(coefficient_of_variation(mean, variance), MAX_VARIATION)
    return (variation / (STD - MEAN * variation),)


@dataclass(frozen=True)
class Rayleigh(NoiseFamily):
    """Multiplicative Rayleigh noise: ``y = (η + 1) x``, ``η ~ Rayleigh(σ)``.

    - p(y | x) = t / (σ² x) e^(−t² / 2σ²), with t = y/x − 1 > 0
    - f(x, y) = 1 / (y − x) − (y − x) / (σ² x²)

    Parameters
    ----------
    sigma : float
        Scale of η, without unit, above 0; ``E[y] = x (1 + σ √(π/2))``.

    Raises
    ------
    UserError
        If sigma is out of range.

    Notes
    -----
    Model 9 of Xie et al., NeurIPS 2023, Table 1. The solution is the one positive root of
    ``t³ + t² + σ² (s y − 1) t − σ² = 0``, ``x = y / (1 + t)``; Newton's method decreases to it
    monotonically from above. As y cannot be below x, f has a pole there and is far from linear:
    the table solver therefore returns the mean of the x that are possible given y.

    Examples
    --------
    >>> import torch
    >>> model = Rayleigh(sigma=0.3)
    >>> y, x = torch.tensor(130.0), torch.tensor(100.0)
    >>> model.solve(y, model.score(x, y))
    tensor(100.)
    """

    sigma: float

    name: ClassVar[str] = "rayleigh"
    aliases: ClassVar[tuple[str, ...]] = ("multiplicative Rayleigh",)
    source: ClassVar[str] = "Xie et al., NeurIPS 2023, model 9, doi:10.48550/arXiv.2304.08384"
    position: ClassVar[float] = 8
    multiplicative: ClassVar[bool] = True
    posterior_score_variance: ClassVar[float] = 0.2
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            "Rayleigh: multiplicative",
            (SIGMA,),
            "rayleigh(sigma=0.3)",
            "multiplicative: y = (1 + η) x, as in the papers",
            "t e^(−t²/2σ²)/(σ²x), t = y/x − 1",
            "1/(y − x) − (y − x)/(σx)²",
        ),
    )
    fitted: ClassVar[tuple[FittedParameters, ...]] = (
        FittedParameters(("sigma",), _start, {"sigma": FITTED_RANGE}),
        FittedParameters(
            ("sigma", READ_NOISE),
            lambda m, v: (*_start(m, v), read_noise_beside(v)),
            {"sigma": FITTED_RANGE},
        ),
    )

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x; an x below 0 counts as 0."""
        x = np.asarray(x, dtype=np.float64)
        y: Array = np.maximum(x, 0) * (1 + rng.rayleigh(self.sigma, x.shape))
        return y

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x] = x (1 + σ √(π/2))."""
        return x * (1 + self.sigma * MEAN)

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x] = (2 − π/2) (σ x)²."""
        return (2 - math.pi / 2) * (self.sigma * x) ** 2

    def third_cumulant(self, x: Tensor) -> Tensor:
        """Return the skewness of a Rayleigh variable times the cube of the standard deviation."""
        cumulant: Tensor = SKEWNESS * (STD * self.sigma * x) ** 3
        return cumulant

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the x that has this E[y | x]."""
        return mean / (1 + self.sigma * MEAN)

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y) for y > x."""
        excess = y - x
        return 1 / excess - excess / (self.sigma * x) ** 2

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f(x, y) = s; 0 if y is 0 or negative."""
        y = y.clamp(min=0)
        square = self.sigma**2
        linear = square * (s * y - 1)
        t = 1 + linear.abs() + square
        for _ in range(MAX_STEPS):
            step = (((t + 1) * t + linear) * t - square) / ((3 * t + 2) * t + linear)
            t = t - step
            if step.abs().max() <= TOLERANCE * t.max():
                break
        return y / (1 + t)

    def cdf(self, y: Tensor, x: Tensor) -> Tensor:
        """Return P(Y < y | x)."""
        t = (y / x.clamp(min=1e-300) - 1).clamp(min=0)
        return -torch.expm1(-(t**2) / (2 * self.sigma**2))
