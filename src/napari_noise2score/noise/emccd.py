"""Electron multiplication: counted pulses, whose heights vary about the same mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..errors import UserError
from .base import checked_number, checked_offset, in_range, positive, spell
from .poisson import draw_counts
from .tweedie import Pulses, pulse_series

# a factor nearer to 1 is that of a camera without multiplication
MIN_EXCESS, MAX_EXCESS = 1.001, 100.0
# mean counts beyond which a power of y is normal
MANY = 150.0


@dataclass(frozen=True)
class Emccd(Pulses):
    """Photon counting through a multiplier: an EMCCD, a photomultiplier.

    ``y = offset + Σ of n heights``, ``n ~ Poisson(x / g)``, each height of mean g and, as
    multiplied electrons are, exponentially distributed; in general ``~ Gamma(k, g / k)`` with
    ``k = 1 / (F² − 1)`` for an excess noise factor F². So ``E[y] = x + offset`` and
    ``Var[y] = F² g x``. The chance of no count, and of y = offset, is e^(−x/g).

    - p(y | x) = e^(−x/g − kt/g) / t Σₙ ((x/g) (kt/g)ᵏ)ⁿ / (n! Γ(nk)), with t = y − offset > 0
    - f(x, y) = (k E[n | x, y] − 1) / t − k/g

    Parameters
    ----------
    gain : float
        Mean grey levels per count, above 0: the slope of variance against mean is excess × gain.
    offset : float
        Grey level without light.
    excess : float
        Excess noise factor F², above 1: 2 for an EMCCD, 1.2 to 1.5 for a photomultiplier.

    Notes
    -----
    Basden, Haniff & Mackay, *MNRAS* 345 (2003), for the exponential heights. With these y is, but
    for its scale, noncentral χ² of no degrees of freedom. The closed form is of its saddlepoint,
    ``x = g m (m g / t)ᵏ`` with ``m = (t (s + k/g) + 1) / k − 1 / (2 + 2k)``: for k = 1 it is
    ``t (1 + g s + 3g/4t)²``. It holds where counts are many; the table solver (`make_solver`) uses
    the exact p(y | x) instead.

    Examples
    --------
    >>> model = Emccd(gain=20, offset=100)
    >>> print(model)
    emccd(gain=20, offset=100)
    >>> x = torch.tensor([60.0])
    >>> model.variance(x)
    tensor([2400.])
    >>> model.masses(torch.tensor([99, 100.001, 1000]), x)  # no count at all: e^(−3)
    tensor([[0.0498, 0.9502]], dtype=torch.float64)
    """

    gain: float
    offset: float = 0.0
    excess: float = 2.0

    def __post_init__(self):
        positive("emccd", gain=self.gain)
        checked_number("emccd", "excess", self.excess)
        if not (1 < self.excess < math.inf):
            raise UserError(f"emccd: excess must be above 1, not {self.excess:g}")
        in_range("emccd", "excess", self.excess, MIN_EXCESS, MAX_EXCESS)
        checked_offset("emccd", self.offset)

    def __str__(self) -> str:
        excess = self.excess if self.excess != 2 else None
        return spell("emccd", gain=self.gain, offset=self.offset or None, excess=excess)

    @property
    def _shape(self) -> float:
        """Shape k of the height of a pulse."""
        return 1 / (self.excess - 1)

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x; below 0 there is no light."""
        counts = draw_counts(x, self.gain, rng)
        return rng.gamma(self._shape * counts) * (self.gain / self._shape) + self.offset

    def variance(self, x):
        """Give Var[y | x] = excess × gain × x."""
        return self.excess * self.gain * x

    def score(self, x, y):
        """Give f(x, y) for y above offset."""
        k = self._shape
        t = (y - self.offset).clamp(min=1e-12)
        rise = torch.log(x / self.gain) + k * torch.log(k * t / self.gain)
        number, terms = pulse_series(rise, k)
        expected = (torch.softmax(terms, -1) * number).sum(-1)
        return (k * expected - 1) / t - k / self.gain

    def solve(self, y, s):
        """Give the x for which f(x, y) = s, nearly; y at or below offset has none but 0."""
        k, t = self._shape, (y - self.offset).clamp(min=1e-12)
        number = ((t * (s + k / self.gain) + 1) / k - 1 / (2 + 2 * k)).clamp(min=0)
        # far tails of a wrong score: x is at most about 1000 y
        x = self.gain * number * (number * self.gain / t).clamp(max=1000) ** k
        return torch.where(y > self.offset, x.clamp(max=1000 * t), torch.zeros_like(x))

    def masses(self, edges, x):
        """Give the probability of each bin of y, for each x, of shape ``(x, bins)``."""
        edges = edges.double() - self.offset
        mean = x.double().clamp(min=0) / self.gain
        cdf = torch.zeros(len(mean), len(edges), dtype=torch.float64)
        many = mean > MANY
        light = (edges > 0).nonzero().flatten()
        if len(light):
            t = edges[light] / self.gain
            if (~many).any():
                cdf[~many] = cdf[~many].index_copy(1, light, self._of_few(t, mean[~many]))
            if many.any():
                cdf[many] = cdf[many].index_copy(1, light, self._of_many(t, mean[many]))
        return cdf.diff(dim=1).clamp(min=0)

    def _of_few(self, t, mean):
        """Sum P(T < t) over the counts, of shape ``(mean, t)``; t in units of the gain."""
        top = float(mean.max())
        number = torch.arange(1, 10 + int(top + 8 * math.sqrt(top)), dtype=torch.float64)
        log = number * torch.log(mean[:, None].clamp(min=1e-300)) - torch.lgamma(number + 1)
        chance = torch.exp(log - mean[:, None])
        shape, scaled = torch.broadcast_tensors(self._shape * number[:, None], self._shape * t)
        # the sum of many heights is a Gamma variable whose cube root is normal (Wilson & Hilferty)
        cube = (scaled / shape) ** (1 / 3)
        below = torch.special.ndtr((cube - 1 + 1 / (9 * shape)) * 3 * torch.sqrt(shape))
        # of few it is not: torch's own is slow, and needed only where it is neither 0 nor 1
        unsure = (shape < 30) & (scaled < shape + 12 * torch.sqrt(shape) + 30)
        below[unsure] = torch.special.gammainc(shape[unsure], scaled[unsure])
        return torch.exp(-mean)[:, None] + chance @ below

    def _of_many(self, t, mean):
        """Give the same where a power of y is normal (Sankaran 1963); the power of no skewness."""
        k, mean = self._shape, mean[:, None]
        second, third = (1 + 1 / k) / mean, (1 + 1 / k) * (1 + 2 / k) / mean**2
        power = 1 - third / (3 * second**2)
        middle = 1 + power * (power - 1) / 2 * second
        return torch.special.ndtr(((t / mean) ** power - middle) / (power * torch.sqrt(second)))
