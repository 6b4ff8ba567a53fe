"""One noise model for each channel of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ..errors import UserError
from .base import Array, Components, NoiseModel
from .correction import Correction

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PerChannel(NoiseModel):
    """One noise model for each channel of an image, in their order.

    Written ``model ; model``. Channels of a microscope have detectors, gains and offsets of their
    own. Only `sample` treats all channels at once; everything else is asked of the model of one
    channel, see `NoiseModel.for_channels`.

    Parameters
    ----------
    models : tuple of NoiseModel
        The noise model of each channel.

    Raises
    ------
    UserError
        If there is none, or one is a model of several channels itself.

    Examples
    --------
    >>> from napari_noise2score.noise import Gaussian, Poisson
    >>> print(PerChannel((Poisson(gain=2, offset=100) + Gaussian(3), Poisson(gain=8))))
    poisson(gain=2, offset=100) + gaussian(sigma=3) ; poisson(gain=8)
    """

    models: tuple[NoiseModel, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", tuple(self.models))
        if not self.models or any(isinstance(model, PerChannel) for model in self.models):
            raise UserError("write one noise model for each channel, as in 'model ; model'")

    def __str__(self) -> str:
        return " ; ".join(map(str, self.models))

    def for_channels(self, count: int) -> tuple[NoiseModel, ...]:
        """Return the noise model of each channel of an image.

        Raises
        ------
        UserError
            If the image has another number of channels.
        """
        if count != len(self.models):
            channels = f"{count} channel{'s' * (count != 1)}"
            raise UserError(
                f"the noise has {len(self.models)} models, and the image has {channels}: write one "
                "model for each channel, separated by ';', or one for all of them"
            )
        return self.models

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x, of shape ``(channels, ...)``."""
        models = self.for_channels(len(x))
        return np.stack([m.sample(plane, rng) for m, plane in zip(models, x, strict=True)])

    def scaled(self, factor: float) -> NoiseModel:
        """Return the models with their variance multiplied by a factor."""
        return PerChannel(tuple(model.scaled(factor) for model in self.models))

    def in_unit(self, unit: float) -> NoiseModel:
        """Return the models of images whose grey levels were multiplied by a number."""
        return PerChannel(tuple(model.in_unit(unit) for model in self.models))

    @property
    def plain(self) -> NoiseModel:
        """The noise models of images in which maps and offsets of lines are undone."""
        return PerChannel(tuple(model.plain for model in self.models))

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """What is undone in each channel; empty if nothing is."""
        each = [model.corrections for model in self.models]
        return tuple(own[0] if own else Correction() for own in each) if any(each) else ()

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the text form names."""
        return tuple(dict.fromkeys(file for model in self.models for file in model.files))

    @property
    def content_digest(self) -> str:
        """A digest of the content of these files; empty if the text form is complete."""
        return " ".join(filter(None, (model.content_digest for model in self.models)))

    @property
    def components(self) -> Components:
        """Raise a TypeError, as everything that differs between channels does."""
        self._differs()

    def mean(self, x: Tensor) -> Tensor:
        """Raise a TypeError."""
        self._differs()

    def variance(self, x: Tensor) -> Tensor:
        """Raise a TypeError."""
        self._differs()

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Raise a TypeError."""
        self._differs()

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Raise a TypeError."""
        self._differs()

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Raise a TypeError."""
        self._differs()

    def bin_probabilities(self, edges: Tensor, x: Tensor) -> Tensor:
        """Raise a TypeError."""
        self._differs()

    def bin_centers(self, edges: Tensor) -> Tensor:
        """Raise a TypeError."""
        self._differs()

    def _differs(self) -> NoReturn:
        raise TypeError(f"{self}: each channel has its own noise model; use those of the channels")
