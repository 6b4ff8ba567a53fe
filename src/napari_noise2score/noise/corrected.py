"""A noise model with what is undone before: calibration maps, offsets of rows and columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .base import Array, Components, NoiseModel
from .correction import Correction
from .parameter import format_number, round_to_four_digits

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Corrected(NoiseModel):
    """A noise model, and what is undone before it holds.

    Written ``poisson(gain=map(gain.tif), offset=map(offset.tif)) + gaussian(sigma=3) +
    rows(sigma=4)``. Everything but `sample` is that of the noise of corrected images; it is what
    a solver, a slider or a check works with.

    Parameters
    ----------
    model : NoiseModel
        The noise of corrected images.
    correction : Correction
        What is undone.

    Examples
    --------
    >>> from napari_noise2score.noise import Correction, Gaussian
    >>> print(Corrected(Gaussian(sigma=10), Correction(rows=4)))
    gaussian(sigma=10) + rows(sigma=4)
    """

    model: NoiseModel
    correction: Correction

    def __str__(self) -> str:
        base, *rest = str(self.model).split(" + ")
        maps = self.correction
        if maps.gain is not None:
            base = _with_map(base, "gain", str(maps.gain), maps.gain.median)
        if maps.offset is not None:
            base = _with_map(base, "offset", str(maps.offset), maps.offset.median)
        if maps.sigma is not None:
            base = _with_map(base, "sigma", str(maps.sigma), maps.sigma.median)
        if maps.read_noise is not None and rest:
            typical = maps.read_noise.root_mean_square
            rest[-1] = _with_map(rest[-1], "sigma", str(maps.read_noise), typical)
        return " + ".join([base, *rest, *maps.terms])

    @property
    def plain(self) -> NoiseModel:
        """The noise of corrected images."""
        return self.model

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """What is undone."""
        return (self.correction,)

    @property
    def components(self) -> Components:
        """The components of the noise of corrected images."""
        return self.model.components

    @property
    def offset(self) -> float:
        """The grey level without signal."""
        return self.model.offset

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the text form names."""
        maps = [value.file for value in self.correction.maps.values() if value.file]
        return tuple(dict.fromkeys([*self.model.files, *maps]))

    @property
    def content_digest(self) -> str:
        """A digest of the content of these files; empty if the text form is complete."""
        maps = [value.digest for value in self.correction.maps.values()]
        return " ".join(filter(None, [self.model.content_digest, *maps]))

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a raw image y from a clean image x of shape ``(..., Y, X)``."""
        axes = "STCZYX"[-x.ndim :]
        pixel = self.correction.pixel_correction(axes, x.shape)
        factor = 1.0 if pixel.factor is None else pixel.factor
        read = self.correction.read_noise
        model = self.model
        clean = x * factor if pixel.restores else x
        if read is None:
            y = model.sample(clean, rng)
        else:
            base: NoiseModel = getattr(model, "base", model)
            strength = model.components.read_noise / read.root_mean_square
            noise = rng.standard_normal(x.shape) * np.nan_to_num(read.of_image(axes, x.shape))
            y = base.sample(clean, rng) + noise * strength * factor
        y = (y - pixel.back) / factor + (0.0 if pixel.shift is None else pixel.shift)
        y = y + rng.normal(0, self.correction.rows, (*x.shape[:-1], 1))
        return y + rng.normal(0, self.correction.columns, (*x.shape[:-2], 1, x.shape[-1]))

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x] of corrected images."""
        return self.model.mean(x)

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x] of corrected images."""
        return self.model.variance(x)

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the x that has this E[y | x]."""
        return self.model.clean_from_mean(mean)

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y) of corrected images."""
        return self.model.score(x, y)

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f(x, y) = s."""
        return self.model.solve(y, s)

    def bin_probabilities(self, edges: Tensor, x: Tensor) -> Tensor:
        """Return the probability of each bin of y for each x, of shape ``(x, bins)``."""
        return self.model.bin_probabilities(edges, x)

    def bin_centers(self, edges: Tensor) -> Tensor:
        """Return a representative y of each bin, shape ``(bins,)``."""
        return self.model.bin_centers(edges)

    def scaled(self, factor: float) -> Corrected:
        """Return the model with its variance multiplied by a factor; what is undone stays."""
        return Corrected(self.model.scaled(factor), self.correction)

    def in_unit(self, unit: float) -> NoiseModel:
        """Return the noise of corrected images whose grey levels were multiplied by a number."""
        return self.model.in_unit(unit)


def with_correction(noise: NoiseModel, correction: Correction | None) -> NoiseModel:
    """Return a noise model with what is undone before, as far as its text form can name it.

    Parameters
    ----------
    noise : NoiseModel
        The noise of corrected images.
    correction : Correction or None
        What is undone.

    Returns
    -------
    NoiseModel
        The noise model itself if there is no correction, or if the family has no parameter that a
        map could stand for: a model that was trained with the maps undoes them by itself.

    Examples
    --------
    >>> from napari_noise2score.noise import Gaussian
    >>> print(with_correction(Gaussian(sigma=10), Correction(columns=2)))
    gaussian(sigma=10) + columns(sigma=2)
    """
    if not correction:
        return noise
    names = {parameter.name for parameter in noise.components.base.parameters()}
    needed = {name for name in correction.maps if name not in ("pattern", "read_noise")}
    if not needed <= names or (correction.read_noise and not noise.components.read_noise):
        return noise
    return Corrected(noise, correction)


def _with_map(call: str, name: str, written: str, own: float) -> str:
    """Return the text of a family with a parameter written as a map."""
    number = re.search(rf"\b{name}=([^,()]+)", call)
    typical = 0.0 if number is None else float(number[1])
    if typical != round_to_four_digits(own):
        written = f"{written[:-1]}, value={format_number(typical)})"
    if number is None:
        return call.replace("(", f"({name}={written}, ", 1).replace(", )", ")")
    return f"{call[: number.start()]}{name}={written}{call[number.end() :]}"
