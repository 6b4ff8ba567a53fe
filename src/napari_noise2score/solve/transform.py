"""Coordinates in which the noise is of about the same size everywhere.

Training perturbs all pixels by the same σ_a and predicts one quantity for all of them. Where the
noise grows with the signal that serves bright and dark badly, so the score is learned of
``z = T(y)`` instead, with ``T = ∫ dy / √v(y)`` for a noise variance v. Nothing is approximated by
it: whatever T is, the solver works with p(y | x) seen through T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# a relative growth of the noise, √c2, below which single precision would not notice it
NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class Transform:
    """Variance-stabilising transform for ``v(y) = c0 + c1 t + c2 t²``, ``t = max(y − start, 0)``.

    That family holds the identity (c0 alone), the square root of photon counts (c1) and the
    logarithm of speckle (c2), and all between. Below start T goes on as a straight line, so it
    is smooth and invertible over all that an image can hold.

    Parameters
    ----------
    start : float
        Grey level from which the variance grows.
    c0, c1, c2 : float
        Variance at start (above 0, grey levels squared), its slope and curvature (0 or above).

    Examples
    --------
    >>> root = Transform(start=0, c0=1, c1=2)
    >>> z = root.forward(torch.tensor([-3.0, 0.0, 12.0]))
    >>> z
    tensor([-3.,  0.,  4.])
    >>> root.inverse(z)
    tensor([-3.,  0., 12.])
    """

    start: float = 0.0
    c0: float = 1.0
    c1: float = 0.0
    c2: float = 0.0

    def __post_init__(self):
        values = (self.start, self.c0, self.c1, self.c2)
        if not all(map(math.isfinite, values)) or self.c0 <= 0 or min(self.c1, self.c2) < 0:
            raise ValueError(f"no variance curve: {self}")

    def variance(self, y: Tensor) -> Tensor:
        """Give v(y), in grey levels squared."""
        t = (y - self.start).clamp(min=0)
        return self.c0 + t * (self.c1 + t * self.c2)

    def forward(self, y: Tensor) -> Tensor:
        """Give z = T(y), in units of the noise's standard deviation."""
        root, k = math.sqrt(self.c0), math.sqrt(self.c2)
        below = (y - self.start).clamp(max=0) / root
        t = (y - self.start).clamp(min=0)
        rise = t * (self.c1 + t * self.c2)
        roots = torch.sqrt(self.c0 + rise) + root
        if k > NEGLIGIBLE:
            # rise / roots is √v − √c0, without subtracting what is nearly equal
            above = torch.log1p(2 * k * (rise / roots + k * t) / (2 * k * root + self.c1)) / k
        else:
            above = 2 * t / roots
        return below + above

    def inverse(self, z: Tensor) -> Tensor:
        """Give y = T⁻¹(z), in grey levels."""
        root, k = math.sqrt(self.c0), math.sqrt(self.c2)
        below = z.clamp(max=0) * root
        z = z.clamp(min=0)
        if k > NEGLIGIBLE:
            m = torch.expm1(k * z)
            above = m / k * (2 * root * (2 + m) + self.c1 * m / k) / (4 * (1 + m))
        else:
            above = z * (root + self.c1 * z / 4)
        return self.start + below + above

    def slope(self, y: Tensor) -> Tensor:
        """Give T'(y) = 1 / √v(y), per grey level."""
        return 1 / torch.sqrt(self.variance(y))

    def raw_score(self, y: Tensor, s: Tensor, sigma_a: float) -> Tensor:
        """Give the score of y, from the score s of z = T(y), perturbed by σ_a.

        ``s_y = T'(y) s_z + T''(y) / T'(y)``, with ``T''/T' = −v'(y) / 2 v(y)``. Where v begins to
        grow v' is that of the perturbed y on average: it has no step, at which rounding would show.
        """
        return s * self.slope(y) + self._bend(y, sigma_a)

    def own_score(self, y: Tensor, s: Tensor, sigma_a: float) -> Tensor:
        """Give the score of z = T(y), perturbed by σ_a, from the score s of y."""
        return (s - self._bend(y, sigma_a)) / self.slope(y)

    def _bend(self, y: Tensor, sigma_a: float) -> Tensor:
        """Give T''(y) / T'(y)."""
        sigma = sigma_a * math.sqrt(self.c0)
        t = y - self.start
        grown = torch.special.ndtr(t / sigma)
        density = torch.exp(-((t / sigma) ** 2) / 2) / math.sqrt(2 * math.pi)
        growth = self.c1 * grown + 2 * self.c2 * (t * grown + sigma * density)
        return -growth / (2 * self.variance(y))
