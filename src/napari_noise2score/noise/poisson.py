"""Photon counting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..errors import UserError
from .base import Pixelwise, checked_offset, positive, spell

# numpy counts in 64 bits
MAX_COUNTS = 1e18


def draw_counts(x: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
    """Draw Poisson counts of mean x / gain; below 0 there is no light.

    Raises
    ------
    UserError
        If there would be more than can be counted.
    """
    mean = np.maximum(np.asarray(x, dtype=np.float64), 0) / gain
    if not mean.max(initial=0) <= MAX_COUNTS:
        raise UserError(f"gain={gain:g} is too small for grey levels of up to {np.max(x):g}")
    return rng.poisson(mean)


@dataclass(frozen=True)
class Poisson(Pixelwise):
    """Photon counting: Poisson counts times a gain, on an offset.

    ``y = g η + offset``, ``η ~ Poisson(x / g)``, so that ``E[y] = x + offset`` and
    ``Var[y] = g x``. The solution x is the signal without the offset.

    - p(y | x) = e^(−x/g) (x/g)^k / k!, with k = (y − offset) / g
    - f(x, y) = (log(x/g) − ψ(k + 1)) / g

    Parameters
    ----------
    gain : float
        Grey levels per count, above 0; the papers' λ is 1 / gain and Noise2Score's ζ is gain
        on images in [0, 1].
    offset : float
        Grey level without light.

    Notes
    -----
    Model 7 of Xie et al., NeurIPS 2023, Table 1, and the Poisson case of Kim & Ye, NeurIPS 2021,
    with their approximation ψ(k + 1) ≈ log(k + ½):
    ``x = (y − offset + g/2) exp(g s)``.

    Examples
    --------
    >>> model = Poisson(gain=2.1, offset=100)
    >>> print(model)
    poisson(gain=2.1, offset=100)
    >>> Poisson(gain=5).solve(torch.tensor(97.5), torch.tensor(0.0))
    tensor(100.)
    """

    gain: float
    offset: float = 0.0

    def __post_init__(self):
        positive("poisson", gain=self.gain)
        checked_offset("poisson", self.offset)

    def __str__(self) -> str:
        return spell("poisson", gain=self.gain, offset=self.offset or None)

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x; below 0 there is no light."""
        x = np.asarray(x, dtype=np.float64)
        return self.gain * draw_counts(x, self.gain, rng) + self.offset

    def mean(self, x):
        """Give E[y | x] = x + offset."""
        return x + self.offset

    def variance(self, x):
        """Give Var[y | x] = gain × x."""
        return self.gain * x

    def clean(self, mean):
        """Give the x that has this E[y | x]."""
        return mean - self.offset

    def score(self, x, y):
        """Give f(x, y), y taken as continuous."""
        count = ((y - self.offset) / self.gain).clamp(min=-0.5)
        return (torch.log(x / self.gain) - torch.log(count + 0.5)) / self.gain

    def solve(self, y, s):
        """Give the x for which f(x, y) = s."""
        return (y - self.offset + self.gain / 2).clamp(min=0) * torch.exp(self.gain * s)

    def cdf(self, y, x):
        """Give P(Y < y | x)."""
        return self._fewer(self._counts(y), x)

    def masses(self, edges, x):
        """Give the probability of each bin of y, for each x, of shape ``(x, bins)``."""
        # a bin is often narrower than a count: look at each count once
        counts, which = torch.unique_consecutive(self._counts(edges), return_inverse=True)
        fewer = self._fewer(counts[None, :], x[:, None]).index_select(1, which)
        return fewer.diff(dim=1).clamp(min=0)

    def middles(self, edges):
        """Give the y at which the probability of each bin is taken to lie: among its counts."""
        counts = self._counts(edges)
        first, last = counts[:-1], counts[1:] - 1
        among = self.offset + self.gain * (first + last) / 2
        # read noise may move what is counted into the bin beside it, but hardly further
        nearest = torch.round((super().middles(edges) - self.offset) / self.gain).clamp(min=0)
        beside = (self.offset + self.gain * nearest).clamp(edges[:-1], edges[1:])
        return torch.where(last >= first, among, beside)

    def _counts(self, y):
        """Give the smallest count that is not below y; rounding must not lose the one at y."""
        return torch.ceil((y - self.offset) / self.gain - 1e-9).clamp(min=0)

    def _fewer(self, count, x):
        """Give the probability of fewer counts than these."""
        count, mu = torch.broadcast_tensors(count, x / self.gain)
        # P(K ≤ count − 1) = Q(count, mu); torch's series for it is slow where counts are many,
        # and there the cube root of a Poisson count is normal (Wilson & Hilferty 1931)
        out = torch.zeros_like(count)
        many = count > 300
        few = (count > 0) & ~many
        out[few] = torch.special.gammaincc(count[few], mu[few].clamp(min=1e-300))
        n = count[many]
        cube = (mu[many] / n) ** (1 / 3)
        out[many] = torch.special.ndtr((1 - 1 / (9 * n) - cube) * 3 * torch.sqrt(n))
        return out
