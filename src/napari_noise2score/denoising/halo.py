"""Read a block of an image with the halo that network and solver need around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..image.axes import Layout
from ..image.valid import FILL_REACH, ValidPixels, fill
from ..score.context import neighbours_of
from ..score.decorrelation import decorrelated, decorrelated_mask
from ..score.model import ScoreModel
from ..score.patches import join_neighbours
from ._recent import Frame, RecentFrames

Array = np.ndarray[Any, np.dtype[Any]]


class BlockData(NamedTuple):
    """A block as it was read, with its halo.

    Attributes
    ----------
    y : Tensor
        Grey levels of the block with its halo, shape ``(1, channels, *space)``, float32; invalid
        pixels are filled.
    block : ndarray or None
        The block itself as it is in the image, shape ``(channels, *space)``; None if all of its
        pixels are valid.
    invalid : ndarray or None
        Which pixels of the block are invalid, bool, of the same shape.
    context : Tensor or None
        What the network sees of the neighbours, of the size of y, see `ScoreModel.score`; None if
        the model has no context.
    """

    y: torch.Tensor
    block: Array | None = None
    invalid: Array | None = None
    context: torch.Tensor | None = None


def halo_of(model: ScoreModel, reach: int) -> list[int]:
    """Return the width of the halo along each axis of space, in whole strides of the network.

    Parameters
    ----------
    model : ScoreModel
        The model.
    reach : int
        Pixels along Y and X that the solver needs around each pixel, see `reach_of`.
    """
    network = model.network
    axes_before_yx = len(network.stride) - 2
    return [
        -(-(radius + (reach if axis >= axes_before_yx else 0)) // stride) * stride
        for axis, (radius, stride) in enumerate(zip(network.radius, network.stride, strict=True))
    ]


def read_with_halo(
    data: Any,
    where: Layout,
    model: ScoreModel,
    position: Sequence[int],
    space: Sequence[slice],
    reach: int = 0,
    valid: ValidPixels | None = None,
    recent: RecentFrames | None = None,
) -> BlockData:
    """Read a block with the halo that network and solver need, and its neighbours.

    Parameters
    ----------
    data : array-like
        The image; only the block and its halo are read.
    where : Layout
        Layout of the image.
    model : ScoreModel
        The model.
    position : sequence of int
        Index along each looped axis.
    space : sequence of slice
        The block along each axis of space. It may extend beyond the image, which is continued by
        reflection.
    reach : int
        Reach of the solver in pixels.
    valid : ValidPixels, optional
        Which pixels are valid; all by default.
    recent : RecentFrames, optional
        Where planes or volumes are kept for those beside them.

    Returns
    -------
    BlockData
    """
    context = model.context
    if not context.offsets:
        return BlockData(*_read_frame(data, where, model, position, space, reach, valid)[:3])
    recent = recent or RecentFrames()

    def frame_at(position: Sequence[int]) -> Frame:
        key = (tuple(position), tuple((at.start, at.stop) for at in space), reach)
        return recent.get(
            key, lambda: _read_frame(data, where, model, position, space, reach, valid)
        )

    own = frame_at(position)
    neighbours = []
    for other in neighbours_of(where, position, context):
        known = torch.full_like(own.y, torch.nan) if other is None else frame_at(other).known
        neighbours.append(known[0])
    seen = model.neighbour_input(join_neighbours(neighbours, context)[None])
    return BlockData(own.y, own.block, own.invalid, seen)


def _read_frame(
    data: Any,
    where: Layout,
    model: ScoreModel,
    position: Sequence[int],
    space: Sequence[slice],
    reach: int,
    valid: ValidPixels | None,
) -> Frame:
    """Read a block of one plane or volume with its halo."""
    kernel, valid = model.kernel, valid or ValidPixels()
    outer = []
    for axis, (place, halo, stride) in enumerate(
        zip(space, halo_of(model, reach), model.network.stride, strict=True)
    ):
        kernel_reach = kernel.reach if kernel and axis >= len(space) - 2 else 0
        size = -(-(place.stop - place.start) // stride) * stride
        outer.append((place.start - halo - kernel_reach, place.start + size + halo + kernel_reach))
    block, invalid = _read_reflected(data, where, position, outer, valid)
    own_block = own_invalid = None
    if invalid is not None:
        inner = (slice(None), *(
            slice(place.start - start, place.stop - start)
            for place, (start, _) in zip(space, outer, strict=True)
        ))  # fmt: skip
        if invalid[inner].any():
            own_block, own_invalid = block[inner], invalid[inner]
        block = _read_filled(data, where, model, position, outer, valid)
    block = np.asarray(block, dtype=np.float32)
    if kernel:
        block = decorrelated(block, kernel)
    y = known = torch.from_numpy(block)[None]
    if model.context.offsets and invalid is not None:
        unknown = decorrelated_mask(invalid, kernel) if kernel else invalid
        known = y.masked_fill(torch.from_numpy(unknown)[None], torch.nan)
    return Frame(y, own_block, own_invalid, known)


def solved_region(model: ScoreModel, place: Sequence[slice], reach: int = 0) -> tuple[slice, ...]:
    """Return the region of what `read_with_halo` read that is solved: the block and the reach.

    Parameters
    ----------
    model : ScoreModel
        The model.
    place : sequence of slice
        The block along each axis of space.
    reach : int
        Reach of the solver in pixels.

    Returns
    -------
    tuple of slice
        Index into the array of shape ``(1, channels, *space)``.
    """
    region = [slice(None), slice(None)]
    for axis, (at, halo) in enumerate(zip(place, halo_of(model, reach), strict=True)):
        more = reach if axis >= len(place) - 2 else 0
        region.append(slice(halo - more, halo + at.stop - at.start + more))
    return tuple(region)


def without_halo(
    read: BlockData, model: ScoreModel, place: Sequence[slice], reach: int = 0
) -> Array:
    """Return the grey levels of a block itself, NaN where a pixel is invalid.

    Parameters
    ----------
    read : BlockData
        The block, as from `read_with_halo`.
    model, reach
        As for `read_with_halo`.
    place : sequence of slice
        The block along each axis of space.

    Returns
    -------
    ndarray
        float64, shape ``(channels, *space)``.
    """
    inner = slice(reach, -reach or None)
    y = read.y[solved_region(model, place, reach)][0, ..., inner, inner].double().numpy()
    return y if read.invalid is None else np.where(read.invalid, np.nan, y)


def _read_filled(
    data: Any,
    where: Layout,
    model: ScoreModel,
    position: Sequence[int],
    outer: Sequence[tuple[int, int]],
    valid: ValidPixels,
) -> Array:
    """Read a block with its invalid pixels filled, with the same values in every block."""
    radius = max(model.network.radius[-2:])
    margin = radius + 2 * FILL_REACH
    wide = [
        (start - margin, stop + margin) if axis >= len(outer) - 2 else (start, stop)
        for axis, (start, stop) in enumerate(outer)
    ]
    block, invalid = _read_reflected(data, where, position, wide, valid)
    mean = torch.tensor(model.mean, dtype=torch.float64)
    block = np.asarray(block, dtype=np.float64)
    if invalid is not None:
        block = fill(block, invalid, radius, float(model.transform.inverse(mean)))
    return block[..., margin:-margin, margin:-margin]


def _read_reflected(
    data: Any,
    where: Layout,
    position: Sequence[int],
    outer: Sequence[tuple[int, int]],
    valid: ValidPixels,
) -> tuple[Array, Array | None]:
    """Read a block that may extend beyond the image, which is continued by reflection."""
    indices = []
    for (start, stop), n in zip(outer, where.space_shape, strict=True):
        # reflection without repeating the edge has a period of 2 n − 2
        at = np.arange(start, stop) % max(2 * n - 2, 1)
        indices.append(np.minimum(at, np.abs(2 * n - 2 - at)) if n > 1 else at * 0)
    space = [slice(int(at.min()), int(at.max()) + 1) for at in indices]
    block, invalid = valid.read(data, where, position, space)
    for axis, (at, read) in enumerate(zip(indices, space, strict=True), 1):
        block = np.take(block, at - read.start, axis=axis)
        if invalid is not None:
            invalid = np.take(invalid, at - read.start, axis=axis)
    return block, invalid
