"""Measure mean, variance and third moment of noise by intensity in patches of frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..noise.binning import Indices, merge_close_bins, overlapping_bins
from ._dct import FREQUENCY, PATCH_SIZE
from ._flatness import flattest
from ._noise_variance import LOW_BAND, band_powers, interpolate_variance, noise_variance
from ._patches import random_patches
from ._third_moment import third_moment

Floats = NDArray[np.floating[Any]]

#: Bins of intensity between the first and the last quantiles of `BIN_QUANTILES`.
BINS = 12
#: Edges of the bins: both ends show best how the noise grows with the intensity.
BIN_QUANTILES = 0, 0.01, 0.03, *np.linspace(0, 1, BINS + 1)[1:-1], 0.97, 0.99, 1
#: The smallest number of patches or pixels of a bin.
MIN_PER_BIN = 600
# Number of patches from all frames.
MAX_PATCHES_OF_MOMENTS = 200_000
# The distance of bins, in standard deviations of the noise of the mean of a patch: the darkest
# patches are dark partly because of their noise.
MIN_PATCH_BIN_DISTANCE = 4.0
# High frequencies begin at one of these indices, whichever gives the smaller error: of frames, and
# of differences of frames.
HIGH_BAND_STARTS, HIGH_BAND_STARTS_OF_DIFFERENCES = (7, 9), (5,)
# Broadly correlated noise has too little power at high frequencies.
HIGH_BANDS_OF_CORRELATED = ((FREQUENCY > 4) & (FREQUENCY < 9),)
# Frames have grain of their own if their variance is above that of any other frame by more than
# this number of standard errors.
MAX_GRAIN_ERRORS = 1.5


@dataclass(frozen=True)
class Moments:
    """Mean, variance and third central moment of y, in bins of intensity.

    Attributes
    ----------
    mean, variance, third : ndarray
        In grey levels, squared and cubed grey levels, shape ``(bins,)``; the third moment is 0
        where it is not known.
    variance_error, third_error : ndarray
        Standard errors due to the limited number of pixels; infinite where the moment is not known.
    spread : ndarray or float
        Standard deviation of the clean intensity within a bin, if the variance is the average over
        its pixels; 0 if it is the variance of a pixel of mean intensity.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    third: NDArray[np.float64]
    variance_error: NDArray[np.float64]
    third_error: NDArray[np.float64]
    spread: NDArray[np.float64] | float = 0.0

    def over(
        self, curve: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Return the mean of a function of intensity over each bin, shape ``(bins,)``."""
        if not np.any(self.spread):
            return curve(self.mean)
        return (curve(self.mean - self.spread) + curve(self.mean + self.spread)) / 2


def measure_moments(
    frames: Sequence[Floats],
    noises: Sequence[Floats] = (),
    skew: float = 0.0,
    clipped: Sequence[NDArray[Any]] = (),
    power: Floats | None = None,
) -> Moments:
    """Measure the moments of the noise of frames by intensity.

    Parameters
    ----------
    frames : sequence of ndarray
        Noisy planes in grey levels, each ``(Y, X)``: single frames or means of some.
    noises : sequence of ndarray
        Differences of the repeats that make each frame, scaled to the variance of the noise of a
        single one.
    skew : float
        Third moment of the noises as a share of that of a single frame. If it is 0, as for the
        difference of two frames, it is measured in the frames, which are then means of two.
    clipped : sequence of ndarray
        1 where a repeat is clipped, infinite where a pixel is not valid, else 0: patches with many
        such pixels are left out.
    power : ndarray, optional
        DCT power of the noise of a patch whose pixels have variance 1, shape ``(frequencies,)``; by
        default, the noise is white.

    Returns
    -------
    Moments
        Of single frames, those of the frames with the least noise.

    Raises
    ------
    ValueError
        If there are too few patches.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scene = np.kron(rng.uniform(20, 200, (6, 6)), np.ones((40, 40)))
    >>> found = measure_moments([5.0 * rng.poisson(scene / 5)])
    >>> gain = found.variance / found.mean
    >>> bool(abs(np.median(gain) - 5) < 0.5)
    True
    """
    count = MAX_PATCHES_OF_MOMENTS // len(frames)
    found = _moments_of(frames, noises, skew, clipped, count, power)
    if noises or len(frames) == 1:
        return found
    plain = _frames_without_grain(frames, clipped, count, found, power)
    if len(plain) == len(frames):
        return found
    clipped = [clipped[i] for i in plain] if clipped else clipped
    return _moments_of(
        [frames[i] for i in plain], (), 0.0, clipped, MAX_PATCHES_OF_MOMENTS // len(plain), power
    )


def _frames_without_grain(
    frames: Sequence[Floats],
    clipped: Sequence[NDArray[Any]],
    count: int,
    together: Moments,
    power: Floats | None,
) -> list[int]:
    """Return the indices of the frames whose variance is not above that of any other frame.

    All frames of a recording have the same noise, and structure can only add to its variance, so
    the frame with the smallest variance is closest to the noise.
    """
    ratios, errors = np.full((2, len(frames)), np.inf)
    for i, frame in enumerate(frames):
        try:
            own = _moments_of([frame], (), 0.0, clipped[i : i + 1], count, power)
        except ValueError:
            continue  # it has too few patches to be compared
        expected = interpolate_variance(together.mean, together.variance, own.mean)
        weight = (expected / own.variance_error) ** 2
        ratios[i] = (weight * own.variance / expected).sum() / weight.sum()
        errors[i] = weight.sum() ** -0.5
    smallest = (ratios + MAX_GRAIN_ERRORS * errors).min()
    return [int(i) for i in np.flatnonzero(ratios <= smallest)]


def _moments_of(
    frames: Sequence[Floats],
    noises: Sequence[Floats],
    skew: float,
    clipped: Sequence[NDArray[Any]],
    count: int,
    power: Floats | None,
) -> Moments:
    """Measure the moments in a given number of patches of each frame."""
    rng = np.random.default_rng(0)
    patches = [
        random_patches(
            frame,
            noises[i] if noises else frame,
            noises[i] if skew else frame,
            clipped[i] if clipped else np.zeros(frame.shape, bool),
            count,
            rng,
        )
        for i, frame in enumerate(frames)
    ]
    intensity, pixel_variance, slope, noise, skewed = (
        np.concatenate(values) for values in zip(*patches, strict=True)
    )
    bins = [
        inside
        for inside in overlapping_bins(intensity, BIN_QUANTILES)
        if len(inside) >= MIN_PER_BIN
    ]
    if not bins:
        raise ValueError("too few patches to measure their noise")
    # the variance of means of frames, as a share of that of a single frame
    frame_share = 1.0 if not noises else 1 / 3 if skew else 1 / 2
    starts = HIGH_BAND_STARTS_OF_DIFFERENCES if noises else HIGH_BAND_STARTS
    bands = [start <= FREQUENCY for start in starts]
    if power is not None:
        bands = list(HIGH_BANDS_OF_CORRELATED)
    powers = band_powers(noise, bands, power)

    def min_distance(inside: Indices) -> float:
        variance = float(np.quantile(powers[2][inside], 0.3))
        return MIN_PATCH_BIN_DISTANCE * math.sqrt(frame_share * variance / PATCH_SIZE**2)

    bins = merge_close_bins(bins, intensity, min_distance)
    flat = [inside[flattest(slope[inside])] for inside in bins]
    if noises:
        varying, own_share = pixel_variance, 1 - 1 / PATCH_SIZE**2
    else:
        # use frequencies that did not sort the patches: the others are small in the flattest
        # patches because of the selection
        own_share = LOW_BAND.sum() / PATCH_SIZE**2
        varying = own_share * powers[1]
    mean, variance, error = noise_variance(
        powers, bands, intensity, varying, own_share * frame_share, bins
    )
    # patches overlap, but the cubes are only about half as correlated
    overlap = 1 + PATCH_SIZE**2 / 2 * len(intensity) / sum(frame.size for frame in frames)
    third_share = 0.0 if skew else frame_share
    third, third_error = np.array(
        [third_moment(skewed[i], intensity[i], mean, variance, third_share, overlap) for i in flat]
    ).T
    scale = skew or (0.25 if noises else 1.0)
    kept = (variance > 0) & np.isfinite(variance)
    if not kept.any():
        raise ValueError("too few patches to measure their noise")
    found = mean, variance, third / scale, error, third_error / scale
    return Moments(*(values[kept] for values in found))
