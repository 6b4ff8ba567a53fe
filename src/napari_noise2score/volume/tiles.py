"""Cut an image into tiles that can be worked on one by one, with all that a tile needs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
import torch
from dask.utils import SerializableLock

from ..errors import UserError
from ..noise import NoiseModel, Solver, make_solver, parse_noise
from ..noise.correlated import parts
from ..score.axes import Layout, layout, read_block
from ..score.device import choose_device
from ..score.model import ScoreModel
from ..score.patches import checked, decorrelated
from .image import Image

TILE = {2: (1024, 1024), 3: (32, 256, 256)}

# one tile at a time on the device: tiles side by side would only share its memory and cores
_LOCK = SerializableLock("napari-noise2score")


@dataclass(frozen=True)
class TileProgress:
    """How many tiles of how many are done."""

    done: int
    total: int


@dataclass(frozen=True)
class Job:
    """All that a tile needs: the image, how it lies, the score and the solver."""

    data: Any
    layout: Layout
    model: ScoreModel
    solve: Solver
    offset: float
    reach: int
    sigma_a: float
    tile: tuple[int, ...]


Compute = Callable[[Job, torch.Tensor, tuple[slice, ...]], torch.Tensor]
"""From a tile with what is around it, ``(1, channels, *space)``, and the part to solve."""


def prepare(
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
    exact: bool = True,
) -> Job:
    """Check that all fits together and make ready what every tile needs."""
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    if isinstance(image, Image):
        data, axes = image.data, axes or image.axes
    else:
        data = image if hasattr(image, "dtype") else np.asarray(image)
    if data.dtype.kind not in "uif":
        raise UserError(f"pixels of type {data.dtype} cannot be denoised; use numbers")
    if axes is None:
        if data.ndim != 2:
            raise UserError(
                f"the image has {data.ndim} dimensions: say which they are, as in axes='ZYX'"
            )
        axes = "YX"
    where = fit(layout(axes, data.shape, model.ndim), model)
    low, high = sigma_a_range = model.sigma_a_range
    sigma_a = model.sigma_a if sigma_a is None else sigma_a
    if not low <= sigma_a <= high:
        raise UserError(f"sigma_a={sigma_a:g}: the model was trained for {sigma_a_range}")
    solve = make_solver(
        noise, model.transform, sigma_a, model.low, model.high, model.recording, model.kernel, exact
    )
    size = _tile_size(tile, where, model.network.stride)
    kernel = parts(noise)[1]
    reach = kernel.reach if kernel else 0
    model = model.to(choose_device(device))
    return Job(data, where, model, solve, noise.offset, reach, sigma_a, size)


def lazily(job: Job, compute: Compute) -> da.Array:
    """Give what `compute` makes of an image, of which nothing is computed until it is asked for."""
    where = job.layout
    sizes = dict(zip(where.space, job.tile, strict=True)) | dict.fromkeys(where.loop, 1)
    chunks = tuple(_cut(n, sizes.get(a, n)) for a, n in zip(where.axes, where.shape, strict=True))

    def block(block_info: Any = None) -> np.ndarray:
        place = [slice(*ends) for ends in block_info[None]["array-location"]]
        at = dict(zip(where.axes, place, strict=True))
        position = [at[a].start for a in where.loop]
        return _tile(job, compute, position, [at[a] for a in where.space])[
            tuple(None if a in where.loop else slice(None) for a in where.axes)
        ]

    return da.map_blocks(
        block,
        chunks=chunks,
        dtype=np.float32,
        meta=np.empty((0,) * len(chunks), np.float32),
        name=f"{compute.__name__}-{uuid.uuid4().hex}",
    )


def one_by_one(target: Any, job: Job, compute: Compute) -> Iterator[TileProgress]:
    """Write what `compute` makes of an image into an array, tile by tile."""
    tiles = list(_tiles(job))
    for done, (position, space) in enumerate(tiles, 1):
        values = _tile(job, compute, position, space)
        target[job.layout.index(position, space)] = as_type(values, target.dtype)
        yield TileProgress(done, len(tiles))


def as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round and clip to an integer type; a float type takes values as they are."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)


def fit(where: Layout, model: ScoreModel) -> Layout:
    """Give the layout as the model wants it, or say why it cannot be."""
    if "C" in where.axes and not model.joint and "C" in model.axes:
        return replace(where, joint=False)
    if where.channels != model.channels:
        raise UserError(
            f"the model was trained on {model.channels} channel{'s' * (model.channels > 1)}, "
            f"but the image (axes {where.axes}) has {where.channels}"
        )
    return where


def _tile_size(
    tile: Sequence[int] | None, where: Layout, stride: tuple[int, ...]
) -> tuple[int, ...]:
    wanted = tuple(tile) if tile is not None else TILE[len(stride)]
    if len(wanted) != len(stride) or min(wanted) < 1:
        raise UserError(
            f"tile {'x'.join(map(str, wanted))}: give a size above 0 for each of {where.space}"
        )
    # tiles start where the network's coarse cells start, or the seams would show
    return tuple(-(-n // s) * s for n, s in zip(wanted, stride, strict=True))


def _cut(size: int, piece: int) -> tuple[int, ...]:
    whole, rest = divmod(size, piece)
    return (piece,) * whole + ((rest,) if rest else ())


def _tiles(job: Job) -> Iterator[tuple[tuple[int, ...], list[slice]]]:
    """Position and place in space of every tile."""
    cuts = []
    for n, size in zip(job.layout.space_shape, job.tile, strict=True):
        cuts.append([slice(a, min(a + size, n)) for a in range(0, n, size)])
    for position, space in product(job.layout.positions(), product(*cuts)):
        yield position, list(space)


def _tile(
    job: Job, compute: Compute, position: Sequence[int], space: Sequence[slice]
) -> np.ndarray:
    """Compute one tile; the result has the axes of the image less the looped ones."""
    y, wide = read_tile(job.data, job.layout, job.model, position, space, job.reach)
    with _LOCK, torch.inference_mode():
        x = compute(job, y.to(job.model.device), wide)
        # what the solver took from around the tile has served
        inner = slice(job.reach, -job.reach or None)
        return job.layout.from_block(x[0, ..., inner, inner].cpu().numpy())


def read_tile(
    data: Any,
    where: Layout,
    model: ScoreModel,
    position: Sequence[int],
    space: Sequence[slice],
    around: int = 0,
) -> tuple[torch.Tensor, tuple[slice, ...]]:
    """Read a tile with all around it that matters, and say where in it the solver works.

    The solver works on the tile and on so many pixels around it.
    """
    network, kernel = model.network, model.kernel
    outer, wide = [], [slice(None), slice(None)]
    for axis, place in enumerate(space):
        stride, flat = network.stride[axis], axis >= len(space) - 2
        reach = around if flat else 0
        halo = -(-(network.radius[axis] + reach) // stride) * stride
        size = -(-(place.stop - place.start) // stride) * stride
        undone = kernel.reach if kernel and flat else 0
        outer.append((place.start - halo - undone, place.start + size + halo + undone))
        wide.append(slice(halo - reach, halo + place.stop - place.start + reach))
    block = checked(_read_reflected(data, where, position, outer))
    if kernel:
        block = decorrelated(block, kernel)
    return torch.from_numpy(block)[None], tuple(wide)


def _read_reflected(
    data: Any, where: Layout, position: Sequence[int], outer: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Read a block that may reach beyond the image, which is continued by reflection."""
    picks = []
    for (start, stop), n in zip(outer, where.space_shape, strict=True):
        # reflection without repeating the edge has a period of 2 n − 2
        at = np.arange(start, stop) % max(2 * n - 2, 1)
        picks.append(np.minimum(at, np.abs(2 * n - 2 - at)) if n > 1 else at * 0)
    space = [slice(int(at.min()), int(at.max()) + 1) for at in picks]
    block = read_block(data, where, position, space)
    for axis, (at, read) in enumerate(zip(picks, space, strict=True), 1):
        block = np.take(block, at - read.start, axis=axis)
    return block
