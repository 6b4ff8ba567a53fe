"""Gaussian read noise on top of another noise model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._torch import broadcast, torch
from .base import Array, Components, NoiseModel
from .gaussian import Gaussian

if TYPE_CHECKING:
    from torch import Tensor

BINS_AT_ONCE = 128
# number of standard deviations beyond which the read noise is treated as 0
MAX_DEVIATION = 8
GRID = 641  # values of the read noise over which the score is integrated


@dataclass(frozen=True)
class Sum(NoiseModel):
    """A model with Gaussian read noise on top: ``y = z + ε``, ``z ~ base(x)``.

    Written ``base + Gaussian(sigma)``.

    - p(y | x) = ∫ p_base(z | x) N(y − z; 0, σ²) dz
    - f(x, y) ≈ f_base(x, z̄), with z̄ = y + σ² s: Tweedie's estimate of z

    Parameters
    ----------
    base : NoiseModel
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
    def components(self) -> Components:
        """The components of the base, with the read noise."""
        return self.base.components._replace(read_noise=self.read.std_at_zero)

    @property
    def offset(self) -> float:
        """The grey level without signal."""
        return self.base.offset

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x."""
        return self.read.sample(self.base.sample(x, rng), rng)

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x]."""
        return self.base.mean(x)

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x]."""
        return self.base.variance(x) + self.read.std_at_zero**2

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the x that has this E[y | x]."""
        return self.base.clean_from_mean(mean)

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y), integrated over z on a grid finer than the read noise."""
        sigma = self.read.std_at_zero
        x, y = broadcast(x, y)
        flat_x, flat_y = x.reshape(-1, 1).double(), y.reshape(-1, 1).double()
        offsets = torch.linspace(-MAX_DEVIATION, MAX_DEVIATION, GRID, dtype=torch.float64) * sigma
        probability = torch.stack(
            [
                self.base.bin_probabilities(at + offsets, value)[0]
                for at, value in zip(flat_y, flat_x, strict=True)
            ]
        )
        middle = (offsets[1:] + offsets[:-1]) / 2
        weight = probability * torch.exp(-((middle / sigma) ** 2) / 2)
        f = (weight * middle).sum(1) / weight.sum(1).clamp(min=1e-300) / sigma**2
        return f.reshape(x.shape).to(y.dtype)

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f_base(x, y + σ² s) = s."""
        return self.base.solve(y + self.read.std_at_zero**2 * s, s)

    def scaled(self, factor: float) -> NoiseModel:
        """Return the model with the variances of base and read noise multiplied by a factor."""
        return self.base.scaled(factor) + self.read.scaled(factor)

    def in_unit(self, unit: float) -> NoiseModel:
        """Return the model of images whose grey levels were multiplied by a number."""
        return self.base.in_unit(unit) + self.read.in_unit(unit)

    def bin_probabilities(self, edges: Tensor, x: Tensor) -> Tensor:
        """Return the probability of each bin of y for each x, of shape ``(x, bins)``."""
        base = self.base.bin_probabilities(edges, x).float()
        center = self.base.bin_centers(edges)
        reach = MAX_DEVIATION * self.read.std_at_zero
        total = torch.zeros_like(base)
        # some bins at a time, as read noise moves them only into their neighbours
        for start in range(0, len(center), BINS_AT_ONCE):
            some = slice(start, min(start + BINS_AT_ONCE, len(center)))
            if not base[:, some].any():
                continue
            ends = torch.tensor([center[some][0] - reach, center[some][-1] + reach])
            low, high = torch.searchsorted(edges, ends.to(edges)).tolist()
            near = slice(max(low - 1, 0), min(high, len(center)))
            away = edges[near.start : near.stop + 1] - center[some, None]
            normal = _normal_bin_probabilities((away / self.read.std_at_zero).float())
            total[:, near] += base[:, some] @ normal
        return total.double()

    def bin_centers(self, edges: Tensor) -> Tensor:
        """Return a representative y of each bin, shape ``(bins,)``."""
        # the values of the base still show where read noise is far narrower than a bin
        spread = self.read.std_at_zero > edges.diff() / 4
        return torch.where(spread, (edges[1:] + edges[:-1]) / 2, self.base.bin_centers(edges))


def _normal_bin_probabilities(edges: Tensor) -> Tensor:
    """Return the probability of a standard normal variable between edges along the last axis.

    Computed from the tail beyond each edge: differences of probabilities close to 1 would be lost
    in single precision.
    """
    tail = torch.special.ndtr(-edges.abs())
    left, right = tail[..., :-1], tail[..., 1:]
    straddles = (edges[..., :-1] < 0) & (edges[..., 1:] > 0)
    return torch.where(straddles, 1 - left - right, (left - right).abs())
