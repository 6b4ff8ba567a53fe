"""Noise whose neighbouring pixels are correlated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .base import NoiseModel, Summable
from .gaussian import Gaussian
from .kernel import Kernel
from .sum import Sum


@dataclass(frozen=True)
class Correlated(Summable):
    """A pixelwise model, and a correlation A between neighbouring pixels.

    Written ``base @ A``. Multiplicative noise and counts are blurred with their picture,
    ``y = A z``, ``z ~ base(x)``; of Gaussian noise only the noise is,
    ``y = x + Aᵀ ε``, ``ε ~ N(0, σ(x)²)``.

    - p(y | x) = p_base(A⁻¹ y | x) / |det A|; Gaussian: N(y; x, Aᵀ diag(σ(x)²) A)
    - f(x, y) = A⁻ᵀ f_base(x, A⁻¹ y); Gaussian: A⁻¹ diag(σ(x)⁻²) A⁻ᵀ (x − y)

    Images are whole planes ``(..., Y, X)``; see `Kernel` for what happens at their edges.

    Parameters
    ----------
    base : Gaussian, Poisson, Gamma, ...
        The pixelwise model.
    kernel : Kernel
        The correlation.

    Notes
    -----
    Models 2, 4, 6, 8 and 10 of Xie et al., NeurIPS 2023, Table 1, and with ``+ Gaussian(sigma)``
    12, 14 and 16. The solution is that of the base, ``f_base(x, A⁻¹ y) = Aᵀ s``; for Gaussian
    noise the fixed point of ``x = y + Aᵀ diag(σ(x)²) A s``.

    Examples
    --------
    >>> from napari_noise2score.noise import A, Gamma
    >>> print(Gamma(alpha=26) @ A + Gaussian(10))
    gamma(alpha=26) @ A + gaussian(sigma=10)
    """

    base: NoiseModel
    kernel: Kernel

    def __str__(self) -> str:
        return f"{self.base} @ {self.kernel}"

    @property
    def additive(self) -> bool:
        """Whether only the noise is blurred, not the picture."""
        return isinstance(self.base, Gaussian)

    @property
    def lowest(self) -> float:
        """Smallest x the model is defined for, in grey levels."""
        return self.base.lowest

    @property
    def offset(self) -> float:
        """Grey level without light."""
        return self.base.offset * self._brightness

    @property
    def unsure(self) -> float:
        """How far x is taken to be open where s = f(x, y) is solved."""
        return self.base.unsure

    @property
    def _brightness(self) -> float:
        return 1.0 if self.additive else self.kernel.total

    def sample(self, x, rng):
        """Draw a noisy image y from a clean image x."""
        y = self.base.sample(x, rng)
        if self.additive:
            return x + self.kernel.apply_to_image(y - x, transposed=True)
        return self.kernel.apply_to_image(y)

    def mean(self, x):
        """Give E[y | x] where x is flat."""
        return self._brightness * self.base.mean(x)

    def variance(self, x):
        """Give Var[y | x] where x is flat."""
        return self.kernel.power * self.base.variance(x)

    def clean(self, mean):
        """Give the flat x that has this E[y | x]."""
        return self.base.clean(mean / self._brightness)

    def score(self, x, y):
        """Give f(x, y); planes wrap around."""
        if self.additive:
            whitened = self.kernel.transposed_undo(x - y) / self.base.variance(x)
            return self.kernel.undo(whitened)
        return self.kernel.transposed_undo(self.base.score(x, self.kernel.undo(y)))

    def solve(self, y, s):
        """Give the x for which f(x, y) = s; planes wrap around."""
        if not self.additive:
            return self.base.solve(self.kernel.undo(y), self.kernel.transposed(s))
        drift = self.kernel.apply(s)
        limits = float(y.min()), float(y.max())
        return settle(
            self.base, y, lambda variance: y + self.kernel.transposed(variance * drift), limits
        )


def settle(
    base: NoiseModel,
    start: Tensor,
    step: Callable[[Tensor], Tensor],
    limits: tuple[float, float],
) -> Tensor:
    """Give the fixed point of x = step(Var[y | x]), ten steps from the start.

    Where noise grows too fast with x for a score, it would run away: the x that the variance is
    taken of is kept within the limits, and as much again to both sides.
    """
    low, high = limits
    room = high - low
    x = start
    for _ in range(10 if getattr(base, "growth", 0) else 1):
        x = step(base.variance(x.clamp(max(low - room, base.lowest), high + room)))
    return x


def parts(noise: NoiseModel) -> tuple[NoiseModel, Kernel | None, float]:
    """Give the pixelwise base of a model, its correlation, and its read noise (0 if none)."""
    read = noise.read.level if isinstance(noise, Sum) else 0.0
    base = noise.base if isinstance(noise, Sum) else noise
    if isinstance(base, Correlated):
        return base.base, base.kernel, read
    return base, None, read
