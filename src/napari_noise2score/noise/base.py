"""Noise models p(y | x): how a clean pixel x becomes a noisy pixel y.

A model is immutable, hashable, and prints as one line of text that `parse_noise` reads back.
Models compose: ``Poisson(gain=2, offset=100) + Gaussian(sigma=3)`` is a camera.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from .correction import Correction
    from .correlated import Correlated
    from .family import NoiseFamily
    from .kernel import Kernel
    from .sum import Sum

Array = np.ndarray[Any, np.dtype[Any]]
"""An array of numbers of any shape."""


class Components(NamedTuple):
    """The components of a noise model.

    Attributes
    ----------
    base : NoiseFamily
        The family of independent pixels.
    kernel : Kernel or None
        The correlation between neighbouring pixels.
    read_noise : float
        Standard deviation of the Gaussian read noise on top, in grey levels; 0 if there is none.
    """

    base: NoiseFamily
    kernel: Kernel | None = None
    read_noise: float = 0.0


class NoiseModel(ABC):
    """Base class of all noise models.

    Clean and noisy images are float64, in grey levels, of any shape. For correlated noise they are
    whole planes ``(..., Y, X)``.
    """

    @abstractmethod
    def __str__(self) -> str:
        """Return the text form, such as ``gaussian(sigma=25)``."""

    @property
    @abstractmethod
    def components(self) -> Components:
        """The base, the correlation and the read noise of the model."""

    @property
    def lowest(self) -> float:
        """The smallest x for which the model is defined, in grey levels."""
        return self.components.base.lowest

    @property
    def offset(self) -> float:
        """The grey level without signal, which y contains and x does not."""
        return self.components.base.offset

    @property
    def posterior_score_variance(self) -> float:
        """Typical variance of f(x, y) over the x that are possible for one y, times Var[y | x].

        If it is above 0, the table solver returns the mean of these x instead of the solution
        of ``s = f(x, y)``; the two differ where f is far from linear in x.
        """
        return self.components.base.posterior_score_variance

    @property
    def additive(self) -> bool:
        """Whether a correlation blurs only the noise, not the image.

        So it does if the noise is Gaussian and added to the image, or its kernel says so.
        """
        base, kernel, _ = self.components
        return base.additive or (kernel is not None and kernel.of_noise)

    @property
    def signed(self) -> bool:
        """Whether y can be below 0."""
        return self.components.read_noise > 0 or self.components.base.signed

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the text form names."""
        return self.components.base.files

    @property
    def content_digest(self) -> str:
        """A digest of the content of these files; empty if the text form is complete."""
        return self.components.base.content_digest

    @property
    def plain(self) -> NoiseModel:
        """The noise of images in which calibration maps and offsets of lines are undone."""
        return self

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """What is undone: one `Correction` for all channels, one for each, or none."""
        return ()

    @abstractmethod
    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x."""

    @abstractmethod
    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x]; for correlated noise, where x is flat."""

    @abstractmethod
    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x]; for correlated noise, where x is flat."""

    @abstractmethod
    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the x that has this E[y | x]."""

    @abstractmethod
    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y) = d/dy log p(y | x)."""

    @abstractmethod
    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f(x, y) = s, in closed form or by a few iterations."""

    @abstractmethod
    def bin_probabilities(self, edges: Tensor, x: Tensor) -> Tensor:
        """Return the probability of each bin of y for each x, of shape ``(x, bins)``.

        Parameters
        ----------
        edges : Tensor
            Rising edges of the bins in grey levels, shape ``(bins + 1,)``.
        x : Tensor
            Clean grey levels, shape ``(x,)``.
        """

    @abstractmethod
    def bin_centers(self, edges: Tensor) -> Tensor:
        """Return a representative y of each bin, shape ``(bins,)``."""

    @abstractmethod
    def scaled(self, factor: float) -> NoiseModel:
        """Return the model with its variance multiplied by a factor above 0.

        Family, offset and correlation stay; changed parameters are rounded to four digits. For
        some families the variance follows the factor only approximately.

        Raises
        ------
        UserError
            If the model has no parameter that sets its variance.
        """

    @abstractmethod
    def in_unit(self, unit: float) -> NoiseModel:
        """Return the model of images whose grey levels were multiplied by a number above 0.

        Family and correlation stay; changed parameters are rounded to four digits.

        Raises
        ------
        UserError
            If the model has no parameters, or one would be out of range.
        """

    def for_channels(self, count: int) -> tuple[NoiseModel, ...]:
        """Return the noise model of each channel of an image, here the same for all of them.

        Parameters
        ----------
        count : int
            Number of channels of the image; 1 if it has no such axis.

        Raises
        ------
        UserError
            If there are models for another number of channels, see `PerChannel`.
        """
        return (self,) * count

    def unit_power(self, name: str) -> float:
        """Return the power of the unit of grey levels that a parameter is measured in."""
        return self.components.base.unit_power(name)

    def with_read_noise(self, sigma: float) -> NoiseModel:
        """Return the model with Gaussian read noise on top, or the model itself if sigma is 0."""
        from .gaussian import Gaussian
        from .sum import Sum

        return Sum(self, Gaussian(sigma)) if sigma > 0 else self

    def __add__(self, other: Any) -> Sum:
        from .gaussian import Gaussian
        from .per_channel import PerChannel
        from .sum import Sum

        if isinstance(self, PerChannel):
            return NotImplemented
        if not isinstance(other, Gaussian) or not other.constant_variance or isinstance(self, Sum):
            return NotImplemented
        return Sum(self, other)

    def __matmul__(self, other: Any) -> Correlated:
        return NotImplemented
