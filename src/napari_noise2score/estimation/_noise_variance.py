"""Separate the variance of noise in bins of intensity from the picture by its DCT power.

White noise has the same power at every frequency of a patch. A picture has most of its power at low
frequencies, and patches with more power there also have more at high frequencies. This relation is
measured in groups of patches of similar intensity, sorted by structure; extrapolated to no
structure, it gives the variance of the noise alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from ..noise.binning import Indices
from ._dct import DCT_BASIS, FREQUENCY, PATCH_SIZE, SORTING_BAND

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

#: Low frequencies, and the half of them that does not sort patches.
LOW_BAND = (FREQUENCY > 0) & (FREQUENCY <= 4)
STRUCTURE_BAND = LOW_BAND & ~SORTING_BAND
#: Ends of the groups of patches of a bin, by structure, as shares of its patches.
GROUP_ENDS_OF_VARIANCE = 0.06, 0.12, 0.2, 0.3, 0.45, 0.6, 0.8
# Prior of the ratio of the power of structure at high frequencies to that at low ones, mean and
# standard deviation: about 0.1 in photographs, almost 0 in images blurred by a microscope.
EXPECTED_SHARE, SHARE_DEVIATION = 0.1, 0.2
MIN_SHARE, MAX_SHARE = 0.003, 0.4
# Relative error of the assumption that this ratio is the same in all regions of an image.
SHARE_ERROR_BETWEEN_GROUPS = 0.5
LINE_FIT_ITERATIONS = 8
# The noise has at least this share of the smallest power of any group.
MIN_NOISE_SHARE = 0.2
# The curvature of the variance is not measured from fewer bins.
MIN_BINS_FOR_CURVATURE = 4
# Lower bounds: of the parabola, as a share of the variance that it is fitted to; of the variance
# anywhere, as a share of that at either end; and of the weights, as a share of the median variance.
MIN_PARABOLA, MIN_END_SHARE, MIN_VARIANCE_SHARE = 0.5, 0.02, 0.05
# The quantile of the power of patches from which the iteration starts.
START_QUANTILE = 0.3


def band_powers(
    patches: Floats, high_bands: Sequence[Mask], power: Floats | None = None
) -> list[NDArray[np.float64]]:
    """Return the mean power of each patch in the sorting, structure and high bands.

    Parameters
    ----------
    patches : ndarray
        Shape ``(patches, pixels)``.
    high_bands : sequence of ndarray
        Sets of high frequencies, bool, shape ``(frequencies,)``.
    power : ndarray, optional
        Power of noise of variance 1 at each frequency, by which that of the patches is divided.

    Returns
    -------
    list of ndarray
        In squared grey levels, each of shape ``(patches,)``.
    """
    bands = [SORTING_BAND, STRUCTURE_BAND, *high_bands]
    weights = np.stack([band / band.sum() for band in bands], axis=1).astype(np.float32)
    if power is not None:
        weights /= power[:, None].astype(np.float32)
    # in pieces, because the coefficients of all patches at once would take too much memory
    pieces = [(piece @ DCT_BASIS) ** 2 @ weights for piece in np.array_split(patches, 16)]
    return list(np.concatenate(pieces).astype(np.float64).T)


def noise_variance(
    powers: Sequence[NDArray[np.float64]],
    high_bands: Sequence[Mask],
    intensity: Floats,
    pixel_variance: Floats,
    noise_factor: float,
    bins: Sequence[Indices],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Estimate the variance of the noise in bins of intensity.

    Parameters
    ----------
    powers, high_bands : sequence of ndarray
        As `band_powers` returns and takes them.
    intensity, pixel_variance : ndarray
        Mean and variance of the pixels of each patch, shape ``(patches,)``.
    noise_factor : float
        The variance of the pixels is that of the picture plus this multiple of that of the noise.
    bins : sequence of ndarray
        Indices of the patches in each bin.

    Returns
    -------
    mean, variance, error : ndarray
        Intensity in grey levels, variance of the noise and its standard error in squared grey
        levels, shape ``(bins,)``.
    """
    sorting, *measured = powers
    mean = np.array([intensity[inside].mean() for inside in bins])
    variance = np.array([np.quantile(measured[1][inside], START_QUANTILE) for inside in bins])
    # the noise also changes within a bin: power is measured in units of that at the intensity
    for _ in range(3):
        expected = interpolate_variance(mean, variance, intensity)
        groups = [
            _groups(inside[np.argsort(sorting[inside] / expected[inside])]) for inside in bins
        ]
        count = np.array([[len(group) for group in row] for row in groups])
        units, spreads, low, *high = (
            np.array([[values[group].mean() for group in row] for row in groups])
            for values in (expected, pixel_variance, *measured)
        )
        if len(mean) >= MIN_BINS_FOR_CURVATURE:
            # the mean noise of bright and dark pixels is not the noise of their mean
            curvature = max(_parabola(mean, variance).deriv(2)(0) / 2, 0.0)
            units += curvature * np.maximum(spreads - noise_factor * units, 0)
        found = []
        for power, band in zip(high, high_bands, strict=True):
            # patches overlap: they contain no more independent values than pixels
            error = power * np.sqrt(2 * PATCH_SIZE**2 / (count * band.sum()))
            found.append(_extrapolate(low / units, power / units, error / units))
        factors, errors = np.moveaxis(np.array(found), 1, 0)
        best = np.argmin(errors / factors, axis=0), np.arange(len(bins))
        variance *= factors[best]
        error = variance * errors[best] / factors[best]
    return mean, variance, error


def _groups(order: Indices) -> list[Indices]:
    return np.split(order, [int(share * len(order)) for share in GROUP_ENDS_OF_VARIANCE])


def _extrapolate(
    low: Floats, high: Floats, error: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the power of the noise and its error, ``(bins,)``, from groups of patches.

    The power at low and at high frequencies, and the error of the latter, have the shape
    ``(bins, groups)``.
    """
    *_, share, information = _fit_line(low, high, error, EXPECTED_SHARE, SHARE_DEVIATION)
    # the structure of a data set is similar at all intensities, so bins inform each other
    common = EXPECTED_SHARE
    for _ in range(LINE_FIT_ITERATIONS):
        weight = 1 / (1 / information + common**2)
        prior = EXPECTED_SHARE / SHARE_DEVIATION**2
        common = (weight @ share + prior) / (weight.sum() + SHARE_DEVIATION**-2)
    common = max(common, MIN_SHARE)
    noise, noise_error, *_ = _fit_line(low, high, error, common, common)
    return noise, noise_error


def _fit_line(
    low: Floats, high: Floats, error: Floats, expected: float, deviation: float
) -> tuple[NDArray[np.float64], ...]:
    """Return the power at which low and high frequencies agree on a line through the groups.

    The slope of the line is the share of the power of pictures at high frequencies, with a normal
    prior of this mean and standard deviation. Returns the power and its error, the share, and the
    information on it (its inverse variance), each of shape ``(bins,)``.
    """
    picture, share = np.maximum(low - high, 0), np.full(len(high), expected)
    for _ in range(LINE_FIT_ITERATIONS):
        weight = 1 / (error**2 + (SHARE_ERROR_BETWEEN_GROUPS * share[:, None] * picture) ** 2)
        total = weight.sum(1)
        x, y = ((weight * power).sum(1) / total for power in (low, high))
        weighted = weight * (low - x[:, None])
        information = np.maximum((weighted * low).sum(1), 1e-9)
        posterior = information + deviation**-2
        share = ((weighted * high).sum(1) + expected / deviation**2) / posterior
        share = np.clip(share, 0, MAX_SHARE)
    noise = np.maximum((y - share * x) / (1 - share), MIN_NOISE_SHARE * high.min(1))
    noise_error = np.hypot(total**-0.5, (x - y) / (1 - share) * posterior**-0.5) / (1 - share)
    return noise, noise_error, share, information


def interpolate_variance(mean: Floats, variance: Floats, intensity: Floats) -> NDArray[np.float64]:
    """Return the variance at intensities between the bins and beyond them.

    Parameters
    ----------
    mean, variance : ndarray
        Of bins of intensity, the darkest first, shape ``(bins,)``.
    intensity : ndarray
        Where the variance is wanted, in grey levels, any shape.

    Returns
    -------
    ndarray
        Of the shape of the intensities. Between the bins it follows the curvature of the parabola
        through all of them; beyond the first and the last it continues as a straight line.
    """
    found: NDArray[np.float64] = np.interp(intensity, mean, variance)
    if len(mean) < 2:
        return found
    if len(mean) >= MIN_BINS_FOR_CURVATURE:
        curve = _parabola(mean, variance)
        at_bins, between = (
            np.maximum(curve(x), MIN_PARABOLA * y)
            for x, y in ((mean, variance), (intensity, found))
        )
        found = np.interp(intensity, mean, variance / at_bins) * between
    slope = np.diff(variance) / np.maximum(np.diff(mean), 1e-9)
    below = variance[0] + slope[0] * (intensity - mean[0])
    above = variance[-1] + slope[-1] * (intensity - mean[-1])
    found = np.where(intensity < mean[0], below, found)
    found = np.where(intensity > mean[-1], above, found)
    bounded: NDArray[np.float64] = np.maximum(found, MIN_END_SHARE * min(variance[0], variance[-1]))
    return bounded


def _parabola(mean: Floats, variance: Floats) -> Polynomial:
    """Fit a parabola with relative weights, limited where there is almost no noise."""
    return Polynomial.fit(mean, variance, 2, w=1 / with_floor(variance))


def with_floor(variance: Floats) -> NDArray[np.float64]:
    """Return variances by intensity, raised to at least 5 % of their median."""
    floored: NDArray[np.float64] = np.maximum(variance, MIN_VARIANCE_SHARE * np.median(variance))
    return floored
