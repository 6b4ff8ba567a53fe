"""Multiplicative noise: the brighter, the noisier, in proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .base import MAX_SHAPE, Pixelwise, checked_number, in_range, positive, spell


@dataclass(frozen=True)
class Gamma(Pixelwise):
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

    Notes
    -----
    Model 5 of Xie et al., NeurIPS 2023, Table 1, and the Gamma case of Kim & Ye, NeurIPS 2021:
    ``x = α y / (α − 1 − y s)``.

    Examples
    --------
    >>> print(Gamma(alpha=26))
    gamma(alpha=26)
    >>> Gamma(26).solve(torch.tensor(100.0), torch.tensor(-0.01))
    tensor(100.)
    """

    alpha: float

    def __post_init__(self):
        checked_number("gamma", "alpha", self.alpha)
        if not (math.isfinite(self.alpha) and self.alpha >= 1):
            raise UserError(f"gamma: alpha must be a number of at least 1, not {self.alpha:g}")
        in_range("gamma", "alpha", self.alpha, 1, MAX_SHAPE)

    def __str__(self) -> str:
        return spell("gamma", alpha=self.alpha)

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x, x at least 0."""
        x = np.asarray(x, dtype=np.float64)
        return np.maximum(x, 0) * rng.gamma(self.alpha, 1 / self.alpha, x.shape)

    def mean(self, x):
        """Give E[y | x] = x."""
        return x

    def variance(self, x):
        """Give Var[y | x] = x² / α."""
        return x**2 / self.alpha

    def clean(self, mean):
        """Give the x that has this E[y | x]."""
        return mean

    def score(self, x, y):
        """Give f(x, y) = (α − 1) / y − α / x."""
        return (self.alpha - 1) / y - self.alpha / x

    def solve(self, y, s):
        """Give the x for which f(x, y) = s; y at or below 0 has none but 0."""
        y = y.clamp(min=0)
        return self.alpha * y / (self.alpha - 1 - y * s).clamp(min=1e-3 * self.alpha)

    def cdf(self, y, x):
        """Give P(Y < y | x)."""
        return _gamma_cdf(self.alpha, self.alpha * y.clamp(min=0) / x.clamp(min=1e-300))


@dataclass(frozen=True)
class Nakagami(Pixelwise):
    """Multiplicative speckle of an amplitude: ``y = η x``, ``η² ~ Gamma(m, m)``, E[y²] = x².

    The root of `Gamma`: what OCT, ultrasound and SAR show where they show amplitudes. m = 1 is
    fully developed speckle in a single look, whose amplitude is Rayleigh distributed.

    - p(y | x) = 2 (m/x²)^m y^(2m−1) e^(−my²/x²) / Γ(m)
    - f(x, y) = (2m − 1) / y − 2my / x²

    Parameters
    ----------
    m : float
        Shape, at least 0.5, without unit: the number of looks averaged in intensity.

    Notes
    -----
    Nakagami 1960; Goodman, *Speckle Phenomena in Optics*, 2007. The solution is
    ``x = y √(2m / (2m − 1 − ys))``. The mean of y is below x: 0.886 x for m = 1.

    Examples
    --------
    >>> print(Nakagami(m=1))
    nakagami(m=1)
    >>> Nakagami(1).solve(torch.tensor(100.0), torch.tensor(-0.01))
    tensor(100.)
    """

    m: float

    def __post_init__(self):
        checked_number("nakagami", "m", self.m)
        if not (math.isfinite(self.m) and self.m >= 0.5):
            raise UserError(f"nakagami: m must be a number of at least 0.5, not {self.m:g}")
        in_range("nakagami", "m", self.m, 0.5, MAX_SHAPE)

    def __str__(self) -> str:
        return spell("nakagami", m=self.m)

    @property
    def _share(self) -> float:
        """Mean of y in units of x."""
        return math.exp(math.lgamma(self.m + 0.5) - math.lgamma(self.m)) / math.sqrt(self.m)

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x, x at least 0."""
        x = np.asarray(x, dtype=np.float64)
        return np.maximum(x, 0) * np.sqrt(rng.gamma(self.m, 1 / self.m, x.shape))

    def mean(self, x):
        """Give E[y | x] = x Γ(m + ½) / (Γ(m) √m)."""
        return x * self._share

    def variance(self, x):
        """Give Var[y | x] = x² − E[y | x]²."""
        return x**2 * (1 - self._share**2)

    def clean(self, mean):
        """Give the x that has this E[y | x]."""
        return mean / self._share

    def score(self, x, y):
        """Give f(x, y) = (2m − 1) / y − 2my / x²."""
        return (2 * self.m - 1) / y - 2 * self.m * y / x**2

    def solve(self, y, s):
        """Give the x for which f(x, y) = s; y at or below 0 has none but 0."""
        y = y.clamp(min=0)
        # far tails of a wrong score must not divide by nothing: x is at most 1000 y
        rest = (2 * self.m - 1 - y * s).clamp(min=2e-6 * self.m)
        return y * torch.sqrt(2 * self.m / rest)

    def cdf(self, y, x):
        """Give P(Y < y | x)."""
        ratio = (y.clamp(min=0) / x.clamp(min=1e-300)).clamp(max=1e100)
        return _gamma_cdf(self.m, self.m * ratio**2)


@dataclass(frozen=True)
class Rayleigh(Pixelwise):
    """Multiplicative Rayleigh noise: ``y = (η + 1) x``, ``η ~ Rayleigh(σ)``.

    - p(y | x) = t / (σ² x) e^(−t² / 2σ²), with t = y/x − 1 > 0
    - f(x, y) = 1 / (y − x) − (y − x) / (σ² x²)

    Parameters
    ----------
    sigma : float
        Scale of η, without unit, above 0; ``E[y] = x (1 + σ √(π/2))``.

    Notes
    -----
    Model 9 of Xie et al., NeurIPS 2023, Table 1. The solution is the one positive root of
    ``t³ + t² + σ² (s y − 1) t − σ² = 0``, ``x = y / (1 + t)``; Newton's method from its right
    falls to it monotonically. As y cannot be below x, f has a pole there, and is so far from
    straight that the table gives the mean of the x that make such a score, not the solution alone.

    Examples
    --------
    >>> model = Rayleigh(sigma=0.3)
    >>> y, x = torch.tensor(130.0), torch.tensor(100.0)
    >>> model.solve(y, model.score(x, y))
    tensor(100.)
    """

    sigma: float
    unsure = 0.2

    def __post_init__(self):
        positive("rayleigh", sigma=self.sigma)

    def __str__(self) -> str:
        return spell("rayleigh", sigma=self.sigma)

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x, x at least 0."""
        x = np.asarray(x, dtype=np.float64)
        return np.maximum(x, 0) * (1 + rng.rayleigh(self.sigma, x.shape))

    def mean(self, x):
        """Give E[y | x]."""
        return x * (1 + self.sigma * math.sqrt(math.pi / 2))

    def variance(self, x):
        """Give Var[y | x]."""
        return (2 - math.pi / 2) * (self.sigma * x) ** 2

    def clean(self, mean):
        """Give the x that has this E[y | x]."""
        return mean / (1 + self.sigma * math.sqrt(math.pi / 2))

    def score(self, x, y):
        """Give f(x, y) for y > x."""
        excess = y - x
        return 1 / excess - excess / (self.sigma * x) ** 2

    def solve(self, y, s):
        """Give the x for which f(x, y) = s; y at or below 0 has none but 0."""
        y = y.clamp(min=0)
        square = self.sigma**2
        linear = square * (s * y - 1)
        t = 1 + linear.abs() + square
        for _ in range(60):
            step = (((t + 1) * t + linear) * t - square) / ((3 * t + 2) * t + linear)
            t = t - step
            if step.abs().max() <= 1e-7 * t.max():
                break
        return y / (1 + t)

    def cdf(self, y, x):
        """Give P(Y < y | x)."""
        t = (y / x.clamp(min=1e-300) - 1).clamp(min=0)
        return -torch.expm1(-(t**2) / (2 * self.sigma**2))


def _gamma_cdf(shape: float, t: Tensor) -> Tensor:
    """Give the regularised incomplete gamma function P(shape, t), t at least 0.

    One shape serves a whole table, so P is interpolated over log t by cubic pieces that take its
    value and its slope, to ten digits: it would be most of the time that the table takes.
    """
    # beyond these it is 0 or 1 to a double's rounding (e⁻⁴¹; Chernoff's bounds)
    spread = math.sqrt(82 * shape)
    low = (math.lgamma(shape + 1) - 41) / shape
    low = max(low, math.log(shape - spread)) if shape > spread else low
    high = math.log(shape + spread + 41)
    knots = torch.linspace(low, high, 4096, dtype=torch.float64, device=t.device)
    step = (high - low) / (len(knots) - 1)
    value = torch.special.gammainc(torch.full_like(knots, shape), knots.exp())
    slope = torch.exp(shape * knots - knots.exp() - math.lgamma(shape)) * step
    rise, left, right = value.diff(), slope[:-1], slope[1:]
    at = (torch.log(t.double()) - low).div_(step).clamp_(0, len(knots) - 1)
    piece = at.int().clamp_(max=len(knots) - 2).flatten()
    at = at.flatten().sub_(piece)
    found = (left + right - 2 * rise)[piece]
    for coefficient in (3 * rise - 2 * left - right, left, value):
        found.mul_(at).add_(coefficient[piece])
    return found.reshape(t.shape)
