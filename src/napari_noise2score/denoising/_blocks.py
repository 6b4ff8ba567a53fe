"""Read and compute one block of an image, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from dask.utils import SerializableLock

from ..errors import UserError, is_memory_error
from ..image.axes import read_block as read_raw
from .halo import Array, BlockData, halo_of, read_with_halo, solved_region
from .job import Job, Quantity
from .tile_size import cut_axis, halve_tile

# one tile at a time on the device: several would only share its memory and cores
_LOCK = SerializableLock("napari-noise2score")


def read_block(job: Job, position: Sequence[int], space: Sequence[slice]) -> BlockData:
    """Read a block of a job's image with its halo."""
    job = job.at(position)
    return read_with_halo(
        job.data, job.layout, job.model, position, space, job.reach, job.valid(), job.recent
    )


def compute_block(
    job: Job,
    quantity: Quantity,
    read: BlockData,
    position: Sequence[int],
    space: Sequence[slice],
    tile: tuple[int, ...],
) -> tuple[Array, tuple[int, ...]]:
    """Compute a block tile by tile; where memory runs out, in smaller tiles.

    Parameters
    ----------
    job : Job
        The job.
    quantity : Quantity
        What to compute.
    read : BlockData
        The block, as from `read_block`.
    position : sequence of int
        Its index along each looped axis.
    space : sequence of slice
        Its place along each axis of space.
    tile : tuple of int
        Size of a tile to begin with.

    Returns
    -------
    values : ndarray
        The axes of the image without the looped ones, float32, or float64 where large integers
        stay as they are.
    tile : tuple of int
        Size of tile that fitted in memory.

    Raises
    ------
    UserError
        If not even the smallest tile fits in memory.
    """
    job = job.at(position)
    block, invalid = read.block, read.invalid
    if block is not None and job.grey_levels is not None:
        # invalid pixels keep what was recorded, not what the correction makes of it
        block = read_raw(job.grey_levels.raw, job.layout, position, space)
    if invalid is not None and invalid.all():
        return job.layout.from_block(_values_of_invalid(quantity, block, invalid)), tile
    shape = [place.stop - place.start for place in space]
    result = torch.empty((job.layout.channels, *shape))
    remaining = _tiles_of(shape, tile)
    while remaining:
        place = remaining[0]
        smaller = None
        try:
            result[(slice(None), *place)] = _compute_tile(job, quantity, read, place)
        except (MemoryError, RuntimeError) as error:
            if not is_memory_error(error):
                raise
            smaller = halve_tile(tile, job.model.network.stride)
            if smaller is None:
                raise UserError(
                    f"a tile of {'x'.join(map(str, tile))} does not fit in the memory of "
                    f"{job.model.device}: close other programs that use it, or choose another "
                    "device"
                ) from None
        if smaller is None:
            remaining.pop(0)
        else:
            # outside the handler, as the exception holds on to the tile's memory
            if job.model.device.type == "cuda":
                torch.cuda.empty_cache()
            tile = smaller
            remaining = _tiles_of(shape, tile)
    values = result.numpy()
    if job.grey_levels is not None:
        values = values / job.grey_levels.factor_at(job.layout, position, space)
    if invalid is not None:
        values = np.where(invalid, _values_of_invalid(quantity, block, invalid), values)
    return job.layout.from_block(values), tile


def round_to_dtype(values: Array, dtype: np.dtype[Any]) -> Array:
    """Round and clip to an integer type, NaN to 0; convert to a float type unchanged."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(
            np.rint(np.nan_to_num(values, posinf=np.inf, neginf=-np.inf)), limits.min, limits.max
        )
    return values.astype(dtype)


def _tiles_of(shape: Sequence[int], tile: Sequence[int]) -> list[tuple[slice, ...]]:
    return list(product(*(cut_axis(n, t) for n, t in zip(shape, tile, strict=True))))


def _values_of_invalid(quantity: Quantity, block: Array | None, invalid: Array) -> Array:
    """Return the result of invalid pixels, of the shape of their block."""
    if quantity.invalid is not None or block is None:
        return np.full(invalid.shape, quantity.invalid, np.float32)
    # float32 does not hold every value of a large integer type
    is_wide = block.dtype.kind in "ui" and block.dtype.itemsize > 2
    return block.astype(np.float64 if is_wide else np.float32)


def _compute_tile(
    job: Job, quantity: Quantity, read: BlockData, place: Sequence[slice]
) -> torch.Tensor:
    """Compute one tile of a block, shape ``(channels, *space)``."""
    with_halo: list[Any] = [...]
    for at, halo, stride in zip(
        place, halo_of(job.model, job.reach), job.model.network.stride, strict=True
    ):
        size = -(-(at.stop - at.start) // stride) * stride
        with_halo.append(slice(at.start, at.start + size + 2 * halo))
    with _LOCK, torch.inference_mode():
        region = solved_region(job.model, place, job.reach)
        y, context = (
            None if values is None else values[tuple(with_halo)].to(job.model.device)
            for values in (read.y, read.context)
        )
        assert y is not None
        x = quantity.compute(job, y, region, context)
        # without the margin that only the solver needs
        inner = slice(job.reach, -job.reach or None)
        return x[0, ..., inner, inner].cpu()
