"""Prepare frames of a few scenes for the measurement of their noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import UserError
from ..image.valid import LARGEST_VALUE, fill
from ..noise.binning import bin_numbers
from ..noise.kernel import Kernel
from ..solve.quantization import Quantization, estimate_quantization
from ..solve.stabilization import fit_transform
from ..solve.transform import Transform
from ._dct_power import DctPower, measure_dct_power
from ._moments import Moments, measure_moments
from ._repeats import is_still, measure_repeats, usable_pixels
from ._units import MAX_SAMPLE

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

MIN_SIZE = 64
TOO_LITTLE_DATA = (
    "too little data to measure the noise: give larger images, or more of them "
    f"(at least {MIN_SIZE}×{MIN_SIZE} pixels that are valid and neither black nor saturated)"
)
#: A pixel further from its neighbours, or from its mean, than this number of standard deviations of
#: the noise is a defect.
MAX_DEVIATION = 12.0
MAX_SATURATED_SHARE = 0.2
# Bins of intensity in which the standard deviation of noise is measured, and its lower bound as a
# share of the largest.
DEVIATION_BINS, MIN_DEVIATION_SHARE = 16, 0.1
# A frame minus the mean of its two neighbours has 1.5 times the variance of a frame and 0.75 times
# its third moment.
SKEW_OF_DIFFERENCE = 0.75 / 1.5**1.5


class PreparedFrames(NamedTuple):
    """Frames of a few scenes, with invalid pixels filled, and the differences of repeats.

    Attributes
    ----------
    scenes : list of ndarray
        Repeats of each scene in grey levels, shape ``(repeats, Y, X)``.
    sample : ndarray
        A selection of their valid grey levels, one-dimensional.
    quantization : Quantization
        Step and limits of the grey levels.
    repeated, several : bool
        Whether every scene has at least two repeats, and whether every scene has at least three.
    means, noises : list of ndarray
        Means of each run of up to three successive repeats, without defects, and the difference of
        these repeats, scaled to the variance of a single one; single frames have no difference.
    clipped : list of ndarray
        1 where any repeat of a run is clipped, infinite where a pixel is not valid, else 0.
    invalid : list of ndarray
        For each scene, True where a pixel is not valid in any repeat, shape ``(Y, X)``.
    transform : Transform
        A first fit of how the noise of the means grows with the intensity.
    """

    scenes: list[Floats]
    sample: NDArray[Any]
    quantization: Quantization
    repeated: bool
    several: bool
    means: list[Floats]
    noises: list[Floats]
    clipped: list[NDArray[Any]]
    invalid: list[Mask]
    transform: Transform


def prepare_frames(scenes: Sequence[NDArray[Any]]) -> PreparedFrames:
    """Prepare frames for the measurement of their noise.

    Parameters
    ----------
    scenes : sequence of ndarray
        Repeats of each scene in grey levels, shape ``(repeats, Y, X)``. Pixels that are masked,
        NaN or infinite are not valid.

    Returns
    -------
    PreparedFrames

    Raises
    ------
    UserError
        If their noise cannot be measured: too small, constant, saturated, or identical repeats.
    """
    sample = valid_sample(scenes)
    quantization = estimate_quantization(sample)
    check_scenes(scenes, sample, quantization)
    masks = [_invalid(frames) for frames in scenes]
    invalid = [np.asarray(mask.any(axis=0)) for mask in masks]
    filled = [_filled(frames, mask) for frames, mask in zip(scenes, masks, strict=True)]
    repeated, several = (all(len(frames) > n for frames in filled) for n in (1, 2))
    runs: list[Floats] = []
    out: list[Mask] = []
    for frames, mask in zip(filled, invalid, strict=True):
        found = list(_runs(frames, 3 if several else 2))
        runs += found
        out += [mask] * len(found)
    noises: list[Floats] = []
    if several:
        # steady drift and bleaching affect a frame and the mean of its two neighbours equally
        noises = [(run[1] - (run[0] + run[2]) / 2) / np.sqrt(1.5) for run in runs]
    elif repeated:
        noises = [(run[1] - run[0]) / np.sqrt(2) for run in runs]
    means: list[Floats] = [run.mean(0) for run in runs]
    shown = [
        np.where(mask, np.nan, mean) if mask.any() else mean
        for mean, mask in zip(means, out, strict=True)
    ]
    try:
        transform = fit_transform(shown, quantization.step)
    except ValueError:
        if any(mask.any() for mask in out):
            raise UserError(TOO_LITTLE_DATA) from None
        raise UserError("the images show no noise: there is nothing to estimate") from None
    means = [_without_defects(mean, transform) for mean in means]
    clipped: list[NDArray[Any]] = [
        np.where(mask, np.inf, _clipped(run, quantization))
        if mask.any()
        else _clipped(run, quantization)
        for run, mask in zip(runs, out, strict=True)
    ]
    return PreparedFrames(
        filled, sample, quantization, repeated, several, means, noises, clipped, invalid, transform
    )


def valid_sample(scenes: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return some of the valid grey levels of scenes, in one dimension.

    Raises
    ------
    UserError
        If there is none.
    """
    found = []
    for frames in scenes:
        values: NDArray[Any] = frames
        if isinstance(frames, np.ma.MaskedArray):
            values = frames.compressed()
        values = values.ravel()[:: values.size // MAX_SAMPLE + 1]
        if values.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                values = values[np.abs(values) <= _largest(values.dtype)]
        found.append(values)
    sample: NDArray[Any] = np.concatenate(found)
    if not sample.size:
        raise UserError("the images hold no valid pixel: all are NaN, infinite, masked or padding")
    return sample


def _largest(dtype: np.dtype[Any]) -> float:
    return min(LARGEST_VALUE, float(np.finfo(dtype).max))


def _invalid(frames: NDArray[Any]) -> Mask:
    """Return where frames are masked, NaN or infinite."""
    invalid: Mask = np.array(np.ma.getmaskarray(frames))
    if frames.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            invalid |= ~(np.abs(np.ma.getdata(frames)) <= _largest(frames.dtype))
    return invalid


def _filled(frames: NDArray[Any], invalid: Mask) -> Floats:
    """Return frames in double precision, with invalid pixels filled smoothly."""
    data = np.ma.getdata(frames).astype(np.float64)
    if not invalid.any():
        return data
    usual = float(np.median(data[~invalid])) if not invalid.all() else 0.0
    return fill(data, invalid, max(data.shape), usual)


def _widened(masks: Sequence[Mask], kernel: Kernel | None) -> list[Mask]:
    """Return masks grown by the pixels that contribute most to A⁻¹ at a pixel."""
    if kernel is None:
        return list(masks)
    side = 2 * (max(len(kernel.taps), len(kernel.taps[0])) // 2) * 2 + 1
    return [ndimage.maximum_filter(mask, side) if mask.any() else mask for mask in masks]


def still_pixels(prepared: PreparedFrames, kernel: Kernel | None) -> list[Mask] | None:
    """Return the pixels in which repeats differ only by noise with this correlation.

    Parameters
    ----------
    prepared : PreparedFrames
    kernel : Kernel or None
        The correlation of the noise.

    Returns
    -------
    list of ndarray or None
        All pixels of each scene except defects, bool, shape ``(Y, X)``; None if anything moves, or
        if there are fewer than three repeats.
    """
    if not prepared.several:
        return None
    invalid = _widened(prepared.invalid, kernel)
    usable = [use & ~out for use, out in zip(_usable(prepared), invalid, strict=True)]
    return usable if is_still(decorrelated(prepared.scenes, kernel), usable) else None


def moments_of(
    prepared: PreparedFrames,
    kernel: Kernel | None,
    still: list[Mask] | None,
    power: Floats | None = None,
) -> Moments:
    """Measure the moments of the noise by intensity, with its correlation removed.

    Parameters
    ----------
    prepared : PreparedFrames
    kernel : Kernel or None
        The correlation of the noise.
    still : list of ndarray or None
        As `still_pixels` returns them.
    power : ndarray, optional
        DCT power of noise that is correlated and not undone, as for `measure_moments`.

    Returns
    -------
    Moments

    Raises
    ------
    UserError
        If there is too little data.
    """
    try:
        if still is not None:
            return measure_repeats(decorrelated(prepared.scenes, kernel), still)
        skew = SKEW_OF_DIFFERENCE if prepared.several else 0.0
        if kernel is None:
            return measure_moments(prepared.means, prepared.noises, skew, prepared.clipped, power)
        means, noises = (decorrelated(p, kernel) for p in (prepared.means, prepared.noises))
        return measure_moments(means, noises, skew, _infinite_where_invalid(prepared, kernel))
    except ValueError:
        raise UserError(TOO_LITTLE_DATA) from None


def dct_power_of(prepared: PreparedFrames) -> DctPower:
    """Measure the DCT power of patches, for noise of a known correlation.

    Raises
    ------
    UserError
        If there is too little data.
    """
    try:
        return measure_dct_power(
            prepared.means, prepared.noises, _infinite_where_invalid(prepared, None)
        )
    except ValueError:
        raise UserError(TOO_LITTLE_DATA) from None


def infinite_where_invalid(clipped: Sequence[NDArray[Any]]) -> list[Floats]:
    """Return planes that are infinite where pixels are not valid, and 0 elsewhere."""
    return [np.where(np.isposinf(plane.astype(float)), np.inf, 0.0) for plane in clipped]


def _infinite_where_invalid(prepared: PreparedFrames, kernel: Kernel | None) -> list[Floats]:
    """Return the same for planes after A⁻¹; an empty list if all pixels are valid."""
    if not any(mask.any() for mask in prepared.invalid):
        return []
    masks = [np.isposinf(plane.astype(float)) for plane in prepared.clipped]
    return [np.where(mask, np.inf, 0.0) for mask in _widened(masks, kernel)]


def deviation_by_intensity(intensity: Floats, noise: Floats) -> NDArray[np.float64]:
    """Return the standard deviation of noise at the intensity of each pixel, without outliers.

    Parameters
    ----------
    intensity, noise : ndarray
        Of each pixel in grey levels, shape ``(pixels,)``.

    Returns
    -------
    ndarray
        In grey levels, shape ``(pixels,)``.
    """
    numbers = bin_numbers(intensity, np.linspace(0, 1, DEVIATION_BINS + 1))
    # with normal noise, one pixel in 20 is beyond two standard deviations
    deviations = np.array(
        [np.quantile(np.abs(noise[numbers == i]), 0.95) / 2 if np.any(numbers == i) else 0.0
         for i in range(DEVIATION_BINS)]
    )  # fmt: skip
    bounded: NDArray[np.float64] = np.maximum(deviations, MIN_DEVIATION_SHARE * deviations.max())
    return bounded[numbers]


def decorrelated(images: Sequence[Floats], kernel: Kernel | None) -> list[Floats]:
    """Return A⁻¹ of images, shape ``(..., Y, X)``; the images themselves without a kernel."""
    return [image if kernel is None else kernel.undo_image(image) for image in images]


def check_scenes(
    scenes: Sequence[NDArray[Any]], sample: NDArray[Any], quantization: Quantization
) -> None:
    """Raise a `UserError` if the noise of scenes cannot be measured."""
    height, width = np.max([frames.shape[-2:] for frames in scenes], axis=0)
    if min(height, width) < MIN_SIZE:
        raise UserError(
            f"images of {height}×{width} pixels are too small to measure their noise: "
            f"give at least {MIN_SIZE}×{MIN_SIZE}"
        )
    if sample.min() == sample.max():
        raise UserError(f"the images are constant (every pixel is {sample.min():g}): no noise")
    share = float(np.mean(sample >= quantization.saturation))
    if share > MAX_SATURATED_SHARE:
        raise UserError(
            f"{share:.0%} of the pixels are saturated at {quantization.saturation:g}: "
            "their noise cannot be measured; record with less light"
        )
    for frames in scenes:
        for first, second in pairwise(frames):
            if bool(np.ma.allequal(first, second)):
                raise UserError(
                    "two of the repeats are identical: copies of one frame hold no information on "
                    "its noise; name the axes so that the axis of the copies is not treated as time"
                )


def _runs(frames: Floats, count: int) -> Iterator[Floats]:
    """Yield runs of a given number of successive frames, or the only frame."""
    count = min(count, len(frames))
    return (frames[i : i + count] for i in range(len(frames) - count + 1))


def _without_defects(frame: Floats, transform: Transform) -> Floats:
    """Return a frame with hot and dead pixels replaced by the median of their neighbours."""
    median = ndimage.median_filter(frame, 3, mode="mirror")
    deviation = np.sqrt(transform.variance(torch.from_numpy(median)).numpy())
    return np.where(np.abs(frame - median) > MAX_DEVIATION * deviation, median, frame)


def _clipped(frames: Floats, quantization: Quantization) -> Mask:
    """Return where any of the frames is clipped, shape ``(Y, X)``."""
    clipped: Mask = np.any(
        (frames <= quantization.floor) | (frames >= quantization.saturation), axis=0
    )
    return clipped


def _usable(prepared: PreparedFrames) -> list[Mask]:
    """Return which pixels of each scene are neither defects nor near clipped ones."""
    found = []
    for frames in prepared.scenes:
        mean = frames.mean(0)
        deviation = np.abs(frames - mean).max(0)
        whole = _without_defects(mean, prepared.transform) == mean
        whole &= deviation <= MAX_DEVIATION * deviation_by_intensity(
            mean.ravel(), deviation.ravel()
        ).reshape(mean.shape)
        found.append(whole & usable_pixels(_clipped(frames, prepared.quantization)))
    return found
