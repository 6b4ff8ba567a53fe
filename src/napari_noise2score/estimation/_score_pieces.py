"""Choose and read the pieces of images at which a trained score is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..denoising.halo import BlockData, read_with_halo, solved_region
from ..denoising.job import fit_layout
from ..image.axes import Layout, layout
from ..image.image import Image
from ..image.valid import ValidPixels, valid_of
from ..score.context import Context, neighbours_of
from ..score.model import ScoreModel
from ._faulty_frames import COPY, faults_of
from ._from_score import Probe, probe
from ._read_frames import middle, spread_over

# Number of scenes, and their size in pixels along Y and X, and along Z: the network takes one or
# two seconds for each piece.
MAX_SCORED_SCENES = 4
MAX_PIECE_SIZE = 512
MAX_DEPTH = 8
# Repeats of each scene that are denoised and compared with others.
MAX_COMPARED = 2


class Piece(NamedTuple):
    """A piece of an image: where it is, and how its axes are arranged."""

    data: Any
    valid: ValidPixels
    layout: Layout
    position: Sequence[int]
    space: Sequence[slice]


def choose_pieces(images: Sequence[Image], repeats: str, model: ScoreModel) -> list[list[Piece]]:
    """Choose pieces of a few scenes; return a list of repeats for each.

    Parameters
    ----------
    images : sequence of Image
        Noisy images.
    repeats : str
        Axis of the repeats, in upper case.
    model : ScoreModel
        The score that is evaluated.

    Returns
    -------
    list of list of Piece
        Faulty repeats are left out.
    """
    scenes: list[list[Piece]] = []
    each = max(1, MAX_SCORED_SCENES // len(images))
    for image in spread_over(images, MAX_SCORED_SCENES):
        data, valid = image.data, valid_of(image)
        where = fit_layout(layout(image.axes, data.shape, model.ndim), model)
        sizes = {a: where.shape[where.axes.index(a)] for a in where.loop}
        distances = [abs(by) for axis, by in model.context.offsets if axis == repeats]
        beyond = max(distances, default=0) + min(distances, default=1)
        which = middle(sizes.get(repeats, 1), MAX_COMPARED + 2 * beyond)
        others = list(product(*(range(n) for a, n in sizes.items() if a != repeats)))
        space = [
            middle(n, MAX_DEPTH if a == "Z" else MAX_PIECE_SIZE)
            for a, n in zip(where.space, where.space_shape, strict=True)
        ]
        for other in spread_over(others, each):
            rest = iter(other)
            fixed = {a: next(rest) for a in where.loop if a != repeats}
            scene = [
                Piece(data, valid, where, [(fixed | {repeats: t})[a] for a in where.loop], space)
                for t in range(which.start, which.stop)
            ]
            if len(scene) > 1:
                width = len(range(*space[-1].indices(where.space_shape[-1])))
                faults = faults_of([_masked(piece).reshape(-1, width) for piece in scene])
                scene = [piece for piece, fault in zip(scene, faults, strict=True) if not fault]
                if distances and COPY in faults:
                    # what the score sees may be a copy of what it would be compared with
                    scene = scene[:1]
            scenes.append(scene)
    return scenes


def with_independent(scene: Sequence[Piece], context: Context) -> list[tuple[Piece, list[Piece]]]:
    """Return repeats of a scene, each with the repeats that it is compared with.

    A repeat is compared with the nearest ones before and after it: steady motion and bleaching
    affect a repeat and the mean of these equally. Where no repeat has both, each is compared with
    all that there are.

    Parameters
    ----------
    scene : sequence of Piece
        Repeats in order.
    context : Context
        What the score sees beside a repeat. A denoised repeat is no independent comparison for
        those that it was denoised with, nor for those nearer than they are, whose noise was found
        to be correlated when the context was chosen.

    Returns
    -------
    list of (Piece, list of Piece)
        At most `MAX_COMPARED`, from the middle of the scene; the lists are empty if there is no
        independent repeat.
    """
    rows = []
    for i, piece in enumerate(scene):
        before, after = (
            [other for other in others if _is_independent(piece, other, context)]
            for others in (scene[:i], scene[i + 1 :])
        )
        rows.append((piece, before, after))
    pairs = [(piece, [before[-1], after[0]]) for piece, before, after in rows if before and after]
    pairs = pairs or [(piece, before + after) for piece, before, after in rows if before or after]
    pairs = pairs or [(piece, []) for piece in scene]
    return pairs[middle(len(pairs), MAX_COMPARED)]


def _is_independent(piece: Piece, other: Piece, context: Context) -> bool:
    """Return whether the noise of another repeat is independent of a denoised piece."""
    at, there = piece.position, other.position
    axis = next(i for i, (a, b) in enumerate(zip(at, there, strict=True)) if a != b)
    name = piece.layout.loop[axis]
    nearest = min((abs(by) for a, by in context.offsets if a == name), default=1)
    beside = zip(context.offsets, neighbours_of(piece.layout, at, context), strict=True)
    # neighbours along other axes are of other scenes
    seen = [to[axis] for (a, _), to in beside if a == name and to is not None]
    return all(abs(t - there[axis]) >= nearest for t in (at[axis], *seen))


def evaluate_score(piece: Piece, model: ScoreModel, change: str = "") -> Probe:
    """Read a piece and evaluate the score, see `probe`."""
    read = _read(piece, model)
    context = None if read.context is None else read.context.to(model.device)
    return probe(model, read.y.to(model.device), solved_region(model, piece.space), change, context)


def read_grey_levels(piece: Piece, model: ScoreModel) -> Tensor:
    """Read a piece without evaluating the score, shape ``(planes, Y, X)`` as in a `Probe`."""
    return _read(piece, model).y[solved_region(model, piece.space)].flatten(0, -3)


def read_valid(piece: Piece) -> Tensor | None:
    """Return a mask of the valid pixels of a piece, shaped as in a `Probe`; None if all are."""
    _, invalid = piece.valid.read(piece.data, piece.layout, piece.position, piece.space)
    return None if invalid is None else torch.from_numpy(~invalid).flatten(0, -3)


def _read(piece: Piece, model: ScoreModel) -> BlockData:
    return read_with_halo(
        piece.data, piece.layout, model, piece.position, piece.space, valid=piece.valid
    )


def _masked(piece: Piece) -> NDArray[Any]:
    block, invalid = piece.valid.read(piece.data, piece.layout, piece.position, piece.space)
    return block if invalid is None else np.ma.MaskedArray(block, invalid)
