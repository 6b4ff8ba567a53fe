"""The shots that noise is read off, and the moments of their noise by brightness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from ..errors import UserError
from ..image.valid import LARGEST_VALUE, fill
from ..noise.kernel import Kernel
from ..solve.quantization import Quantization, estimate_quantization
from ..solve.stabilization import fit_transform
from ..solve.transform import Transform
from ._dct_power import Powers, wave_powers
from ._moments import Moments, measure_moments
from ._repeats import is_still, measure_repeats, usable_pixels

SMALLEST = 64
TOO_LITTLE = (
    "too little to tell the noise from: give larger images, or more of them "
    f"(at least {SMALLEST}×{SMALLEST} pixels that are valid and neither black nor saturated)"
)
# a pixel so many standard deviations off its neighbours is a defect
DEFECT = 12.0
SATURATED = 0.2
# ranges of brightness that noise is compared in, and the least it is, as a share of the most
LEVELS, DARKEST = 16, 0.1
# a shot less the mean of both beside it has 1.5 times the variance of a shot and 0.75 of its third
# moment
SKEW = 0.75 / 1.5**1.5


class Shots(NamedTuple):
    """Shots of a few scenes, looked over.

    Attributes
    ----------
    scenes : list of ndarray
        Shots of each scene one after the other, in grey levels, shape ``(shots, Y, X)``.
    values : ndarray
        Some of their grey levels.
    recording : Quantization
        What digitisation did to them.
    repeated, several : bool
        Whether there is more than one shot of every scene, and more than two.
    frames, noises : list of ndarray
        Means of each run of up to three shots, without defects, and what is left of these shots
        when they are subtracted, with the variance of one shot; of single shots there is none.
    cut : list of ndarray
        1 where recording ended in any shot of a run, infinite where a pixel is not valid, else 0.
    invalid : list of ndarray
        Of each scene, where a pixel is not valid in any shot, bool, shape ``(Y, X)``; the shots
        are filled there.
    transform : Transform
        How the noise of the frames grows with the signal, roughly.
    """

    scenes: list[np.ndarray]
    values: np.ndarray
    recording: Quantization
    repeated: bool
    several: bool
    frames: list[np.ndarray]
    noises: list[np.ndarray]
    cut: list[np.ndarray]
    invalid: list[np.ndarray]
    transform: Transform


def look_over(scenes: Sequence[np.ndarray]) -> Shots:
    """Look shots over.

    Parameters
    ----------
    scenes : sequence of ndarray
        Shots of each scene one after the other, in grey levels, shape ``(shots, Y, X)``. Pixels
        that are masked, NaN or infinite are not valid.

    Returns
    -------
    Shots

    Raises
    ------
    UserError
        If they cannot tell their noise: too small, constant, saturated, or copies of each other.
    """
    values = valid_sample(scenes)
    recording = estimate_quantization(values)
    check_scenes(scenes, values, recording)
    hidden = [_invalid(shots) for shots in scenes]
    invalid = [np.asarray(mask.any(axis=0)) for mask in hidden]
    scenes = [_filled(shots, mask) for shots, mask in zip(scenes, hidden, strict=True)]
    repeated, several = (all(len(shots) > n for shots in scenes) for n in (1, 2))
    runs, out = [], []
    for shots, mask in zip(scenes, invalid, strict=True):
        found = list(_runs(shots, 3 if several else 2))
        runs += found
        out += [mask] * len(found)
    noises = []
    if several:
        # what drifts and bleaches evenly is the same in a shot and the mean of both beside it
        noises = [(run[1] - (run[0] + run[2]) / 2) / np.sqrt(1.5) for run in runs]
    elif repeated:
        noises = [(run[1] - run[0]) / np.sqrt(2) for run in runs]
    frames = [run.mean(0) for run in runs]
    shown = [
        np.where(mask, np.nan, frame) if mask.any() else frame
        for frame, mask in zip(frames, out, strict=True)
    ]
    try:
        transform = fit_transform(shown, recording.step)
    except ValueError:
        if any(mask.any() for mask in out):
            raise UserError(TOO_LITTLE) from None
        raise UserError("the images show no noise: there is nothing to estimate") from None
    frames = [_mended(frame, transform) for frame in frames]
    cut = [
        np.where(mask, np.inf, _cut(run, recording)) if mask.any() else _cut(run, recording)
        for run, mask in zip(runs, out, strict=True)
    ]
    return Shots(
        scenes, values, recording, repeated, several, frames, noises, cut, invalid, transform
    )


def valid_sample(scenes: Sequence[np.ndarray]) -> np.ndarray:
    """Return some of the valid grey levels of scenes, in one dimension.

    Raises
    ------
    UserError
        If there is none.
    """
    found = []
    for shots in scenes:
        some: np.ndarray = shots
        if isinstance(shots, np.ma.MaskedArray):
            some = shots.compressed()
        some = some.ravel()[:: some.size // 200_000 + 1]
        if some.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                some = some[np.abs(some) <= _limit(some.dtype)]
        found.append(some)
    values = np.concatenate(found)
    if not values.size:
        raise UserError("the images hold no valid pixel: all are NaN, infinite, masked or padding")
    return values


def _limit(dtype: np.dtype) -> float:
    return min(LARGEST_VALUE, float(np.finfo(dtype).max))


def _invalid(shots: np.ndarray) -> np.ndarray:
    """Say where shots are masked, NaN or infinite."""
    invalid = np.array(np.ma.getmaskarray(shots))
    if shots.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            invalid |= ~(np.abs(np.ma.getdata(shots)) <= _limit(shots.dtype))
    return invalid


def _filled(shots: np.ndarray, invalid: np.ndarray) -> np.ndarray:
    """Return shots in double precision, what is not valid filled smoothly."""
    data = np.ma.getdata(shots).astype(np.float64)
    if not invalid.any():
        return data
    usual = float(np.median(data[~invalid])) if not invalid.all() else 0.0
    return fill(data, invalid, max(data.shape), usual)


def _wider(masks: Sequence[np.ndarray], kernel: Kernel | None) -> list[np.ndarray]:
    """Return masks grown by what A⁻¹ takes most from around a pixel."""
    if kernel is None:
        return list(masks)
    side = 2 * (max(len(kernel.taps), len(kernel.taps[0])) // 2) * 2 + 1
    return [ndimage.maximum_filter(mask, side) if mask.any() else mask for mask in masks]


def still_pixels(shots: Shots, kernel: Kernel | None) -> list[np.ndarray] | None:
    """Give the pixels that shots differ in by nothing but noise of this correlation.

    Parameters
    ----------
    shots : Shots
        As `look_over` gave them.
    kernel : Kernel or None
        The correlation of the noise.

    Returns
    -------
    list of ndarray or None
        Of each scene all but defects, bool, shape ``(Y, X)``; None if anything moves, or if there
        are less than three shots.
    """
    if not shots.several:
        return None
    usable = [
        use & ~out for use, out in zip(_usable(shots), _wider(shots.invalid, kernel), strict=True)
    ]
    return usable if is_still(undone(shots.scenes, kernel), usable) else None


def moments_of(shots: Shots, kernel: Kernel | None, still: list[np.ndarray] | None) -> Moments:
    """Measure the noise of shots by brightness, before it was correlated.

    Parameters
    ----------
    shots : Shots
        As `look_over` gave them.
    kernel : Kernel or None
        The correlation of the noise.
    still : list of ndarray or None
        As `still_pixels` gave them.

    Returns
    -------
    Moments

    Raises
    ------
    UserError
        If there is too little to tell it from.
    """
    try:
        if still is not None:
            return measure_repeats(undone(shots.scenes, kernel), still)
        skew = SKEW if shots.several else 0.0
        if kernel is None:
            return measure_moments(shots.frames, shots.noises, skew, shots.cut)
        frames, noises = undone(shots.frames, kernel), undone(shots.noises, kernel)
        return measure_moments(frames, noises, skew, _out(shots, kernel))
    except ValueError:
        raise UserError(TOO_LITTLE) from None


def powers_of(shots: Shots) -> Powers:
    """Measure the power of the waves of patches, for noise of a known correlation.

    Raises
    ------
    UserError
        If there is too little to tell it from.
    """
    try:
        return wave_powers(shots.frames, shots.noises, _out(shots, None))
    except ValueError:
        raise UserError(TOO_LITTLE) from None


def _out(shots: Shots, kernel: Kernel | None) -> list[np.ndarray]:
    """Return what is not valid of each run, infinite there and else 0; nothing if all is."""
    if not any(mask.any() for mask in shots.invalid):
        return []
    masks = [np.isposinf(cut.astype(float)) for cut in shots.cut]
    return [np.where(mask, np.inf, 0.0) for mask in _wider(masks, kernel)]


def noise_level(light: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Give the standard deviation of noise by brightness, whatever a few pixels of it are."""
    edges = np.quantile(light, np.linspace(0, 1, LEVELS + 1))
    which = np.searchsorted(edges[1:-1], light)
    # of normal noise one pixel in 20 is beyond two standard deviations
    widths = np.array(
        [np.quantile(np.abs(noise[which == i]), 0.95) / 2 if np.any(which == i) else 0.0
         for i in range(LEVELS)]
    )  # fmt: skip
    return np.maximum(widths, DARKEST * widths.max())[which]


def undone(images: Sequence[np.ndarray], kernel: Kernel | None) -> list[np.ndarray]:
    """Give images, shape ``(..., Y, X)``, as they were before their noise was correlated."""
    return [image if kernel is None else kernel.undo_image(image) for image in images]


def check_scenes(scenes: Sequence[np.ndarray], values: np.ndarray, recording: Quantization) -> None:
    """Raise a `UserError` if scenes cannot tell their noise whatever it is."""
    height, width = np.max([shots.shape[-2:] for shots in scenes], axis=0)
    if min(height, width) < SMALLEST:
        raise UserError(
            f"images of {height}×{width} pixels are too small to tell their noise: "
            f"give at least {SMALLEST}×{SMALLEST}"
        )
    if values.min() == values.max():
        raise UserError(f"the images are constant (every pixel is {values.min():g}): no noise")
    if (share := float(np.mean(values >= recording.saturation))) > SATURATED:
        raise UserError(
            f"{share:.0%} of the pixels are saturated at {recording.saturation:g}: "
            "their noise cannot be told; record with less light"
        )
    for shots in scenes:
        for first, second in pairwise(shots):
            if bool(np.ma.allequal(first, second)):
                raise UserError(
                    "two of the repeats are identical: copies of one shot, which say nothing "
                    "of its noise; name the axes so that no axis of copies is taken for time"
                )


def _runs(shots: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Give each run of so many shots one after the other, or the only shot."""
    count = min(count, len(shots))
    return (shots[i : i + count] for i in range(len(shots) - count + 1))


def _mended(frame: np.ndarray, transform: Transform) -> np.ndarray:
    """Give a frame with hot and dead pixels replaced by the median of their neighbours."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(frame, 1, mode="reflect"), (3, 3))
    median = np.median(around.reshape(*frame.shape, 9), axis=-1)
    width = np.sqrt(transform.variance(torch.from_numpy(median)).numpy())
    return np.where(np.abs(frame - median) > DEFECT * width, median, frame)


def _cut(shots: np.ndarray, recording: Quantization) -> np.ndarray:
    """Say where recording ended in any of the shots."""
    return np.any((shots <= recording.floor) | (shots >= recording.saturation), axis=0)


def _usable(shots: Shots) -> list[np.ndarray]:
    """Say which pixels of scenes are no defects, in no shot, and not where recording ended."""
    found = []
    for scene in shots.scenes:
        mean = scene.mean(0)
        away = np.abs(scene - mean).max(0)
        whole = _mended(mean, shots.transform) == mean
        whole &= away <= DEFECT * noise_level(mean, away)
        found.append(whole & usable_pixels(_cut(scene, shots.recording)))
    return found
