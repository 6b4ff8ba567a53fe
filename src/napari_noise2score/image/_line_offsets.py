"""Estimate the random offset of each row of a plane, so that it can be removed."""

from __future__ import annotations

import numpy as np
import scipy  # its submodules are imported when they are used
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ACTIVITY_WINDOW = (5, 9)  # rows and columns over which the activity of the image is averaged
BLOCKS_OF_COLUMNS = 8  # whose disagreement shows how precisely a difference of rows is known
RESIDUAL_SMOOTHING = 3.0  # rows
REWEIGHTINGS = 3
SMALLEST_ACTIVITY = 1e-3  # of the median; constant regions would weigh infinitely


def line_offsets(plane: Floats, sigma: float) -> Floats:
    """Return the most likely offset of each row of a plane.

    Parameters
    ----------
    plane : ndarray
        Grey levels, shape ``(Y, X)``, NaN where a pixel is not valid. Give the transpose for the
        offsets of columns.
    sigma : float
        Standard deviation of the offsets, in grey levels, above 0.

    Returns
    -------
    ndarray
        float64, shape ``(Y,)``.

    Notes
    -----
    The maximum of the posterior of b, with the prior ``b ~ N(0, σ²)``, for the differences
    ``d[r] = b[r + 1] − b[r] + e[r]`` of successive rows, see `row_differences`. The variance of e
    is that of d by itself and, because the image may change from row to row, the smoothed square
    of what the offsets leave of d.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> offsets = rng.normal(0, 4, (64, 1))
    >>> found = line_offsets(rng.normal(100, 5, (64, 256)) + offsets, 4)
    >>> float(np.std(found - offsets[:, 0])) < 1
    True
    """
    rows = len(plane)
    if rows < 2:
        return np.zeros(rows)
    difference, variance = row_differences(plane)
    found = _most_likely(difference, variance, sigma)
    for _ in range(REWEIGHTINGS):
        left = difference - np.diff(found)
        found = _most_likely(
            difference,
            variance + scipy.ndimage.gaussian_filter1d(left**2, RESIDUAL_SMOOTHING),
            sigma,
        )
    return found


def row_differences(plane: Floats) -> tuple[Floats, Floats]:
    """Return by how much each row is above the one before, and the variance of that.

    Pixels weigh by the inverse of the activity around them, so that structure and bright, noisier
    regions count little.

    Parameters
    ----------
    plane : ndarray
        Grey levels, shape ``(Y, X)``, NaN where a pixel is not valid.

    Returns
    -------
    difference, variance : ndarray
        float64, shape ``(Y - 1,)``. Where no pixel of two rows is valid, 0 and a variance that
        gives it no weight.

    Examples
    --------
    >>> row_differences(np.array([[1.0, 1, 1, 1], [3, 3, 3, 3]]))[0]
    array([2.])
    """
    differences = np.diff(plane, axis=0)
    known = np.isfinite(differences)
    differences = np.where(known, differences, 0)
    rows = zip(differences, known, strict=True)
    middle = np.array([np.median(row[ok]) if ok.any() else 0 for row, ok in rows])
    squares = np.where(known, (differences - middle[:, None]) ** 2, 0)
    share = scipy.ndimage.uniform_filter(known.astype(np.float64), ACTIVITY_WINDOW)
    activity = scipy.ndimage.uniform_filter(squares, ACTIVITY_WINDOW) / np.maximum(
        share, 1 / squares.size
    )
    usual = np.median(activity[known]) if known.any() else 0.0
    if not usual:
        # most pixels are the same in both rows: there is no noise to weigh them by
        activity, usual = np.ones_like(activity), 1.0
    weight = np.where(known, 1 / np.maximum(activity, SMALLEST_ACTIVITY * usual), 0)
    total = np.maximum(weight.sum(axis=1), np.finfo(float).tiny)
    difference: Floats = (weight * differences).sum(axis=1) / total
    pulls = weight * (differences - difference[:, None])
    blocks = np.array_split(pulls, BLOCKS_OF_COLUMNS, axis=1)
    variance: Floats = sum((block.sum(axis=1) / total) ** 2 for block in blocks)
    # the blocks of one row say little of its variance: the median of all rows is averaged in
    seen = known.any(axis=1)
    usual = np.median(variance[seen]) if seen.any() else 1.0
    variance = np.where(seen, (variance + usual) / 2, np.inf)
    return difference, variance


def _most_likely(difference: Floats, variance: Floats, sigma: float) -> Floats:
    """Return the offsets of greatest posterior probability for differences with their variance."""
    # a weight far above that of the prior is as good as certainty, and keeps the matrix regular
    weight = 1 / np.maximum(variance, 1e-9 * sigma**2)
    bands = np.zeros((2, len(difference) + 1))  # of the symmetric matrix, the diagonal last
    bands[1] = 1 / sigma**2
    bands[1, 1:] += weight
    bands[1, :-1] += weight
    bands[0, 1:] = -weight
    right = np.zeros(bands.shape[1])
    right[1:] += weight * difference
    right[:-1] -= weight * difference
    found: Floats = scipy.linalg.solveh_banded(bands, right)
    return found
