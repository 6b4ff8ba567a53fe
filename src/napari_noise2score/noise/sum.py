"""Read noise on top of another noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import NoiseModel
from .gaussian import Gaussian

BLOCK = 128  # bins that are spread at once


@dataclass(frozen=True)
class Sum:
    """A pixelwise model with Gaussian read noise on top: ``y = z + ε``, ``z ~ base(x)``.

    Written ``base + Gaussian(sigma)``.

    - p(y | x) = ∫ p_base(z | x) N(y − z; 0, σ²) dz
    - f(x, y) ≈ f_base(x, z̄), with z̄ = y + σ² s: Tweedie's estimate of z

    Parameters
    ----------
    base : Poisson, Gamma, Rayleigh or Gaussian
        The model under the read noise.
    read : Gaussian
        The read noise, of one sigma.

    Notes
    -----
    Models 11 to 16 of Xie et al., NeurIPS 2023, Section 3.3: solve ``s = f_base(x, z̄)``.
    The table solver (`make_solver`) uses the exact p(y | x) instead.

    Examples
    --------
    >>> from napari_noise2score.noise import Gamma
    >>> Gamma(alpha=26) + Gaussian(sigma=10)
    Sum(base=Gamma(alpha=26), read=Gaussian(sigma=10))
    """

    base: NoiseModel
    read: Gaussian

    def __str__(self) -> str:
        return f"{self.base} + {self.read}"

    @property
    def lowest(self) -> float:
        """Smallest x the model is defined for, in grey levels."""
        return self.base.lowest

    @property
    def offset(self) -> float:
        """Grey level without light."""
        return self.base.offset

    @property
    def unsure(self) -> float:
        """How far x is taken to be open where s = f(x, y) is solved."""
        return self.base.unsure

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x."""
        return self.read.sample(self.base.sample(x, rng), rng)

    def mean(self, x):
        """Give E[y | x]."""
        return self.base.mean(x)

    def variance(self, x):
        """Give Var[y | x]."""
        return self.base.variance(x) + self.read.level**2

    def clean(self, mean):
        """Give the x that has this E[y | x]."""
        return self.base.clean(mean)

    def score(self, x, y):
        """Give f(x, y) by integrating over z, on a grid of z as fine as the read noise."""
        sigma = self.read.level
        x, y = torch.broadcast_tensors(x, y)
        flat_x, flat_y = x.reshape(-1, 1).double(), y.reshape(-1, 1).double()
        offsets = torch.linspace(-8, 8, 641, dtype=torch.float64) * sigma
        mass = torch.stack(
            [
                self.base.masses(at + offsets, value)[0]
                for at, value in zip(flat_y, flat_x, strict=True)
            ]
        )
        middle = (offsets[1:] + offsets[:-1]) / 2
        weight = mass * torch.exp(-((middle / sigma) ** 2) / 2)
        f = (weight * middle).sum(1) / weight.sum(1).clamp(min=1e-300) / sigma**2
        return f.reshape(x.shape).to(y.dtype)

    def solve(self, y, s):
        """Give the x for which f_base(x, y + σ² s) = s."""
        return self.base.solve(y + self.read.level**2 * s, s)

    def masses(self, edges, x):
        """Give the probability of each bin of y, for each x, of shape ``(x, bins)``."""
        base = self.base.masses(edges, x).float()
        middle = self.base.middles(edges)
        total = torch.zeros_like(base)
        # some bins at a time, as they reach but to their neighbours
        for start in range(0, len(middle), BLOCK):
            some = slice(start, min(start + BLOCK, len(middle)))
            if not base[:, some].any():
                continue
            reached = torch.tensor([middle[some][0] - self._far, middle[some][-1] + self._far])
            low, high = torch.searchsorted(edges, reached.to(edges)).tolist()
            near = slice(max(low - 1, 0), min(high, len(middle)))
            away = edges[near.start : near.stop + 1] - middle[some, None]
            total[:, near] += base[:, some] @ _masses_of_normal((away / self.read.level).float())
        return total.double()

    def middles(self, edges):
        """Give the y at which the probability of each bin is taken to lie."""
        # where read noise is far narrower than a bin, what is below it still shows
        spread = self.read.level > edges.diff() / 4
        return torch.where(spread, (edges[1:] + edges[:-1]) / 2, self.base.middles(edges))

    @property
    def _far(self) -> float:
        return 8 * self.read.level


def _masses_of_normal(edges: Tensor) -> Tensor:
    """Give the mass of a standard normal between neighbouring edges, rising along the last axis.

    The tail beyond each edge rather than the sum up to it, as differences near one are lost in
    single precision.
    """
    tail = torch.special.ndtr(-edges.abs())
    left, right = tail[..., :-1], tail[..., 1:]
    straddles = (edges[..., :-1] < 0) & (edges[..., 1:] > 0)
    return torch.where(straddles, 1 - left - right, (left - right).abs())
