"""EMCCD noise: counted photons, multiplied at random."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ._counting import draw_counts, fitted_as_counts
from ._pulses import MAX_RATIO, MIN_SIGNAL, Pulses, pulse_series
from ._torch import broadcast, torch
from .base import Array
from .family import Form
from .fitting import FittedParameters
from .parameter import OFFSET, Parameter, grey_level

if TYPE_CHECKING:
    from torch import Tensor

# with a smaller excess noise factor it is the noise of a camera without multiplication
MIN_EXCESS, MAX_EXCESS = 1.001, 100.0
# above this mean count, a power of y is treated as normal
MAX_EXACT_MEAN = 150.0
# the cube root of a Gamma variable of at least this shape is treated as normal
MIN_NORMAL_SHAPE = 30.0
# excess noise factors that are fitted: of an EMCCD, and of a typical photomultiplier
EMCCD_EXCESS, PHOTOMULTIPLIER_EXCESS = 2.0, 1.25

GAIN = grey_level(
    "gain",
    "Gain",
    "Grey levels that one counted photon or electron adds on average.",
    unit="grey levels per count",
    initial=20.0,
    variance_power=1.0,
)
EXCESS = Parameter(
    "excess",
    "Excess noise",
    "Excess noise factor: the variance of the noise relative to that with a constant gain. "
    "2 for an EMCCD, 1.2 to 1.5 for a photomultiplier.",
    default=2.0,
    initial=2.0,
    above=1.0,
    low=MIN_EXCESS,
    high=MAX_EXCESS,
    slider_reach=3.0,
)


@dataclass(frozen=True)
class Emccd(Pulses):
    """Photon counting through a multiplier: an EMCCD, a photomultiplier.

    ``y = offset + Σ of n heights``, ``n ~ Poisson(x / g)``, each height of mean g and exponentially
    distributed, as for multiplied electrons, or in general ``~ Gamma(k, g / k)`` with ``k = 1 / (F²
    − 1)`` for an excess noise factor F². So ``E[y] = x + offset`` and ``Var[y] = F² g x``. The
    probability of no count, and of y = offset, is e^(−x/g).

    - p(y | x) = e^(−x/g − kt/g) / t Σₙ ((x/g) (kt/g)ᵏ)ⁿ / (n! Γ(nk)), with t = y − offset > 0
    - f(x, y) = (k E[n | x, y] − 1) / t − k/g

    Parameters
    ----------
    gain : float
        Mean grey levels per count, above 0: the slope of variance against mean is excess × gain.
    offset : float
        Grey level without signal.
    excess : float
        Excess noise factor F², above 1: 2 for an EMCCD, 1.2 to 1.5 for a photomultiplier.

    Raises
    ------
    UserError
        If a parameter is out of range.

    Notes
    -----
    Basden, Haniff & Mackay, *MNRAS* 345 (2003), for exponential heights. With these, y is a scaled
    noncentral χ² variable of no degrees of freedom. The closed form uses the saddlepoint
    approximation: ``x = g m (m g / t)ᵏ`` with ``m = (t (s + k/g) + 1) / k − 1 / (2 + 2k)``, which
    is ``t (1 + g s + 3g/4t)²`` for k = 1. It holds for many counts; the table solver
    (`make_solver`) uses the exact p(y | x) instead.

    Examples
    --------
    >>> import torch
    >>> model = Emccd(gain=20, offset=100)
    >>> print(model)
    emccd(gain=20, offset=100)
    >>> x = torch.tensor([60.0])
    >>> model.variance(x)
    tensor([2400.])
    >>> model.bin_probabilities(torch.tensor([99, 100.001, 1000]), x)  # of no count: e^(−3)
    tensor([[0.0498, 0.9502]], dtype=torch.float64)
    """

    gain: float
    offset: float = 0.0
    excess: float = EMCCD_EXCESS

    name: ClassVar[str] = "emccd"
    aliases: ClassVar[tuple[str, ...]] = (
        "electron multiplication", "excess noise", "photomultiplier", "PMT", "confocal",
        "two-photon", "low light", "EMCCD camera",
    )  # fmt: skip
    source: ClassVar[str] = (
        "Basden, Haniff & Mackay, MNRAS 345, 2003, doi:10.1046/j.1365-8711.2003.07020.x"
    )
    position: ClassVar[float] = 7
    is_counting: ClassVar[bool] = True
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            "EMCCD or photomultiplier",
            (GAIN, OFFSET, EXCESS),
            "emccd(gain=20, offset=100)",
            "multiplied counts: EMCCD cameras; photomultipliers with `excess=1.25`",
            "e^(−x/g − kt/g)/t Σₙ ((x/g)(kt/g)ᵏ)ⁿ/(n! Γ(nk)), and e^(−x/g) at t = 0; "
            "k = 1/(excess − 1)",
            "(k E[n | x, y] − 1)/t − k/g",
        ),
    )
    fitted: ClassVar[tuple[FittedParameters, ...]] = (
        *fitted_as_counts(EMCCD_EXCESS), *fitted_as_counts(PHOTOMULTIPLIER_EXCESS),
    )  # fmt: skip

    @property
    def _shape(self) -> float:
        """Shape k of the height of a pulse."""
        return 1 / (self.excess - 1)

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x; an x below 0 counts as 0."""
        counts = draw_counts(x, self.gain, rng)
        return rng.gamma(self._shape * counts) * (self.gain / self._shape) + self.offset

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x] = F² g x."""
        return self.excess * self.gain * x

    def third_cumulant(self, x: Tensor) -> Tensor:
        """Return F² (2F² − 1) g² x."""
        return self.excess * (2 * self.excess - 1) * self.gain**2 * x

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y) for y above offset."""
        k = self._shape
        t = (y - self.offset).clamp(min=MIN_SIGNAL)
        log_ratio = torch.log(x / self.gain) + k * torch.log(k * t / self.gain)
        number, terms = pulse_series(log_ratio, k)
        expected = (torch.softmax(terms, -1) * number).sum(-1)
        return (k * expected - 1) / t - k / self.gain

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return x with f(x, y) = s, approximately; 0 if y is at or below the offset."""
        k, t = self._shape, (y - self.offset).clamp(min=MIN_SIGNAL)
        number = ((t * (s + k / self.gain) + 1) / k - 1 / (2 + 2 * k)).clamp(min=0)
        x = self.gain * number * (number * self.gain / t).clamp(max=MAX_RATIO) ** k
        return torch.where(y > self.offset, x.clamp(max=MAX_RATIO * t), torch.zeros_like(x))

    def bin_probabilities(self, edges: Tensor, x: Tensor) -> Tensor:
        """Return the probability of each bin of y for each x, of shape ``(x, bins)``."""
        edges = edges.double() - self.offset
        mean = x.double().clamp(min=0) / self.gain
        cdf = torch.zeros(len(mean), len(edges), dtype=torch.float64)
        large = mean > MAX_EXACT_MEAN
        above = (edges > 0).nonzero().flatten()
        if len(above):
            t = edges[above] / self.gain
            if (~large).any():
                cdf[~large] = cdf[~large].index_copy(1, above, self._exact_cdf(t, mean[~large]))
            if large.any():
                cdf[large] = cdf[large].index_copy(1, above, self._normal_cdf(t, mean[large]))
        return cdf.diff(dim=1).clamp(min=0)

    def _exact_cdf(self, t: Tensor, mean: Tensor) -> Tensor:
        """Return P(T < t), of shape ``(mean, t)``, summed over the counts; t in gains."""
        top = float(mean.max())
        number = torch.arange(1, 10 + int(top + 8 * math.sqrt(top)), dtype=torch.float64)
        log = number * torch.log(mean[:, None].clamp(min=1e-300)) - torch.lgamma(number + 1)
        probability = torch.exp(log - mean[:, None])
        shape, scaled = broadcast(self._shape * number[:, None], self._shape * t)
        # the sum of many heights is a Gamma variable whose cube root is normal (Wilson & Hilferty)
        cube = (scaled / shape) ** (1 / 3)
        below = torch.special.ndtr((cube - 1 + 1 / (9 * shape)) * 3 * torch.sqrt(shape))
        # with few heights it is not; torch's own function is slow, and needed only where it is not
        # 0 or 1
        few = (shape < MIN_NORMAL_SHAPE) & (
            scaled < shape + 12 * torch.sqrt(shape) + MIN_NORMAL_SHAPE
        )
        below[few] = torch.special.gammainc(shape[few], scaled[few])
        cdf: Tensor = torch.exp(-mean)[:, None] + probability @ below
        return cdf

    def _normal_cdf(self, t: Tensor, mean: Tensor) -> Tensor:
        """Return P(T < t) for many counts, where the power of y without skewness is normal.

        Sankaran, *Biometrika* 50, 1963, doi:10.1093/biomet/50.1-2.199.
        """
        k, mean = self._shape, mean[:, None]
        second, third = (1 + 1 / k) / mean, (1 + 1 / k) * (1 + 2 / k) / mean**2
        power = 1 - third / (3 * second**2)
        middle = 1 + power * (power - 1) / 2 * second
        standardized = ((t / mean) ** power - middle) / (power * torch.sqrt(second))
        cdf: Tensor = torch.special.ndtr(standardized)
        return cdf
