"""Fit strength and read noise of a noise model whose family, offset and correlation are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UserError
from ..noise.base import NoiseModel
from ..noise.parameter import round_to_four_digits
from ._dct_power import USED_BAND, fit_dct_power, kernel_dct_power
from ._fit import errors_of
from ._frames import (
    PreparedFrames,
    dct_power_of,
    moments_of,
    prepare_frames,
    still_pixels,
    valid_sample,
)
from ._noise_variance import with_floor
from ._robust_fit import MAX_RESIDUAL
from ._units import arithmetic_as_user_error, in_units, unit_of

# The variance of some families is not quite proportional to the factor: it is fitted again until it
# changes by no more than this.
MAX_CHANGE, MAX_ITERATIONS = 1e-3, 30
# Number of times the weights of the bins are computed.
WEIGHT_ITERATIONS = 20

Fit = Callable[[NoiseModel], tuple[float, float]]


def refine_from_frames(scenes: Sequence[NDArray[Any]], noise: NoiseModel) -> NoiseModel:
    """Estimate the strength of a noise and its read noise, and keep everything else.

    Parameters
    ----------
    scenes : sequence of ndarray
        Repeats of each scene in grey levels, shape ``(repeats, Y, X)``; one of each is enough.
    noise : NoiseModel
        Its family, offset and correlation are kept, also how its variance grows with the
        intensity, and whether there is read noise.

    Returns
    -------
    NoiseModel

    Raises
    ------
    UserError
        If the noise cannot be measured, or is nothing like this one.

    Notes
    -----
    For white noise, strength and read noise are fitted to the variance by intensity of
    `moments_of`. For correlated noise they are fitted to the DCT power of patches: read noise has
    the same power at all frequencies, the power of the other noise follows from its correlation,
    and the power of image structure is measured in patches with more of it.

    Examples
    --------
    >>> from napari_noise2score.noise import A, Gaussian, Poisson
    >>> scene = np.kron(np.random.default_rng(0).uniform(20, 200, (8, 8)), np.ones((32, 32)))
    >>> noisy = (Poisson(5) @ A + Gaussian(10)).sample(scene, np.random.default_rng(1))
    >>> found = refine_from_frames([noisy[None]], Poisson(8) @ A + Gaussian(6))
    >>> round(found.base.base.gain), round(found.read.sigma)
    (5, 10)
    """
    base, kernel, read = noise.components
    if read and kernel is None and base.constant_variance:
        raise UserError(f"'{noise}': both are the same noise; write one gaussian(sigma=…)")
    with arithmetic_as_user_error():
        unit = unit_of(valid_sample(scenes))
        if unit == 1:
            return _refined(scenes, noise)
        scenes = [in_units(frames, unit) for frames in scenes]
        return _refined(scenes, noise.in_unit(1 / unit)).in_unit(unit)


def _refined(scenes: Sequence[NDArray[Any]], noise: NoiseModel) -> NoiseModel:
    base: NoiseModel
    base, kernel, _ = noise.components
    prepared = prepare_frames(scenes)
    fit = (_fit_to_variance if kernel is None else _fit_to_dct_power)(prepared, noise)
    for _ in range(MAX_ITERATIONS):
        factor, square = fit(base)
        if factor <= 0:
            raise UserError(f"the noise of the images is nothing like '{noise}': estimate it")
        base = base.scaled(factor)
        if abs(factor - 1) < MAX_CHANGE:
            break
    refined: NoiseModel = base if kernel is None else base @ kernel
    return refined.with_read_noise(round_to_four_digits(square**0.5)) if square > 0 else refined


def _fit_to_variance(prepared: PreparedFrames, noise: NoiseModel) -> Fit:
    """Fit the factor of a base and the squared read noise to variances by intensity."""
    still = still_pixels(prepared, None)
    moments = moments_of(prepared, None, still)
    seen = moments.variance
    error, _ = errors_of(moments, not prepared.repeated, still is not None)

    def fit(base: NoiseModel) -> tuple[float, float]:
        columns = [moments.over(lambda mean: _variance(base, mean))]
        if noise.components.read_noise:
            columns.append(np.ones_like(seen))
        matrix = np.stack(columns, axis=1)
        # start with relative errors: dark bins with almost no noise would have all the weight
        weight = 1 / with_floor(seen)
        for _ in range(WEIGHT_ITERATIONS):
            found = np.linalg.lstsq(matrix * weight[:, None], seen * weight, rcond=None)[0]
            deviation = (seen - matrix @ found) / error
            limit = MAX_RESIDUAL * np.where((deviation < 0) & (not prepared.repeated), 2, 1)
            weight = 1 / (error * (1 + (deviation / limit) ** 2))
        return float(found[0]), float(found[1]) if len(found) > 1 else 0.0

    return fit


def _fit_to_dct_power(prepared: PreparedFrames, noise: NoiseModel) -> Fit:
    """Fit the factor of a base and the squared read noise to the DCT power."""
    kernel = noise.components.kernel
    assert kernel is not None
    power = dct_power_of(prepared)
    # a correlation of noise that is not additive also blurs the picture
    mean = power.mean if noise.additive else power.mean / kernel.total
    white = kernel_dct_power(kernel)[USED_BAND]

    def fit(base: NoiseModel) -> tuple[float, float]:
        columns = [_variance(base, mean)[:, None] * white]
        if noise.components.read_noise:
            columns.append(np.ones_like(power.noise))
        found, _ = fit_dct_power(power, np.stack(columns, axis=-1))
        return float(found[0]), float(found[1]) if len(found) > 1 else 0.0

    return fit


def _variance(base: NoiseModel, mean: NDArray[Any]) -> NDArray[np.float64]:
    """Return the variance of y at a given mean of y."""
    x = base.clean_from_mean(torch.from_numpy(np.asarray(mean, dtype=np.float64)))
    variance: NDArray[np.float64] = base.variance(x.clamp(min=base.lowest)).numpy()
    return variance
