"""Write OME-Zarr images block by block: metadata, chunks suited to viewing, and the pyramid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from ..errors import UserError
from ._channels import entries
from ._reorder import Reordered
from .image import Image
from .zarrs import SyncedStore, valid_scales

VERSIONS = ("0.5", "0.4")
ORDER = "TSCZYX"
MAX_AXES = 5  # of the specification
KINDS = {"T": "time", "S": "sample", "C": "channel"}
# a viewer reads one chunk at a time; a job writes one shard (one file) at a time
CHUNK = {2: {"Y": 512, "X": 512}, 3: {"Z": 8, "Y": 256, "X": 256}}
SHARD = {2: {"Y": 1024, "X": 1024}, 3: {"Z": 32, "Y": 512, "X": 512}}
MAX_SIZE_OF_COARSEST_LEVEL = 256  # pixels along Y and X
COLOURS = ("FFFFFF", "00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
RGB = ("FF0000", "00FF00", "0000FF", "FFFFFF")


def write_units(
    axes: str, shape: Sequence[int], ndim: int = 2
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of a chunk and of a shard, for results of a 2-D or 3-D network.

    Examples
    --------
    >>> write_units("TYX", (100, 2000, 2000))
    ((1, 512, 512), (1, 1024, 1024))
    >>> write_units("YX", (300, 700))
    ((300, 512), (300, 1024))
    """
    chunks = [min(n, CHUNK[ndim].get(a, 1)) for a, n in zip(axes, shape, strict=True)]
    shards = [
        chunk * max(1, min(SHARD[ndim].get(a, 1) // chunk, -(-n // chunk)))
        if chunk == CHUNK[ndim].get(a, 1)
        else chunk
        for a, n, chunk in zip(axes, shape, chunks, strict=True)
    ]
    return tuple(chunks), tuple(shards)


def create_ome_zarr(
    path: Path, image: Image, dtype: np.dtype, version: str = "0.5", ndim: int = 2
) -> zarr.Array | Reordered:
    """Create an OME-Zarr image of zeros with the metadata of an image and all pyramid levels.

    Parameters
    ----------
    path : Path
        The store.
    image : Image
        Provides shape and metadata; its pixels are not read.
    dtype : numpy.dtype
        Type of the pixels.
    version : {"0.5", "0.4"}
        Version of OME-Zarr.
    ndim : {2, 3}
        Whether the image is written plane by plane or in blocks of planes.

    Returns
    -------
    array-like
        The finest level, written in the order of the image's axes. `build_pyramid` derives the
        other levels from it.

    Raises
    ------
    UserError
        If the version is not supported.
    """
    if version not in VERSIONS:
        raise UserError(f"OME-Zarr {version} cannot be written; {' and '.join(VERSIONS)} are")
    check_axes(path, image)
    # the specification prescribes the order time, channel, space
    axes = "".join(a for a in ORDER if a in image.axes)
    order = tuple(image.axes.index(a) for a in axes)
    shape = tuple(image.data.shape[i] for i in order)
    factors = _levels(axes, shape, image.scale)
    group = zarr.create_group(
        str(path),
        zarr_format=3 if version == "0.5" else 2,
        attributes=_attributes(image, axes, factors, version),
    )
    for level, factor in enumerate(factors):
        size = tuple(-(-n // f) for n, f in zip(shape, factor, strict=True))
        _create_level(group, str(level), axes, size, dtype, version, ndim)
    return open_finest_level(path, image.axes)


def check_axes(path: Any, image: Image) -> None:
    """Raise a `UserError` if OME-Zarr cannot hold the axes of an image."""
    if len(image.axes) > MAX_AXES:
        raise UserError(
            f"{path}: OME-Zarr has at most {MAX_AXES} axes, not {image.axes}; write .zarr or .npy"
        )


def pyramid_blocks(path: Path) -> list[tuple[str, tuple[slice, ...]]]:
    """Return the blocks of all coarser levels, ordered from fine to coarse."""
    group = zarr.open_group(str(path), mode="r")
    found = []
    for level in _names(group)[1:]:
        array: Any = group[level]
        found += [
            (level, at) for at in blocks(array.shape, array.shards or _two_chunks(array.chunks))
        ]
    return found


def build_block(group: zarr.Group, level: str, block: tuple[slice, ...]) -> None:
    """Fill one block of a level with means of the next finer level."""
    above: Any = group[str(int(level) - 1)]
    target: Any = group[level]
    factor = [round(a / b) for a, b in zip(above.shape, target.shape, strict=True)]
    place = tuple(slice(at.start * f, at.stop * f) for at, f in zip(block, factor, strict=True))
    target[block] = mean_of_cells(above[place], factor)


def build_pyramid(path: Path) -> None:
    """Fill all coarser levels, one block at a time."""
    group = zarr.open_group(str(path), mode="r+")
    for level, block in pyramid_blocks(path):
        build_block(group, level, block)


def mean_of_cells(values: np.ndarray, factor: Sequence[int]) -> np.ndarray:
    """Return the means of cells of ``factor`` pixels along each axis; the last may be smaller.

    Examples
    --------
    >>> mean_of_cells(np.array([[1, 3, 8], [1, 3, 9]], np.uint8), (2, 2))
    array([[2, 8]], dtype=uint8)
    """
    dtype = values.dtype
    sums = values.astype(np.float64 if dtype.itemsize > 4 else np.float32)
    if dtype.kind in "ui" and dtype.itemsize > 2:
        sums = values.astype(np.float64)
    for axis, f in enumerate(factor):
        n = sums.shape[axis]
        if f > 1:
            starts = np.arange(0, n, f)
            counts = np.minimum(n - starts, f).reshape([-1] + [1] * (sums.ndim - 1 - axis))
            sums = np.add.reduceat(sums, starts, axis=axis) / counts.astype(sums.dtype)
    return (np.rint(sums) if dtype.kind in "ui" else sums).astype(dtype)


def _levels(axes: str, shape: Sequence[int], scale: Mapping[str, float]) -> list[tuple[int, ...]]:
    """Return, for each level, the size of a pixel along each axis in pixels of the finest level."""
    sizes = dict(zip(axes, shape, strict=True))
    factors = [dict.fromkeys(axes, 1)]
    while max(-(-sizes[a] // factors[-1][a]) for a in "YX") > MAX_SIZE_OF_COARSEST_LEVEL:
        factor = dict(factors[-1])
        halved = [a for a in "YX" if -(-sizes[a] // factor[a]) > 1]
        # in most stacks planes are far apart: Z is downsampled once its pixels are as small as X's
        if "Z" in axes and {"Z", "X"} <= set(scale) and -(-sizes["Z"] // factor["Z"]) > 1:
            halved += ["Z"] * (scale["Z"] * factor["Z"] <= scale["X"] * factor["X"] * 1.001)
        factors.append(factor | {a: 2 * factor[a] for a in halved})
    return [tuple(factor[a] for a in axes) for factor in factors]


def _attributes(
    image: Image, axes: str, factors: list[tuple[int, ...]], version: str
) -> dict[str, Any]:
    """Return the metadata as prescribed by the specification, validated."""
    size = {a: float(image.scale.get(a, 1.0)) for a in axes}
    start = {a: float(image.translate.get(a, 0.0)) for a in axes}
    datasets: list[dict[str, Any]] = []
    for level, factor in enumerate(factors):
        # a coarse pixel is centred on the pixels that it averages
        at = [start[a] + (f - 1) / 2 * size[a] for a, f in zip(axes, factor, strict=True)]
        steps: list[dict[str, Any]] = [
            {"type": "scale", "scale": [size[a] * f for a, f in zip(axes, factor, strict=True)]}
        ]
        if any(at):
            steps.append({"type": "translation", "translation": at})
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    named = [
        {"name": a.lower(), "type": KINDS.get(a, "space")}
        | ({"unit": image.units[a]} if image.units.get(a) else {})
        for a in axes
    ]
    scales = {
        "name": image.name,
        "axes": named,
        "datasets": datasets,
        "type": "mean",
        "metadata": {
            "description": "mean of the pixels that a pixel of the next level covers",
            "noise2score": dict(image.notes),
        },
    }
    valid_scales(scales, version)
    shown = _omero(image)
    facts: dict[str, Any] = {"omero": shown} if shown else {}
    if version == "0.5":
        facts |= {"version": version, "multiscales": [scales]}
        return {"ome": facts}
    facts |= {"multiscales": [scales | {"version": version}]}
    return facts


def _omero(image: Image) -> dict[str, Any]:
    """Return the display settings of the channels: those of the source, or defaults with names."""
    top = 255.0 if image.data.dtype == np.uint8 else 65535.0
    window = {"min": 0.0, "start": 0.0, "max": top, "end": top}
    if image.omero:
        # the specification requires a display range
        shown = [{"window": window} | dict(entry) for entry in entries(image.omero)]
        return dict(image.omero) | ({"channels": shown} if shown else {})
    names = image.channels or (("red", "green", "blue", "alpha") if image.rgb else ())
    count = image.data.shape[image.axes.index("C")] if "C" in image.axes else 1
    if len(names) < count:
        return {}
    colours = RGB if image.rgb else COLOURS if count > 1 else ("FFFFFF",)
    channels = [
        {"label": name, "color": colours[i % len(colours)], "window": window, "active": True}
        for i, name in enumerate(names[:count])
    ]
    return {"channels": channels}


def open_finest_level(path: Path, axes: str) -> zarr.Array | Reordered:
    """Open the finest level for writing in the given order of axes."""
    array: Any = zarr.open_group(SyncedStore(path), mode="r+")["0"]
    ordered = "".join(a for a in ORDER if a in axes)
    return array if ordered == axes else Reordered(array, tuple(axes.index(a) for a in ordered))


def open_levels(path: Path, axes: str) -> list[Any]:
    """Open all levels, the finest first, as dask arrays.

    Parameters
    ----------
    path : Path
        An OME-Zarr image, as from `create_ome_zarr`.
    axes : str
        Its axes, in the order of the arrays to be returned.

    Returns
    -------
    list of dask.array.Array
        Nothing is read until a part is computed.
    """
    import dask.array as da  # slow to import, and needed for viewing only

    group = zarr.open_group(str(path), mode="r")
    ordered = "".join(a for a in ORDER if a in axes)
    levels: list[Any] = [group[name] for name in _names(group)]
    # a unique name, as another store may have the same path later
    lazy = [da.from_array(level, chunks=level.chunks, name=False) for level in levels]
    return [level.transpose([ordered.index(a) for a in axes]) for level in lazy]


def _create_level(
    group: zarr.Group,
    name: str,
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    version: str,
    ndim: int,
) -> None:
    chunks, shards = write_units(axes, shape, ndim)
    options: dict[str, Any]
    if version == "0.5":
        options = {
            "compressors": BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
            "dimension_names": [a.lower() for a in axes],
            "shards": shards if shards != chunks else None,
        }
    else:
        from numcodecs import Blosc

        options = {
            "compressors": Blosc("zstd", clevel=3, shuffle=Blosc.SHUFFLE),
            "chunk_key_encoding": {"name": "v2", "separator": "/"},
        }
    group.create_array(name, shape=shape, dtype=dtype, chunks=chunks, fill_value=0, **options)


def _names(group: zarr.Group) -> list[str]:
    facts: Any = dict(group.attrs)
    return [d["path"] for d in facts.get("ome", facts)["multiscales"][0]["datasets"]]


def _two_chunks(chunks: Sequence[int]) -> tuple[int, ...]:
    """Return the size of two chunks along each axis on which a chunk has several pixels."""
    return tuple(2 * n if n > 1 else 1 for n in chunks)


def blocks(shape: Sequence[int], size: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield the slices of consecutive blocks of an array; the last along an axis may be smaller."""
    cuts = [
        [slice(a, min(a + s, n)) for a in range(0, n, s)] for n, s in zip(shape, size, strict=True)
    ]
    yield from product(*cuts)
