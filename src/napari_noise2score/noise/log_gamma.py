"""Log-gamma noise: speckle in images on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ._incomplete_gamma import incomplete_gamma
from ._torch import torch
from .base import Array
from .family import Form, NoiseFamily
from .fitting import FittedParameters
from .parameter import MAX_LOOKS, Parameter, grey_level

if TYPE_CHECKING:
    from torch import Tensor

# the fewest looks; with fewer, the tail towards black is longer than any image is deep
MIN_LOOKS = 0.05
# the range in which the number of looks is fitted: with more, the noise is nearly Gaussian
FITTED_LOOKS = 0.3, 30.0
# where the fit begins
START_LOOKS = 2.0
# the smallest L − s · scale in units of L: x is at most 14 times the scale above y
MIN_RATIO = 1e-6
# upper bound of (y − x) / scale, so that its exponential is finite
MAX_EXPONENT = 700.0

SCALE = grey_level(
    "scale",
    "Scale",
    "Grey levels by which a pixel grows when its intensity grows e-fold: 4.34 times the grey "
    "levels of one decibel.",
    initial=17.0,
    variance_power=0.5,
)
LOOKS = Parameter(
    "looks",
    "Looks",
    "Number of looks averaged in intensity before the logarithm. 1 is fully developed speckle; "
    "the more looks, the weaker the noise and its tail towards black.",
    "looks",
    initial=1.0,
    above=0.0,
    low=MIN_LOOKS,
    high=MAX_LOOKS,
)


def _start(_: Array, variance: Array) -> Sequence[float]:
    return math.sqrt(float(np.median(variance)) / _polygamma(1, START_LOOKS)), START_LOOKS


@dataclass(frozen=True)
class LogGamma(NoiseFamily):
    """Speckle after logarithmic compression: ``y = x + c (ln η − E[ln η])``, ``η ~ Gamma(L, 1)``.

    This is the noise of OCT B-scans and ultrasound B-mode images as scanners export them, in
    decibels: multiplicative speckle of L looks becomes additive noise of the same strength at all
    grey levels, with a tail towards black. E[y] = x, which is therefore the mean of the
    logarithms, below the logarithm of the mean intensity.

    - p(y | x) = exp(L u − eᵘ) / (c Γ(L)), with u = (y − x)/c + ψ(L)
    - f(x, y) = (L − eᵘ) / c

    Parameters
    ----------
    scale : float
        The c above in grey levels, above 0: 10 / ln 10 = 4.34 times the grey levels of a decibel.
    looks : float
        The L above, above 0, without unit. The standard deviation of y is c √ψ′(L): 1.28 c for one
        look, about c / √L for many.

    Raises
    ------
    UserError
        If a parameter is out of range.

    Notes
    -----
    ψ is the digamma function and ψ′ its derivative. Arsenault & April, *J. Opt. Soc. Am.* 1976; for
    L = 1, the Fisher–Tippett distribution of log-compressed ultrasound. The solution is
    ``x = y − c (ln(L − c s) − ψ(L))``. f cannot exceed L/c: in the tail towards black it hardly
    depends on x.

    Examples
    --------
    >>> import torch
    >>> model = LogGamma(scale=17, looks=2)
    >>> print(model)
    log_gamma(scale=17, looks=2)
    >>> y, x = torch.tensor(80.0), torch.tensor(100.0)
    >>> model.solve(y, model.score(x, y))
    tensor(100.)
    """

    scale: float
    looks: float

    name: ClassVar[str] = "log_gamma"
    aliases: ClassVar[tuple[str, ...]] = (
        "log-compressed speckle", "ultrasound B-mode", "OCT B-scan", "optical coherence tomography",
        "ultrasound", "OCT", "decibel", "dB", "Fisher–Tippett",
    )  # fmt: skip
    source: ClassVar[str] = (
        "Arsenault & April, J. Opt. Soc. Am. 66, 1976, doi:10.1364/JOSA.66.001160"
    )
    position: ClassVar[float] = 4.5
    accepts_read_noise: ClassVar[bool] = False
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            "Log-gamma: speckle on a logarithmic scale",
            (SCALE, LOOKS),
            "log_gamma(scale=17, looks=1)",
            "log-compressed speckle: OCT B-scans and ultrasound B-mode as exported, SAR in dB",
            "e^(Lu − eᵘ)/(cΓ(L)), u = (y − x)/c + ψ(L)",
            "(L − eᵘ)/c",
        ),
    )
    fitted: ClassVar[tuple[FittedParameters, ...]] = (
        FittedParameters(("scale", "looks"), _start, {"looks": FITTED_LOOKS}),
    )

    @cached_property
    def _mean_log(self) -> float:
        """Mean ψ(L) of ln η."""
        return _polygamma(0, self.looks)

    @property
    def lowest(self) -> float:
        """Minus infinity: on a logarithmic scale, grey levels have no natural end."""
        return -math.inf

    @property
    def signed(self) -> bool:
        """True: y can be below 0."""
        return True

    @property
    def constant_variance(self) -> bool:
        """True: Var[y | x] is the same for every x."""
        return True

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x."""
        x = np.asarray(x, dtype=np.float64)
        # of one look more, which is never 0 to rounding: η is that times a uniform number to 1/L
        log = np.log(rng.gamma(self.looks + 1, size=x.shape))
        log -= rng.standard_exponential(x.shape) / self.looks
        y: Array = x + self.scale * (log - self._mean_log)
        return y

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x] = x."""
        return x

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x] = c² ψ′(L)."""
        return torch.full_like(x, self.scale**2 * _polygamma(1, self.looks))

    def third_cumulant(self, x: Tensor) -> Tensor:
        """Return c³ ψ″(L), which is below 0."""
        return torch.full_like(x, self.scale**3 * _polygamma(2, self.looks))

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the x that has this E[y | x]."""
        return mean

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y) = (L − eᵘ) / c."""
        return (self.looks - torch.exp(self._exponent(y - x))) / self.scale

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f(x, y) = s."""
        ratio = (self.looks - self.scale * s).clamp(min=MIN_RATIO * self.looks)
        return y - self.scale * (torch.log(ratio) - self._mean_log)

    def cdf(self, y: Tensor, x: Tensor) -> Tensor:
        """Return P(Y < y | x)."""
        return incomplete_gamma(self.looks, torch.exp(self._exponent(y - x)))

    def _exponent(self, difference: Tensor) -> Tensor:
        """Return u of y − x, where its exponential is finite."""
        return (difference / self.scale + self._mean_log).clamp(max=MAX_EXPONENT)


def _polygamma(order: int, looks: float) -> float:
    """Return ψ(L) or one of its derivatives."""
    at = torch.tensor(float(looks), dtype=torch.float64)
    return float(torch.special.polygamma(order, at))
