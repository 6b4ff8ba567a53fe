"""Read the planes whose residual a noise check computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..denoising.denoise import denoise
from ..image.arrays import read_piece
from ..image.image import Image
from ..image.valid import valid_of
from ..noise import NoiseModel
from ..score.model import ScoreModel
from ._check_residual import ComparedPlane
from ._faulty_frames import faults_of
from ._read_frames import middle, read_planes, spread_over
from ._units import in_units

MAX_PLANES = 4
#: Pixels of a plane along Y and X.
MAX_PLANE_SIZE = 512
#: Tile sizes by the number of dimensions of a model: small, so that little more than the planes is
#: denoised.
TILES: dict[int, tuple[int, ...]] = {2: (256, 256), 3: (8, 128, 128)}

Place = dict[str, Any]


def count_planes(images: Sequence[Image], repeats: str) -> int:
    """Return the number of planes whose residual is computed."""
    return min(MAX_PLANES, sum(len(_places(image, repeats, MAX_PLANES)) for image in images))


def read_compared_planes(
    images: Sequence[Image],
    noise: NoiseModel,
    model: ScoreModel | None,
    denoised: Sequence[Any] | None,
    repeats: str,
    scenes: Sequence[NDArray[Any]],
) -> Iterator[ComparedPlane]:
    """Read a few planes, and the clean plane or the next repeat that each is compared with.

    Parameters
    ----------
    images : sequence of Image
        Noisy images.
    noise : NoiseModel
        The noise model used for denoising.
    model, repeats
        As for `check_noise`.
    denoised : sequence of array-like, optional
        Each image, denoised.
    scenes : sequence of ndarray
        Frames to compare if all of the planes are faulty, shape ``(repeats, Y, X)``.

    Yields
    ------
    ComparedPlane
        In double precision.
    """
    each = -(-MAX_PLANES // len(images))
    left, found = MAX_PLANES, 0
    known = [None] * len(images) if denoised is None else denoised
    for image, clean in spread_over(list(zip(images, known, strict=True)), MAX_PLANES):
        if model is not None and clean is None:
            clean = denoise(image, model, noise, tile=TILES[model.ndim]).data
        for place, following in _places(image, repeats, each)[:left]:
            left -= 1
            y = _read(image, place)
            if clean is not None:
                found += 1
                piece = read_piece(clean, tuple(place[a] for a in image.axes))
                yield ComparedPlane(y, x=_arranged(piece, image.axes) - noise.offset)
                continue
            other = _read(image, following) if following else None
            # faulty frames were also left out of the estimate
            if other is None or not any(faults_of([y, other])):
                found += 1
                yield ComparedPlane(y, other)
    if not found:
        for scene in scenes[:MAX_PLANES]:
            frames = in_units(scene, 1.0)
            yield ComparedPlane(frames[0], frames[1] if len(frames) > 1 else None)


def _places(image: Image, repeats: str, count: int) -> list[tuple[Place, Place | None]]:
    """Return the indices of a few planes, cut to their middle, and of the next repeat of each."""
    shape = dict(zip(image.axes, image.data.shape, strict=True))
    plane = {a: middle(shape[a], MAX_PLANE_SIZE) for a in "YX"}
    others = [a for a in image.axes if a not in plane]
    axis = repeats.upper()
    total = shape.get(axis, 1)
    # pairs of frames without a frame in common
    pairs = range(0, total - 1, 2) if total > 1 else range(1)
    ranges = [pairs if a == axis else range(shape[a]) for a in others]
    positions = list(product(*ranges))
    found: list[tuple[Place, Place | None]] = []
    for position in positions[len(positions) // count // 2 :: -(-len(positions) // count)]:
        at: Place = plane | dict(zip(others, position, strict=True))
        following = at | {axis: at[axis] + 1} if total > 1 else None
        found.append((at, following))
    return found


def _read(image: Image, place: Place) -> NDArray[np.float64]:
    """Read a plane, ``(Y, X)``, in double precision; masked where it is not valid."""
    planes = read_planes(image.data, image.axes, valid_of(image), place)
    plane: NDArray[np.float64] = in_units(planes, 1.0)[0]
    return plane


def _arranged(piece: NDArray[Any], axes: str) -> NDArray[np.float64]:
    """Return a plane as ``(Y, X)``, in double precision."""
    return (piece if axes.index("Y") < axes.index("X") else piece.T).astype(np.float64)
