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
from ..score.model import ScoreModel
from ._faulty_frames import faults_of
from ._from_score import Probe, probe
from ._read_frames import MAX_REPEATS, middle, spread_over

# Number of scenes, and their size in pixels along Y and X, and along Z: the network takes one or
# two seconds for each piece.
MAX_SCORED_SCENES = 4
MAX_PIECE_SIZE = 512
MAX_DEPTH = 8


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
        which = middle(sizes.get(repeats, 1), MAX_REPEATS)
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
            scenes.append(scene)
    return scenes


def with_neighbours(scene: Sequence[Piece]) -> list[tuple[Piece, list[Piece]]]:
    """Return repeats of a scene, each with the repeats that it is compared with.

    Given three or more repeats, each inner one is compared with its two neighbours: steady motion
    and bleaching affect a repeat and the mean of its neighbours equally.
    """
    if len(scene) < 3:
        return [(piece, [*scene[:i], *scene[i + 1 :]]) for i, piece in enumerate(scene)]
    return [(scene[i], [scene[i - 1], scene[i + 1]]) for i in range(1, len(scene) - 1)]


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
