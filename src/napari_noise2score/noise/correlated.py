"""Noise that is correlated between neighbouring pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._torch import torch
from .base import Array, Components, NoiseModel
from .family import NoiseFamily
from .kernel import Kernel
from .parameter import MAX_GREY_LEVEL

if TYPE_CHECKING:
    from torch import Tensor

FIXED_POINT_STEPS = 10  # as many as in Xie et al.


@dataclass(frozen=True)
class Correlated(NoiseModel):
    """A pixelwise model, and a correlation A between neighbouring pixels.

    Written ``base @ A``. Multiplicative noise and counts are blurred together with the image,
    ``y = A z``, ``z ~ base(x)``; with additive Gaussian noise only the noise is blurred,
    ``y = x + Aᵀ ε``, ``ε ~ N(0, σ(x)²)``.

    With a kernel of the noise alone (``noise_kernel``), that is so for every base:
    ``y = E[z | x] + A (z − E[z | x])``.

    - p(y | x) = p_base(A⁻¹ y | x) / |det A|; Gaussian: N(y; x, Aᵀ diag(σ(x)²) A)
    - f(x, y) = A⁻ᵀ f_base(x, A⁻¹ y); Gaussian: A⁻¹ diag(σ(x)⁻²) A⁻ᵀ (x − y)

    Images are whole planes ``(..., Y, X)``; `Kernel` says how their edges are treated.

    Parameters
    ----------
    base : NoiseFamily
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
    >>> from napari_noise2score.noise import A, Gamma, Gaussian
    >>> print(Gamma(alpha=26) @ A + Gaussian(10))
    gamma(alpha=26) @ A + gaussian(sigma=10)
    """

    base: NoiseFamily
    kernel: Kernel

    def __str__(self) -> str:
        return f"{self.base} @ {self.kernel}"

    @property
    def components(self) -> Components:
        """The base and the correlation, without read noise."""
        return Components(self.base, self.kernel)

    @property
    def offset(self) -> float:
        """The grey level without signal."""
        return self.base.offset * self._brightness

    @property
    def _brightness(self) -> float:
        """The factor by which the kernel multiplies a flat image."""
        return 1.0 if self.additive else self.kernel.total

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x."""
        y = self.base.sample(x, rng)
        if self.additive:
            mean = self.base.mean(torch.from_numpy(np.asarray(x, dtype=np.float64))).numpy()
            noisy: Array = mean + self.kernel.apply_to_image(y - mean, transposed=True)
            return noisy
        return self.kernel.apply_to_image(y)

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x] where x is flat."""
        return self._brightness * self.base.mean(x)

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x] where x is flat."""
        return self.kernel.power * self.base.variance(x)

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the flat x that has this E[y | x]."""
        return self.base.clean_from_mean(mean / self._brightness)

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y); the kernel wraps around the edges of planes."""
        if self.additive:
            away = self.base.mean(x) - y
            whitened = self.kernel.undo_transposed(away) / self.base.variance(x)
            return self.kernel.undo(whitened)
        return self.kernel.undo_transposed(self.base.score(x, self.kernel.undo(y)))

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f(x, y) = s; the kernel wraps around the edges."""
        if not self.additive:
            return self.base.solve(self.kernel.undo(y), self.kernel.apply_transposed(s))
        blurred = self.kernel.apply(s)
        limits = float(y.min()), float(y.max())
        x = fixed_point(
            self.base,
            y,
            lambda variance: y + self.kernel.apply_transposed(variance * blurred),
            limits,
        )
        return self.base.clean_from_mean(x)

    def bin_probabilities(self, edges: Tensor, x: Tensor) -> Tensor:
        """Raise a TypeError: the pixels of correlated noise have no probabilities of their own."""
        raise TypeError(f"{self}: pixels are correlated: use those of the base")

    def bin_centers(self, edges: Tensor) -> Tensor:
        """Raise a TypeError, as `bin_probabilities` does."""
        raise TypeError(f"{self}: pixels are correlated: use those of the base")

    def scaled(self, factor: float) -> NoiseModel:
        """Return the model with the variance of the base multiplied by a factor."""
        return self.base.scaled(factor) @ self.kernel

    def in_unit(self, unit: float) -> NoiseModel:
        """Return the model of images whose grey levels were multiplied by a number."""
        return self.base.in_unit(unit) @ self.kernel


def fixed_point(
    base: NoiseFamily,
    start: Tensor,
    step: Callable[[Tensor], Tensor],
    limits: tuple[float, float],
) -> Tensor:
    """Return the fixed point of x = step(Var[y | x]) for additive noise.

    The variance is that at x, clipped to the limits widened on both sides by the distance between
    them: without clipping, the iteration would diverge where noise grows too fast with x.

    Parameters
    ----------
    base : NoiseFamily
        Noise whose correlation blurs only the noise.
    start : Tensor
        The first x, offset included, as are all others.
    step : callable
        Maps Var[y | x] to the next x.
    limits : tuple of float
        The lowest and the highest y, in grey levels.

    Returns
    -------
    Tensor
        Of the shape of start.
    """
    low, high = limits
    margin = high - low
    x = start
    for _ in range(1 if base.constant_variance else FIXED_POINT_STEPS):
        clean = base.clean_from_mean(x.clamp(low - margin, high + margin))
        # a lowest x far below all grey levels has no float32
        x = step(base.variance(clean.clamp(min=max(base.lowest, -MAX_GREY_LEVEL))))
    return x
