"""Image files in and out: TIFF, PNG, NPY, zarr; folders and globs of them."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

from ..errors import UserError
from .axes import parse_axes
from .image import Image
from .ome_zarr import blocks, build_pyramid, create_ome_zarr, write_units
from .tiff import ask_for_axes, create_tiff, read_tiff
from .zarrs import create_zarr, read_zarr

TIFF = (".tif", ".tiff")
PICTURE = (".png", ".jpg", ".jpeg")
READ = (*TIFF, *PICTURE, ".npy", ".zarr")
WRITTEN = ".tif, .tiff, .ome.tif, .npy, .png, .zarr, .ome.zarr"


def find_images(source: str | os.PathLike[str]) -> list[Path | str]:
    """Find the image files that a path, folder or glob stands for.

    Parameters
    ----------
    source : path-like
        A file, a zarr store or its address (``https://…``, ``s3://…``), a folder of images, or a
        glob such as ``"shots/*.tif"``.

    Returns
    -------
    list of Path
        In natural order: ``t2.tif`` comes before ``t10.tif``. An address stays a string.

    Raises
    ------
    UserError
        If there is none.
    """
    if is_remote(source):
        return [str(source)]
    path = Path(source)
    if path.is_file() or is_zarr(path):
        return [path]
    if path.is_dir():
        found: list[Path | str] = [
            p for p in path.iterdir() if p.suffix.lower() in READ and p.name[0] != "."
        ]
        if not found:
            raise UserError(f"{path}: the folder holds no image ({', '.join(READ)})")
    elif glob.has_magic(str(source)):
        found = [Path(p) for p in glob.glob(str(source))]
        if not found:
            raise UserError(f"{source}: no file matches")
    else:
        raise UserError(f"{path}: no such file")
    return sorted(found, key=_natural)


def read_images(source: str | os.PathLike[str], axes: str | None = None) -> list[Image]:
    """Open all images that a path, folder or glob stands for; see `read_image`."""
    return [read_image(path, axes) for path in find_images(source)]


def read_image(path: str | os.PathLike[str], axes: str | None = None) -> Image:
    """Open an image; its pixels stay in the file where the format allows.

    Parameters
    ----------
    path : path-like
        TIFF (ImageJ, OME or plain), PNG, JPEG, NPY, a zarr array or an OME-Zarr image (0.4, 0.5).
        Zarr may also lie at an address that fsspec knows, as ``https://…`` or ``s3://…``.
    axes : str, optional
        Axes, letters of ``TCZYX``, where the file does not say.

    Returns
    -------
    Image

    Raises
    ------
    UserError
        If there is no such file, it cannot be read, or its axes are not known.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "stack.npy"
    >>> np.save(file, np.zeros((5, 16, 16), np.float32))
    >>> read_image(file, axes="ZYX").data.shape
    (5, 16, 16)
    """
    if is_remote(path):
        return replace(read_zarr(str(path), axes), source=str(path))
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    return replace(_read_local(path, axes), source=str(path.resolve()))


def _read_local(path: Path, axes: str | None) -> Image:
    kind = path.suffix.lower()
    if kind in TIFF:
        return read_tiff(path, axes)
    if is_zarr(path):
        return read_zarr(path, axes)
    rgb = False
    notes: dict[str, Any] = {}
    if kind in PICTURE:
        data, rgb, notes = _read_picture(path)
    elif kind == ".npy":
        data = _read_npy(path)
    else:
        raise UserError(f"{path}: not a kind of image that can be read ({', '.join(READ)})")
    if axes is None and (rgb or data.ndim == 2):
        axes = "YXC" if rgb else "YX"
    if axes is None:
        raise UserError(ask_for_axes(path, data.ndim))
    return Image(data, parse_axes(axes, data.ndim), rgb=rgb, name=path.stem, notes=notes)


def write_image(
    path: str | os.PathLike[str],
    image: Image,
    overwrite: bool = False,
    *,
    ome_zarr: str = "0.5",
) -> None:
    """Write an image with its metadata; the format follows the name.

    Parameters
    ----------
    path : path-like
        Ending in one of .tif, .tiff, .ome.tif, .npy, .png, .zarr, .ome.zarr.
    image : Image
        The image; lazy data are computed block by block.
    overwrite : bool
        Whether a file that exists may be replaced.
    ome_zarr : {"0.5", "0.4"}
        Version of OME-Zarr to write.

    Raises
    ------
    UserError
        If the file exists, or the ending is unknown.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "stack.ome.zarr"
    >>> write_image(file, Image(np.zeros((5, 16, 16)), "ZYX", units={"Z": "micrometer"}))
    >>> dict(read_image(file).units)
    {'Z': 'micrometer'}
    """
    with open_output(Path(path), image, image.data.dtype, overwrite, ome_zarr) as target:
        shape = image.data.shape
        # whole shards of a store; whole planes, or what there is of them, of any other file
        unit = write_units(image.axes, shape)[1]
        if Path(path).suffix.lower() != ".zarr":
            unit = (1, *shape[1:]) if len(shape) > 2 else shape
        for block in blocks(shape, unit):
            target[block] = np.asarray(image.data[block])


@contextmanager
def open_output(
    path: Path,
    image: Image,
    dtype: np.dtype,
    overwrite: bool = False,
    ome_zarr: str = "0.5",
) -> Iterator[Any]:
    """Open a file to be filled block by block; it appears under its name only when complete.

    Parameters
    ----------
    path : Path
        The file.
    image : Image
        Gives shape and metadata; its pixels are not read.
    dtype : numpy.dtype
        Type of the pixels.
    overwrite : bool
        Whether a file that exists may be replaced.
    ome_zarr : {"0.5", "0.4"}
        Version of OME-Zarr to write.

    Yields
    ------
    array-like
        Written as ``target[index] = values``. PNG holds whole numbers only, so there floating
        point values are rounded and clipped to 8 bits, or to 16 if they exceed 255.

    Raises
    ------
    UserError
        If the file exists, or the ending is unknown. Whatever is raised inside, nothing is left
        of a file that was begun.
    """
    path = Path(path)
    check_output(path, image, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lower()
    part = path.with_name(f".part-{path.name}")
    dtype = np.dtype(dtype).newbyteorder("=")
    target: Any
    try:
        remove(part)
        if kind in TIFF:
            target = create_tiff(part, image, dtype)
        elif is_ome_zarr(path):
            target = create_ome_zarr(part, image, dtype, ome_zarr)
        elif kind == ".zarr":
            target = create_zarr(part, image, dtype)
        elif kind == ".npy":
            target = np.lib.format.open_memmap(part, "w+", dtype, tuple(image.data.shape))
        else:
            target = np.zeros(image.data.shape, dtype)
        yield target
        if kind == ".png":
            _write_png(part, target, image)
        elif is_ome_zarr(path):
            build_pyramid(part)
        elif isinstance(target, np.memmap):
            target.flush()
        put_in_place(part, path)
    finally:
        remove(part)


def check_output(path: Path, image: Image, overwrite: bool) -> None:
    """Raise a `UserError` if an image cannot be written there."""
    kind = path.suffix.lower()
    if is_remote(path):
        address = str(path).replace(":/", "://", 1)  # of which a path has but one slash
        raise UserError(f"{address}: results are written to a disk, not through the network")
    if kind not in (*TIFF, ".npy", ".png", ".zarr"):
        raise UserError(f"{path}: cannot be written; end the name in one of {WRITTEN}")
    if kind == ".png" and image.axes not in ("YX", "YXC"):
        raise UserError(f"{path}: a PNG holds one plane (YX or YXC), not {image.axes}")
    if image.source and not is_remote(image.source):
        here, there = path.resolve(), Path(image.source).resolve()
        if here == there or here in there.parents or (is_zarr(there) and there in here.parents):
            raise UserError(f"{path} is the input; raw data are never overwritten")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already; use --overwrite to replace it")
    if path.is_dir() and not is_zarr(path):
        raise UserError(f"{path} is a folder and will not be replaced by an image")


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Say whether a path is an address in the network."""
    return bool(re.match(r"[a-z][a-z0-9+.-]+:/", str(path)))


def is_ome_zarr(path: Path) -> bool:
    """Say whether the name is that of an OME-Zarr image."""
    return path.name.lower().endswith(".ome.zarr")


def is_zarr(path: Path) -> bool:
    """Say whether there is a zarr store."""
    marks = ("zarr.json", ".zgroup", ".zarray")
    return path.is_dir() and any((path / mark).exists() for mark in marks)


def _natural(path: Path | str) -> list[Any]:
    return [int(p) if p.isdigit() else p.lower() for p in re.split(r"(\d+)", str(path))]


def _read_picture(path: Path) -> tuple[np.ndarray, bool, dict[str, Any]]:
    try:
        data = iio.imread(path)
        text = iio.immeta(path).get("noise2score", "{}")
        notes = json.loads(text)
    except json.JSONDecodeError:
        notes = {}
    except (OSError, ValueError, SyntaxError, KeyError):
        raise UserError(f"{path}: not a picture that can be read, or damaged") from None
    if data.dtype == bool:
        data = data.astype(np.uint8) * 255
    if data.ndim == 3 and data.shape[-1] == 2:
        # gray with a mask of what is transparent
        data = data[..., 0]
    return data, data.ndim == 3 and data.shape[-1] in (3, 4), notes


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        raise UserError(f"{path}: not a NPY array of numbers, or damaged") from None


def _write_png(path: Path, values: np.ndarray, image: Image) -> None:
    if values.dtype not in (np.uint8, np.uint16):
        deep = np.uint16 if values.max(initial=0) > 255.5 else np.uint8
        values = np.clip(np.rint(values), 0, np.iinfo(deep).max).astype(deep)
    from PIL import Image as Picture
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    if image.notes:
        text.add_text("noise2score", json.dumps(dict(image.notes)))
    Picture.fromarray(values).save(path, format="png", pnginfo=text)


def put_in_place(part: Path, path: Path) -> None:
    """Give a complete file or store its name; what had that name goes."""
    if path.exists():
        remove(path)
    os.replace(part, path)


def remove(path: Path) -> None:
    """Remove a file, or a store with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
