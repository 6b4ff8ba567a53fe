"""Denoise images of any size, tile by tile: lazily as a dask array, or into a file."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
import torch
from dask.utils import SerializableLock

from .. import __version__
from ..errors import UserError
from ..noise import NoiseModel, Table, make_solver, parse_noise
from ..score.axes import Layout, layout, read_block
from ..score.device import choose_device
from ..score.model import ScoreModel
from ..score.patches import checked
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
    solve: Table
    offset: float
    sigma_a: float
    tile: tuple[int, ...]


def denoise(
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
) -> da.Array:
    """Denoise an image lazily: nothing is computed until a part of the result is.

    Parameters
    ----------
    image : Image or array-like
        Noisy image in grey levels: numpy, dask or zarr, of any size.
    model : ScoreModel
        A score learned on images like this one.
    noise : NoiseModel or str
        The noise, as a model or in the one spelling, as ``"gaussian(sigma=25)"``.
    axes : str, optional
        Axes of the image; needed where it is not an `Image`, but for a plain YX one.
    tile : sequence of int, optional
        Size of a tile along the spatial axes of the network.
    device : str
        Where to compute: ``"auto"``, ``"cpu"``, ``"cuda"``.
    sigma_a : float, optional
        Perturbation to ask the score for, in units of the noise; the model's own by default.
        Larger is safer, smaller is sharper.

    Returns
    -------
    dask.array.Array
        The clean image in the grey levels of the noisy one, offset included, float32, of the
        shape and axes of the image.

    Raises
    ------
    UserError
        If the model does not fit the image; when computed, if a pixel is not a finite number.

    Examples
    --------
    >>> from napari_noise2score import train
    >>> stack = np.random.default_rng(0).normal(100, 10, (4, 64, 64))
    >>> result = denoise(stack, train(stack, "TYX", steps=2), "gaussian(sigma=10)", axes="TYX")
    >>> result.shape, result.dtype
    ((4, 64, 64), dtype('float32'))
    """
    job = prepare(image, model, noise, axes=axes, tile=tile, device=device, sigma_a=sigma_a)
    where = job.layout
    sizes = dict(zip(where.space, job.tile, strict=True)) | dict.fromkeys(where.loop, 1)
    chunks = tuple(_cut(n, sizes.get(a, n)) for a, n in zip(where.axes, where.shape, strict=True))

    def block(block_info: Any = None) -> np.ndarray:
        place = [slice(*ends) for ends in block_info[None]["array-location"]]
        at = dict(zip(where.axes, place, strict=True))
        position = [at[a].start for a in where.loop]
        return _denoise_tile(job, position, [at[a] for a in where.space])[
            tuple(None if a in where.loop else slice(None) for a in where.axes)
        ]

    return da.map_blocks(
        block,
        chunks=chunks,
        dtype=np.float32,
        meta=np.empty((0,) * len(chunks), np.float32),
        name=f"denoise-{uuid.uuid4().hex}",
    )


def denoise_into(
    target: Any,
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
) -> Iterator[TileProgress]:
    """Denoise an image tile by tile into an array; closing the generator stops.

    Parameters
    ----------
    target : array-like
        Of the shape of the image; written as ``target[index] = values``. For an integer type
        the values are rounded and clipped to it.
    image, model, noise, axes, tile, device, sigma_a
        As for `denoise`.

    Yields
    ------
    TileProgress
        After every tile.

    Raises
    ------
    UserError
        If the model does not fit the image, or a pixel is not a finite number.
    """
    job = prepare(image, model, noise, axes=axes, tile=tile, device=device, sigma_a=sigma_a)
    tiles = list(_tiles(job))
    for done, (position, space) in enumerate(tiles, 1):
        values = _denoise_tile(job, position, space)
        target[job.layout.index(position, space)] = as_type(values, target.dtype)
        yield TileProgress(done, len(tiles))


def result_of(image: Image, data: Any, model: ScoreModel, noise: NoiseModel | str) -> Image:
    """Give the image that holds a result: all the source says, and what made it."""
    notes = {"model": model.name, "noise": str(noise), "version": __version__}
    return replace(image, data=data, name=f"{image.name} denoised", notes=notes)


def as_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round and clip to an integer type; a float type takes values as they are."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)


def prepare(
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
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
    where = _fit(layout(axes, data.shape, model.ndim), model)
    low, high = sigma_a_range = model.sigma_a_range
    sigma_a = model.sigma_a if sigma_a is None else sigma_a
    if not low <= sigma_a <= high:
        raise UserError(f"sigma_a={sigma_a:g}: the model was trained for {sigma_a_range}")
    solve = make_solver(noise, model.transform, sigma_a, model.low, model.high)
    size = _tile_size(tile, where, model.network.stride)
    return Job(data, where, model.to(choose_device(device)), solve, noise.offset, sigma_a, size)


def _fit(where: Layout, model: ScoreModel) -> Layout:
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


def _denoise_tile(job: Job, position: Sequence[int], space: Sequence[slice]) -> np.ndarray:
    """Denoise one tile; the result has the axes of the image less the looped ones."""
    network = job.model.network
    outer, inner = [], []
    for place, radius, stride in zip(space, network.radius, network.stride, strict=True):
        halo = -(-radius // stride) * stride
        size = -(-(place.stop - place.start) // stride) * stride
        outer.append((place.start - halo, place.start + size + halo))
        inner.append(slice(halo, halo + place.stop - place.start))
    block = checked(_read_reflected(job, position, outer))
    with _LOCK, torch.inference_mode():
        y = torch.from_numpy(block)[None].to(job.model.device)
        score = job.model.score(y, job.sigma_a)
        core = (slice(None), slice(None), *inner)
        # back in the grey levels of the image, where the offset belongs to what one sees
        x = job.solve(y[core], score[core]) + job.offset
    return job.layout.from_block(x[0].cpu().numpy())


def _read_reflected(
    job: Job, position: Sequence[int], outer: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Read a block that may reach beyond the image, which is continued by reflection."""
    picks = []
    for (start, stop), n in zip(outer, job.layout.space_shape, strict=True):
        # reflection without repeating the edge has a period of 2 n − 2
        at = np.arange(start, stop) % max(2 * n - 2, 1)
        picks.append(np.minimum(at, np.abs(2 * n - 2 - at)) if n > 1 else at * 0)
    space = [slice(int(at.min()), int(at.max()) + 1) for at in picks]
    block = read_block(job.data, job.layout, position, space)
    for axis, (at, read) in enumerate(zip(picks, space, strict=True), 1):
        block = np.take(block, at - read.start, axis=axis)
    return block
