"""Measure whether a polish is worth trying: what noise and bias the solution of s = f leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..image.image import as_images
from ..noise import NoiseModel, PerChannel, parse_noise
from ..score.model import ScoreModel
from ._clean_images import (
    MAX_NOISE_LEFT,
    bias_of,
    denoised_crop,
    noise_left_in,
    read_crops,
    variance_at,
)
from .job import prepare

MAX_PIXELS_MEASURED = 2**19
MAX_BIAS = 0.003  # in units of the variance of the noise; above it, a polish may pay


class PolishNeed(NamedTuple):
    """What the solution of ``s = f(x, y)`` leaves, which a polish would remove.

    Attributes
    ----------
    noise_left : float
        Power of the finest detail of x (differences of diagonal neighbours) in the median tile, in
        units of that of the noise. Structure occurs in some tiles only, noise in most.
    bias : float
        Mean square of the shift that gives the noise of x the mean of y, by intensity, in units of
        the variance of the noise. It is removed in any case, but shows how little s says of x.
    is_broad : bool
        Whether the noise is correlated and the image is not, see `Kernel.of_noise`: the finest
        detail then shows little of the noise that is left.
    """

    noise_left: float
    bias: float
    is_broad: bool = False

    @property
    def pays(self) -> bool:
        """Whether a polish is worth trying; `Polish.gain` says whether it succeeded."""
        return self.noise_left > MAX_NOISE_LEFT or self.bias > MAX_BIAS or self.is_broad

    @property
    def sentence(self) -> str:
        """What a polish would remove, in words."""
        left = f"{self.noise_left:.0%} of the power of the noise is left in single pixels"
        bias = f"the bias of the solution is {self.bias**0.5:.0%} of the noise"
        found = [left] if self.noise_left > MAX_NOISE_LEFT else []
        found += [bias] if self.bias > MAX_BIAS else []
        found += ["the noise is correlated over several pixels"] if self.is_broad else []
        if not found:
            return "a polish would change little"
        return f"a polish may pay: {' and '.join(found)}"


def measure_polish_need(
    images: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | Sequence[str] | None = None,
    device: str = "auto",
) -> PolishNeed:
    """Measure what noise and bias denoising leaves, on a few crops.

    Parameters
    ----------
    images, model, noise, axes, device
        As for `polish`.

    Returns
    -------
    PolishNeed

    Raises
    ------
    UserError
        As for `denoise`.

    Examples
    --------
    >>> from napari_noise2score import train
    >>> noisy = np.random.default_rng(0).normal(100, 10, (64, 64))
    >>> measure_polish_need(noisy, train(noisy, steps=2), "gaussian(sigma=10)").pays
    True
    """
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    # pooling hides what a pixel does not say, but does not restore it
    alone = replace(model, score_errors=())
    jobs = [
        prepare(image, alone, noise, device=device, compare=False)
        for image in as_images(images, axes)
    ]
    crops = read_crops(jobs, np.random.default_rng(0), MAX_PIXELS_MEASURED)
    clean = [denoised_crop(crop) for crop in crops]
    squares = variances = 0.0
    for x, shift in zip(clean, bias_of(clean, crops), strict=True):
        counted = ~np.ma.getmaskarray(x)
        squares += float((shift**2)[counted].sum())
        variances += float(variance_at(x, jobs[0].noise)[counted].sum())
    left = noise_left_in(clean, jobs[0].noise)
    return PolishNeed(left, squares / variances, is_broad(jobs[0].noise))


def is_broad(noise: NoiseModel) -> bool:
    """Return whether noise is correlated and the image is not, in one channel or in all."""
    models = noise.models if isinstance(noise, PerChannel) else (noise,)
    kernels = [own.components.kernel for own in models]
    return any(kernel is not None and kernel.of_noise for kernel in kernels)
