"""Return a result as a dask array, computed block by block when it is needed."""

from __future__ import annotations

import uuid
from typing import Any

import dask.array as da
import numpy as np

from ._blocks import compute_block, read_block, round_to_dtype
from .grey_level_range import check_block
from .halo import Array, without_halo
from .job import Job, Quantity
from .tile_size import cut_axis


def lazy_array(job: Job, quantity: Quantity, dtype: np.dtype[Any]) -> da.Array:
    """Return a quantity of an image as a lazy array; nothing is read or computed yet.

    Parameters
    ----------
    job : Job
        The job, prepared without a comparison of grey levels: the first block that is computed
        is compared instead, so that nothing else is read.
    quantity : Quantity
        What to compute.
    dtype : numpy.dtype
        Type of the pixels; integers are rounded and clipped.

    Returns
    -------
    dask.array.Array
        Shape and axes of the image, one chunk per block.
    """
    where = job.layout
    sizes = dict(zip(where.space, job.block, strict=True)) | dict.fromkeys(where.loop, 1)
    chunks = tuple(
        tuple(cut.stop - cut.start for cut in cut_axis(n, sizes.get(a, n)))
        for a, n in zip(where.axes, where.shape, strict=True)
    )
    compared: set[int] = set()  # by the identity of the model, as each channel may have its own

    def compute_chunk(block_info: Any = None) -> Array:
        place = [slice(*ends) for ends in block_info[None]["array-location"]]
        at = dict(zip(where.axes, place, strict=True))
        position = [at[a].start for a in where.loop]
        space = [at[a] for a in where.space]
        read = read_block(job, position, space)
        own = job.at(position)
        if id(own.model) not in compared and (read.invalid is None or not read.invalid.all()):
            check_block(without_halo(read, own.model, space, own.reach), own.model)
            compared.add(id(own.model))
        values, _ = compute_block(job, quantity, read, position, space, job.tile)
        values = values.astype(np.float32, copy=False)
        # in the same task: napari caches the result of every task of a layer
        values = values if dtype == np.float32 else round_to_dtype(values, dtype)
        return values[tuple(None if a in where.loop else slice(None) for a in where.axes)]

    lazy: da.Array = da.map_blocks(
        compute_chunk,
        chunks=chunks,
        dtype=dtype,
        meta=np.empty((0,) * len(chunks), dtype),
        name=f"{quantity.name}-{uuid.uuid4().hex}",
    )
    return lazy
