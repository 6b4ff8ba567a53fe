"""The few pieces of an image that its noise is read off."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..denoising.tiles import fit, read_around, solved
from ..errors import DataWarning, UserError
from ..image.arrays import read_piece
from ..image.axes import Layout, layout
from ..image.image import as_image
from ..image.valid import ValidPixels, valid_of
from ..score.model import ScoreModel
from ._faulty_frames import faults_of
from ._from_score import Probe, probe

# what is looked at: so many pixels of a shot in all, in no more scenes than this, shots of each
# scene, and pixels of one along Y and X
PIXELS = 2**23
SCENES = 32
SHOTS = 4
SIZE = 1024
# and what the network is asked of: it takes a second or two for such a piece
PIECES = 4
PIECE = 512
THICK = 8


class View(NamedTuple):
    """A piece of an image: where it is, and how it lies."""

    data: Any
    valid: ValidPixels
    where: Layout
    position: Sequence[int]
    space: Sequence[slice]


def shots_of(images: Sequence[Any], axes: str | None, repeats: str) -> list[np.ndarray]:
    """Read the middle of a few scenes, each ``(shots, Y, X)``, and warn of frames left out."""
    scenes, left_out = read_scenes(images, axes, repeats)
    for text in left_out:
        warnings.warn(text, DataWarning, stacklevel=3)
    return scenes


def read_scenes(
    images: Sequence[Any], axes: str | None, repeats: str, channel: int | None = None
) -> tuple[list[np.ndarray], list[str]]:
    """Read the middle of a few scenes.

    Parameters
    ----------
    images : sequence of Image or array-like
        Noisy images.
    axes : str or None
        Their axes, where they are not an `Image`.
    repeats : str
        Axis of the shots of a scene.
    channel : int, optional
        The one channel that is read; all by default.

    Returns
    -------
    scenes : list of ndarray
        Each ``(shots, Y, X)``, dtype of the image; a masked array if some pixels are not valid.
    left_out : list of str
        What was left out, one line each, as "frame 3 of 10 is black and is left out".
    """
    sizes = [_plane(one, axes) for one in images]
    most = min(SCENES, PIXELS * len(sizes) // sum(sizes))
    each = max(1, most // len(images))
    scenes, left_out = [], []
    blank = 0
    for one in spread_over(images, most):
        for scene, said in _scenes(one, axes, repeats.upper(), each, channel):
            left_out += said
            if scene is None:
                blank += 1
            else:
                scenes.append(scene)
    if not scenes:
        raise UserError(
            "the images hold no valid pixel: all that were looked at are NaN, infinite, masked or "
            "padding"
        )
    varied = [scene for scene in scenes if len(scene) > 1 or not _constant(scene)]
    blank += len(scenes) - len(varied)
    if varied and blank:
        left_out.append(
            f"{blank} of {blank + len(varied)} planes looked at are black or constant and are "
            "left out"
        )
    return varied or scenes, list(dict.fromkeys(left_out))


def _constant(scene: np.ndarray) -> bool:
    return bool(np.ma.getdata(scene).size and scene.min() == scene.max())


def views_of(
    images: Sequence[Any], axes: str | None, repeats: str, model: ScoreModel
) -> list[list[View]]:
    """Choose the pieces of a few scenes that a score is asked of; shots of one are together."""
    views: list[list[View]] = []
    each = max(1, PIECES // len(images))
    for image in spread_over(images, PIECES):
        image = as_image(image, axes)
        data, letters, valid = image.data, image.axes, valid_of(image)
        where = fit(layout(letters, data.shape, model.ndim), model)
        sizes = {a: where.shape[where.axes.index(a)] for a in where.loop}
        shots = middle(sizes.get(repeats, 1), SHOTS)
        others = list(product(*(range(n) for a, n in sizes.items() if a != repeats)))
        space = [
            middle(n, THICK if a == "Z" else PIECE)
            for a, n in zip(where.space, where.space_shape, strict=True)
        ]
        for other in spread_over(others, each):
            rest = iter(other)
            fixed = {a: next(rest) for a in where.loop if a != repeats}
            scene = [
                View(data, valid, where, [(fixed | {repeats: t})[a] for a in where.loop], space)
                for t in range(shots.start, shots.stop)
            ]
            if len(scene) > 1:
                faults = faults_of(
                    [
                        _masked(view).reshape(
                            -1, len(range(*space[-1].indices(where.space_shape[-1])))
                        )
                        for view in scene
                    ]
                )
                scene = [view for view, fault in zip(scene, faults, strict=True) if not fault]
            views.append(scene)
    return views


def look(view: View, model: ScoreModel, change: str = "") -> Probe:
    """Read a piece, and ask the score of it."""
    y = _read(view, model)
    return probe(model, y.to(model.device), solved(model, view.space), change)


def grey_levels(view: View, model: ScoreModel) -> Tensor:
    """Read a piece, and ask no score; planes as in a `Probe`."""
    return _read(view, model)[solved(model, view.space)].flatten(0, -3)


def valid_pixels(view: View) -> Tensor | None:
    """Say which pixels of a piece are valid, bool, planes as in a `Probe`; None if all are."""
    _, invalid = view.valid.read(view.data, view.where, view.position, view.space)
    return None if invalid is None else torch.from_numpy(~invalid).flatten(0, -3)


def _read(view: View, model: ScoreModel) -> Tensor:
    return read_around(view.data, view.where, model, view.position, view.space, valid=view.valid).y


def _masked(view: View) -> np.ndarray:
    block, invalid = view.valid.read(view.data, view.where, view.position, view.space)
    return block if invalid is None else np.ma.MaskedArray(block, invalid)


def _scenes(
    image: Any, axes: str | None, repeats: str, most: int, channel: int | None = None
) -> list[tuple[np.ndarray | None, list[str]]]:
    """Read the middle of a few scenes, ``(shots, Y, X)``, and say which shots are left out."""
    image = as_image(image, axes)
    data, letters, valid = image.data, image.axes, valid_of(image)
    shape = dict(zip(letters, data.shape, strict=True))
    count = shape.get(repeats, 1)
    plane = {a: middle(shape[a], SIZE) for a in "YX"}
    shots = middle(count, SHOTS)
    others = [a for a in letters if a not in ("Y", "X", repeats)]
    ranges = [[channel] if a == "C" and channel is not None else range(shape[a]) for a in others]
    positions = list(product(*ranges))
    scenes: list[tuple[np.ndarray | None, list[str]]] = []
    for position in spread_over(positions, most):
        at: dict[str, Any] = dict(zip(others, position, strict=True)) | plane
        scene = read_planes(data, letters, valid, at, repeats, shots)
        numbers = list(range(shots.start, shots.stop))
        faults = faults_of(list(scene)) if len(scene) > 1 else [""]
        if any(faults) and count > len(scene):
            # there are others in their place
            more = slice(max(0, shots.start - SHOTS), min(count, shots.stop + SHOTS))
            scene = read_planes(data, letters, valid, at, repeats, more)
            numbers = list(range(more.start, more.stop))
            faults = faults_of(list(scene))
        said = [
            f"frame {number + 1} of {count} {fault} and is left out"
            for number, fault in zip(numbers, faults, strict=True)
            if fault
        ]
        kept = [i for i, fault in enumerate(faults) if not fault][:SHOTS]
        scene = scene[kept] if len(kept) < len(scene) else scene
        blank = isinstance(scene, np.ma.MaskedArray) and scene.count() == 0
        scenes.append((None if blank else scene, said))
    return scenes


def read_planes(
    data: Any,
    letters: str,
    valid: ValidPixels,
    at: dict[str, Any],
    along: str = "",
    which: slice = slice(1),
) -> np.ndarray:
    """Read planes that lie one after the other along an axis.

    Parameters
    ----------
    data : array-like
        The image.
    letters : str
        Its axes.
    valid : ValidPixels
        Which of its pixels are valid.
    at : dict
        Slices along Y and X, and the index along every other axis.
    along : str
        The axis along which there are several planes; there may be none of this name.
    which : slice
        Where along it.

    Returns
    -------
    ndarray
        Shape ``(planes, Y, X)``, dtype of the image; a masked array if some pixels are not valid.
    """
    shape = dict(zip(letters, data.shape, strict=True))
    wide: dict[str, Any] = dict(at) | {along: which}
    inner = []
    for a in "YX":
        first = max(at[a].start - valid.halo, 0)
        wide[a] = slice(first, min(at[a].stop + valid.halo, shape[a]))
        inner.append(slice(at[a].start - first, at[a].stop - first))
    left = [a for a in letters if not isinstance(wide[a], int | np.integer)]
    order = [left.index(a) for a in (along, "Y", "X") if a in left]

    def arranged(array: Any, place: dict[str, Any]) -> np.ndarray:
        piece = read_piece(array, tuple(place[a] for a in letters)).transpose(order)
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


def _plane(image: Any, axes: str | None) -> int:
    """Give how many pixels of a plane of it are read."""
    data, letters = named(image, axes)
    return math.prod(min(n, SIZE) for a, n in zip(letters, data.shape, strict=True) if a in "YX")


def spread_over(items: Sequence[Any], most: int) -> list[Any]:
    """Give items that lie evenly among all, no more than this."""
    count = min(len(items), most)
    return [items[i * len(items) // count] for i in range(count)]


def named(image: Any, axes: str | None) -> tuple[Any, str]:
    """Give the array and its axes."""
    image = as_image(image, axes)
    return image.data, image.axes


def middle(size: int, most: int) -> slice:
    """Give the middle of an axis, no longer than this."""
    start = max(0, (size - most) // 2)
    return slice(start, min(size, start + most))
