"""Measure the variance of noise whose correlation is known, from the DCT power of patches.

If the correlation of noise is known, its power at each frequency is known up to a factor. The power
of image structure at each frequency is measured in patches with more structure. A least-squares fit
separates the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from ..noise.binning import rank_bins
from ..noise.kernel import Kernel
from ._dct import DCT_BASIS, FREQUENCY, PATCH_SIZE, SORTING_BAND, dct_power
from ._moments import BINS, MIN_PER_BIN
from ._patches import random_patches

Floats = NDArray[np.floating[Any]]

#: Number of patches from all frames.
MAX_PATCHES_OF_POWER = 400_000
# Ends of the groups of patches of a bin, sorted by structure, as shares of its patches. The first
# group contains noise and little structure; the others, minus the first, give the power of
# structure.
GROUP_ENDS_OF_POWER = 0.1, 0.2, 0.35, 0.55, 0.8
# Relative errors of the power of structure, and of the measured power.
PICTURE_ERROR, POWER_ERROR = 0.1, 0.02
# Of the mean power; correlations of few pixels do not explain the least power of smooth noise.
MIN_POWER_SHARE = 0.1
#: Number of times the weights are computed.
POWER_FIT_ITERATIONS = 10
#: The frequencies that are used: some of the others sorted the patches, and the mean contains no
#: information on the noise.
USED_BAND = (FREQUENCY > 0) & ~SORTING_BAND


class DctPower(NamedTuple):
    """DCT power of patches, by intensity.

    Attributes
    ----------
    mean : ndarray
        Intensity in grey levels, shape ``(bins,)``.
    noise : ndarray
        Mean power in the patches with the least structure, in squared grey levels, shape
        ``(bins, frequencies)``.
    pictures : ndarray
        Additional power of patches with more structure, shape
        ``(bins, frequencies, groups)``; for differences of repeats there are no groups.
    """

    mean: NDArray[np.float64]
    noise: NDArray[np.float64]
    pictures: NDArray[np.float64]


def measure_dct_power(
    frames: Sequence[Floats],
    noises: Sequence[Floats] = (),
    invalid: Sequence[NDArray[Any]] = (),
) -> DctPower:
    """Measure the DCT power of patches by intensity.

    Parameters
    ----------
    frames : sequence of ndarray
        Noisy planes in grey levels, each ``(Y, X)``: single frames or means of some.
    noises : sequence of ndarray
        Differences of the repeats that make each frame.
    invalid : sequence of ndarray
        Infinite where a pixel is not valid, else 0.

    Returns
    -------
    DctPower

    Raises
    ------
    ValueError
        If there are too few patches.
    """
    rng, count = np.random.default_rng(0), MAX_PATCHES_OF_POWER // len(frames)
    patches = [
        patch_dct_power(frame, (noises or frames)[i], count, rng, invalid[i] if invalid else None)
        for i, frame in enumerate(frames)
    ]
    intensity, power = (np.concatenate(values) for values in zip(*patches, strict=True))
    if len(intensity) < MIN_PER_BIN * BINS:
        raise ValueError("too few patches to measure their noise")
    bins = rank_bins(intensity, [len(intensity) * i // BINS for i in range(BINS + 1)])
    mean = np.array([intensity[inside].mean() for inside in bins])
    if noises:
        calm = np.stack([power[inside].mean(0)[USED_BAND] for inside in bins])
        return DctPower(mean, calm.astype(np.float64), np.zeros((*calm.shape, 0)))
    rows = []
    for inside in bins:
        order = inside[np.argsort(power[inside][:, SORTING_BAND].mean(1))]
        ends = [0, *(int(share * len(order)) for share in GROUP_ENDS_OF_POWER)]
        rows.append([power[order[a:b]].mean(0)[USED_BAND] for a, b in pairwise(ends)])
    calm, *others = np.moveaxis(np.array(rows, dtype=np.float64), 1, 0)
    return DctPower(mean, calm, np.stack([other - calm for other in others], axis=-1))


def patch_dct_power(
    frame: Floats,
    noise: Floats,
    count: int,
    rng: np.random.Generator,
    invalid: NDArray[Any] | None = None,
) -> tuple[Floats, NDArray[np.float32]]:
    """Return the intensity and the DCT power of the noise in random patches of a frame.

    Parameters
    ----------
    frame, noise : ndarray
        A plane in grey levels, and the plane whose power is measured, which may be the same.
    count : int
        The largest number of patches.
    rng : numpy.random.Generator
        Chooses the patches.
    invalid : ndarray, optional
        Infinite where a pixel is not valid: patches that contain one are left out.

    Returns
    -------
    intensity, power : ndarray
        Shapes ``(patches,)`` and ``(patches, frequencies)``.
    """
    invalid = np.zeros(frame.shape, bool) if invalid is None else invalid
    patches = random_patches(frame, noise, noise, invalid, count, rng)
    return patches.intensity, (patches.skewed @ DCT_BASIS) ** 2


def fit_dct_power(
    power: DctPower, noise: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate the strengths of noise components with known power spectra by least squares.

    Parameters
    ----------
    power : DctPower
        The measured power.
    noise : ndarray
        Power of each noise where its factor is 1, shape ``(bins, frequencies, noises)``.

    Returns
    -------
    factor, error : ndarray
        Factor of each component and its standard error, shape ``(noises,)``.
    """
    count, frequencies, groups = power.pictures.shape
    # the structure is similar within one bin, but not necessarily in others
    pictures = np.zeros((count, frequencies, count * groups))
    for i in range(count):
        pictures[i, :, i * groups : (i + 1) * groups] = power.pictures[i]
    seen, noise, pictures = (
        values.reshape(count * frequencies, *values.shape[2:])
        for values in (power.noise, noise, pictures)
    )
    factor, _, error = separate_pictures(seen, noise, pictures, POWER_ERROR, POWER_FIT_ITERATIONS)
    columns = np.concatenate([noise, pictures], axis=1)
    covariance = np.linalg.pinv((columns.T / error**2) @ columns)
    return factor, np.sqrt(np.diag(covariance)[: len(factor)])


def separate_pictures(
    seen: Floats, noise: Floats, pictures: Floats, relative_error: float, iterations: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], Floats]:
    """Separate the power of noise from that of pictures by weighted least squares.

    Parameters
    ----------
    seen : ndarray
        Measured power at each frequency, shape ``(frequencies,)``.
    noise, pictures : ndarray
        Power of each noise of factor 1, and of each picture, shape ``(frequencies, any)``.
    relative_error : float
        Of the measured power.
    iterations : int
        Number of times the weights are computed: from the second time on, frequencies dominated by
        structure have less weight.

    Returns
    -------
    factor, left, error : ndarray
        Factor of each noise, shape ``(noises,)``; power of the pictures and error of the power at
        each frequency, shape ``(frequencies,)``.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the power is not positive, or not finite.
    """
    columns, count = np.concatenate([noise, pictures], axis=1), noise.shape[1]
    if not np.isfinite(columns).all() or not np.all(seen > 0):
        # LAPACK would print a message of its own
        raise np.linalg.LinAlgError("the power of patches is not a positive number")
    own = relative_error * np.maximum(seen, MIN_POWER_SHARE * seen.mean())
    error = own
    for _ in range(iterations):
        found = np.linalg.lstsq(columns / error[:, None], seen / error, rcond=None)[0]
        left = pictures @ found[count:]
        error = np.hypot(own, PICTURE_ERROR * left)
    return found[:count], left, error


def kernel_autocorrelation(kernel: Kernel | None, reach: int) -> NDArray[np.float64]:
    """Return the mean product of pixels of white noise of variance 1 convolved with a kernel.

    Parameters
    ----------
    kernel : Kernel or None
        None for white noise.
    reach : int
        Largest distance in pixels.

    Returns
    -------
    ndarray
        By distance, shape ``(2 reach + 1, 2 reach + 1)``, that of the pixel itself in the middle.

    Examples
    --------
    >>> kernel_autocorrelation(Kernel([[0.2, 0.6, 0.2]]), 1).round(2).tolist()[1]
    [0.24, 0.44, 0.24]
    """
    taps = np.array(kernel.taps if kernel else [[1.0]])
    products = np.pad(signal.correlate2d(taps, taps), reach)
    row, column = (n // 2 for n in products.shape)
    near: NDArray[np.float64] = products[
        row - reach : row + reach + 1, column - reach : column + reach + 1
    ]
    return near


def kernel_dct_power(kernel: Kernel) -> NDArray[np.float64]:
    """Return the DCT power of white noise of variance 1 after a kernel, ``(frequencies,)``."""
    row, column = np.divmod(np.arange(PATCH_SIZE**2), PATCH_SIZE)
    reach = PATCH_SIZE - 1
    products = kernel_autocorrelation(kernel, reach)
    covariance = products[row[:, None] - row + reach, column[:, None] - column + reach]
    return dct_power(covariance)


def variance_with_read_noise(
    power: DctPower, kernel: Kernel
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the variance by intensity of correlated noise plus white read noise.

    Parameters
    ----------
    power : DctPower
        The measured power.
    kernel : Kernel
        The correlation of the noise, except the read noise.

    Returns
    -------
    variance, error : ndarray
        In squared grey levels, shape ``(bins,)``.
    """
    bins = np.arange(len(power.mean))
    noise = np.zeros((*power.noise.shape, len(bins) + 1))
    noise[bins, :, bins] = kernel_dct_power(kernel)[USED_BAND]
    noise[..., -1] = 1
    factor, error = fit_dct_power(power, noise)
    variance = np.maximum(factor[:-1], 0) * kernel.power + max(factor[-1], 0.0)
    return variance, np.hypot(error[:-1] * kernel.power, error[-1])
