"""Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ..errors import UserError
from .base import Pixelwise, checked_number, in_range, positive, spell

# the standard deviation may grow by so much with each grey level
MAX_GROWTH = 1e6


@dataclass(frozen=True)
class Gaussian(Pixelwise):
    """Gaussian noise, of one level or of a level that grows with the signal.

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

    lowest: ClassVar[float] = -math.inf  # type: ignore[misc]

    def __post_init__(self):
        if self.sigma is not None and self.a is None and self.b is None:
            positive("gaussian", sigma=self.sigma)
        elif self.sigma is None and self.a is not None and self.b is not None:
            checked_number("gaussian", "a", self.a)
            if not (math.isfinite(self.a) and self.a >= 0):
                raise UserError(f"gaussian: a must be 0 or above, not {self.a:g}")
            in_range("gaussian", "a", self.a, 0, MAX_GROWTH)
            positive("gaussian", b=self.b)
        else:
            raise UserError("gaussian takes sigma, or both a and b: gaussian(sigma=25)")
        if self.a:
            # the level a x + b must stay above zero
            object.__setattr__(self, "lowest", -0.999 * self.level / self.a)

    def __str__(self) -> str:
        return spell("gaussian", sigma=self.sigma, a=self.a, b=self.b)

    def __repr__(self) -> str:
        return "G" + str(self)[1:]

    @property
    def growth(self) -> float:
        """Growth of the standard deviation with x; 0 if it has one level."""
        return self.a or 0.0

    @property
    def level(self) -> float:
        """Standard deviation at x = 0, in grey levels."""
        return self.sigma if self.sigma is not None else self.b or 0.0

    def _std(self, x):
        return self.growth * x + self.level

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x."""
        x = np.asarray(x, dtype=np.float64)
        return x + self._std(x) * rng.standard_normal(x.shape)

    def mean(self, x):
        """Give E[y | x] = x."""
        return x

    def variance(self, x):
        """Give Var[y | x] = σ²."""
        return self._std(x) ** 2

    def clean(self, mean):
        """Give the x that has this E[y | x]."""
        return mean

    def score(self, x, y):
        """Give f(x, y) = (x − y) / σ²."""
        return (x - y) / self._std(x) ** 2

    def solve(self, y, s):
        """Give the x for which f(x, y) = s."""
        a, b = self.growth, self.level
        if not a:
            return y + b**2 * s
        first, second, last = a * a * s, 2 * a * b * s - 1, y + b * b * s
        root = torch.sqrt((second**2 - 4 * first * last).clamp(min=0))
        return (2 * last / (root - second)).clamp(min=self.lowest)

    def cdf(self, y, x):
        """Give P(Y < y | x)."""
        return torch.special.ndtr((y - x) / self._std(x))
