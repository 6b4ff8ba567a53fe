"""The variance by intensity, measured in images and predicted by a noise model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..noise.base import NoiseModel
from ._dct_power import variance_with_read_noise
from ._frames import dct_power_of, prepare_frames
from ._from_images import ImageEstimate

LINE_POINTS = 100


@dataclass(frozen=True)
class VarianceCurve:
    """The variance of pixels by intensity, measured and predicted by a noise model.

    Attributes
    ----------
    mean, variance, error : ndarray
        Measured mean and variance of y, and standard error of the variance, in grey levels and
        squared grey levels, shape ``(bins,)``.
    model_variance : ndarray
        The variance that the model predicts in the same bins.
    line_mean, line_variance : ndarray
        The curve of the model for plots, shape ``(100,)`` or shorter.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    error: NDArray[np.float64]
    model_variance: NDArray[np.float64]
    line_mean: NDArray[np.float64]
    line_variance: NDArray[np.float64]

    @property
    def explained(self) -> float:
        """The share of the noise that the model explains, 0 to 1.

        The smaller of the two variances over the larger one, averaged over the bins.
        """
        low = np.minimum(self.variance, self.model_variance)
        high = np.maximum(self.variance, self.model_variance)
        return float(np.mean(low / high))

    @property
    def strength(self) -> float:
        """The measured standard deviation of the noise divided by the predicted one."""
        return _median_ratio(self.variance, self.model_variance)

    def strengths(self) -> tuple[float, float]:
        """Return `strength` for the darker and for the brighter half of the bins."""
        half = (len(self.mean) + 1) // 2
        dark, bright = slice(None, half), slice(-half, None)
        return (
            _median_ratio(self.variance[dark], self.model_variance[dark]),
            _median_ratio(self.variance[bright], self.model_variance[bright]),
        )

    def with_noise(self, noise: NoiseModel) -> VarianceCurve:
        """Return the same measurements beside the variance that another model predicts.

        The correlation of the model must be that of the model the variance was measured with.
        """
        return replace(
            self,
            model_variance=variance_at(noise, self.mean),
            line_variance=variance_at(noise, self.line_mean),
        )


def compare_variance(found: ImageEstimate, noise: NoiseModel) -> VarianceCurve:
    """Compare the variance by intensity of images with that of a noise model.

    Parameters
    ----------
    found : ImageEstimate
        The estimate from the images.
    noise : NoiseModel
        The model.

    Returns
    -------
    VarianceCurve

    Examples
    --------
    >>> from napari_noise2score.noise import Poisson
    >>> from napari_noise2score.estimation._from_images import estimate_from_frames
    >>> scene = np.kron(np.random.default_rng(0).uniform(20, 200, (8, 8)), np.ones((32, 32)))
    >>> rng = np.random.default_rng(1)
    >>> found = estimate_from_frames([np.stack([Poisson(4).sample(scene, rng) for _ in range(4)])])
    >>> [round(compare_variance(found, Poisson(gain)).explained, 1) for gain in (2, 4, 8)]
    [0.5, 1.0, 0.5]
    """
    moments, kernel = found.moments, found.noise.components.kernel
    # with a kernel, these are the moments of A⁻¹ y
    total, power = (kernel.total, kernel.power) if kernel else (1.0, 1.0)
    total = 1.0 if kernel and kernel.of_noise else total
    mean = moments.mean * total
    line = _line(mean, noise)
    return VarianceCurve(
        mean,
        moments.variance * power,
        moments.variance_error * power,
        moments.over(lambda m: variance_at(noise, m * total)),
        line,
        variance_at(noise, line),
    )


def compare_variance_with_read_noise(
    scenes: Sequence[NDArray[Any]], noise: NoiseModel
) -> VarianceCurve:
    """Compare the variance of correlated noise plus white read noise with that of a model.

    Parameters
    ----------
    scenes : sequence of ndarray
        Repeats of each scene in grey levels, shape ``(repeats, Y, X)``.
    noise : NoiseModel
        The model of both.

    Returns
    -------
    VarianceCurve
        The variance is fitted to the DCT power, given the correlation of the model.

    Raises
    ------
    UserError
        If the noise cannot be measured.
    """
    kernel = noise.components.kernel
    assert kernel is not None
    power = dct_power_of(prepare_frames(scenes))
    variance, error = variance_with_read_noise(power, kernel)
    line = _line(power.mean, noise)
    predicted, drawn = variance_at(noise, power.mean), variance_at(noise, line)
    return VarianceCurve(power.mean, variance, error, predicted, line, drawn)


def variance_at(noise: NoiseModel, mean: NDArray[Any]) -> NDArray[np.float64]:
    """Return the variance that a model predicts for y at a given mean of y."""
    x = noise.clean_from_mean(torch.from_numpy(np.asarray(mean, dtype=np.float64)))
    variance: NDArray[np.float64] = noise.variance(x.clamp(min=noise.lowest)).numpy()
    return variance


def _line(mean: NDArray[np.float64], noise: NoiseModel) -> NDArray[np.float64]:
    """Return the intensities at which the curve of a model is drawn."""
    line = np.linspace(min(0.0, mean.min()), 1.05 * mean.max(), LINE_POINTS)
    return line[line >= noise.offset] if noise.offset < mean.min() else line


def _median_ratio(variance: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Return the median ratio of standard deviations."""
    # a model may predict no noise at all where there is no signal
    bounded = np.maximum(predicted, 1e-6 * variance)
    return float(np.exp(np.median(np.log(variance / bounded)) / 2))
