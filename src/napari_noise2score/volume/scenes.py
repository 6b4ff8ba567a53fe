"""The few pieces of an image that its noise is read off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..image.arrays import read_piece
from ..image.axes import Layout, layout
from ..image.image import as_image
from ..score.blind import Probe, probe
from ..score.model import ScoreModel
from .tiles import fit, read_around, solved

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
    where: Layout
    position: Sequence[int]
    space: Sequence[slice]


def shots_of(images: Sequence[Any], axes: str | None, repeats: str) -> list[np.ndarray]:
    """Read the middle of a few scenes, each ``(shots, Y, X)``."""
    sizes = [_plane(one, axes) for one in images]
    most = min(SCENES, PIXELS * len(sizes) // sum(sizes))
    each = max(1, most // len(images))
    return [
        scene
        for one in spread_over(images, most)
        for scene in _scenes(one, axes, repeats.upper(), each)
    ]


def views_of(
    images: Sequence[Any], axes: str | None, repeats: str, model: ScoreModel
) -> list[list[View]]:
    """Choose the pieces of a few scenes that a score is asked of; shots of one are together."""
    views: list[list[View]] = []
    each = max(1, PIECES // len(images))
    for image in spread_over(images, PIECES):
        data, letters = named(image, axes)
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
            views.append(
                [
                    View(data, where, [(fixed | {repeats: t})[a] for a in where.loop], space)
                    for t in range(shots.start, shots.stop)
                ]
            )
    return views


def look(view: View, model: ScoreModel, change: str = "") -> Probe:
    """Read a piece, and ask the score of it."""
    y = read_around(view.data, view.where, model, view.position, view.space)
    return probe(model, y.to(model.device), solved(model, view.space), change)


def grey_levels(view: View, model: ScoreModel) -> Tensor:
    """Read a piece, and ask no score; planes as in a `Probe`."""
    y = read_around(view.data, view.where, model, view.position, view.space)
    return y[solved(model, view.space)].flatten(0, -3)


def as_list(image: Any) -> list[Any]:
    """Give one image or several as a list."""
    return list(image) if isinstance(image, Sequence) else [image]


def _scenes(image: Any, axes: str | None, repeats: str, most: int) -> list[np.ndarray]:
    """Read the middle of a few scenes, each ``(shots, Y, X)``."""
    data, letters = named(image, axes)
    shape = dict(zip(letters, data.shape, strict=True))
    plane = {a: middle(shape[a], SIZE) for a in "YX"}
    shots = middle(shape.get(repeats, 1), SHOTS)
    others = [a for a in letters if a not in ("Y", "X", repeats)]
    positions = list(product(*(range(shape[a]) for a in others)))
    scenes = []
    for position in spread_over(positions, most):
        at: dict[str, Any] = dict(zip(others, position, strict=True)) | plane | {repeats: shots}
        piece = read_piece(data, tuple(at[a] for a in letters))
        left = [a for a in letters if a not in others]
        order = [left.index(a) for a in (repeats, "Y", "X") if a in left]
        scenes.append(piece.transpose(order).reshape(-1, *piece.transpose(order).shape[-2:]))
    return scenes


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
