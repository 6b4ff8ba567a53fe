"""Rician noise: magnitude images, as magnetic resonance imaging records them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ._integrated import integrated_bins
from ._torch import torch
from .base import Array
from .family import Form, NoiseFamily
from .fitting import FittedParameters
from .parameter import grey_level

if TYPE_CHECKING:
    from torch import Tensor

# distance from x, in sigma, beyond which the probability is treated as 0
MAX_DEVIATION = 10
# above this x², in σ², the variance is computed by its series
MIN_SQUARE_OF_SERIES = 1000
# above this z = xy/σ², z I₁(z)/I₀(z) is z − ½
MAX_EXACT_Z = 1e6
# Newton's method: steps, and the relative change at which it stops
MEAN_STEPS, SOLVE_STEPS, TOLERANCE = 12, 30, 1e-9
MIN_Y = 1e-9  # in sigma
# the table of moments: largest x and y in sigma, and the numbers of x and of edges of y
TABLE_MAX_X, TABLE_X, TABLE_MAX_Y, TABLE_EDGES = 12, 121, 24, 1201

SIGMA = grey_level(
    "sigma",
    "Sigma",
    "Standard deviation of the noise in the real and in the imaginary part; equal to the mean "
    "grey level without signal, divided by 1.25.",
    initial=10.0,
    variance_power=0.5,
)


@dataclass(frozen=True)
class Rician(NoiseFamily):
    """Magnitude of a complex signal with Gaussian noise in both parts: ``y = |x + n₁ + i n₂|``.

    - p(y | x) = y/σ² exp(−(y² + x²) / 2σ²) I₀(xy/σ²), y ≥ 0
    - f(x, y) = 1/y − y/σ² + (x/σ²) I₁(xy/σ²) / I₀(xy/σ²)

    Parameters
    ----------
    sigma : float
        Standard deviation of each of n₁ and n₂ in grey levels, above 0. Without signal the mean
        of y is 1.25 sigma.

    Raises
    ------
    UserError
        If sigma is out of range.

    Notes
    -----
    Rice 1944; Gudbjartsson & Patz, *Magn. Reson. Med.* 1995, for magnetic resonance images. With
    ``z = xy/σ²`` the solution is that of ``z I₁(z)/I₀(z) = sy − 1 + y²/σ²``, by Newton's method in
    z², which approaches it from below and never overshoots; 0 where the right side is below 0.

    Examples
    --------
    >>> import torch
    >>> model = Rician(sigma=10)
    >>> print(model)
    rician(sigma=10)
    >>> y, x = torch.tensor(32.0), torch.tensor(25.0)
    >>> model.solve(y, model.score(x, y))
    tensor(25.)
    """

    sigma: float

    name: ClassVar[str] = "rician"
    aliases: ClassVar[tuple[str, ...]] = ("MRI", "magnetic resonance imaging", "magnitude", "Rice")
    source: ClassVar[str] = (
        "Gudbjartsson & Patz, Magn. Reson. Med. 34, 1995, doi:10.1002/mrm.1910340618"
    )
    position: ClassVar[float] = 5
    is_magnitude: ClassVar[bool] = True
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            "Rician: magnitude (MRI)",
            (SIGMA,),
            "rician(sigma=10)",
            "MRI magnitude images",
            "y/σ² e^(−(y²+x²)/2σ²) I₀(xy/σ²)",
            "1/y − y/σ² + (x/σ²) I₁/I₀(xy/σ²)",
        ),
    )
    fitted: ClassVar[tuple[FittedParameters, ...]] = (
        FittedParameters(("sigma",), lambda m, v: (float(np.sqrt(v.max())),)),
    )

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x."""
        x = np.asarray(x, dtype=np.float64)
        real, imaginary = self.sigma * rng.standard_normal((2, *x.shape))
        y: Array = np.hypot(x + real, imaginary)
        return y

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x] = σ √(π/2) L½(−x²/2σ²)."""
        return self.sigma * _mean((x / self.sigma) ** 2)[0]

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x] = 2σ² + x² − E[y | x]²."""
        square = (x / self.sigma) ** 2
        mean, _ = _mean(square)
        # far above the noise the difference would be lost to rounding; this is its series
        inverse = 1 / square.clamp(min=1)
        series = 1 - inverse / 2 - inverse**2 / 2
        exact = 2 + square - mean**2
        return self.sigma**2 * torch.where(square > MIN_SQUARE_OF_SERIES, series, exact)

    def cumulants(self, mean: Array) -> tuple[Array, Array]:
        """Return variance and third central moment as functions of the mean, from a table.

        A mean below its value without signal is impossible; the variance then grows with the gap.
        """
        at = np.asarray(mean, dtype=np.float64) / self.sigma
        means, variances, thirds = _table_of_moments()
        missing = np.maximum(means[0] - at, 0)
        variance = self.sigma**2 * (np.interp(at, means, variances) + missing)
        return variance, self.sigma**3 * np.interp(at, means, thirds)

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the x that has this E[y | x]; 0 if it is below the mean without signal."""
        mean = mean.clamp(min=0) / self.sigma
        # Newton's method in x²: from below, as the variance is at least 2 − π/2
        square = (mean**2 - math.pi / 2).clamp(min=0)
        for _ in range(MEAN_STEPS):
            value, slope = _mean(square)
            square = (square + (mean - value) / slope).clamp(min=0)
        return self.sigma * torch.sqrt(square)

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y)."""
        x, y = x / self.sigma, (y / self.sigma).clamp(min=MIN_Y)
        return (1 / y - y + x * _ratio(x * y)) / self.sigma

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f(x, y) = s; 0 if there is none."""
        y = (y / self.sigma).clamp(min=MIN_Y)
        target = (s * self.sigma * y - 1 + y**2).clamp(min=0)
        limited = target.clamp(max=MAX_EXACT_Z)
        square = torch.maximum(limited**2, 2 * limited)
        for _ in range(SOLVE_STEPS):
            z = torch.sqrt(square)
            ratio = _ratio(z)
            step = 2 * (limited - z * ratio) / (1 - ratio**2)
            square = (square + step).clamp(min=0)
            if (step.abs() <= TOLERANCE * square + 1e-30).all():
                break
        z = torch.where(target < MAX_EXACT_Z, torch.sqrt(square), target + 0.5)
        return self.sigma * z / y

    def bin_probabilities(self, edges: Tensor, x: Tensor) -> Tensor:
        """Return the probability of each bin of y for each x, of shape ``(x, bins)``."""
        x, edges = x[:, None] / self.sigma, edges / self.sigma

        def density(y: Tensor) -> Tensor:
            value: Tensor = y * torch.exp(-((y - x) ** 2) / 2) * torch.special.i0e(x * y)
            return value

        low = (x - MAX_DEVIATION).clamp(min=0)
        return integrated_bins(density, low, x + MAX_DEVIATION, edges)


@cache
def _table_of_moments() -> tuple[Array, Array, Array]:
    """Return mean, variance and third central moment of y, each over x, for σ = 1."""
    x = torch.linspace(0, TABLE_MAX_X, TABLE_X, dtype=torch.float64)
    edges = torch.linspace(0, TABLE_MAX_Y, TABLE_EDGES, dtype=torch.float64)
    probability = Rician(1.0).bin_probabilities(edges, x.clamp(min=1e-6))
    center = (edges[1:] + edges[:-1]) / 2
    mean = probability @ center
    deviation = center - mean[:, None]
    variance, third = ((probability * deviation**k).sum(1) for k in (2, 3))
    return mean.numpy(), variance.numpy(), third.numpy()


def _mean(square: Tensor) -> tuple[Tensor, Tensor]:
    """Return E[y] and its slope, as functions of x², for σ = 1."""
    zero, one = torch.special.i0e(square / 4), torch.special.i1e(square / 4)
    mean = math.sqrt(math.pi / 2) * (zero + square / 2 * (zero + one))
    return mean, math.sqrt(math.pi / 32) * (zero + one)


def _ratio(z: Tensor) -> Tensor:
    """Return I₁(z) / I₀(z)."""
    ratio: Tensor = torch.special.i1e(z) / torch.special.i0e(z)
    return ratio
