"""The autocorrelation of noise: how much of it neighbouring pixels share."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..noise.binning import bin_numbers
from ..noise.kernel import (
    Kernel,
    autocorrelation,
    kernel_from_autocorrelation,
    noise_kernel_from_autocorrelation,
)
from ._dct import FREQUENCY, PATCH_SIZE, SORTING_BAND, dct_power
from ._dct_power import (
    MAX_PATCHES_OF_POWER,
    POWER_FIT_ITERATIONS,
    USED_BAND,
    patch_dct_power,
    separate_pictures,
)
from ._flatness import FLAT_SHARE, flattest, slope_of, smooth
from ._frames import MAX_DEVIATION, TOO_LITTLE_DATA, deviation_by_intensity
from ._moments import BINS, MIN_PER_BIN

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

# The smallest correlation that single frames distinguish from that of a picture.
MIN_OF_FRAMES = 0.2
#: Noise counts as correlated above this correlation of neighbouring pixels, by whether repeats were
#: compared; in single frames, neighbouring pixels also share some of the picture.
MIN_CORRELATION = {True: 0.1, False: MIN_OF_FRAMES}
#: Noise of neighbouring pixels that is more alike than this cannot be measured, in repeats and in
#: single frames.
MAX_CORRELATION = {True: 0.95, False: 0.75}
#: The least of the spectrum of a kernel, relative to its largest, that is undone; otherwise only
#: the noise is taken for correlated.
MIN_CONDITION_TO_UNDO = 0.1
#: Largest distance, in pixels, between compared pixels of repeats and of single frames.
REACH, REACH_OF_FRAMES = 4, 2
#: Standard deviation, in pixels, of the Gaussian filter whose result, the local mean, is subtracted
#: to remove slow drift and remaining structure.
LOCAL_MEAN_SIGMA = 3.0
# Ends of the groups of patches sorted by structure, as shares of all patches. The first two groups
# represent the noise, or only the first if more than this share of their power is structure. The
# next four, minus these, give the power of structure; the steepest patches differ too much from the
# flattest ones.
GROUP_ENDS_OF_CORRELATION = 0.02, 0.05, 0.1, 0.2, 0.4, 0.7
PICTURE_GROUPS, MAX_PICTURE_SHARE = 4, 0.1
# Relative error of the power of the flattest patches.
CALM_POWER_ERROR = 0.01
# Bins of intensity with less than this share of the largest variance are taken for noiseless.
MIN_VARIANCE_SHARE = 1e-3
# The frequencies by which the power of patches is normalized: neither coarse nor fine.
NORMALIZING_BAND = (FREQUENCY > 4) & (FREQUENCY < 9)


def measure_correlation(
    frames: Sequence[Floats],
    noises: Sequence[Floats],
    invalid: Sequence[NDArray[Any]] = (),
    *,
    with_kernel: bool = True,
    flat_share: float = FLAT_SHARE,
) -> tuple[float, Kernel | None]:
    """Measure the correlation of the noise of neighbouring pixels, and its kernel.

    Parameters
    ----------
    frames : sequence of ndarray
        Noisy planes in grey levels, each ``(Y, X)``.
    noises : sequence of ndarray
        Differences of the repeats that make each frame; none for single frames.
    invalid : sequence of ndarray
        Infinite where a pixel is not valid, else 0.
    with_kernel : bool
        Whether to compute the kernel.
    flat_share : float
        Share of the pixels that is used: those where the frames are flattest.

    Returns
    -------
    correlation : float
        The largest one, with its sign.
    kernel : Kernel or None
        Of the noise, if it is correlated.

    Raises
    ------
    UserError
        If there is too little noise, or neighbouring pixels have nearly the same.
    """
    repeated = bool(noises)
    if repeated:
        shared = _correlations_of_repeats(frames, noises, invalid, flat_share)
    else:
        try:
            shared = correlations_of_frames(frames, invalid)
        except ValueError:
            raise UserError(TOO_LITTLE_DATA) from None
    reach = len(shared) // 2
    others = shared.copy()
    others[reach, reach] = 0
    largest = float(others.flat[np.abs(others).argmax()])
    if not with_kernel or abs(largest) <= MIN_CORRELATION[repeated]:
        return largest, None
    with contextlib.suppress(UserError):
        kernel = kernel_from_autocorrelation(shared, kernel_size(shared, repeated))
        if kernel.condition >= MIN_CONDITION_TO_UNDO:
            return largest, kernel
    if abs(largest) > MAX_CORRELATION[repeated]:
        raise UserError(
            f"the noise of neighbouring pixels is nearly the same (correlation {largest:.2f}): the "
            "images were filtered, compressed or resampled, and the noise of their pixels cannot "
            "be measured; use the raw data"
        )
    # an image that was blurred so much would become all noise if that were undone
    return largest, noise_kernel_from_autocorrelation(shared, reach + 1)


def kernel_size(shared: Floats, repeated: bool) -> int:
    """Return the number of rows and columns of a kernel for noise with these correlations.

    The autocorrelation A Aᵀ of a kernel A reaches twice as far as the kernel.
    """
    reach = len(shared) // 2
    correlated = np.argwhere(np.abs(shared) > MIN_CORRELATION[repeated] / 2) - reach
    return 2 * max(1, -(-int(np.abs(correlated).max()) // 2)) + 1


def _correlations_of_repeats(
    frames: Sequence[Floats],
    noises: Sequence[Floats],
    invalid: Sequence[NDArray[Any]],
    flat_share: float,
) -> NDArray[np.float64]:
    """Return the correlation of the differences of repeats by distance, where frames are flat."""
    residuals, masks = [], []
    for frame, noise, out in zip(frames, noises, invalid, strict=True):
        intensity = smooth(frame, LOCAL_MEAN_SIGMA)
        valid = ~np.isposinf(out)
        if not valid.any():
            continue
        deviation = np.ones(intensity.shape)
        deviation[valid] = deviation_by_intensity(intensity[valid], noise[valid])
        if not deviation.max() > 0:
            continue
        whole = (np.abs(noise) <= MAX_DEVIATION * deviation) & valid
        residual = np.where(whole, noise / deviation, 0)
        residuals.append(residual - smooth(residual, LOCAL_MEAN_SIGMA))
        masks.append(flattest(slope_of(frame) / deviation, valid, flat_share) & whole)
    if not residuals:
        raise UserError("the repeats differ by no noise: there is nothing to estimate")
    return restore_local_mean(autocorrelation(residuals, masks, REACH))


def restore_local_mean(shared: Floats) -> NDArray[np.float64]:
    """Correct correlations of noise for the subtraction of its local mean.

    Parameters
    ----------
    shared : ndarray
        Correlations of n − G n by distance, where G is the Gaussian filter of the local mean.

    Returns
    -------
    ndarray
        Those of n, of the same shape, 1 in the middle.

    Notes
    -----
    The subtraction turns correlations R into (1 − G)² R = R − 2 G R + G² R: a linear system.
    """
    reach = len(shared) // 2
    grid = np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="ij")
    at = np.stack(grid, -1).reshape(-1, 2)
    squared = ((at[:, None] - at) ** 2).sum(-1)
    once, twice = (
        np.exp(-squared / (2 * variance)) / (2 * np.pi * variance)
        for variance in (LOCAL_MEAN_SIGMA**2, 2 * LOCAL_MEAN_SIGMA**2)
    )
    found = np.linalg.solve(np.eye(len(at)) + twice - 2 * once, shared.ravel())
    restored: NDArray[np.float64] = found.reshape(shared.shape) / found[len(found) // 2]
    return restored


def correlations_of_frames(
    frames: Sequence[Floats], invalid: Sequence[NDArray[Any]] = ()
) -> NDArray[np.float64]:
    """Estimate the correlation of the noise of single frames by distance.

    Parameters
    ----------
    frames : sequence of ndarray
        Single noisy planes in grey levels, each ``(Y, X)``.
    invalid : sequence of ndarray
        Infinite where a pixel is not valid, else 0.

    Returns
    -------
    ndarray
        Shape ``(5, 5)``, 1 in the middle, the same on opposite sides. All other values are 0 if
        neighbours seem to be anticorrelated, which happens if too much was subtracted for the
        picture.

    Raises
    ------
    ValueError
        If there are too few patches, or no noise.

    Notes
    -----
    The DCT power of the patches with the least structure is the sum of the power of the noise,
    which is linear in its correlations, and of the remaining structure. The spectrum of the
    structure is measured as the additional power of patches with more of it. A least-squares fit
    over the frequencies separates the two.

    Examples
    --------
    >>> from napari_noise2score.noise import A
    >>> rng = np.random.default_rng(0)
    >>> scene = np.kron(rng.uniform(20, 200, (8, 8)), np.ones((40, 40)))
    >>> noisy = scene + A.apply_to_image(20 * rng.standard_normal(scene.shape))
    >>> bool(abs(correlations_of_frames([noisy])[2, 3] - 0.48) < 0.03)
    True
    """
    reach = REACH_OF_FRAMES
    first, second, *others = power_by_structure(frames, invalid)
    lags = [(y, x) for y in range(reach + 1) for x in range(-reach, reach + 1) if y > 0 or x >= 0]
    sizes = np.diff(GROUP_ENDS_OF_CORRELATION, prepend=0)[:2] / GROUP_ENDS_OF_CORRELATION[1]
    calm = sizes[0] * first + sizes[1] * second
    shared, _ = _fit_correlations(calm, others, lags, 1)
    white = np.zeros_like(shared)
    white[reach, reach] = 1
    difference = shared - white
    largest = difference.flat[np.abs(difference).argmax()]
    if largest <= MIN_OF_FRAMES:
        return white if largest < -MIN_OF_FRAMES else shared
    # a second fit with weights is more accurate
    closer, picture = _fit_correlations(calm, others, lags, POWER_FIT_ITERATIONS)
    if picture > MAX_PICTURE_SHARE:
        closer, _ = _fit_correlations(first, [second, *others], lags, POWER_FIT_ITERATIONS)
    # correlations cannot exceed 1: if one does, too little noise is left
    return closer if np.abs(closer).max() <= 1 else shared


def _fit_correlations(
    calm: Floats,
    others: Sequence[Floats],
    lags: Sequence[tuple[int, int]],
    iterations: int,
) -> tuple[NDArray[np.float64], float]:
    """Return the correlation of the noise by distance, and the share of structure in the power."""
    reach = REACH_OF_FRAMES
    pictures = np.stack([other - calm for other in others[:PICTURE_GROUPS]], axis=1)
    noise = np.stack([_power_of_lag(y, x)[USED_BAND] for y, x in lags], axis=1)
    found, left, _ = separate_pictures(
        calm[USED_BAND], noise, pictures[USED_BAND], CALM_POWER_ERROR, iterations
    )
    shared = np.zeros((2 * reach + 1, 2 * reach + 1))
    for (y, x), value in zip(lags, found, strict=False):
        shared[reach + y, reach + x] = shared[reach - y, reach - x] = value / found[0]
    return shared, float(left.sum() / calm[USED_BAND].sum())


def power_by_structure(
    frames: Sequence[Floats],
    invalid: Sequence[NDArray[Any]],
    max_patches: int = MAX_PATCHES_OF_POWER,
) -> NDArray[np.float64]:
    """Return the DCT power of groups of patches of single frames, sorted by structure.

    Parameters
    ----------
    frames : sequence of ndarray
        Single noisy planes in grey levels, each ``(Y, X)``. Their noise is assumed to be the same.
    invalid : sequence of ndarray
        Infinite where a pixel is not valid, else 0.
    max_patches : int
        Total number of patches from all frames.

    Returns
    -------
    ndarray
        In units of the variance of the noise at the intensity of each patch, shape
        ``(groups, frequencies)``.

    Raises
    ------
    ValueError
        If there are too few patches, or no noise.
    """
    count = max_patches // len(frames)
    patches = [
        patch_dct_power(
            frame, frame, count, np.random.default_rng(0), invalid[i] if invalid else None
        )
        for i, frame in enumerate(frames)
    ]
    intensity, power = (np.concatenate(values) for values in zip(*patches, strict=True))
    if len(intensity) < MIN_PER_BIN:
        raise ValueError("too few patches to measure how their noise is correlated")
    numbers = bin_numbers(intensity, np.linspace(0, 1, BINS + 1), distinct=True)
    middle = power[:, NORMALIZING_BAND].mean(1)
    unit = np.array([np.quantile(middle[numbers == i], 0.3) for i in range(numbers.max() + 1)])
    if not np.any(unit > 0):
        raise ValueError("the flattest patches show no noise")
    # without noise there is nothing to compare: a background that was set to nearly 0, as by OSEM
    noisy = (unit > MIN_VARIANCE_SHARE * unit.max())[numbers]
    power, numbers = power[noisy], numbers[noisy]
    power /= unit[numbers, None]
    order = np.argsort(power[:, SORTING_BAND].mean(1))
    groups = np.split(order, [int(share * len(order)) for share in GROUP_ENDS_OF_CORRELATION])
    return np.stack([power[group].mean(0) for group in groups]).astype(np.float64)


def _power_of_lag(y: int, x: int) -> NDArray[np.float64]:
    """Return the DCT power of noise whose autocorrelation is 1 at one distance, 0 elsewhere."""
    row, column = np.divmod(np.arange(PATCH_SIZE**2), PATCH_SIZE)
    pairs = (row[:, None] - row == y) & (column[:, None] - column == x)
    return dct_power((pairs | pairs.T).astype(float))
