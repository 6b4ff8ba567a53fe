"""Cut an image into tiles that can be worked on one by one, with all that a tile needs."""

from __future__ import annotations

import math
import operator
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import torch
from dask.utils import SerializableLock

from ..errors import UserError, is_memory_error, quoted
from ..image.axes import Layout, layout
from ..image.image import as_image
from ..image.valid import FILL_REACH, LazyValid, ValidPixels, fill
from ..noise import NoiseModel, parse_noise
from ..score.device import choose_device, free_memory
from ..score.model import ScoreModel
from ..score.patches import decorrelated
from ..solve.solver import Solver, reach_of
from .grey_level_range import check_block, check_noise_level, check_range

# from the largest down; the largest that fits in memory is taken
TILES = {
    2: ((2048, 2048), (1024, 1024), (512, 512), (256, 256), (128, 128), (64, 64)),
    3: ((32, 256, 256), (16, 256, 256), (16, 128, 128), (8, 128, 128), (8, 64, 64)),
}
# larger ones gain nothing on a CPU
MOST_ON_CPU = 32 * 256 * 256
# bytes that a pixel takes on its way through the network, for each feature: measured
PER_FEATURE = 30
MAX_TILE_AXES = 3
# no side of a tile is halved below this
SMALLEST = 16

# one tile at a time on the device: tiles side by side would only share its memory and cores
_LOCK = SerializableLock("napari-noise2score")


@dataclass(frozen=True)
class TileProgress:
    """How many tiles of how many are done, and what there is to say of it."""

    done: int
    total: int
    note: str = ""


@dataclass(frozen=True)
class Job:
    """All that a tile needs: the image, how it lies, the score and the solver.

    A tile passes through the network at once; a block, of one tile or more, is read and written
    at once.
    """

    data: Any
    valid: LazyValid
    layout: Layout
    model: ScoreModel
    noise: NoiseModel
    solve: Solver
    reach: int
    sigma_a: float
    tile: tuple[int, ...]
    block: tuple[int, ...]


Block = tuple[tuple[int, ...], tuple[slice, ...]]
"""Position in the loop and place in space."""


class Piece(NamedTuple):
    """A block as it was read, with all around it that matters.

    Attributes
    ----------
    y : Tensor
        Grey levels with what is around the block, ``(1, channels, *space)``, float32; invalid
        pixels are filled.
    block : ndarray or None
        The block itself as it is in the image, ``(channels, *space)``; None if all is valid.
    invalid : ndarray or None
        Which of its pixels are not valid, bool.
    """

    y: torch.Tensor
    block: np.ndarray | None = None
    invalid: np.ndarray | None = None


@dataclass(frozen=True)
class Compute:
    """What is made of each tile.

    Attributes
    ----------
    name : str
        A short name.
    run : callable
        From a job, a tile with what is around it, ``(1, channels, *space)``, and the part to
        solve, to the result.
    invalid : float or None
        The result where pixels are not valid; None: they stay as they are.
    """

    name: str
    run: Callable[[Job, torch.Tensor, tuple[slice, ...]], torch.Tensor]
    invalid: float | None = None


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
    unit: Sequence[int] | None = None,
    compare: bool = True,
) -> Job:
    """Check that all fits together and make ready what every tile needs.

    A unit is what a block must be a multiple of along the axes of space; without one, each tile
    is a block of its own. Unless it was done before, a few blocks are read to compare the grey
    levels with those of the training, see `check_range`.
    """
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    image = as_image(image, axes)
    data = image.data
    where = fit(layout(image.axes, data.shape, model.ndim), model)
    valid = LazyValid(image, image.axes)
    low, high = sigma_a_range = model.sigma_a_range
    sigma_a = model.sigma_a if sigma_a is None else sigma_a
    if not low <= sigma_a <= high:
        raise UserError(f"sigma_a={sigma_a:g}: the model was trained for {sigma_a_range}")
    solve = model.solver(noise, sigma_a=sigma_a, exact=exact)
    if compare:
        check_range(data, where, model, valid())
        check_noise_level(noise, model)
    model = model.to(choose_device(device))
    size = _tile_size(tile, where, model)
    block = tuple(-(-n // u) * u for n, u in zip(size, unit or size, strict=True))
    reach = reach_of(noise, model.kernel)
    return Job(data, valid, where, model, noise, solve, reach, sigma_a, size, block)


def lazily(job: Job, compute: Compute) -> da.Array:
    """Give what `compute` makes of an image, of which nothing is computed until it is asked for."""
    where = job.layout
    sizes = dict(zip(where.space, job.block, strict=True)) | dict.fromkeys(where.loop, 1)
    chunks = tuple(_cut(n, sizes.get(a, n)) for a, n in zip(where.axes, where.shape, strict=True))

    compared: list[bool] = []

    def block(block_info: Any = None) -> np.ndarray:
        place = [slice(*ends) for ends in block_info[None]["array-location"]]
        at = dict(zip(where.axes, place, strict=True))
        position = [at[a].start for a in where.loop]
        space = [at[a] for a in where.space]
        piece = read(job, position, space)
        if not compared:
            # of an image that is looked at block by block no more is read than that
            check_block(piece.y, job.model)
            compared.append(True)
        values, _ = compute_block(job, compute, piece, space, job.tile)
        return values.astype(np.float32, copy=False)[
            tuple(None if a in where.loop else slice(None) for a in where.axes)
        ]

    return da.map_blocks(
        block,
        chunks=chunks,
        dtype=np.float32,
        meta=np.empty((0,) * len(chunks), np.float32),
        name=f"{compute.name}-{uuid.uuid4().hex}",
    )


def as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round and clip to an integer type, NaN to 0; a float type takes values as they are."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(
            np.rint(np.nan_to_num(values, posinf=np.inf, neginf=-np.inf)), limits.min, limits.max
        )
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


def _tile_size(tile: Sequence[int] | None, where: Layout, model: ScoreModel) -> tuple[int, ...]:
    stride = model.network.stride
    try:
        wanted = tuple(map(operator.index, tile)) if tile is not None else _fitting_tile(model)
    except TypeError:
        wanted = ()
    if len(wanted) != len(stride) or min(wanted) < 1:
        raise UserError(
            f"tile {quoted(str(tile))}: give a whole number above 0 for each of {where.space}"
        )
    # tiles start where the network's coarse cells start, or the seams would show
    return tuple(-(-n // s) * s for n, s in zip(wanted, stride, strict=True))


def parse_tile(text: str) -> tuple[int, ...]:
    """Read the size of a tile from text.

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
        If it is anything else.

    Examples
    --------
    >>> parse_tile("16x256x256")
    (16, 256, 256)
    """
    parts = text.strip().lower().split("x", MAX_TILE_AXES)
    if not all(re.fullmatch("[0-9]{1,9}", part.strip()) for part in parts):
        raise UserError(f"tile {quoted(text)}: write it like 512x512")
    return tuple(map(int, parts))


def _fitting_tile(model: ScoreModel) -> tuple[int, ...]:
    """Give the largest tile that the device's free memory has room for."""
    network, on_cpu = model.network, model.device.type == "cpu"
    # on a CPU, others live in the same memory
    room = free_memory(model.device) * (0.25 if on_cpu else 0.7)
    for tile in TILES[network.ndim]:
        around = [n + 2 * r for n, r in zip(tile, network.radius, strict=True)]
        need = PER_FEATURE * network.width * math.prod(around)
        if need <= room and not (on_cpu and math.prod(tile) > MOST_ON_CPU):
            break
    return tile


def halved(tile: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...] | None:
    """Give half a tile, cut across its longest side; None if it is as small as can be."""
    longest = max(range(len(tile)), key=lambda axis: tile[axis])
    half = -(-tile[longest] // (2 * stride[longest])) * stride[longest]
    if half == tile[longest] or tile[longest] <= SMALLEST:
        return None
    return tuple(half if axis == longest else n for axis, n in enumerate(tile))


def _cut(size: int, piece: int) -> tuple[int, ...]:
    whole, rest = divmod(size, piece)
    return (piece,) * whole + ((rest,) if rest else ())


def blocks(job: Job) -> Iterator[Block]:
    """Give the position and the place in space of every block."""
    cuts = _cuts(job.layout.space_shape, job.block)
    yield from product(job.layout.positions(), product(*cuts))


def read(job: Job, position: Sequence[int], space: Sequence[slice]) -> Piece:
    """Read a block with all around it that matters."""
    y, block, invalid = read_around(
        job.data, job.layout, job.model, position, space, job.reach, job.valid()
    )
    return Piece(y, block, invalid)


def read_around(
    data: Any,
    where: Layout,
    model: ScoreModel,
    position: Sequence[int],
    space: Sequence[slice],
    reach: int = 0,
    valid: ValidPixels | None = None,
) -> Piece:
    """Read a block with all around it that matters to the network and a solver of some reach.

    The block may go beyond the image, which is continued by reflection.
    """
    kernel, valid = model.kernel, valid or ValidPixels()
    outer = []
    for axis, (place, halo, stride) in enumerate(
        zip(space, _halo(model, reach), model.network.stride, strict=True)
    ):
        undone = kernel.reach if kernel and axis >= len(space) - 2 else 0
        size = -(-(place.stop - place.start) // stride) * stride
        outer.append((place.start - halo - undone, place.start + size + halo + undone))
    block, invalid = _read_reflected(data, where, position, outer, valid)
    kept = own = None
    if invalid is not None:
        inner = (slice(None), *(
            slice(place.start - start, place.stop - start)
            for place, (start, _) in zip(space, outer, strict=True)
        ))  # fmt: skip
        if invalid[inner].any():
            kept, own = block[inner], invalid[inner]
        block = _filled(data, where, model, position, outer, valid)
    block = np.asarray(block, dtype=np.float32)
    if kernel:
        block = decorrelated(block, kernel)
    return Piece(torch.from_numpy(block)[None], kept, own)


def _filled(
    data: Any,
    where: Layout,
    model: ScoreModel,
    position: Sequence[int],
    outer: Sequence[tuple[int, int]],
    valid: ValidPixels,
) -> np.ndarray:
    """Read a block whose invalid pixels are filled, alike in every block that they are seen in."""
    seen = max(model.network.radius[-2:])
    more = seen + 2 * FILL_REACH
    wide = [
        (start - more, stop + more) if axis >= len(outer) - 2 else (start, stop)
        for axis, (start, stop) in enumerate(outer)
    ]
    block, invalid = _read_reflected(data, where, position, wide, valid)
    usual = torch.tensor(model.mean, dtype=torch.float64)
    block = np.asarray(block, dtype=np.float64)
    if invalid is not None:
        block = fill(block, invalid, seen, float(model.transform.inverse(usual)))
    return block[..., more:-more, more:-more]


def solved(model: ScoreModel, place: Sequence[slice], reach: int = 0) -> tuple[slice, ...]:
    """Say where in what `read_around` gave a solver works: the block, and its reach around it."""
    parts = [slice(None), slice(None)]
    for axis, (at, halo) in enumerate(zip(place, _halo(model, reach), strict=True)):
        more = reach if axis >= len(place) - 2 else 0
        parts.append(slice(halo - more, halo + at.stop - at.start + more))
    return tuple(parts)


def compute_block(
    job: Job,
    compute: Compute,
    piece: Piece,
    space: Sequence[slice],
    tile: tuple[int, ...],
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Compute what `read` gave, tile by tile; where memory runs out, in smaller tiles.

    The result has the axes of the image less the looped ones, and comes with the size of tile
    that there was room for. It is float32, or float64 where integers stay as they are.
    """
    y, kept, invalid = piece
    if invalid is not None and invalid.all():
        return job.layout.from_block(_unchanged(compute, kept, invalid)), tile
    shape = [place.stop - place.start for place in space]
    result = torch.empty((job.layout.channels, *shape))
    todo = list(product(*_cuts(shape, tile)))
    while todo:
        place = todo[0]
        smaller = None
        try:
            result[(slice(None), *place)] = _tile(job, compute, y, place)
        except (MemoryError, RuntimeError) as error:
            if not is_memory_error(error):
                raise
            smaller = halved(tile, job.model.network.stride)
            if smaller is None:
                raise UserError(
                    f"there is no room for a tile of {'x'.join(map(str, tile))} in the memory of "
                    f"{job.model.device}: close what else uses it, or choose another device"
                ) from None
        if smaller is None:
            todo.pop(0)
        else:
            # only now has the error let go of the memory it held
            if job.model.device.type == "cuda":
                torch.cuda.empty_cache()
            tile = smaller
            todo = list(product(*_cuts(shape, tile)))
    values = result.numpy()
    if invalid is not None:
        values = np.where(invalid, _unchanged(compute, kept, invalid), values)
    return job.layout.from_block(values), tile


def _unchanged(compute: Compute, kept: np.ndarray | None, invalid: np.ndarray) -> np.ndarray:
    """Give the result of pixels that are not valid, of the shape of their block."""
    if compute.invalid is not None or kept is None:
        return np.full(invalid.shape, compute.invalid, np.float32)
    # float32 does not hold every value of a large integer type
    wide = kept.dtype.kind in "ui" and kept.dtype.itemsize > 2
    return kept.astype(np.float64 if wide else np.float32)


def _tile(job: Job, compute: Compute, y: torch.Tensor, place: Sequence[slice]) -> torch.Tensor:
    """Compute one tile of a block, ``(channels, *space)``."""
    part: list[Any] = [...]
    for at, halo, stride in zip(
        place, _halo(job.model, job.reach), job.model.network.stride, strict=True
    ):
        size = -(-(at.stop - at.start) // stride) * stride
        part.append(slice(at.start, at.start + size + 2 * halo))
    with _LOCK, torch.inference_mode():
        wide = solved(job.model, place, job.reach)
        x = compute.run(job, y[tuple(part)].to(job.model.device), wide)
        # what the solver took from around the tile has served
        inner = slice(job.reach, -job.reach or None)
        return x[0, ..., inner, inner].cpu()


def _halo(model: ScoreModel, reach: int) -> list[int]:
    """How far around a tile matters along each axis of space, in whole coarse cells."""
    network = model.network
    flat = len(network.stride) - 2
    return [
        -(-(radius + (reach if axis >= flat else 0)) // stride) * stride
        for axis, (radius, stride) in enumerate(zip(network.radius, network.stride, strict=True))
    ]


def _cuts(shape: Sequence[int], size: Sequence[int]) -> list[list[slice]]:
    return [
        [slice(a, min(a + s, n)) for a in range(0, n, s)] for n, s in zip(shape, size, strict=True)
    ]


def _read_reflected(
    data: Any,
    where: Layout,
    position: Sequence[int],
    outer: Sequence[tuple[int, int]],
    valid: ValidPixels,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a block that may reach beyond the image, which is continued by reflection."""
    picks = []
    for (start, stop), n in zip(outer, where.space_shape, strict=True):
        # reflection without repeating the edge has a period of 2 n − 2
        at = np.arange(start, stop) % max(2 * n - 2, 1)
        picks.append(np.minimum(at, np.abs(2 * n - 2 - at)) if n > 1 else at * 0)
    space = [slice(int(at.min()), int(at.max()) + 1) for at in picks]
    block, invalid = valid.read(data, where, position, space)
    for axis, (at, read) in enumerate(zip(picks, space, strict=True), 1):
        block = np.take(block, at - read.start, axis=axis)
        if invalid is not None:
            invalid = np.take(invalid, at - read.start, axis=axis)
    return block, invalid
