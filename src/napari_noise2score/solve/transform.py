"""The variance-stabilizing transform: coordinates z = T(y) in which the noise is nearly constant.

Training perturbs all pixels by the same σ_a. This suits neither bright nor dark pixels where the
noise increases with the signal. The score is therefore learned for ``z = T(y)`` with
``T = ∫ dy / √v(y)``, where v is the variance of the noise. T need not be exact: the solver uses the
distribution of T(y) given x, whatever T is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# smaller relative growth of the noise, √c2, has no effect in single precision
MIN_RELATIVE_GROWTH = 1e-12


@dataclass(frozen=True)
class Transform:
    """Variance-stabilizing transform for ``v(y) = c0 + c1 t + c2 t²``, ``t = max(y − start, 0)``.

    It includes the identity (c0 alone), the square root for photon counts (c1), the logarithm for
    speckle (c2), and everything in between. Below `start` T is linear, so that it is smooth and
    invertible for every grey level.

    Parameters
    ----------
    start : float
        Grey level from which the variance grows.
    c0, c1, c2 : float
        Variance at `start` in grey levels squared (above 0), and its linear and quadratic
        coefficients (0 or above).

    Raises
    ------
    ValueError
        If a number is not finite or out of range.

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

    def __post_init__(self) -> None:
        values = (self.start, self.c0, self.c1, self.c2)
        if not all(map(math.isfinite, values)) or self.c0 <= 0 or min(self.c1, self.c2) < 0:
            raise ValueError(f"not a variance curve: {self}")

    def variance(self, y: Tensor) -> Tensor:
        """Return v(y) in grey levels squared."""
        t = (y - self.start).clamp(min=0)
        return self.c0 + t * (self.c1 + t * self.c2)

    def forward(self, y: Tensor) -> Tensor:
        """Return z = T(y) in units of the standard deviation of the noise."""
        root, k = math.sqrt(self.c0), math.sqrt(self.c2)
        below = (y - self.start).clamp(max=0) / root
        t = (y - self.start).clamp(min=0)
        rise = t * (self.c1 + t * self.c2)
        roots = torch.sqrt(self.c0 + rise) + root
        if k > MIN_RELATIVE_GROWTH:
            # rise / roots is √v − √c0, without the loss of precision of that difference
            above = torch.log1p(2 * k * (rise / roots + k * t) / (2 * k * root + self.c1)) / k
        else:
            above = 2 * t / roots
        return below + above

    def inverse(self, z: Tensor) -> Tensor:
        """Return y = T⁻¹(z) in grey levels."""
        root, k = math.sqrt(self.c0), math.sqrt(self.c2)
        below = z.clamp(max=0) * root
        z = z.clamp(min=0)
        if k > MIN_RELATIVE_GROWTH:
            m = torch.expm1(k * z)
            above = m / k * (2 * root * (2 + m) + self.c1 * m / k) / (4 * (1 + m))
        else:
            above = z * (root + self.c1 * z / 4)
        return self.start + below + above

    def slope(self, y: Tensor) -> Tensor:
        """Return T'(y) = 1 / √v(y), per grey level."""
        return 1 / torch.sqrt(self.variance(y))

    def raw_score(self, y: Tensor, s: Tensor, sigma_a: float) -> Tensor:
        """Return the score of y, given the score s of z = T(y) perturbed by σ_a.

        It is ``s_y = T'(y) s_z + T''(y) / T'(y)`` with ``T''/T' = −v'(y) / 2 v(y)``. Around `start`
        v' is averaged over the perturbation, so that it has no step, which rounding would make
        visible.
        """
        return s * self.slope(y) + self._relative_curvature(y, sigma_a)

    def own_score(self, y: Tensor, s: Tensor, sigma_a: float) -> Tensor:
        """Return the score of z = T(y) perturbed by σ_a, given the score s of y."""
        return (s - self._relative_curvature(y, sigma_a)) / self.slope(y)

    def _relative_curvature(self, y: Tensor, sigma_a: float) -> Tensor:
        """Return T''(y) / T'(y), per grey level."""
        sigma = sigma_a * math.sqrt(self.c0)
        t = y - self.start
        above_start = torch.special.ndtr(t / sigma)
        density = torch.exp(-((t / sigma) ** 2) / 2) / math.sqrt(2 * math.pi)
        growth = self.c1 * above_start + 2 * self.c2 * (t * above_start + sigma * density)
        relative: Tensor = -growth / (2 * self.variance(y))
        return relative
