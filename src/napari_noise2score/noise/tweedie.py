"""Tweedie noise: counted pulses of random height, a compound Poisson–Gamma distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ._pulses import MAX_RATIO, MIN_SIGNAL, Pulses, pulse_series
from ._torch import torch
from .base import Array
from .family import Form
from .fitting import FittedParameters
from .parameter import OFFSET, Parameter, grey_level

if TYPE_CHECKING:
    from torch import Tensor

# closer to 1 or 2 it is Poisson or Gamma noise; the fit stays farther away
MIN_POWER, MAX_POWER = 1.001, 1.999
FITTED_POWERS = 1.1, 1.9
# panels of the integrals: their length in widths of the finest feature, and their number
PANEL_LENGTH = 0.5
MAX_PANELS = 20_000

POWER = Parameter(
    "power",
    "Power",
    "How the noise grows: its variance is the dispersion times the signal to this power. Near 1 "
    "for photon counts, near 2 for speckle, in between for a photomultiplier or EMCCD.",
    initial=1.5,
    above=1.0,
    below=2.0,
    low=MIN_POWER,
    high=MAX_POWER,
    slider_reach=1.0,
)
DISPERSION = grey_level(
    "dispersion",
    "Dispersion",
    "Size of the noise: its variance where the signal is 1 grey level. Its unit is grey levels to "
    "the power of 2 − power.",
    unit="",
    initial=3.0,
    variance_power=1.0,
)


def _start(mean: Array, variance: Array) -> Sequence[float]:
    rows = np.stack([np.log(np.maximum(mean, 1e-9)), np.ones_like(mean)], axis=1)
    power, _ = np.linalg.lstsq(rows, np.log(variance), rcond=None)[0]
    power = min(max(float(power), FITTED_POWERS[0]), FITTED_POWERS[1])
    return power, float(np.exp(np.median(np.log(variance) - power * rows[:, 0])))


@dataclass(frozen=True)
class Tweedie(Pulses):
    """Pulses that are counted, each of a random height: a photomultiplier, an EMCCD.

    ``y = offset + Σ of n heights``, ``n ~ Poisson(λ)``, each height ``~ Gamma(α, γ)`` of shape
    ``α = (2 − p) / (p − 1)`` and scale ``γ = φ (p − 1) x^(p−1)``, with
    ``λ = x^(2−p) / (φ (2 − p))``. So ``E[y] = x + offset`` and ``Var[y] = φ x^p``: between
    Poisson (p = 1, φ the gain) and Gamma noise (p = 2, φ = 1/alpha). The probability of no pulse,
    and of y = offset, is e^(−λ).

    - p(y | x) = a(t) exp(−t/γ − λ), with t = y − offset > 0 and
      a(t) = 1/t Σₙ tⁿᵅ / (n! Γ(nα) (φ (2 − p))ⁿ (φ (p − 1))ⁿᵅ)
    - f(x, y) = (α E[n | y] − 1) / t − 1/γ, where E[n | y] does not depend on x

    Parameters
    ----------
    power : float
        The p above, between 1 and 2, without unit.
    dispersion : float
        The φ above, above 0, in grey levels to the power of 2 − p.
    offset : float
        Grey level without signal.

    Raises
    ------
    UserError
        If a parameter is out of range.

    Notes
    -----
    Tweedie 1984; the series is that of Dunn & Smyth, *Stat. Comput.* 2005, summed about its
    peak. The closed form is the saddlepoint approximation of Kim, Kwon & Ye, CVPR 2022,
    ``x = (t^(1−p) − φ (p − 1) (s + p/2t))^(−1/(p−1))``, with the correction p/2t moved into the
    first power, ``(t + φ p t^(p−1) / 2)^(1−p)``: the same to first order, but above 0 for any t,
    and for p = 1 it is the ``(t + φ/2) exp(φ s)`` of `Poisson`. It holds for many pulses; the
    table solver (`make_solver`) uses the exact p(y | x) instead.

    Examples
    --------
    >>> import torch
    >>> model = Tweedie(power=1.5, dispersion=3)
    >>> print(model)
    tweedie(power=1.5, dispersion=3)
    >>> x = torch.tensor([100.0])
    >>> model.bin_probabilities(torch.tensor([-1, 1e-6, 100, 1000]), x)  # of no pulse: e^(−20/3)
    tensor([[0.0013, 0.5539, 0.4448]], dtype=torch.float64)
    """

    power: float
    dispersion: float
    offset: float = 0.0

    name: ClassVar[str] = "tweedie"
    aliases: ClassVar[tuple[str, ...]] = (
        "compound Poisson–Gamma", "random pulse heights", "photomultiplier", "PMT",
    )  # fmt: skip
    source: ClassVar[str] = (
        "Kim, Kwon & Ye, CVPR 2022, doi:10.1109/CVPR52688.2022.00205; "
        "Dunn & Smyth, Stat. Comput. 15, 2005, doi:10.1007/s11222-005-4070-y"
    )
    position: ClassVar[float] = 6
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            "Tweedie: pulses of random height",
            (POWER, DISPERSION, OFFSET),
            "tweedie(power=1.5, dispersion=3)",
            "counted pulses whose random height grows with the signal",
            "a(t) exp(−t/γ − λ), and e^(−λ) at t = 0",
            "(α E[n | y] − 1)/t − 1/γ",
        ),
    )
    fitted: ClassVar[tuple[FittedParameters, ...]] = (
        FittedParameters(("power", "dispersion"), _start, {"power": FITTED_POWERS}),
    )

    @property
    def _shape(self) -> float:
        """Shape α of the height of a pulse."""
        return (2 - self.power) / (self.power - 1)

    def unit_power(self, name: str) -> float:
        """Return the power of the unit of grey levels that a parameter is measured in."""
        return 2 - self.power if name == "dispersion" else super().unit_power(name)

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x; an x below 0 counts as 0."""
        x = np.maximum(np.asarray(x, dtype=np.float64), 0)
        number, scale = x ** (2 - self.power), x ** (self.power - 1)
        number = number / (self.dispersion * (2 - self.power))
        scale = self.dispersion * (self.power - 1) * scale
        return rng.gamma(self._shape * rng.poisson(number)) * scale + self.offset

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x] = φ x^p."""
        return self.dispersion * x.clamp(min=0) ** self.power

    def third_cumulant(self, x: Tensor) -> Tensor:
        """Return p φ² x^(2p−1)."""
        p = self.power
        return p * self.dispersion**2 * x.clamp(min=0) ** (2 * p - 1)

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y) for y above offset."""
        t = (y - self.offset).clamp(min=MIN_SIGNAL)
        number, terms = self._series(torch.log(t))
        expected = (torch.softmax(terms, -1) * number).sum(-1)
        return (self._shape * expected - 1) / t - 1 / self._number_and_scale(x)[1]

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return x with f(x, y) = s, approximately; 0 if y is at or below the offset."""
        p, t = self.power, (y - self.offset).clamp(min=MIN_SIGNAL)
        t = t + self.dispersion * p / 2 * t ** (p - 1)
        inverse = t ** (1 - p) - self.dispersion * (p - 1) * s
        x = torch.maximum(inverse, (MAX_RATIO * t) ** (1 - p)) ** (1 / (1 - p))
        return torch.where(y > self.offset, x, torch.zeros_like(x))

    def bin_probabilities(self, edges: Tensor, x: Tensor) -> Tensor:
        """Return the probability of each bin of y for each x, of shape ``(x, bins)``."""
        edges, x = edges.double() - self.offset, x.double().clamp(min=1e-30)
        number, scale = (value[:, None] for value in self._number_and_scale(x))
        cdf = torch.zeros(len(x), len(edges), dtype=torch.float64)
        above = edges > 0
        if above.any():
            # The integral over log t has a panel boundary at all edges and where the density needs
            # it. Next to t = 0, where t/γ is practically 0, it is a series like the density.
            ends = torch.log(edges[above])
            start = math.log(1e-6 * min(float(scale.min()), float(edges[above][0])))
            points = torch.cat([self._knots(start, float(ends[-1])), ends]).sort().values
            half = points.diff()[:, None] / 2
            at = points[:-1, None] + half * (1 + torch.tensor([-1, 1]).to(half) / math.sqrt(3))
            log = torch.logsumexp(self._series(at.flatten())[1], -1) + torch.log(
                half.expand_as(at).flatten() + 1e-300
            )
            panel = torch.exp(log - torch.exp(at.flatten()) / scale - number)
            panel = panel[:, ::2] + panel[:, 1::2]
            first = torch.logsumexp(self._series(points[:1], 1)[1], -1)
            below = torch.exp(-number) + torch.exp(first - number)
            sums = torch.cumsum(torch.cat([below, panel], 1), 1)
            cdf[:, above] = sums[:, torch.searchsorted(points, ends)]
        return cdf.diff(dim=1).clamp(min=0)

    def _number_and_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean number λ of pulses and the scale γ of their height."""
        number = x ** (2 - self.power) / (self.dispersion * (2 - self.power))
        return number, self.dispersion * (self.power - 1) * x ** (self.power - 1)

    def _series(self, log: Tensor, plus: float = 0) -> tuple[Tensor, Tensor]:
        """Return numbers n of pulses and the logarithms of the terms of t a(t), in a new last axis.

        With plus = 1 these are the terms of ``∫ a dt`` from 0 to t.
        """
        log_ratio = self._shape * (log - math.log(self.dispersion * (self.power - 1)))
        log_ratio = log_ratio - math.log(self.dispersion * (2 - self.power))
        return pulse_series(log_ratio, self._shape, plus)

    def _peak(self, log: Tensor) -> Tensor:
        """Return the number of pulses of the largest term of the series."""
        return torch.exp((2 - self.power) * log) / (self.dispersion * (2 - self.power))

    def _knots(self, low: float, high: float) -> Tensor:
        """Return values of log t from low to high, as close together as the density needs."""
        log = torch.linspace(low, high, 1000, dtype=torch.float64)
        peak, shape = self._peak(log), self._shape
        # while pulses are fewer than α, their heights are separate peaks of the density
        sharpness = torch.where(peak < shape, peak.clamp(min=1) * shape, peak * (2 - self.power))
        rate = torch.sqrt(1 + sharpness)
        steps = (rate[1:] + rate[:-1]) / 2 * log.diff()
        distance = np.concatenate([[0.0], torch.cumsum(steps, 0).numpy()])
        count = min(2 + int(distance[-1] / PANEL_LENGTH), MAX_PANELS)
        places = np.linspace(0, distance[-1], count)
        return torch.from_numpy(np.interp(places, distance, log.numpy()))
