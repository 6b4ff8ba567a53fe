"""Gaussian noise, the same for every pixel or growing with the signal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..errors import UserError
from ._torch import torch
from .base import Array
from .family import Form, NoiseFamily
from .fitting import FittedParameters, FromScore, line_through
from .parameter import Parameter, grey_level

if TYPE_CHECKING:
    from torch import Tensor

# the standard deviation grows by at most this much with each grey level
MAX_SLOPE = 1e6
# the smallest standard deviation at x = 0 that is fitted, in grey levels
MIN_FITTED_STD = 1e-6
# the model of growing noise ends before its standard deviation reaches 0, at this fraction
FRACTION_OF_ROOT = 0.999

STD = "Standard deviation of the noise."
SIGMA = grey_level("sigma", "Sigma", STD, initial=10.0, variance_power=0.5)
SLOPE = Parameter(
    "a",
    "a",
    "Growth of the noise with the signal x: its standard deviation is a x + b.",
    initial=0.1,
    at_least=0.0,
    low=0.0,
    high=MAX_SLOPE,
    variance_power=0.5,
    slider_reach=0.2,
)
STD_AT_ZERO = grey_level(
    "b", "b", "Standard deviation of the noise at x = 0.", initial=10.0, variance_power=0.5
)


@dataclass(frozen=True)
class Gaussian(NoiseFamily):
    """Gaussian noise of one standard deviation, or of one that grows with the signal.

    ``y = x + ε``, ``ε ~ N(0, σ²)`` with ``σ = sigma``, or ``σ = a x + b``.

    - p(y | x) = exp(−(y − x)² / 2σ²) / √(2πσ²)
    - f(x, y) = (x − y) / σ²

    Parameters
    ----------
    sigma : float
        Standard deviation in grey levels, above 0.
    a : float
        Growth of the standard deviation with x, at least 0. Given together with b.
    b : float
        Standard deviation at x = 0, in grey levels, above 0.

    Raises
    ------
    UserError
        If neither sigma nor both of a and b are given, or one is out of range.

    Notes
    -----
    Models 1 and 3 of Xie et al., NeurIPS 2023, Table 1; model 3 with a = 0.098, where the paper
    prints 0.98, which fits none of its figures. The solution of model 3 is the root
    ``x = 2C / (−B + √(B² − 4AC))`` of ``a² s x² + (2abs − 1) x + y + b² s = 0``.

    Examples
    --------
    >>> import torch
    >>> model = Gaussian(25)
    >>> model
    Gaussian(sigma=25)
    >>> print(model)
    gaussian(sigma=25)
    >>> model.solve(torch.tensor(100.0), torch.tensor(-0.01))  # x = y + σ² s
    tensor(93.7500)
    """

    sigma: float | None = None
    a: float | None = None
    b: float | None = None

    name: ClassVar[str] = "gaussian"
    aliases: ClassVar[tuple[str, ...]] = (
        "normal", "additive white Gaussian noise", "AWGN", "read noise", "thermal noise",
        "averaged images", "CT slices", "rescaled images",
    )  # fmt: skip
    source: ClassVar[str] = (
        "Xie et al., NeurIPS 2023, models 1 and 3, doi:10.48550/arXiv.2304.08384"
    )
    position: ClassVar[float] = 2
    accepts_read_noise: ClassVar[bool] = False
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            "Gaussian: the same everywhere",
            (SIGMA,),
            "gaussian(sigma=25)",
            "the same strength everywhere: images that were scaled or averaged",
            "N(y; x, σ²)",
            "(x − y)/σ²",
        ),
        Form(
            "Gaussian: growing with the signal",
            (SLOPE, STD_AT_ZERO),
            "gaussian(a=0.098, b=25)",
            "standard deviation a x + b, which grows with the signal",
            "N(y; x, σ²), σ = ax + b",
            "(x − y)/σ²",
        ),
    )
    fitted: ClassVar[tuple[FittedParameters, ...]] = (
        FittedParameters(("sigma",), lambda m, v: (float(np.sqrt(np.median(v))),)),
        FittedParameters(
            ("a", "b"),
            lambda m, v: line_through(m, np.sqrt(v)),
            {"b": (MIN_FITTED_STD, np.inf)},
        ),
    )
    from_score: ClassVar[FromScore | None] = FromScore(
        "sigma",
        max_power=0.9,
        from_perturbation=lambda _, reading: math.sqrt(max(float(np.median(reading)), 0.0)),
        from_variance=lambda _, variance: math.sqrt(variance),
    )

    def __post_init__(self) -> None:
        constant = self.sigma is not None and self.a is None and self.b is None
        growing = self.sigma is None and self.a is not None and self.b is not None
        if not constant and not growing:
            raise UserError("gaussian takes sigma, or both a and b: gaussian(sigma=25)")
        for parameter in (SIGMA,) if constant else (SLOPE, STD_AT_ZERO):
            parameter.check(self.name, getattr(self, parameter.name))

    def __repr__(self) -> str:
        return "G" + str(self)[1:]

    @property
    def lowest(self) -> float:
        """The smallest x for which the standard deviation is above 0."""
        return -FRACTION_OF_ROOT * self.std_at_zero / self.slope if self.slope else -math.inf

    @property
    def additive(self) -> bool:
        """True: the noise is added to the image."""
        return True

    @property
    def signed(self) -> bool:
        """True: y can be below 0."""
        return True

    @property
    def constant_variance(self) -> bool:
        """Whether the standard deviation is the same for every x."""
        return not self.slope

    @property
    def slope(self) -> float:
        """Growth of the standard deviation with x; 0 if it is constant."""
        return self.a or 0.0

    @property
    def std_at_zero(self) -> float:
        """Standard deviation at x = 0, in grey levels."""
        return self.sigma if self.sigma is not None else self.b or 0.0

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x."""
        x = np.asarray(x, dtype=np.float64)
        noise: Array = (self.slope * x + self.std_at_zero) * rng.standard_normal(x.shape)
        return x + noise

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x] = x."""
        return x

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x] = σ²."""
        return self._std(x) ** 2

    def third_cumulant(self, x: Tensor) -> Tensor:
        """Return 0: the distribution is symmetric."""
        return torch.zeros_like(x)

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the x that has this E[y | x]."""
        return mean

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y) = (x − y) / σ²."""
        return (x - y) / self._std(x) ** 2

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f(x, y) = s."""
        a, b = self.slope, self.std_at_zero
        if not a:
            return y + b**2 * s
        first, second, last = a * a * s, 2 * a * b * s - 1, y + b * b * s
        root = torch.sqrt((second**2 - 4 * first * last).clamp(min=0))
        x: Tensor = 2 * last / (root - second)
        return x.clamp(min=self.lowest)

    def cdf(self, y: Tensor, x: Tensor) -> Tensor:
        """Return P(Y < y | x)."""
        probability: Tensor = torch.special.ndtr((y - x) / self._std(x))
        return probability

    def _std(self, x: Tensor) -> Tensor:
        """Return the standard deviation at x."""
        std: Tensor = self.slope * x + self.std_at_zero
        return std
