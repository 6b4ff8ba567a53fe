"""Measure the noise of repeats of a static scene, pixel by pixel.

Such repeats differ only by noise. The noise of each pixel is measured on its own and need not be
separated from the picture, so all the information in the repeats is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..noise.binning import Indices, bin_numbers, merge_close_bins, rank_bins
from ._dct import PATCH_SIZE
from ._moments import BIN_QUANTILES, MIN_PER_BIN, Moments
from ._patches import MAX_CLIPPED_SHARE

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

# White noise has as much power in the mean of a square cell as in its pixels. Motion is detected
# where the mean has more by this share and this number of standard errors.
MOTION_CELL = 4
MAX_EXCESS_POWER, MIN_ERRORS = 0.03, 3.5
# Variance of the squared mean of a cell: 2 for Gaussian noise of constant variance, more for other
# noise.
SQUARE_VARIANCE = 3.0
MOTION_BINS = 12
# The distance of bins, in standard deviations of the noise of the intensity that sorts the pixels.
MIN_PIXEL_BIN_DISTANCE = 3.0
MAX_PIXELS_OF_REPEATS = 4_000_000


def is_still(scenes: Sequence[Floats], usable: Sequence[Mask]) -> bool:
    """Return whether the repeats of scenes differ by white noise alone.

    Parameters
    ----------
    scenes : sequence of ndarray
        Repeats of each scene in grey levels, shape ``(repeats, Y, X)``.
    usable : sequence of ndarray
        The pixels to be used, bool, shape ``(Y, X)``.

    Returns
    -------
    bool
        False if anything moves, drifts or bleaches, or if a scene has fewer than three repeats,
        which do not determine a third moment.
    """
    return all(
        len(frames) > 2 and not any(_moves(frames, row, use) for row in contrasts(len(frames)))
        for frames, use in zip(scenes, usable, strict=True)
    )


def contrasts(count: int) -> NDArray[np.float64]:
    """Return orthonormal polynomials of the index of a repeat, shape ``(count - 1, count)``.

    Steady drift and bleaching appear only in the first; an average over all would hide them.
    """
    basis: NDArray[np.float64] = np.linalg.qr(np.vander(np.arange(count), increasing=True))[0]
    return basis.T[1:]


def _moves(frames: Floats, contrast: Floats, usable: Mask) -> bool:
    """Return whether a contrast of repeats has more power in coarse than in fine structure."""
    height, width = (n // MOTION_CELL * MOTION_CELL for n in frames.shape[-2:])

    def cells(plane: NDArray[Any]) -> NDArray[Any]:
        squares = plane[:height, :width].reshape(
            height // MOTION_CELL, MOTION_CELL, width // MOTION_CELL, MOTION_CELL
        )
        return squares.swapaxes(1, 2).reshape(-1, MOTION_CELL**2)

    whole = cells(usable).all(1)
    if not whole.any():
        return True
    noise = cells(np.tensordot(contrast, frames, 1))[whole]
    intensity = cells(frames.mean(0))[whole].mean(1)
    coarse = MOTION_CELL**2 * noise.mean(1) ** 2
    fine = noise.var(1, ddof=1)
    numbers = bin_numbers(intensity, np.linspace(0, 1, MOTION_BINS + 1))
    # only a few bright spots may move, so every bin is also tested separately
    bins = (numbers == i for i in range(MOTION_BINS))
    for inside in (np.full(len(intensity), True), *bins):
        if inside.any() and (variance := float(fine[inside].mean())) > 0:
            excess = float(coarse[inside].mean()) / variance - 1
            if excess > MAX_EXCESS_POWER + MIN_ERRORS * np.sqrt(SQUARE_VARIANCE / inside.sum()):
                return True
    return False


def measure_repeats(scenes: Sequence[Floats], usable: Sequence[Mask]) -> Moments:
    """Measure the moments of the noise of repeats of still scenes by intensity.

    Parameters
    ----------
    scenes : sequence of ndarray
        At least three repeats of each scene in grey levels, shape ``(repeats, Y, X)``, which
        differ by white noise alone.
    usable : sequence of ndarray
        The pixels to be used, bool, shape ``(Y, X)``.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If there are too few pixels, or no noise.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scene = np.kron(rng.uniform(20, 200, (6, 6)), np.ones((40, 40)))
    >>> repeats = 5.0 * rng.poisson(scene / 5, (4, 240, 240))
    >>> found = measure_repeats([repeats], [np.full(scene.shape, True)])
    >>> gain = found.variance / found.mean
    >>> bool(abs(np.median(gain) - 5) < 0.1)
    True
    """
    every = max(1, sum(int(use.sum()) for use in usable) // MAX_PIXELS_OF_REPEATS)
    columns = []
    for frames, use in zip(scenes, usable, strict=True):
        count = len(frames)
        mean = frames.mean(0)
        at = np.flatnonzero(use)[::every]
        noise = frames.reshape(count, -1)[:, at] - mean.ravel()[at]
        square, cube = k_statistics(noise)
        # use the intensity of the neighbours: sorted by their own noise, bright pixels would seem
        # noisy
        intensity = _neighbour_mean(mean).ravel()[at]
        columns.append(np.stack([intensity, mean.ravel()[at], square, cube, square / count]))
    intensity, mean, square, cube, mean_square = np.concatenate(columns, axis=1)
    bounds = np.unique((np.array(BIN_QUANTILES) * len(intensity)).astype(int))
    bins = [b for b in rank_bins(intensity, bounds, "stable") if len(b) >= MIN_PER_BIN]
    if not bins:
        raise ValueError("too few pixels to measure their noise")
    rows = []

    def min_distance(inside: Indices) -> float:
        return MIN_PIXEL_BIN_DISTANCE * math.sqrt(mean_square[inside].mean() / 8)

    for inside in merge_close_bins(bins, intensity, min_distance):
        m, v, third = (values[inside].mean() for values in (mean, square, cube))
        errors = [values[inside].std() / np.sqrt(len(inside)) for values in (square, cube)]
        spread = np.sqrt(max(mean[inside].var() - mean_square[inside].mean(), 0.0))
        rows.append((m, v, third, *errors, spread))
    found = np.array(rows).T
    found = found[:, found[1] > 0]
    if not found.size:
        raise ValueError("the repeats show no noise")
    return Moments(*found)


def k_statistics(noise: Floats) -> tuple[Floats, Floats]:
    """Return the unbiased variance and third moment of repeats after subtracting their mean.

    Parameters
    ----------
    noise : ndarray
        Shape ``(repeats, ...)``.

    Returns
    -------
    variance, third : ndarray
        Shape ``(...)``.
    """
    count = len(noise)
    square = (noise**2).sum(0) / (count - 1)
    return square, count * (noise**3).sum(0) / ((count - 1) * (count - 2))


def usable_pixels(clipped: Mask) -> Mask:
    """Return which pixels have few clipped ones around them, shape ``(Y, X)``."""
    share = ndimage.uniform_filter(clipped.astype(float), PATCH_SIZE, mode="mirror")
    usable: Mask = share <= MAX_CLIPPED_SHARE
    return usable


def _neighbour_mean(plane: Floats) -> Floats:
    """Return the mean of the eight neighbours of each pixel, mirrored at the edges.

    Counts of photons give many equal means, which are sorted by their rounding errors: another
    order of summation, as that of `scipy.ndimage`, would give other bins.
    """
    wide = np.pad(plane, 1, mode="reflect")
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] - plane) / 8
