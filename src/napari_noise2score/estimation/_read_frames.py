"""Read a few frames of images, no more than are needed to measure the noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DataWarning, UserError
from ..image.arrays import read_piece
from ..image.image import Image
from ..image.valid import ValidPixels, valid_of
from ._faulty_frames import faults_of

T = TypeVar("T")

# Maximum number of pixels of one repeat in all scenes together, and of scenes.
MAX_PIXELS = 2**23
MAX_SCENES = 32
#: Repeats of each scene.
MAX_REPEATS = 4
# Pixels of a frame along Y and X.
MAX_FRAME_SIZE = 1024


def read_scenes_and_warn(
    images: Sequence[Image], repeats: str
) -> tuple[list[Any], tuple[str, ...]]:
    """Read as `read_scenes` does, and warn of each frame that is left out."""
    scenes, left_out = read_scenes(images, repeats)
    for text in left_out:
        warnings.warn(text, DataWarning, stacklevel=3)
    return scenes, tuple(left_out)


def read_scenes(
    images: Sequence[Image], repeats: str, channel: int | None = None
) -> tuple[list[NDArray[Any]], list[str]]:
    """Read the middle of a few scenes.

    Parameters
    ----------
    images : sequence of Image
        Noisy images.
    repeats : str
        Axis of the repeats of a scene.
    channel : int, optional
        The one channel that is read; all by default.

    Returns
    -------
    scenes : list of ndarray
        Each ``(repeats, Y, X)``, of the data type of the image; a masked array if some pixels are
        not valid.
    left_out : list of str
        What was left out, one line each, as "frame 3 of 10 is black and is left out".

    Raises
    ------
    UserError
        If no pixel is valid.
    """
    sizes = [_plane_size(image) for image in images]
    count = min(MAX_SCENES, MAX_PIXELS * len(sizes) // sum(sizes))
    each = max(1, count // len(images))
    scenes, left_out = [], []
    empty = 0
    for image in spread_over(images, count):
        for scene, lines in _scenes_of(image, repeats.upper(), each, channel):
            left_out += lines
            if scene is None:
                empty += 1
            else:
                scenes.append(scene)
    if not scenes:
        raise UserError(
            "the images hold no valid pixel: all that were read are NaN, infinite, masked or "
            "padding"
        )
    varied = [scene for scene in scenes if len(scene) > 1 or not _constant(scene)]
    empty += len(scenes) - len(varied)
    if varied and empty:
        left_out.append(
            f"{empty} of {empty + len(varied)} planes that were read are black or constant and "
            "are left out"
        )
    return varied or scenes, list(dict.fromkeys(left_out))


def _constant(scene: NDArray[Any]) -> bool:
    return bool(np.ma.getdata(scene).size and scene.min() == scene.max())


def _scenes_of(
    image: Image, repeats: str, count: int, channel: int | None = None
) -> list[tuple[NDArray[Any] | None, list[str]]]:
    """Read the middle of a few scenes, ``(repeats, Y, X)``, with a line on each faulty frame."""
    valid = valid_of(image)
    shape = dict(zip(image.axes, image.data.shape, strict=True))
    total = shape.get(repeats, 1)
    plane = {a: middle(shape[a], MAX_FRAME_SIZE) for a in "YX"}
    which = middle(total, MAX_REPEATS)
    others = [a for a in image.axes if a not in ("Y", "X", repeats)]
    ranges = [[channel] if a == "C" and channel is not None else range(shape[a]) for a in others]
    scenes: list[tuple[NDArray[Any] | None, list[str]]] = []
    for position in spread_over(list(product(*ranges)), count):
        at: dict[str, Any] = dict(zip(others, position, strict=True)) | plane
        scene = read_planes(image.data, image.axes, valid, at, repeats, which)
        numbers = list(range(which.start, which.stop))
        faults = faults_of(list(scene)) if len(scene) > 1 else [""]
        if any(faults) and total > len(scene):
            # other frames replace them
            more = slice(max(0, which.start - MAX_REPEATS), min(total, which.stop + MAX_REPEATS))
            scene = read_planes(image.data, image.axes, valid, at, repeats, more)
            numbers = list(range(more.start, more.stop))
            faults = faults_of(list(scene))
        lines = [
            f"frame {number + 1} of {total} {fault} and is left out"
            for number, fault in zip(numbers, faults, strict=True)
            if fault
        ]
        kept = [i for i, fault in enumerate(faults) if not fault][:MAX_REPEATS]
        scene = scene[kept] if len(kept) < len(scene) else scene
        empty = isinstance(scene, np.ma.MaskedArray) and scene.count() == 0
        scenes.append((None if empty else scene, lines))
    return scenes


def read_planes(
    data: Any,
    axes: str,
    valid: ValidPixels,
    at: dict[str, Any],
    along: str = "",
    which: slice = slice(1),
) -> NDArray[Any]:
    """Read successive planes along an axis.

    Parameters
    ----------
    data : array-like
        The image.
    axes : str
        Its axes.
    valid : ValidPixels
        Which of its pixels are valid.
    at : dict
        Slices along Y and X, and the index along every other axis.
    along : str
        The axis of the planes; if the image does not have it, a single plane is read.
    which : slice
        The range along it.

    Returns
    -------
    ndarray
        Shape ``(planes, Y, X)``, of the data type of the image; a masked array if some pixels are
        not valid.
    """
    shape = dict(zip(axes, data.shape, strict=True))
    wide: dict[str, Any] = dict(at) | {along: which}
    inner = []
    for a in "YX":
        first = max(at[a].start - valid.halo, 0)
        wide[a] = slice(first, min(at[a].stop + valid.halo, shape[a]))
        inner.append(slice(at[a].start - first, at[a].stop - first))
    left = [a for a in axes if not isinstance(wide[a], int | np.integer)]
    order = [left.index(a) for a in (along, "Y", "X") if a in left]

    def arranged(array: Any, place: dict[str, Any]) -> NDArray[Any]:
        piece = read_piece(array, tuple(place[a] for a in axes)).transpose(order)
        return piece.reshape(-1, *piece.shape[-2:])

    planes = arranged(data, wide)
    invalid = valid.invalid(np.ma.getdata(planes))
    cut = (slice(None), *inner)
    hidden = np.array(np.ma.getmaskarray(planes))[cut]
    planes = np.ma.getdata(planes)[cut]
    if invalid is not None:
        hidden |= invalid[cut]
    if valid.excluded is not None:
        hidden = hidden | arranged(valid.excluded, dict(at) | {along: which})
    return np.ma.MaskedArray(planes, hidden) if hidden.any() else planes


def _plane_size(image: Image) -> int:
    """Return the number of pixels of a plane that are read."""
    sizes = zip(image.axes, image.data.shape, strict=True)
    return math.prod(min(n, MAX_FRAME_SIZE) for a, n in sizes if a in "YX")


def spread_over(items: Sequence[T], count: int) -> list[T]:
    """Return at most a given number of items, evenly spaced."""
    count = min(len(items), count)
    return [items[i * len(items) // count] for i in range(count)]


def middle(size: int, length: int) -> slice:
    """Return the middle of an axis, at most of a given length."""
    start = max(0, (size - length) // 2)
    return slice(start, min(size, start + length))
