"""Noncentral chi noise: magnitude images of several receiver coils, as magnetic resonance has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import scipy  # its submodules are imported when they are used

from ._integrated import integrated_bins
from ._torch import torch
from .base import Array
from .family import Form, NoiseFamily
from .fitting import FittedParameters
from .parameter import Parameter, grey_level

if TYPE_CHECKING:
    from torch import Tensor

# receiver arrays have fewer coils
MAX_COILS = 64.0
# distance from the typical y, in sigma, beyond which the probability is treated as 0
MAX_DEVIATION = 10
# below this z / √n, z^(1−n) I(z) is that of z = 0; above this z, Bessel functions are their series
MIN_EXACT_Z, MAX_EXACT_Z = 2e-3, 1e6
# steps of the continued fraction of a ratio of Bessel functions, and of Newton's method
FRACTION_STEPS, SOLVE_STEPS, TOLERANCE = 24, 30, 1e-9
MIN_Y, MIN_Z = 1e-9, 1e-30
# up to this x² / 2σ², moments are sums of so many terms, beyond it a hypergeometric function
MAX_MIXED, MIXED = 80.0, 200
# the table of moments: largest x in sigma and number of x; beyond it they are their series
TABLE_MAX_X, TABLE_X = 100.0, 5001

SIGMA = grey_level(
    "sigma",
    "Sigma",
    "Standard deviation of the noise in the real and in the imaginary part of each coil.",
    initial=10.0,
    variance_power=0.5,
)
COILS = Parameter(
    "coils",
    "Coils",
    "Number of receiver coils whose squared magnitudes are added. If their noise is correlated, "
    "the effective number is smaller and need not be whole. 1 is Rician noise.",
    initial=8.0,
    at_least=1.0,
    low=1.0,
    high=MAX_COILS,
)


def _start(mean: Array, variance: Array) -> Sequence[float]:
    sigma = float(np.sqrt(variance.max()))
    # without signal the mean square of y is 2 n σ²
    coils = (float(mean.min()) ** 2 + float(variance[np.argmin(mean)])) / (2 * sigma**2)
    return sigma, min(max(coils, 1.0), MAX_COILS)


@dataclass(frozen=True)
class NoncentralChi(NoiseFamily):
    """Root of the sum of squares of several coils: ``y² = Σ over n coils |xⱼ + n₁ⱼ + i n₂ⱼ|²``.

    x is the root of the sum of squares of the signals, x² = Σ |xⱼ|².

    - p(y | x) = yⁿ/(σ² xⁿ⁻¹) exp(−(y² + x²) / 2σ²) Iₙ₋₁(xy/σ²), y ≥ 0
    - f(x, y) = (2n − 1)/y − y/σ² + (x/σ²) Iₙ(xy/σ²) / Iₙ₋₁(xy/σ²)

    Parameters
    ----------
    sigma : float
        Standard deviation σ of each of n₁ⱼ and n₂ⱼ in grey levels, above 0.
    coils : float
        Number n of coils, from 1 (then it is `Rician` noise) to 64; an effective number need not
        be whole.

    Raises
    ------
    UserError
        If a parameter is out of range.

    Notes
    -----
    Constantinides, Atalar & McVeigh, *Magn. Reson. Med.* 1997. Without signal the mean of y is
    σ √2 Γ(n + ½)/Γ(n), 3.94 σ for eight coils. With ``z = xy/σ²`` the solution is that of
    ``z Iₙ(z)/Iₙ₋₁(z) = sy − 2n + 1 + y²/σ²``, by Newton's method in z², which approaches it from
    below; 0 where the right side is below 0.

    Examples
    --------
    >>> import torch
    >>> model = NoncentralChi(sigma=10, coils=8)
    >>> print(model)
    noncentral_chi(sigma=10, coils=8)
    >>> y, x = torch.tensor(52.0), torch.tensor(30.0)
    >>> model.solve(y, model.score(x, y))
    tensor(30.0000)
    """

    sigma: float
    coils: float

    name: ClassVar[str] = "noncentral_chi"
    aliases: ClassVar[tuple[str, ...]] = (
        "multi-coil MRI", "sum of squares", "phased array", "parallel imaging", "GRAPPA",
        "non-central chi", "chi",
    )  # fmt: skip
    source: ClassVar[str] = (
        "Constantinides, Atalar & McVeigh, Magn. Reson. Med. 38, 1997, doi:10.1002/mrm.1910380524"
    )
    position: ClassVar[float] = 5.5
    is_magnitude: ClassVar[bool] = True
    forms: ClassVar[tuple[Form, ...]] = (
        Form(
            "Noncentral chi: magnitude of several coils (MRI)",
            (SIGMA, COILS),
            "noncentral_chi(sigma=10, coils=8)",
            "MRI magnitude images of several coils, combined by their sum of squares",
            "yⁿ/(σ²xⁿ⁻¹) e^(−(y²+x²)/2σ²) Iₙ₋₁(xy/σ²)",
            "(2n − 1)/y − y/σ² + (x/σ²) Iₙ/Iₙ₋₁(xy/σ²)",
        ),
    )
    fitted: ClassVar[tuple[FittedParameters, ...]] = (
        FittedParameters(("sigma", "coils"), _start, {"coils": (1.0, MAX_COILS)}),
    )

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x."""
        x = np.asarray(x, dtype=np.float64)
        along = x / self.sigma + rng.standard_normal(x.shape)
        square = 2 * rng.standard_gamma(self.coils - 0.5, x.shape)  # of the 2n − 1 other directions
        y: Array = self.sigma * np.sqrt(along**2 + square)
        return y

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x] = σ √2 Γ(n + ½)/Γ(n) ₁F₁(−½; n; −x²/2σ²)."""
        at = x / self.sigma
        within = _interpolated(at, _table_of_moments(self.coils).mean)
        beyond = torch.sqrt(at**2 + 2 * self.coils - self._variance_beyond(at**2))
        return self.sigma * torch.where(at < TABLE_MAX_X, within, beyond)

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x] = 2nσ² + x² − E[y | x]²."""
        at = x / self.sigma
        within = _interpolated(at, _table_of_moments(self.coils).variance)
        beyond = self._variance_beyond(at**2)
        return self.sigma**2 * torch.where(at < TABLE_MAX_X, within, beyond)

    def cumulants(self, mean: Array) -> tuple[Array, Array]:
        """Return variance and third central moment as functions of the mean, from a table.

        A mean below its value without signal is impossible; the variance then grows with the gap.
        """
        at = np.asarray(mean, dtype=np.float64) / self.sigma
        table = _table_of_moments(self.coils)
        missing = np.maximum(table.mean[0] - at, 0)
        variance = self.sigma**2 * (np.interp(at, table.mean, table.variance) + missing)
        return variance, self.sigma**3 * np.interp(at, table.mean, table.third)

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the x that has this E[y | x]; 0 if it is below the mean without signal."""
        at = (mean / self.sigma).clamp(min=0)
        means = torch.from_numpy(_table_of_moments(self.coils).mean).to(at)
        cell = (torch.searchsorted(means, at.contiguous()) - 1).clamp(0, TABLE_X - 2)
        share = (at - means[cell]) / (means[cell + 1] - means[cell])
        step = TABLE_MAX_X / (TABLE_X - 1)
        within = step**2 * (cell.to(at) ** 2 + share * (2 * cell.to(at) + 1))
        beyond = at**2 - 2 * self.coils + 1
        beyond = beyond - 1 + self._variance_beyond(beyond.clamp(min=1))
        return self.sigma * torch.sqrt(torch.where(at < means[-1], within, beyond).clamp(min=0))

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y)."""
        x, y = x / self.sigma, (y / self.sigma).clamp(min=MIN_Y)
        return ((2 * self.coils - 1) / y - y + x * self._ratio(x * y)) / self.sigma

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f(x, y) = s; 0 if there is none."""
        order = self.coils - 1
        y = (y / self.sigma).clamp(min=MIN_Y)
        target = (s * self.sigma * y - 2 * self.coils + 1 + y**2).clamp(min=0)
        limited = target.clamp(max=MAX_EXACT_Z)
        square = torch.maximum(limited**2 + (2 * order + 1) * limited, 2 * self.coils * limited)
        for _ in range(SOLVE_STEPS):
            z = torch.sqrt(square).clamp(min=MIN_Z)
            ratio = self._ratio(z)
            # near z = 0 the slope is 1/2n, which differences of numbers near 1 would lose
            slope = ((1 - ratio**2 - 2 * order * ratio / z) / 2).clamp(min=1e-12)
            slope = torch.where(z < MIN_EXACT_Z, torch.full_like(z, 0.5 / self.coils), slope)
            step = (limited - z * ratio) / slope
            square = (square + step).clamp(min=0)
            if (step.abs() <= TOLERANCE * square + 1e-30).all():
                break
        z = torch.where(target < MAX_EXACT_Z, torch.sqrt(square), target + order + 0.5)
        return self.sigma * z / y

    def bin_probabilities(self, edges: Tensor, x: Tensor) -> Tensor:
        """Return the probability of each bin of y for each x, of shape ``(x, bins)``."""
        x, edges = x.double()[:, None] / self.sigma, edges.double() / self.sigma
        typical = torch.sqrt(x**2 + 2 * self.coils - 1)
        low = (typical - MAX_DEVIATION).clamp(min=0)

        def density(y: Tensor) -> Tensor:
            log = (2 * self.coils - 1) * torch.log(y.clamp(min=MIN_Y)) - (y - x) ** 2 / 2
            log = log + _log_bessel(self.coils - 1, x * y)
            return torch.exp(log - log.max(1, keepdim=True).values)

        return integrated_bins(density, low, typical + MAX_DEVIATION, edges)

    def _variance_beyond(self, square: Tensor) -> Tensor:
        """Return the series of Var[y | x] for large x², for σ = 1."""
        return 1 - (self.coils - 0.5) / square.clamp(min=1)

    def _ratio(self, z: Tensor) -> Tensor:
        """Return Iₙ(z) / Iₙ₋₁(z), by a continued fraction from a bound of Amos (1974)."""
        z = z.clamp(min=MIN_Z)
        order = self.coils - 1 + FRACTION_STEPS
        ratio = z / (order + 0.5 + torch.sqrt((order + 1.5) ** 2 + z**2))
        for step in range(FRACTION_STEPS):
            ratio = z / (2 * (order - step) + z * ratio)
        return ratio


class _Moments(NamedTuple):
    """Moments of y over x from 0 to `TABLE_MAX_X`, for σ = 1, each of shape ``(x,)``."""

    mean: Array
    variance: Array
    third: Array


@lru_cache(maxsize=32)
def _table_of_moments(coils: float) -> _Moments:
    half = np.linspace(0, TABLE_MAX_X, TABLE_X) ** 2 / 2
    mean, third = (_moment_of(power, coils, half) for power in (1, 3))
    square = 2 * half + 2 * coils
    return _Moments(mean, square - mean**2, third - 3 * mean * square + 2 * mean**3)


def _moment_of(power: int, coils: float, half: Array) -> Array:
    """Return the mean of y to a power at x²/2, for σ = 1."""

    def central(coils: float | Array) -> Array:
        log: Array = scipy.special.gammaln(coils + power / 2) - scipy.special.gammaln(coils)
        return np.exp(log + power / 2 * math.log(2))

    # y² is a mixture of chi-square distributions, weighted as Poisson counts of mean x²/2
    near = half[half <= MAX_MIXED]
    count = np.arange(MIXED)
    weight = np.exp(
        scipy.special.xlogy(count, near[:, None]) - near[:, None] - scipy.special.gammaln(count + 1)
    )
    far = scipy.special.hyp1f1(-power / 2, coils, -half[len(near) :]) * central(coils)
    return np.concatenate([weight @ central(coils + count), far])


def _interpolated(at: Tensor, values: Array) -> Tensor:
    """Interpolate a table of moments at x; linearly in x², as they are even functions of x."""
    table = torch.from_numpy(values).to(at)
    position = (at.abs() * ((TABLE_X - 1) / TABLE_MAX_X)).clamp(max=TABLE_X - 1)
    cell = position.long().clamp(max=TABLE_X - 2)
    share = (position**2 - cell**2) / (2 * cell + 1)
    return table[cell] + share * (table[cell + 1] - table[cell])


def _log_bessel(order: float, z: Tensor) -> Tensor:
    """Return the logarithm of z^(−ν) I_ν(z) e^(−z)."""
    at = z.cpu().numpy()
    exact = at.clip(MIN_EXACT_Z * math.sqrt(order + 1), MAX_EXACT_Z)
    log = np.log(scipy.special.ive(order, exact)) - order * np.log(exact)
    at_zero = -order * math.log(2) - math.lgamma(order + 1)
    log = np.where(at < exact, at_zero - at, log)
    with np.errstate(divide="ignore"):
        series = -(order + 0.5) * np.log(at) - 0.5 * math.log(2 * math.pi)
    return torch.from_numpy(np.where(at > exact, series, log)).to(z)
