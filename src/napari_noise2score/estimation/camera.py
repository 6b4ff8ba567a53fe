"""Calibrate a camera: offset, gain and read noise of each pixel, from dark and flat frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..image.arrays import read_piece
from ..image.image import Image, as_images
from ..progress import Progress, run_to_end
from ._robust_fit import robust_deviation

Floats = NDArray[np.float64]

MIN_FRAMES = 10  # of dark frames, and of one flat level
MIN_DEVIATION = 5.0  # of a defective pixel from the others, in robust standard deviations
MAX_DEFECTIVE_SHARE = 0.2
MIN_SIGNAL = 2.0  # of a flat level above the offset, in standard deviations of the read noise


class CameraCalibration(NamedTuple):
    """Offset, gain and read noise of each pixel of a camera.

    Attributes
    ----------
    offset : ndarray
        Mean of the dark frames in grey levels, shape ``(Y, X)``; NaN where a pixel is defective.
    gain : ndarray
        Grey levels per photoelectron, of the same shape, NaN as above.
    read_noise : ndarray
        Standard deviation of the dark frames in grey levels, of the same shape, NaN as above.
    defects : list of (int, int, str)
        Row, column and what is wrong with each defective pixel.
    gain_spread, gain_error : float
        By how much the gain differs between pixels, and how precisely that of one pixel was
        measured, both relative to the gain.
    dark_frames, flat_frames : int
        Number of frames it was measured from.
    """

    offset: Floats
    gain: Floats
    read_noise: Floats
    defects: list[tuple[int, int, str]]
    gain_spread: float
    gain_error: float
    dark_frames: int
    flat_frames: int

    @property
    def sentence(self) -> str:
        """What was measured, in one line."""
        share = len(self.defects) / self.offset.size
        gain, offset, read = (
            float(np.nanmedian(values)) for values in (self.gain, self.offset, self.read_noise)
        )
        return (
            f"gain {gain:.4g} grey levels per photoelectron (differs by {self.gain_spread:.1%} "
            f"between pixels, each measured to {self.gain_error:.1%}), offset {offset:.4g}, read "
            f"noise {read:.3g}; {len(self.defects)} defective pixels ({share:.2%})"
        )


def calibrate_camera(dark: Any, flat: Any) -> CameraCalibration:
    """Measure offset, gain and read noise of each pixel of a camera by photon transfer.

    Parameters
    ----------
    dark : Image or array-like, or a list of them
        Frames without light, of the axes YX with any others before.
    flat : Image or array-like, or a list of them
        Evenly lit frames. Each array of several frames is one brightness; single frames are
        together one.

    Returns
    -------
    CameraCalibration

    Raises
    ------
    UserError
        If the frames differ in size, are too few, or are not lit.

    Notes
    -----
    The offset is the mean of the dark frames and the read noise their standard deviation. The gain
    is the slope of the variance of the flat frames, above that of the dark frames, against their
    mean above the offset, a line through 0 fitted by least squares. What the gain of one pixel
    differs from the median is multiplied by the share of its variance that is not error of
    measurement: of few frames the map is nearly flat rather than noisy. Huang et al., *Nat.
    Methods* 10, 653 (2013), doi:10.1038/nmeth.2488, without the shrinkage. Fluctuations of the lamp
    are divided out, each frame by its own mean.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> dark = rng.normal(100, 3, (50, 32, 32))
    >>> flat = 2 * rng.poisson(200, (50, 32, 32)) + rng.normal(100, 3, (50, 32, 32))
    >>> found = calibrate_camera(dark, flat)
    >>> print(found.sentence)
    gain 1.98... grey levels per photoelectron (differs by 0.0% between pixels, ...
    """
    return run_to_end(calibrate_camera_steps(dark, flat))


def calibrate_camera_steps(dark: Any, flat: Any) -> Iterator[Progress[CameraCalibration]]:
    """Calibrate a camera as `calibrate_camera` does, frame by frame; closing the generator stops.

    Parameters
    ----------
    dark, flat
        As for `calibrate_camera`.

    Yields
    ------
    Progress
        After every frame; the last one with the result.

    Raises
    ------
    UserError
        As for `calibrate_camera`.
    """
    darks, levels = [_opened(dark, "dark")], _levels(_opened(flat, "flat"))
    sizes = {_size(image) for image in [*darks[0], *(i for level in levels for i in level)]}
    if len(sizes) > 1:
        listed = ", ".join(f"{y} × {x}" for y, x in sorted(sizes))
        raise UserError(f"dark and flat frames must have one size, and there are {listed}")
    total = sum(_count(image) for level in [*darks, *levels] for image in level)
    done = 0
    moments: list[_Moments] = []
    for level, name in [(darks[0], "dark"), *((level, "flat") for level in levels)]:
        number = sum(map(_count, level))
        if number < MIN_FRAMES:
            raise UserError(
                f"{number} {name} frames are too few: at least {MIN_FRAMES} are needed, better "
                "hundreds"
            )
        sums = _Moments(next(iter(sizes)), divide_lamp=name == "flat")
        for frame in _frames(level):
            sums.add(frame)
            done += 1
            yield Progress(done, total + 1)
        moments.append(sums)
    yield Progress(total + 1, total + 1, result=_calibration(moments[0], moments[1:]))


class _Moments:
    """Mean and variance of each pixel over frames, and over all pixels of a frame its mean."""

    def __init__(self, size: tuple[int, int], divide_lamp: bool):
        self.count, self.divide_lamp = 0, divide_lamp
        self.mean, self.squares = np.zeros(size), np.zeros(size)
        self.first = 0.0

    def add(self, frame: Floats) -> None:
        """Take one more frame; Welford's algorithm."""
        level = float(np.median(frame))
        if self.divide_lamp:
            self.first = self.first or level
            frame = frame + (self.first - level) * (self.mean if self.count else frame) / (
                float(np.median(self.mean)) if self.count else level
            )
        self.count += 1
        change = frame - self.mean
        self.mean += change / self.count
        self.squares += change * (frame - self.mean)

    @property
    def variance(self) -> Floats:
        """Unbiased variance of each pixel."""
        return self.squares / (self.count - 1)


def _calibration(dark: _Moments, flats: Sequence[_Moments]) -> CameraCalibration:
    """Return the maps from the moments of the frames."""
    offset, read = dark.mean, np.sqrt(dark.variance)
    usual = float(np.median(read))
    if not usual > 0:
        raise UserError("the dark frames are all the same: they hold no read noise to measure")
    top, bottom = np.zeros(offset.shape), np.zeros(offset.shape)
    for flat in flats:
        signal, variance = flat.mean - offset, flat.variance - dark.variance
        if float(np.median(signal)) < MIN_SIGNAL * usual:
            raise UserError(
                f"the flat frames are no brighter than the dark ones ({np.median(flat.mean):.4g} "
                f"and {np.median(offset):.4g}): they must be lit"
            )
        # the error of a variance v from n frames is v √(2 / (n − 1))
        weight = (flat.count - 1) / (2 * np.median(flat.variance) ** 2)
        top = top + weight * signal * variance
        bottom = bottom + weight * signal**2
    gain = top / np.maximum(bottom, np.finfo(float).tiny)
    error = 1 / np.sqrt(np.maximum(bottom, np.finfo(float).tiny))
    defects = _defects(offset, gain, read)
    bad = np.zeros(offset.shape, bool)
    for y, x, _ in defects:
        bad[y, x] = True
    middle = float(np.median(gain[~bad]))
    if not middle > 0:
        raise UserError(
            "the flat frames vary no more than the dark ones: the gain cannot be measured from them"
        )
    measured = float(np.median(error[~bad])) / middle
    spread = robust_deviation(gain[~bad]) / middle
    true = max(spread**2 - measured**2, 0.0)
    share = true / max(spread**2, np.finfo(float).tiny)
    gain = middle + share * (gain - middle)
    return CameraCalibration(
        offset=np.where(bad, np.nan, offset),
        gain=np.where(bad, np.nan, gain),
        read_noise=np.where(bad, np.nan, read),
        defects=defects,
        gain_spread=float(np.sqrt(true)),
        gain_error=measured,
        dark_frames=dark.count,
        flat_frames=sum(flat.count for flat in flats),
    )


def _defects(offset: Floats, gain: Floats, read: Floats) -> list[tuple[int, int, str]]:
    """Return the pixels that record nothing of use, and why."""
    # the logarithm of the read noise of good pixels is nearly normal
    tests = {
        "noisy": _deviation(np.log(np.maximum(read, 1e-3 * np.median(read)))) > MIN_DEVIATION,
        "bright in the dark": _deviation(offset) > MIN_DEVIATION,
        "dark in the dark": _deviation(offset) < -MIN_DEVIATION,
        "insensitive": gain <= 0,
    }
    found: dict[tuple[int, int], str] = {}
    for reason, which in tests.items():
        for y, x in np.argwhere(which):
            found.setdefault((int(y), int(x)), reason)
    if len(found) > MAX_DEFECTIVE_SHARE * offset.size:
        raise UserError(
            f"{len(found)} of {offset.size} pixels would be defective: are the frames dark and "
            "flat frames of one camera with one setting?"
        )
    return sorted((y, x, reason) for (y, x), reason in found.items())


def _deviation(values: Floats) -> Floats:
    """Return by how many robust standard deviations values differ from their median."""
    deviation = max(robust_deviation(values), np.finfo(float).tiny)
    found: Floats = (values - np.median(values)) / deviation
    return found


def _opened(frames: Any, name: str) -> list[Image]:
    """Return images of frames, with axes for arrays that have none."""
    several = frames if isinstance(frames, list | tuple) else [frames]
    if not several:
        raise UserError(f"there are no {name} frames")
    axes = [None if isinstance(f, Image) else "STZYX"[-np.ndim(f) :] for f in several]
    return [as_images(f, a)[0] for f, a in zip(several, axes, strict=True)]


def _levels(images: Sequence[Image]) -> list[list[Image]]:
    """Return the images of each brightness: each stack is one, all single frames are another."""
    single = [image for image in images if _count(image) == 1]
    return [[image] for image in images if _count(image) > 1] + ([single] if single else [])


def _size(image: Image) -> tuple[int, int]:
    y, x = (int(image.data.shape[image.axes.index(a)]) for a in "YX")
    return y, x


def _count(image: Image) -> int:
    """Return the number of frames of an image."""
    height, width = _size(image)
    return int(np.prod(image.data.shape, dtype=np.int64)) // (height * width)


def _frames(images: Sequence[Image]) -> Iterator[Floats]:
    """Yield each frame, shape ``(Y, X)``."""
    for image in images:
        others = [
            range(n) for a, n in zip(image.axes, image.data.shape, strict=True) if a not in "YX"
        ]
        for at in product(*others):
            where = iter(at)
            index = tuple(slice(None) if a in "YX" else next(where) for a in image.axes)
            frame = read_piece(image.data, index).astype(np.float64)
            yield frame if image.axes.index("Y") < image.axes.index("X") else frame.T
