"""Read TIFF files written by ImageJ, OME and others, with axes, pixel size and channels."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from ..errors import ReadError, UserError
from ._format import Format, ask_for_axes, choose_series
from ._imagej import imagej_facts, printed_resolution
from ._ome_tiff import (
    OTHER,
    check_ome,
    companion_of,
    images_of,
    members,
    ome_facts,
    parse_ome,
)
from ._raw import RawArray
from ._tiff_check import check_series, check_whole, walk
from .axes import LETTERS, parse_axes
from .guard import Guarded, reading, sized
from .image import Image

# slide scanners store small pictures of the slide along with the image
AUXILIARY_SERIES = ("thumbnail", "label", "macro", "label image", "macro image")
MAX_OPEN = 8
# its messages duplicate our own checks, and would reach the terminal unformatted
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class TiffSeries:
    """A series of pages that must be decoded; the file is opened when it is read.

    Attributes
    ----------
    path : Path
        The file.
    number : int
        Number of the series in the file, from 0.
    shape, dtype, chunks
        As those of an array.
    stamp : tuple of int
        Size and modification time of the file, so that a replaced file is reopened.
    ome : str
        OME-XML from a companion file, empty if there is none.
    """

    path: Path
    number: int
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...]
    stamp: tuple[int, int]
    ome: str = ""

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(_open_series(self.path, self.number, self.stamp, self.ome)[index])


@lru_cache(maxsize=MAX_OPEN)
def _open_series(path: Path, number: int, stamp: tuple[int, int], ome: str) -> zarr.Array:  # noqa: ARG001
    # the stamp is part of the cache's key only
    file = tifffile.TiffFile(path, omexml=ome or None)
    store = file.series[number].aszarr(level=0)
    array = zarr.open_array(store, mode="r")
    # another thread may still read from it after it has left the cache
    weakref.finalize(array, _close, store, file)
    return array


def _close(*things: Any) -> None:
    for thing in things:
        thing.close()


def read_tiff(path: Path, axes: str | None, series: int | None = None) -> Image:
    """Open one series of a TIFF file lazily; see `read_image`."""
    with reading(path), _OpenedTiff(path) as (file, root, ome):
        listed = _listed(path, file)
        names = [one.name for _, one in listed]
        number, chosen = listed[choose_series(path, names, series)]
        check_series(path, chosen)
        dtype = chosen.dtype
        assert dtype is not None
        said, shape, offset = chosen.axes, tuple(chosen.shape), chosen.dataoffset
        rgb = "S" in said
        files = tuple(sorted({str(_path_of(page)) for page in _pages_of(chosen)}))
        # what TIFF calls samples are colours
        said = said.replace("S", "C") if {"C", "S"} - {*said} else ""
        if root is not None:
            said = said.replace(OTHER, "S")
            facts = ome_facts(_image_of(root, file.series, number), dtype)
        elif file.is_imagej:
            channels = dict(chosen.sizes).get("channel", 0)
            facts = imagej_facts(file, dtype, channels)
        else:
            facts = printed_resolution(chosen.keyframe.tags)
        data: Any
        if offset is not None:
            holder = _path_of(chosen.keyframe)
            data = RawArray(holder, dtype.newbyteorder(file.byteorder), shape, offset)
        else:
            stat = os.stat(path)
            data = TiffSeries(
                path.resolve(), number, shape, dtype, chosen.keyframe.chunks,
                (stat.st_size, stat.st_mtime_ns), ome,
            )  # fmt: skip
        title = path.name.removesuffix(path.suffix).removesuffix(".ome")
        if len(listed) > 1:
            title = f"{title} {chosen.name or series or 1}"
    return Image(
        data=Guarded(data, str(path), sized(files)),
        axes=parse_axes(axes, len(shape)) if axes else _declared_axes(path, said, len(shape)),
        rgb=rgb,
        name=title,
        files=files,
        **facts,
    )


def count_series(path: Path) -> int:
    """Return the number of images in a TIFF file; the levels of a pyramid count as one."""
    with reading(path), _OpenedTiff(path) as (file, _, _):
        return len(_listed(path, file))


def tiff_members(path: Path) -> set[Path]:
    """Return all files of the OME-TIFF image that a file belongs to, including itself."""
    own = {path.resolve()}
    try:
        with reading(path), tifffile.TiffFile(path) as file:
            if not file.is_ome or not file.ome_metadata or "FileName" not in file.ome_metadata:
                return own
            root = parse_ome(path, file.ome_metadata)
            return own | {(path.parent / name).resolve() for name in members(root, path.name)}
    except ReadError:
        # the error is reported when the file is read
        return own


class _OpenedTiff:
    """Context that opens a TIFF file, its OME-XML, and that of a companion file."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> tuple[tifffile.TiffFile, Any, str]:
        pages, whole = walk(self.path)
        if not pages:
            raise ReadError(f"{self.path}: cut off, or not a TIFF file that can be read")
        ome = ""
        self.file = tifffile.TiffFile(self.path)
        try:
            root = None
            if self.file.is_ome and self.file.ome_metadata:
                root = parse_ome(self.path, self.file.ome_metadata)
                if name := companion_of(root):
                    ome = _companion(self.path, name)
                    self.file.close()
                    self.file = tifffile.TiffFile(self.path, omexml=ome)
                    root = parse_ome(self.path, ome)
            check_whole(self.path, self.file, pages, whole)
            if root is not None:
                check_ome(self.path, root)
        except BaseException:
            self.file.close()
            raise
        return self.file, root, ome

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _companion(path: Path, name: str) -> str:
    """Return the OME-XML of a companion file."""
    other = path.parent / name
    if not other.is_file():
        raise ReadError(f"{path}: 1 file of it is missing: {name}")
    if other.suffix.lower() in (".tif", ".tiff"):
        with tifffile.TiffFile(other) as file:
            return file.ome_metadata or ""
    return other.read_text("utf-8")


def _listed(path: Path, file: tifffile.TiffFile) -> list[tuple[int, tifffile.TiffPageSeries]]:
    """Return the series of a file that are images, each with its number from 0."""
    every = [(i, s) for i, s in enumerate(file.series) if s.size and s.dtype is not None]
    if not every:
        raise ReadError(f"{path}: the file holds no image")
    # if each position has its own file, every file describes all of them
    path = path.resolve()
    own = [(i, s) for i, s in every if any(_path_of(p) == path for p in _pages_of(s))]
    images = [
        (i, s)
        for i, s in own or every
        if str(s.name).strip().lower() not in AUXILIARY_SERIES and not s.keyframe.is_reduced
    ]
    return images or own or every


def _pages_of(series: tifffile.TiffPageSeries) -> list[Any]:
    # the public iterator would load every page
    return [page for page in series._pages if page is not None]  # noqa: SLF001


def _path_of(page: Any) -> Path:
    handle = page.parent.filehandle
    return Path(os.path.realpath(os.path.join(handle.dirname, handle.name)))


def _image_of(root: Any, series: Sequence[tifffile.TiffPageSeries], number: int) -> Any:
    """Return the OME-XML element of a series; images without pixels have no series."""
    images = images_of(root)
    if len(images) == len(series):
        return images[number]
    at = -1
    for listed in series[: number + 1]:
        names = [image.attrib.get("Name") for image in images]
        at = next((i for i in range(at + 1, len(names)) if names[i] == listed.name), at + 1)
    return images[min(at, len(images) - 1)]


def _declared_axes(path: Path, said: str, ndim: int) -> str:
    if said and set(said) <= set(LETTERS):
        return parse_axes(said, ndim)
    raise UserError(ask_for_axes(path, ndim))


FORMAT = Format("TIFF", (".tif", ".tiff"), read_tiff, count_series)
