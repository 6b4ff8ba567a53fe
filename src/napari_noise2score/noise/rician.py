"""The noise of magnitude images, as magnetic resonance imaging records them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.special import i0e, i1e

from .base import Pixelwise, positive, spell

# how far the distribution reaches from x, in sigma, and the cells it is cut into
REACH = 10
CELLS = 160


@dataclass(frozen=True)
class Rician(Pixelwise):
    """Magnitude of a complex signal with Gaussian noise in both parts: ``y = |x + n₁ + i n₂|``.

    - p(y | x) = y/σ² exp(−(y² + x²) / 2σ²) I₀(xy/σ²), y ≥ 0
    - f(x, y) = 1/y − y/σ² + (x/σ²) I₁(xy/σ²) / I₀(xy/σ²)

    Parameters
    ----------
    sigma : float
        Standard deviation of each of n₁ and n₂ in grey levels, above 0. Without signal the mean
        of y is 1.25 sigma.

    Notes
    -----
    Rice 1944; Gudbjartsson & Patz, *Magn. Reson. Med.* 1995, for magnetic resonance images. In
    ``z = xy/σ²`` the solution is that of ``z I₁(z)/I₀(z) = sy − 1 + y²/σ²``, by Newton's method
    in z², where it comes from the left and never oversteps; where the right side is below 0, it
    is 0.

    Examples
    --------
    >>> model = Rician(sigma=10)
    >>> print(model)
    rician(sigma=10)
    >>> y, x = torch.tensor(32.0), torch.tensor(25.0)
    >>> model.solve(y, model.score(x, y))
    tensor(25.)
    """

    sigma: float

    def __post_init__(self):
        positive("rician", sigma=self.sigma)

    def __str__(self) -> str:
        return spell("rician", sigma=self.sigma)

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x."""
        x = np.asarray(x, dtype=np.float64)
        real, imaginary = self.sigma * rng.standard_normal((2, *x.shape))
        return np.hypot(x + real, imaginary)

    def mean(self, x):
        """Give E[y | x] = σ √(π/2) L½(−x²/2σ²)."""
        return self.sigma * _mean((x / self.sigma) ** 2)[0]

    def variance(self, x):
        """Give Var[y | x] = 2σ² + x² − E[y | x]²."""
        square = (x / self.sigma) ** 2
        mean, _ = _mean(square)
        # far above the noise the difference would be lost to rounding; this is its series
        part = 1 / square.clamp(min=1)
        far = 1 - part / 2 - part**2 / 2
        return self.sigma**2 * torch.where(square > 1000, far, 2 + square - mean**2)

    def clean(self, mean):
        """Give the x that has this E[y | x]; 0 if it is below that of no signal."""
        mean = mean.clamp(min=0) / self.sigma
        # Newton's method in x²: from the left, as the variance is 2 − π/2 at least
        square = (mean**2 - math.pi / 2).clamp(min=0)
        for _ in range(12):
            value, slope = _mean(square)
            square = (square + (mean - value) / slope).clamp(min=0)
        return self.sigma * torch.sqrt(square)

    def score(self, x, y):
        """Give f(x, y)."""
        x, y = x / self.sigma, (y / self.sigma).clamp(min=1e-9)
        return (1 / y - y + x * _ratio(x * y)) / self.sigma

    def solve(self, y, s):
        """Give the x for which f(x, y) = s, 0 if there is none."""
        y = (y / self.sigma).clamp(min=1e-9)
        goal = (s * self.sigma * y - 1 + y**2).clamp(min=0)
        near = goal.clamp(max=1e6)
        square = torch.maximum(near**2, 2 * near)
        for _ in range(30):
            z = torch.sqrt(square)
            ratio = _ratio(z)
            step = 2 * (near - z * ratio) / (1 - ratio**2)
            square = (square + step).clamp(min=0)
            if (step.abs() <= 1e-9 * square + 1e-30).all():
                break
        z = torch.where(goal < 1e6, torch.sqrt(square), goal + 0.5)
        return self.sigma * z / y

    def masses(self, edges, x):
        """Give the probability of each bin of y, for each x, of shape ``(x, bins)``."""
        x, edges = x[:, None] / self.sigma, edges / self.sigma
        # there is no cumulative distribution in closed form: for each x it is summed up by
        # Simpson's rule on cells of y of its own, and read off within them by its slope
        low = (x - REACH).clamp(min=0)
        step = (x + REACH - low) / CELLS
        y = low + step / 2 * torch.arange(2 * CELLS + 1).to(x)
        density = step * y * torch.exp(-((y - x) ** 2) / 2) * i0e(x * y)
        cell = (density[:, :-1:2] + 4 * density[:, 1::2] + density[:, 2::2]) / 6
        total = cell.sum(1, keepdim=True)
        slope = density[:, ::2] / total
        cdf = torch.nn.functional.pad(torch.cumsum(cell, 1) / total, (1, 0))
        at = ((edges - low) / step).clamp(0, CELLS)
        left = at.long().clamp(max=CELLS - 1)
        t = at - left
        start, rise = cdf.gather(1, left), (cell / total).gather(1, left)
        first, last = slope.gather(1, left), slope.gather(1, left + 1)
        cubic = first + t * (3 * rise - 2 * first - last + t * (first + last - 2 * rise))
        return (start + t * cubic).diff(dim=1).clamp(min=0)


def _mean(square):
    """Give E[y] and its slope, as functions of x², for σ = 1."""
    zero, one = i0e(square / 4), i1e(square / 4)
    mean = math.sqrt(math.pi / 2) * (zero + square / 2 * (zero + one))
    return mean, math.sqrt(math.pi / 32) * (zero + one)


def _ratio(z):
    """Give I₁(z) / I₀(z)."""
    return i1e(z) / i0e(z)
