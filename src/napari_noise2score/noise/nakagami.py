"""Nakagami noise: speckle in images of amplitude."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ._incomplete_gamma import incomplete_gamma
from ._torch import torch
from .base import Array
from .family import Form, NoiseFamily
from .fitting import FittedParameters, coefficient_of_variation
from .parameter import MAX_LOOKS, Parameter

if TYPE_CHECKING:
    from torch import Tensor

# upper bound of y/x, so that its square is finite
MAX_RATIO = 1e100
# the smallest 2m − 1 − ys in units of m: x is at most 1000 y, even for a wrong score
MIN_DENOMINATOR = 2e-6

M = Parameter(
    "m",
    "m",
    "Number of looks, for images of amplitude: OCT, ultrasound, SAR. 1 is fully developed speckle.",
    "looks",
    initial=1.0,
    at_least=0.5,
    low=0.5,
    high=MAX_LOOKS,
    variance_power=-1.0,
)


@dataclass(frozen=True)
class Nakagami(NoiseFamily):
    """Multiplicative speckle of an amplitude: ``y = η x``, ``η² ~ Gamma(m, m)``, E[y²] = x².

    The square root of `Gamma` noise: the noise of OCT, ultrasound and SAR images that show
    amplitudes. m = 1 is fully developed speckle in a single look, whose amplitude is Rayleigh
    distributed.

    - p(y | x) = 2 (m/x²)^m y^(2m−1) e^(−my²/x²) / Γ(m)
    - f(x, y) = (2m − 1) / y − 2my / x²

    Parameters
    ----------
    m : float
        Shape, at least 0.5, without unit: the number of looks averaged in intensity.

    Raises
    ------
    UserError
        If m is out of range.

    Notes
    -----
    Nakagami 1960; Goodman, *Speckle Phenomena in Optics*, 2007. The solution is
    ``x = y √(2m / (2m − 1 − ys))``. The mean of y is below x: 0.886 x for m = 1.

    Examples
    --------
    >>> import torch
    >>> print(Nakagami(m=1))
    nakagami(m=1)
    >>> Nakagami(1).solve(torch.tensor(100.0), torch.tensor(-0.01))
    tensor(100.)
    """

    m: float

    name: ClassVar[str] = "nakagami"
    aliases: ClassVar[tuple[str, ...]] = (
        "speckle amplitude", "ultrasound envelope", "SAR amplitude", "OCT amplitude",
    )  # fmt: skip
    source: ClassVar[str] = (
        "Nakagami, Statistical Methods in Radio Wave Propagation, 1960, "
        "doi:10.1016/B978-0-08-009306-2.50005-4; Goodman, Speckle Phenomena in Optics, 2007"
    )
    position: ClassVar[float] = 4
    multiplicative: ClassVar[bool] = True
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            "Nakagami: speckle, amplitude",
            (M,),
            "nakagami(m=1)",
            "speckle amplitude, not in decibels: ultrasound, OCT, SAR; m = 1 for a single look",
            "2(m/x²)^m y^(2m−1) e^(−my²/x²)/Γ(m)",
            "(2m − 1)/y − 2my/x²",
        ),
    )
    fitted: ClassVar[tuple[FittedParameters, ...]] = (
        FittedParameters(("m",), lambda m, v: (coefficient_of_variation(m, v) ** -2 / 4,)),
    )

    @property
    def _mean_of_ratio(self) -> float:
        """Mean of y / x."""
        return math.exp(math.lgamma(self.m + 0.5) - math.lgamma(self.m)) / math.sqrt(self.m)

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x; an x below 0 counts as 0."""
        x = np.asarray(x, dtype=np.float64)
        y: Array = np.maximum(x, 0) * np.sqrt(rng.gamma(self.m, 1 / self.m, x.shape))
        return y

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x] = x Γ(m + ½) / (Γ(m) √m)."""
        return x * self._mean_of_ratio

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x] = x² − E[y | x]²."""
        return x**2 * (1 - self._mean_of_ratio**2)

    def third_cumulant(self, x: Tensor) -> Tensor:
        """Return E[y³] − 3 E[y²] E[y] + 2 E[y]³, with E[y³] = x³ Γ(m + 3/2) / (Γ(m) m^(3/2))."""
        first = self._mean_of_ratio
        third = math.exp(math.lgamma(self.m + 1.5) - math.lgamma(self.m)) / self.m**1.5
        cumulant: Tensor = x**3 * (third - 3 * first + 2 * first**3)
        return cumulant

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the x that has this E[y | x]."""
        return mean / self._mean_of_ratio

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y) = (2m − 1) / y − 2my / x²."""
        return (2 * self.m - 1) / y - 2 * self.m * y / x**2

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f(x, y) = s; 0 if y is 0 or negative."""
        y = y.clamp(min=0)
        denominator = (2 * self.m - 1 - y * s).clamp(min=MIN_DENOMINATOR * self.m)
        return y * torch.sqrt(2 * self.m / denominator)

    def cdf(self, y: Tensor, x: Tensor) -> Tensor:
        """Return P(Y < y | x)."""
        ratio = (y.clamp(min=0) / x.clamp(min=1e-300)).clamp(max=MAX_RATIO)
        return incomplete_gamma(self.m, self.m * ratio**2)
