"""Open image files of any supported format: choose the reader, and list folders and globs."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from ._tiff import FORMAT as TIFF
from ._tiff import tiff_members
from ._tiff_check import says_ome
from .formats import READ, format_of, is_single
from .guard import Guarded, reading
from .image import Image
from .paths import file_of, local_path
from .zarrs import read_zarr

COLOURS = 3


def find_images(source: str | os.PathLike[str]) -> list[Path | str]:
    """Return the image files that a path, folder or glob refers to.

    Parameters
    ----------
    source : path-like
        A file, a zarr store or its address (``https://…``, ``s3://…``), a folder of images, or a
        glob such as ``"frames/*.tif"``.

    Returns
    -------
    list of Path
        In natural order: ``t2.tif`` precedes ``t10.tif``. Addresses remain strings.

    Raises
    ------
    UserError
        If there is no image.
    """
    path = local_path(source)
    if path is None:
        return [str(source)]
    if file_of(path).is_file() or is_single(path):
        return [path]
    if path.is_dir():
        with reading(path):
            # directory entries know their type; `Path.is_file` would cost a system call for each
            names = [entry.name for entry in os.scandir(path)]
        found: list[Path | str] = [
            path / name for name in names if name.lower().endswith(READ) and name[0] != "."
        ]
        if not found:
            raise UserError(f"{path}: the folder holds no image ({', '.join(READ)})")
    elif glob.has_magic(str(source)):
        found = [Path(p) for p in glob.glob(_pattern(path))]
        if not found:
            raise UserError(f"{source}: no file matches")
    else:
        raise UserError(f"{path}: no such file")
    return _without_members(sorted(found, key=_natural))


def read_images(
    source: str | os.PathLike[str], axes: str | None = None, series: int | str | None = None
) -> list[Image]:
    """Open all images that a path, folder or glob refers to; see `read_image`.

    Parameters
    ----------
    source : path-like
        As for `find_images`.
    axes : str, optional
        Axes, where the files do not name them.
    series : int or "all", optional
        Which image of each file, from 1; by default the first.

    Returns
    -------
    list of Image
    """
    return [
        read_image(path, axes, number)
        for path in find_images(source)
        for number in series_numbers(path, series)
    ]


def series_numbers(
    path: str | os.PathLike[str], series: int | str | None
) -> list[int] | list[None]:
    """Return the numbers of the requested images of a file, as `read_image` takes them.

    Parameters
    ----------
    path : path-like
        The file.
    series : int, "all" or None
        A number from 1 (also as text), all images, or the default.

    Raises
    ------
    UserError
        If it is anything else.
    """
    if series is None:
        return [None]
    text = str(series).strip().lower()
    if text == "all":
        file, count = local_path(path), 1
        if file and file_of(file).exists() and (kind := format_of(file)) and kind.count:
            kind.check_library(file)
            with reading(file):
                count = kind.count(file)
        return list(range(1, count + 1)) if count > 1 else [None]
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise UserError(f"--series {series}: use a number from 1, or all")
    return [int(text)]


def read_image(
    path: str | os.PathLike[str], axes: str | None = None, series: int | None = None
) -> Image:
    """Open an image; if the format allows, pixels remain in the file until they are needed.

    Parameters
    ----------
    path : path-like
        TIFF (ImageJ, OME or plain), PNG, JPEG, NPY, a zarr array or an OME-Zarr image.
        Zarr stores may also be addresses supported by fsspec, such as ``https://…`` or ``s3://…``.
    axes : str, optional
        Axes, letters of ``STCZYX``, where the file does not name them.
    series : int, optional
        Which of several images of a TIFF file, from 1. By default the first is read, with a
        `DataWarning` if there are others.

    Returns
    -------
    Image
        Without an alpha channel.

    Raises
    ------
    UserError
        If the file or series does not exist or cannot be read, or its axes are unknown. Damaged
        files raise a `ReadError`, possibly later, when pixels are read.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> file = Path(tempfile.mkdtemp()) / "stack.npy"
    >>> np.save(file, np.zeros((5, 16, 16), np.float32))
    >>> read_image(file, axes="ZYX").data.shape
    (5, 16, 16)
    """
    if axes is not None and not axes.strip():
        raise UserError("the axes are empty: name each dimension, as in ZYX, or name none at all")
    file = local_path(path)
    if file is None:
        _only_series(path, series)
        image = read_zarr(str(path), axes)
        return replace(image, source=str(path), files=(str(path),))
    with reading(file):
        if not file_of(file).exists():
            raise UserError(f"{file_of(file)}: no such file")
        image = _read_local(file, axes, series)
        if 0 in image.data.shape:
            raise UserError(f"{file}: the image is empty: its shape is {tuple(image.data.shape)}")
        own = str(file_of(file).resolve())
    files = (own, *(name for name in image.files if name != own))
    source = str(file.resolve())
    return replace(_without_alpha(image), source=source, files=files)


def _read_local(path: Path, axes: str | None, series: int | None) -> Image:
    kind = format_of(path)
    if kind is None and path.is_dir():
        raise UserError(f"{path}: this is a folder, not an image")
    if kind is None:
        raise UserError(f"{path}: this file format cannot be read; use {', '.join(READ)}")
    kind.check_library(path)
    if kind.count is not None:
        return kind.read(path, axes, series)
    _only_series(path, series)
    return kind.read(path, axes)


def _only_series(path: str | os.PathLike[str], series: int | None) -> None:
    if series not in (None, 1):
        raise UserError(f"{path}: there is no series {series}; the file has 1")


def _without_alpha(image: Image) -> Image:
    """Return a colour image without its alpha channel."""
    if not image.rgb:
        return image
    at = image.axes.find("C")
    count = image.data.shape[at] if at >= 0 else 0
    if count != COLOURS + 1:
        # --axes may reinterpret what the file declares as colours
        return image if count == COLOURS else replace(image, rgb=False)
    if isinstance(image.data, Guarded):
        data = replace(image.data, first=(at, COLOURS))
        return replace(image, data=data, channels=image.channels[:COLOURS])
    kept = [slice(None)] * image.data.ndim
    kept[at] = slice(COLOURS)
    return replace(image, data=image.data[tuple(kept)], channels=image.channels[:COLOURS])


def _natural(path: Path | str) -> list[Any]:
    return [int(p) if p.isdigit() else p.lower() for p in re.split(r"(\d+)", str(path))]


def _pattern(path: Path) -> str:
    """Return a glob in which existing folders are taken literally, not as patterns."""
    here = Path(path.anchor)
    names = path.parts[1:] if path.anchor else path.parts
    for i, part in enumerate(names):
        if not (here / part).is_dir():
            return str(Path(glob.escape(str(here)), *names[i:]))
        here = here / part
    return glob.escape(str(here))


def _without_members(paths: list[Path | str]) -> list[Path | str]:
    """Remove files that belong to a multi-file image of which another file is listed already."""
    tiffs = {path for path in paths if str(path).lower().endswith(TIFF.suffixes)}
    if len(tiffs) < 2:
        return paths
    left: list[Path | str] = []
    taken: set[Path] = set()
    for path in paths:
        if path in tiffs:
            if taken and Path(path).resolve() in taken:
                continue
            if says_ome(Path(path)):
                taken |= tiff_members(Path(path))
        left.append(path)
    return left
