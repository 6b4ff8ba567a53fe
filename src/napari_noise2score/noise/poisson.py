"""Poisson noise: counted photons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ._counting import Counting, draw_counts, fitted_as_counts
from ._torch import broadcast, torch
from .base import Array
from .family import Form
from .fitting import FittedParameters, FromScore
from .parameter import OFFSET, grey_level

if TYPE_CHECKING:
    from torch import Tensor

# above this count, the cube root of a count is treated as normal
MAX_EXACT_COUNT = 300
# a grey level that rounding moved by less than this fraction of a count belongs to the count
ROUNDING = 1e-9

GAIN = grey_level(
    "gain",
    "Gain",
    "Grey levels that one counted photon or electron adds, as stated in the camera's data sheet.",
    unit="grey levels per count",
    variance_power=1.0,
)


# of a grey level that the gain is searched from
MIN_SEARCHED_GREY_LEVEL = 1e-3


def _gain_of_perturbation(y: Array, reading: Array) -> float:
    """Return the gain ζ of (y + ζ/2) exp(ζ s) = (y + ε + ζ/2) exp(ζ (s + Δs)), to first order."""
    y, reading = y[y > 0], reading[y > 0]
    return float(np.median(np.sqrt(np.maximum(y**2 + 2 * reading, 0)) - y))


@dataclass(frozen=True)
class Poisson(Counting):
    """Photon counting: Poisson counts times a gain, plus an offset.

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
        Grey level without signal.

    Raises
    ------
    UserError
        If a parameter is out of range.

    Notes
    -----
    Model 7 of Xie et al., NeurIPS 2023, Table 1, and the Poisson case of Kim & Ye, NeurIPS 2021,
    with their approximation ψ(k + 1) ≈ log(k + ½):
    ``x = (y − offset + g/2) exp(g s)``.

    Examples
    --------
    >>> import torch
    >>> model = Poisson(gain=2.1, offset=100)
    >>> print(model)
    poisson(gain=2.1, offset=100)
    >>> Poisson(gain=5).solve(torch.tensor(97.5), torch.tensor(0.0))
    tensor(100.)
    """

    gain: float
    offset: float = 0.0

    name: ClassVar[str] = "poisson"
    aliases: ClassVar[tuple[str, ...]] = (
        "shot noise", "photon noise", "photon counting", "sCMOS camera", "CCD camera",
        "fluorescence microscopy", "widefield", "light sheet", "spinning disk", "TEM", "SEM",
        "electron microscopy", "cryo-EM", "X-ray projections",
    )  # fmt: skip
    source: ClassVar[str] = (
        "Kim & Ye, NeurIPS 2021, doi:10.48550/arXiv.2106.07009; "
        "Xie et al., NeurIPS 2023, model 7, doi:10.48550/arXiv.2304.08384"
    )
    position: ClassVar[float] = 1
    is_discrete: ClassVar[bool] = True
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            "Poisson: photon counting",
            (GAIN, OFFSET),
            "poisson(gain=2.1, offset=100)",
            "photon counting; gain in grey levels per photon",
            "e^(−x/g) (x/g)ᵏ/k!, k = t/g",
            "(log(x/g) − ψ(k + 1))/g",
        ),
    )
    fitted: ClassVar[tuple[FittedParameters, ...]] = fitted_as_counts()
    from_score: ClassVar[FromScore | None] = FromScore(
        "gain",
        max_power=1.9,
        from_perturbation=_gain_of_perturbation,
        from_variance=lambda y, variance: variance / max(y, MIN_SEARCHED_GREY_LEVEL),
        variation_weight=0.1,
        fidelity=lambda x, y: x - y * torch.log(x),
    )

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x; an x below 0 counts as 0."""
        x = np.asarray(x, dtype=np.float64)
        return self.gain * draw_counts(x, self.gain, rng) + self.offset

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x] = g x."""
        return self.gain * x

    def third_cumulant(self, x: Tensor) -> Tensor:
        """Return g² x."""
        return self.gain**2 * x

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y), y taken as continuous."""
        count = ((y - self.offset) / self.gain).clamp(min=-0.5)
        return (torch.log(x / self.gain) - torch.log(count + 0.5)) / self.gain

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f(x, y) = s."""
        return (y - self.offset + self.gain / 2).clamp(min=0) * torch.exp(self.gain * s)

    def cdf(self, y: Tensor, x: Tensor) -> Tensor:
        """Return P(Y < y | x)."""
        return self._probability_below(self._first_count_from(y), x)

    def bin_probabilities(self, edges: Tensor, x: Tensor) -> Tensor:
        """Return the probability of each bin of y for each x, of shape ``(x, bins)``."""
        # a bin is often narrower than a count: compute each count once
        counts, which = torch.unique_consecutive(self._first_count_from(edges), return_inverse=True)
        below = self._probability_below(counts[None, :], x[:, None]).index_select(1, which)
        return below.diff(dim=1).clamp(min=0)

    def bin_centers(self, edges: Tensor) -> Tensor:
        """Return a representative y of each bin: the middle of its counts if it holds any."""
        counts = self._first_count_from(edges)
        first, last = counts[:-1], counts[1:] - 1
        among = self.offset + self.gain * (first + last) / 2
        # read noise can move a count into the next bin, but hardly farther
        nearest = torch.round((super().bin_centers(edges) - self.offset) / self.gain).clamp(min=0)
        beside = (self.offset + self.gain * nearest).clamp(edges[:-1], edges[1:])
        return torch.where(last >= first, among, beside)

    def _first_count_from(self, y: Tensor) -> Tensor:
        """Return the smallest count whose grey level is not below y."""
        return torch.ceil((y - self.offset) / self.gain - ROUNDING).clamp(min=0)

    def _probability_below(self, count: Tensor, x: Tensor) -> Tensor:
        """Return P(K < count) for a Poisson variable K of mean x / g."""
        count, mu = broadcast(count, x / self.gain)
        # P(K ≤ count − 1) = Q(count, mu); torch's series for it is slow for large counts, whose
        # cube root is normal (Wilson & Hilferty 1931, doi:10.1073/pnas.17.12.684)
        out = torch.zeros_like(count)
        large = count > MAX_EXACT_COUNT
        small = (count > 0) & ~large
        out[small] = torch.special.gammaincc(count[small], mu[small].clamp(min=1e-300))
        n = count[large]
        cube = (mu[large] / n) ** (1 / 3)
        out[large] = torch.special.ndtr((1 - 1 / (9 * n) - cube) * 3 * torch.sqrt(n))
        return out
