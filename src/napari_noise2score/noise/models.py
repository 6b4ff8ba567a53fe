"""Noise models p(y | x): how a clean pixel x becomes a noisy one y.

Each model is immutable, prints as one line of text that `parse_noise` reads back, and knows
four things: how to sample it, its score f(x, y) = d/dy log p(y | x), the closed-form solution of
``s = f(x, y)`` for x, and its cumulative distribution, from which the table solver is built.
They compose: ``Poisson(gain=2, offset=100) + Gaussian(sigma=3)`` is a camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError


@runtime_checkable
class NoiseModel(Protocol):
    """What every noise model can do. Images are float64 grey levels, of any shape."""

    def __str__(self) -> str:
        """Give the one spelling, as ``gaussian(sigma=25)``."""

    @property
    def lowest(self) -> float:
        """Smallest x the model is defined for, in grey levels."""

    @property
    def offset(self) -> float:
        """Grey level without light: what stands in y but not in x."""

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a noisy image y from a clean image x."""

    def mean(self, x: Tensor) -> Tensor:
        """Give E[y | x]."""

    def variance(self, x: Tensor) -> Tensor:
        """Give Var[y | x]."""

    def clean(self, mean: Tensor) -> Tensor:
        """Give the x that has this E[y | x]."""

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Give f(x, y) = d/dy log p(y | x)."""

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Give the x for which f(x, y) = s."""

    def masses(self, edges: Tensor, x: Tensor) -> Tensor:
        """Give the probability of each bin of y, for each x, of shape ``(x, bins)``."""


def _positive(model: str, **values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"{model}: {name} must be a number above 0, not {value:g}")


def _spell(name: str, **values: float | None) -> str:
    given = ", ".join(f"{k}={_number(v)}" for k, v in values.items() if v is not None)
    return f"{name}({given})"


def _number(value: float) -> str:
    """Shortest text that reads back as the same number, without a trailing '.0'."""
    text = repr(float(value))
    return text[:-2] if text.endswith(".0") else text


class _Pixelwise:
    """What all models share: bins from the cumulative distribution, and ``+ Gaussian``."""

    lowest: float = 0.0
    offset: float = 0.0

    def cdf(self, y: Tensor, x: Tensor) -> Tensor:
        """Give P(Y < y | x)."""
        raise NotImplementedError

    def masses(self, edges: Tensor, x: Tensor) -> Tensor:
        """Give the probability of each bin of y, for each x, of shape ``(x, bins)``."""
        return self.cdf(edges[None, :], x[:, None]).diff(dim=1).clamp(min=0)

    def __add__(self, other: object) -> Sum:
        if not isinstance(other, Gaussian) or other.sigma is None:
            return NotImplemented
        if isinstance(self, Sum):
            return NotImplemented
        return Sum(self, other)


@dataclass(frozen=True)
class Gaussian(_Pixelwise):
    """Gaussian noise, of one level or of a level that grows with the signal.

    ``y = x + ε``, ``ε ~ N(0, σ²)`` with ``σ = sigma``, or ``σ = a x + b``.

    - p(y | x) = exp(−(y − x)² / 2σ²) / √(2πσ²)
    - f(x, y) = (x − y) / σ²

    Parameters
    ----------
    sigma : float
        Standard deviation in grey levels, above 0.
    a : float
        Growth of the standard deviation with x, at least 0. Given together with b.
    b : float
        Standard deviation at x = 0, in grey levels, above 0.

    Raises
    ------
    UserError
        If neither sigma nor both of a and b are given, or one is out of range.

    Notes
    -----
    Models 1 and 3 of Xie et al., NeurIPS 2023, Table 1; model 3 with a = 0.098, where the paper
    prints 0.98, which fits none of its figures. The solution of model 3 is the root
    ``x = 2C / (−B + √(B² − 4AC))`` of ``a² s x² + (2abs − 1) x + y + b² s = 0``.

    Examples
    --------
    >>> model = Gaussian(25)
    >>> model
    Gaussian(sigma=25)
    >>> print(model)
    gaussian(sigma=25)
    >>> model.solve(torch.tensor(100.0), torch.tensor(-0.01))  # x = y + σ² s
    tensor(93.7500)
    """

    sigma: float | None = None
    a: float | None = None
    b: float | None = None

    lowest: ClassVar[float] = -math.inf  # type: ignore[misc]

    def __post_init__(self):
        if self.sigma is not None and self.a is None and self.b is None:
            _positive("gaussian", sigma=self.sigma)
        elif self.sigma is None and self.a is not None and self.b is not None:
            if not (math.isfinite(self.a) and self.a >= 0):
                raise UserError(f"gaussian: a must be 0 or above, not {self.a:g}")
            _positive("gaussian", b=self.b)
        else:
            raise UserError("gaussian takes sigma, or both a and b: gaussian(sigma=25)")
        if self.a:
            # the level a x + b must stay above zero
            object.__setattr__(self, "lowest", -0.999 * self.b / self.a)

    def __str__(self) -> str:
        return _spell("gaussian", sigma=self.sigma, a=self.a, b=self.b)

    def __repr__(self) -> str:
        return "G" + str(self)[1:]

    def _level(self, x: Tensor) -> Tensor:
        if self.sigma is not None:
            return torch.full_like(x, self.sigma)
        return self.a * x + self.b

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x."""
        x = np.asarray(x, dtype=np.float64)
        level = self.sigma if self.sigma is not None else self.a * x + self.b
        return x + level * rng.standard_normal(x.shape)

    def mean(self, x):
        """Give E[y | x] = x."""
        return x

    def variance(self, x):
        """Give Var[y | x] = σ²."""
        return self._level(x) ** 2

    def clean(self, mean):
        """Give the x that has this E[y | x]."""
        return mean

    def score(self, x, y):
        """Give f(x, y) = (x − y) / σ²."""
        return (x - y) / self._level(x) ** 2

    def solve(self, y, s):
        """Give the x for which f(x, y) = s."""
        if self.sigma is not None:
            return y + self.sigma**2 * s
        a, b = self.a, self.b
        first, second, last = a * a * s, 2 * a * b * s - 1, y + b * b * s
        root = torch.sqrt((second**2 - 4 * first * last).clamp(min=0))
        return (2 * last / (root - second)).clamp(min=self.lowest)

    def cdf(self, y, x):
        """Give P(Y < y | x)."""
        return torch.special.ndtr((y - x) / self._level(x))


@dataclass(frozen=True)
class Poisson(_Pixelwise):
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
    >>> model = Poisson(gain=2.1, offset=100) + Gaussian(sigma=3.2)
    >>> print(model)
    poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)
    >>> Poisson(gain=5).solve(torch.tensor(97.5), torch.tensor(0.0))
    tensor(100.)
    """

    gain: float
    offset: float = 0.0

    def __post_init__(self):
        _positive("poisson", gain=self.gain)
        if not math.isfinite(self.offset):
            raise UserError(f"poisson: offset must be a number, not {self.offset:g}")

    def __str__(self) -> str:
        return _spell("poisson", gain=self.gain, offset=self.offset or None)

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x; below 0 there is no light."""
        x = np.asarray(x, dtype=np.float64)
        return self.gain * rng.poisson(np.maximum(x, 0) / self.gain) + self.offset

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
        # the smallest count that is not below y; rounding must not lose the count at y itself
        count = torch.ceil((y - self.offset) / self.gain - 1e-9)
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


@dataclass(frozen=True)
class Gamma(_Pixelwise):
    """Multiplicative speckle of mean 1: ``y = η x``, ``η ~ Gamma(α, α)``.

    - p(y | x) = (α/x)^α y^(α−1) e^(−αy/x) / Γ(α)
    - f(x, y) = (α − 1) / y − α / x

    Parameters
    ----------
    alpha : float
        Shape, above 1; the relative standard deviation of y is 1 / √alpha.

    Notes
    -----
    Model 5 of Xie et al., NeurIPS 2023, Table 1, and the Gamma case of Kim & Ye, NeurIPS 2021:
    ``x = α y / (α − 1 − y s)``.

    Examples
    --------
    >>> print(Gamma(alpha=26))
    gamma(alpha=26)
    >>> Gamma(26).solve(torch.tensor(100.0), torch.tensor(-0.01))
    tensor(100.)
    """

    alpha: float

    def __post_init__(self):
        if not (math.isfinite(self.alpha) and self.alpha > 1):
            raise UserError(f"gamma: alpha must be a number above 1, not {self.alpha:g}")

    def __str__(self) -> str:
        return _spell("gamma", alpha=self.alpha)

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x, x at least 0."""
        x = np.asarray(x, dtype=np.float64)
        return np.maximum(x, 0) * rng.gamma(self.alpha, 1 / self.alpha, x.shape)

    def mean(self, x):
        """Give E[y | x] = x."""
        return x

    def variance(self, x):
        """Give Var[y | x] = x² / α."""
        return x**2 / self.alpha

    def clean(self, mean):
        """Give the x that has this E[y | x]."""
        return mean

    def score(self, x, y):
        """Give f(x, y) = (α − 1) / y − α / x."""
        return (self.alpha - 1) / y - self.alpha / x

    def solve(self, y, s):
        """Give the x for which f(x, y) = s; y at or below 0 has none but 0."""
        y = y.clamp(min=0)
        return self.alpha * y / (self.alpha - 1 - y * s).clamp(min=1e-3 * self.alpha)

    def cdf(self, y, x):
        """Give P(Y < y | x)."""
        ratio = self.alpha * y.clamp(min=0) / x.clamp(min=1e-300)
        ratio, alpha = torch.broadcast_tensors(ratio, torch.as_tensor(self.alpha).to(ratio))
        return torch.special.gammainc(alpha, ratio)


@dataclass(frozen=True)
class Rayleigh(_Pixelwise):
    """Multiplicative Rayleigh noise: ``y = (η + 1) x``, ``η ~ Rayleigh(σ)``.

    - p(y | x) = t / (σ² x) e^(−t² / 2σ²), with t = y/x − 1 > 0
    - f(x, y) = 1 / (y − x) − (y − x) / (σ² x²)

    Parameters
    ----------
    sigma : float
        Scale of η, without unit, above 0; ``E[y] = x (1 + σ √(π/2))``.

    Notes
    -----
    Model 9 of Xie et al., NeurIPS 2023, Table 1. The solution is the one positive root of
    ``t³ + t² + σ² (s y − 1) t − σ² = 0``, ``x = y / (1 + t)``; Newton's method from its right
    falls to it monotonically.

    Examples
    --------
    >>> model = Rayleigh(sigma=0.3)
    >>> y, x = torch.tensor(130.0), torch.tensor(100.0)
    >>> model.solve(y, model.score(x, y))
    tensor(100.)
    """

    sigma: float

    def __post_init__(self):
        _positive("rayleigh", sigma=self.sigma)

    def __str__(self) -> str:
        return _spell("rayleigh", sigma=self.sigma)

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x, x at least 0."""
        x = np.asarray(x, dtype=np.float64)
        return np.maximum(x, 0) * (1 + rng.rayleigh(self.sigma, x.shape))

    def mean(self, x):
        """Give E[y | x]."""
        return x * (1 + self.sigma * math.sqrt(math.pi / 2))

    def variance(self, x):
        """Give Var[y | x]."""
        return (2 - math.pi / 2) * (self.sigma * x) ** 2

    def clean(self, mean):
        """Give the x that has this E[y | x]."""
        return mean / (1 + self.sigma * math.sqrt(math.pi / 2))

    def score(self, x, y):
        """Give f(x, y) for y > x."""
        excess = y - x
        return 1 / excess - excess / (self.sigma * x) ** 2

    def solve(self, y, s):
        """Give the x for which f(x, y) = s; y at or below 0 has none but 0."""
        y = y.clamp(min=0)
        square = self.sigma**2
        linear = square * (s * y - 1)
        t = 1 + linear.abs() + square
        for _ in range(60):
            step = (((t + 1) * t + linear) * t - square) / ((3 * t + 2) * t + linear)
            t = t - step
            if step.abs().max() <= 1e-7 * t.max():
                break
        return y / (1 + t)

    def cdf(self, y, x):
        """Give P(Y < y | x)."""
        t = (y / x.clamp(min=1e-300) - 1).clamp(min=0)
        return -torch.expm1(-(t**2) / (2 * self.sigma**2))


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
    >>> Gamma(alpha=26) + Gaussian(sigma=10)
    Sum(base=Gamma(alpha=26), read=Gaussian(sigma=10))
    """

    base: Gaussian | Poisson | Gamma | Rayleigh
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

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x."""
        return self.read.sample(self.base.sample(x, rng), rng)

    def mean(self, x):
        """Give E[y | x]."""
        return self.base.mean(x)

    def variance(self, x):
        """Give Var[y | x]."""
        return self.base.variance(x) + self.read.sigma**2

    def clean(self, mean):
        """Give the x that has this E[y | x]."""
        return self.base.clean(mean)

    def score(self, x, y):
        """Give f(x, y) by integrating over z, on a grid of z as fine as the read noise."""
        sigma = self.read.sigma
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
        return self.base.solve(y + self.read.sigma**2 * s, s)

    def masses(self, edges, x):
        """Give the probability of each bin of y, for each x, of shape ``(x, bins)``."""
        base = self.base.masses(edges, x)
        middle = (edges[1:] + edges[:-1]) / 2
        spread = torch.special.ndtr((edges[None, :] - middle[:, None]) / self.read.sigma)
        return (base.float() @ spread.diff(dim=1).float()).double()
