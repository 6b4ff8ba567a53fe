"""Sizes of tiles: parse them, choose the largest that fits in memory, halve them, cut axes."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence

from ..errors import UserError, quoted
from ..image.axes import Layout
from ..score.device import free_memory
from ..score.model import ScoreModel

# from the largest to the smallest; the largest that fits in memory is chosen
TILE_SIZES: dict[int, tuple[tuple[int, ...], ...]] = {
    2: ((2048, 2048), (1024, 1024), (512, 512), (256, 256), (128, 128), (64, 64)),
    3: ((32, 256, 256), (16, 256, 256), (16, 128, 128), (8, 128, 128), (8, 64, 64)),
}
MAX_PIXELS_ON_CPU = 32 * 256 * 256  # larger tiles are not faster on a CPU
BYTES_PER_FEATURE = 30  # measured: peak memory of the network, per pixel and feature
CPU_MEMORY_SHARE, GPU_MEMORY_SHARE = 0.25, 0.7  # of the free memory; a CPU's is shared with others
MAX_TILE_AXES = 3
MIN_SIDE_TO_HALVE = 16  # pixels; no side of this length or less is halved


def parse_tile(text: str) -> tuple[int, ...]:
    """Parse the size of a tile.

    Parameters
    ----------
    text : str
        A whole number of pixels for each axis of space, as ``"512x512"`` or ``"16x256x256"``.

    Returns
    -------
    tuple of int

    Raises
    ------
    UserError
        If the text is anything else.

    Examples
    --------
    >>> parse_tile("16x256x256")
    (16, 256, 256)
    """
    sizes = text.strip().lower().split("x", MAX_TILE_AXES)
    if not all(re.fullmatch("[0-9]{1,9}", size.strip()) for size in sizes):
        raise UserError(f"tile {quoted(text)}: write it as 512x512")
    return tuple(map(int, sizes))


def choose_tile(tile: Sequence[int] | None, where: Layout, model: ScoreModel) -> tuple[int, ...]:
    """Return the size of a tile along each axis of space, a multiple of the network's stride.

    Parameters
    ----------
    tile : sequence of int or None
        Requested size; None chooses the largest standard size that fits in the free memory.
    where : Layout
        Layout of the image.
    model : ScoreModel
        The model, on the device that evaluates it.

    Returns
    -------
    tuple of int

    Raises
    ------
    UserError
        If the requested size is not one positive whole number per axis of space.
    """
    stride = model.network.stride
    try:
        requested = tuple(map(operator.index, tile)) if tile is not None else _fitting_tile(model)
    except TypeError:
        requested = ()
    if len(requested) != len(stride) or min(requested) < 1:
        raise UserError(
            f"tile {quoted(str(tile))}: give a whole number above 0 for each of {where.space}"
        )
    # tiles start where the network's coarsest cells start; otherwise seams would be visible
    return tuple(-(-n // s) * s for n, s in zip(requested, stride, strict=True))


def halve_tile(tile: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return a tile halved along its longest side, in whole strides; None if it is minimal."""
    longest = max(range(len(tile)), key=lambda axis: tile[axis])
    half = -(-tile[longest] // (2 * stride[longest])) * stride[longest]
    if half == tile[longest] or tile[longest] <= MIN_SIDE_TO_HALVE:
        return None
    return tuple(half if axis == longest else n for axis, n in enumerate(tile))


def cut_axis(size: int, length: int) -> list[slice]:
    """Cut an axis into slices of one length, of which the last may be shorter.

    Examples
    --------
    >>> cut_axis(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + length, size)) for start in range(0, size, length)]


def _fitting_tile(model: ScoreModel) -> tuple[int, ...]:
    """Return the largest standard tile size that fits in the device's free memory."""
    network, on_cpu = model.network, model.device.type == "cpu"
    available = free_memory(model.device) * (CPU_MEMORY_SHARE if on_cpu else GPU_MEMORY_SHARE)
    for tile in TILE_SIZES[network.ndim]:
        with_halo = [n + 2 * r for n, r in zip(tile, network.radius, strict=True)]
        needed = BYTES_PER_FEATURE * network.width * math.prod(with_halo)
        if needed <= available and not (on_cpu and math.prod(tile) > MAX_PIXELS_ON_CPU):
            break
    return tile
