"""OME-Zarr images written block by block: metadata, chunks fit for viewing, and the pyramid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from ..errors import UserError
from ._reorder import Reordered
from .image import Image
from .zarrs import SyncedStore, valid_scales

VERSIONS = ("0.5", "0.4")
ORDER = "TCZYX"
KINDS = {"T": "time", "C": "channel"}
# a chunk is what a viewer reads at once, a shard (one file) what is written at once
CHUNK = {2: {"Y": 512, "X": 512}, 3: {"Z": 8, "Y": 256, "X": 256}}
SHARD = {2: {"Y": 1024, "X": 1024}, 3: {"Z": 32, "Y": 512, "X": 512}}
SMALLEST = 256
COLOURS = ("FFFFFF", "00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")
RGB = ("FF0000", "00FF00", "0000FF", "FFFFFF")


def write_units(
    axes: str, shape: Sequence[int], ndim: int = 2
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the size of a chunk and of a shard, for results of a 2-D or a 3-D network.

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
    """Make an OME-Zarr image of zeros with the metadata of an image and all levels of a pyramid.

    Parameters
    ----------
    path : Path
        The store.
    image : Image
        Gives shape and metadata; its pixels are not read.
    dtype : numpy.dtype
        Type of the pixels.
    version : {"0.5", "0.4"}
        Version of OME-Zarr.
    ndim : {2, 3}
        Whether it is written plane by plane, or in blocks of planes.

    Returns
    -------
    array-like
        The sharpest level, written in the order of the image's axes. `build_pyramid` makes the
        others of it.

    Raises
    ------
    UserError
        If there is no such version.
    """
    if version not in VERSIONS:
        raise UserError(f"OME-Zarr {version} is not written; {' and '.join(VERSIONS)} are")
    # the specification wants time, channel and space in this order
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
    return sharpest_of(path, image.axes)


def pyramid_blocks(path: Path) -> list[tuple[str, tuple[slice, ...]]]:
    """Give every block of every level below the sharpest, each level after the one above it."""
    group = zarr.open_group(str(path), mode="r")
    found = []
    for level in _names(group)[1:]:
        array: Any = group[level]
        found += [(level, at) for at in blocks(array.shape, array.shards or _grown(array.chunks))]
    return found


def build_block(group: zarr.Group, level: str, block: tuple[slice, ...]) -> None:
    """Fill one block of a level with the mean of what it covers of the level above."""
    above: Any = group[str(int(level) - 1)]
    target: Any = group[level]
    factor = [round(a / b) for a, b in zip(above.shape, target.shape, strict=True)]
    place = tuple(slice(at.start * f, at.stop * f) for at, f in zip(block, factor, strict=True))
    target[block] = mean_of_cells(above[place], factor)


def build_pyramid(path: Path) -> None:
    """Fill all levels below the sharpest, a block at a time."""
    group = zarr.open_group(str(path), mode="r+")
    for level, block in pyramid_blocks(path):
        build_block(group, level, block)


def mean_of_cells(values: np.ndarray, factor: Sequence[int]) -> np.ndarray:
    """Average cells of so many pixels along each axis; the last may hold fewer.

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
    """Give for every level how many pixels of the sharpest one of its pixels spans."""
    sizes = dict(zip(axes, shape, strict=True))
    factors = [dict.fromkeys(axes, 1)]
    while max(-(-sizes[a] // factors[-1][a]) for a in "YX") > SMALLEST:
        factor = dict(factors[-1])
        halved = [a for a in "YX" if -(-sizes[a] // factor[a]) > 1]
        # planes are far apart in most stacks: they are thinned once they are the finer axis
        if "Z" in axes and {"Z", "X"} <= set(scale) and -(-sizes["Z"] // factor["Z"]) > 1:
            halved += ["Z"] * (scale["Z"] * factor["Z"] <= scale["X"] * factor["X"] * 1.001)
        factors.append(factor | {a: 2 * factor[a] for a in halved})
    return [tuple(factor[a] for a in axes) for factor in factors]


def _attributes(
    image: Image, axes: str, factors: list[tuple[int, ...]], version: str
) -> dict[str, Any]:
    """Give the metadata as the specification has them, checked."""
    size = {a: float(image.scale.get(a, 1.0)) for a in axes}
    start = {a: float(image.translate.get(a, 0.0)) for a in axes}
    datasets: list[dict[str, Any]] = []
    for level, factor in enumerate(factors):
        # the middle of a cell lies between the pixels it was made of
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
    """Give how the channels are shown: as in the source, or by their names alone."""
    if image.omero:
        return dict(image.omero)
    names = image.channels or (("red", "green", "blue", "alpha") if image.rgb else ())
    count = image.data.shape[image.axes.index("C")] if "C" in image.axes else 1
    if len(names) < count:
        return {}
    top = 255.0 if image.data.dtype == np.uint8 else 65535.0
    window = {"min": 0.0, "start": 0.0, "max": top, "end": top}
    colours = RGB if image.rgb else COLOURS if count > 1 else ("FFFFFF",)
    channels = [
        {"label": name, "color": colours[i % len(colours)], "window": window, "active": True}
        for i, name in enumerate(names[:count])
    ]
    return {"channels": channels}


def sharpest_of(path: Path, axes: str) -> zarr.Array | Reordered:
    """Open the sharpest level for writing in the order of these axes."""
    array: Any = zarr.open_group(SyncedStore(path), mode="r+")["0"]
    ordered = "".join(a for a in ORDER if a in axes)
    return array if ordered == axes else Reordered(array, tuple(axes.index(a) for a in ordered))


def open_levels(path: Path, axes: str) -> list[Any]:
    """Open all levels, the sharpest first, as dask arrays with these axes.

    Parameters
    ----------
    path : Path
        An OME-Zarr image, as from `create_ome_zarr`.
    axes : str
        Its axes, in the order that is wanted.

    Returns
    -------
    list of dask.array.Array
        Nothing is read until a part is looked at.
    """
    import dask.array as da  # slow to import, and for viewers only

    group = zarr.open_group(str(path), mode="r")
    ordered = "".join(a for a in ORDER if a in axes)
    levels: list[Any] = [group[name] for name in _names(group)]
    # a name of its own: a store of this name may be another one tomorrow
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


def _grown(chunks: Sequence[int]) -> tuple[int, ...]:
    """Two chunks along each axis that has more than one pixel in a chunk."""
    return tuple(2 * n if n > 1 else 1 for n in chunks)


def blocks(shape: Sequence[int], size: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Cut an array into blocks of a size, the last along an axis being what is left."""
    cuts = [
        [slice(a, min(a + s, n)) for a in range(0, n, s)] for n, s in zip(shape, size, strict=True)
    ]
    yield from product(*cuts)
