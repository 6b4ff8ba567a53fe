"""Compound Poisson–Gamma noise: counted pulses of random height."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .base import Pixelwise, checked_number, checked_offset, in_range, positive, spell

# nearer to 1 and 2 it is but another name for photons and speckle
MIN_POWER, MAX_POWER = 1.001, 1.999
# terms of the series over the number of pulses, and its reach in standard deviations
TERMS = 64
REACH = 8
# length of the integrals' panels, in widths of the finest feature, and most of them
PANEL = 0.5
PANELS = 20_000


class Pulses(Pixelwise):
    """What sums of pulses share: their mean, and that without a pulse y is the offset exactly."""

    def mean(self, x):
        """Give E[y | x] = x + offset."""
        return x + self.offset

    def clean(self, mean):
        """Give the x that has this E[y | x]."""
        return mean - self.offset

    def middles(self, edges):
        """Give the y at which the probability of each bin is taken to lie: no light exactly so."""
        none = (edges[:-1] <= self.offset) & (edges[1:] > self.offset)
        return torch.where(none, self.offset, super().middles(edges))


@dataclass(frozen=True)
class Tweedie(Pulses):
    """Pulses that are counted, each of a random height: a photomultiplier, an EMCCD.

    ``y = offset + Σ of n heights``, ``n ~ Poisson(λ)``, each height ``~ Gamma(α, γ)`` of shape
    ``α = (2 − p) / (p − 1)`` and scale ``γ = φ (p − 1) x^(p−1)``, with
    ``λ = x^(2−p) / (φ (2 − p))``. So ``E[y] = x + offset`` and ``Var[y] = φ x^p``: between
    Poisson (p = 1, φ the gain) and Gamma noise (p = 2, φ = 1/alpha). The chance of no pulse, and
    of y = offset, is e^(−λ).

    - p(y | x) = a(t) exp(−t/γ − λ), with t = y − offset > 0 and
      a(t) = 1/t Σₙ tⁿᵅ / (n! Γ(nα) (φ (2 − p))ⁿ (φ (p − 1))ⁿᵅ)
    - f(x, y) = (α E[n | y] − 1) / t − 1/γ, in which E[n | y] does not depend on x

    Parameters
    ----------
    power : float
        The p above, between 1 and 2, without unit.
    dispersion : float
        The φ above, above 0, in grey levels to the power of 2 − p.
    offset : float
        Grey level without light.

    Notes
    -----
    Tweedie 1984; the series is that of Dunn & Smyth, *Stat. Comput.* 2005, summed about its
    peak. The closed form is the saddlepoint approximation of Kim, Kwon & Ye, CVPR 2022,
    ``x = (t^(1−p) − φ (p − 1) (s + p/2t))^(−1/(p−1))``, with the correction p/2t moved into the
    first power, ``(t + φ p t^(p−1) / 2)^(1−p)``: the same to first order, but above 0 for any t,
    and for p = 1 it is the ``(t + φ/2) exp(φ s)`` of `Poisson`. It holds where pulses are many;
    the table solver (`make_solver`) uses the exact p(y | x) instead.

    Examples
    --------
    >>> model = Tweedie(power=1.5, dispersion=3)
    >>> print(model)
    tweedie(power=1.5, dispersion=3)
    >>> x = torch.tensor([100.0])
    >>> model.masses(torch.tensor([-1, 1e-6, 100, 1000]), x)  # no pulse at all: e^(−20/3)
    tensor([[0.0013, 0.5539, 0.4448]], dtype=torch.float64)
    """

    power: float
    dispersion: float
    offset: float = 0.0

    def __post_init__(self):
        checked_number("tweedie", "power", self.power)
        if not 1 < self.power < 2:
            raise UserError(f"tweedie: power must be between 1 and 2, not {self.power:g}")
        in_range("tweedie", "power", self.power, MIN_POWER, MAX_POWER)
        positive("tweedie", dispersion=self.dispersion)
        checked_offset("tweedie", self.offset)

    def __str__(self) -> str:
        return spell(
            "tweedie", power=self.power, dispersion=self.dispersion, offset=self.offset or None
        )

    @property
    def _shape(self) -> float:
        """Shape α of the height of a pulse."""
        return (2 - self.power) / (self.power - 1)

    def _pulses(self, x):
        """Give the mean number λ of pulses and the scale γ of their height."""
        number = x ** (2 - self.power) / (self.dispersion * (2 - self.power))
        return number, self.dispersion * (self.power - 1) * x ** (self.power - 1)

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x; below 0 there is no light."""
        number, scale = self._pulses(np.maximum(np.asarray(x, dtype=np.float64), 0))
        return rng.gamma(self._shape * rng.poisson(number)) * scale + self.offset

    def variance(self, x):
        """Give Var[y | x] = φ x^p."""
        return self.dispersion * x.clamp(min=0) ** self.power

    def score(self, x, y):
        """Give f(x, y) for y above offset."""
        t = (y - self.offset).clamp(min=1e-12)
        number, terms = self._series(torch.log(t))
        expected = (torch.softmax(terms, -1) * number).sum(-1)
        return (self._shape * expected - 1) / t - 1 / self._pulses(x)[1]

    def solve(self, y, s):
        """Give the x for which f(x, y) = s, nearly; y at or below offset has none but 0."""
        p, t = self.power, (y - self.offset).clamp(min=1e-12)
        t = t + self.dispersion * p / 2 * t ** (p - 1)
        rest = t ** (1 - p) - self.dispersion * (p - 1) * s
        # far tails of a wrong score must not divide by nothing: x is at most about 1000 y
        x = torch.maximum(rest, (1000 * t) ** (1 - p)) ** (1 / (1 - p))
        return torch.where(y > self.offset, x, torch.zeros_like(x))

    def masses(self, edges, x):
        """Give the probability of each bin of y, for each x, of shape ``(x, bins)``."""
        edges, x = edges.double() - self.offset, x.double().clamp(min=1e-30)
        number, scale = (part[:, None] for part in self._pulses(x))
        cdf = torch.zeros(len(x), len(edges), dtype=torch.float64)
        light = edges > 0
        if light.any():
            # The integral over log t is cut at all edges and where the density needs it. The
            # part of it next to t = 0, where t/γ is as good as 0, is a series like the density.
            ends = torch.log(edges[light])
            start = math.log(1e-6 * min(float(scale.min()), float(edges[light][0])))
            points = torch.cat([self._knots(start, float(ends[-1])), ends]).sort().values
            half = points.diff()[:, None] / 2
            at = points[:-1, None] + half * (1 + torch.tensor([-1, 1]).to(half) / math.sqrt(3))
            log = torch.logsumexp(self._series(at.flatten())[1], -1) + torch.log(
                half.expand_as(at).flatten() + 1e-300
            )
            panel = torch.exp(log - torch.exp(at.flatten()) / scale - number)
            panel = panel[:, ::2] + panel[:, 1::2]
            dark = torch.logsumexp(self._series(points[:1], 1)[1], -1)
            below = torch.exp(-number) + torch.exp(dark - number)
            sums = torch.cumsum(torch.cat([below, panel], 1), 1)
            cdf[:, light] = sums[:, torch.searchsorted(points, ends)]
        return cdf.diff(dim=1).clamp(min=0)

    def _series(self, log: Tensor, plus: float = 0) -> tuple[Tensor, Tensor]:
        """Give numbers n of pulses and the logarithms of the terms of t a(t), in a new last axis.

        With plus = 1 these are the terms of ``∫ a dt`` from 0 to t.
        """
        rise = self._shape * (log - math.log(self.dispersion * (self.power - 1)))
        rise = rise - math.log(self.dispersion * (2 - self.power))
        return pulse_series(rise, self._shape, plus)

    def _peak(self, log: Tensor) -> Tensor:
        """Give the number of pulses of the largest term of the series."""
        return torch.exp((2 - self.power) * log) / (self.dispersion * (2 - self.power))

    def _knots(self, low: float, high: float) -> Tensor:
        """Give values of log t, from low to high, no farther apart than the density needs."""
        log = torch.linspace(low, high, 1000, dtype=torch.float64)
        peak, shape = self._peak(log), self._shape
        # as long as pulses are fewer than α, their heights show as single bumps
        sharp = torch.where(peak < shape, peak.clamp(min=1) * shape, peak * (2 - self.power))
        rate = torch.sqrt(1 + sharp)
        steps = (rate[1:] + rate[:-1]) / 2 * log.diff()
        way = np.concatenate([[0.0], torch.cumsum(steps, 0).numpy()])
        count = min(2 + int(way[-1] / PANEL), PANELS)
        return torch.from_numpy(np.interp(np.linspace(0, way[-1], count), way, log.numpy()))


def pulse_series(rise: Tensor, shape: float, plus: float = 0) -> tuple[Tensor, Tensor]:
    """Give numbers n and ``log(e^(n rise) / (n! Γ(n shape + plus)))``, in a new last axis."""
    peak = torch.exp((rise - shape * math.log(shape)) / (1 + shape))
    spread = torch.sqrt(peak / (1 + shape))
    first = (peak - REACH * spread).clamp(min=1).floor()
    # Where the terms go over many n they are as smooth as a normal density, and every k-th
    # of them, k below one standard deviation, gives the sum to nine digits.
    stride = (peak + REACH * (spread + 1) - first).clamp(min=TERMS - 1) / (TERMS - 1)
    number = first[..., None] + stride[..., None] * torch.arange(TERMS).to(rise)
    terms = number * rise[..., None] - torch.lgamma(number + 1)
    terms = terms - torch.lgamma(number * shape + plus)
    return number, terms + torch.log(stride)[..., None]
