"""Image files in and out: TIFF, PNG, NPY, zarr; folders and globs of them."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

from ..errors import UserError
from ..score.axes import parse_axes
from .image import Image
from .tiff import ask_for_axes, create_tiff, read_tiff
from .zarrs import create_zarr, read_zarr

TIFF = (".tif", ".tiff")
PICTURE = (".png", ".jpg", ".jpeg")
READ = (*TIFF, *PICTURE, ".npy", ".zarr")
WRITTEN = ".tif, .tiff, .ome.tif, .npy, .png, .zarr"


def find_images(source: str | os.PathLike[str]) -> list[Path]:
    """Find the image files that a path, folder or glob stands for.

    Parameters
    ----------
    source : path-like
        A file, a zarr store, a folder of images, or a glob such as ``"shots/*.tif"``.

    Returns
    -------
    list of Path
        In natural order: ``t2.tif`` comes before ``t10.tif``.

    Raises
    ------
    UserError
        If there is none.
    """
    path = Path(source)
    if path.is_file() or _is_zarr(path):
        return [path]
    if path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in READ and p.name[0] != "."]
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
        TIFF (ImageJ, OME or plain), PNG, JPEG, NPY, a zarr array or an OME-Zarr image.
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
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    kind = path.suffix.lower()
    if kind in TIFF:
        return read_tiff(path, axes)
    if _is_zarr(path):
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


def write_image(path: str | os.PathLike[str], image: Image, overwrite: bool = False) -> None:
    """Write an image with its metadata; the format follows the name.

    Parameters
    ----------
    path : path-like
        Ending in one of .tif, .tiff, .ome.tif, .npy, .png, .zarr.
    image : Image
        The image; lazy data are computed plane by plane of the first axis.
    overwrite : bool
        Whether a file that exists may be replaced.

    Raises
    ------
    UserError
        If the file exists, or the ending is unknown.
    """
    with open_output(Path(path), image, image.data.dtype, overwrite) as target:
        if image.data.ndim == 2:
            target[:] = np.asarray(image.data[:])
        else:
            for i in range(image.data.shape[0]):
                target[i] = np.asarray(image.data[i])


@contextmanager
def open_output(
    path: Path, image: Image, dtype: np.dtype, overwrite: bool = False
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
        _remove(part)
        if kind in TIFF:
            target = create_tiff(part, image, dtype)
        elif kind == ".zarr":
            target = create_zarr(part, image, dtype)
        elif kind == ".npy":
            target = np.lib.format.open_memmap(part, "w+", dtype, tuple(image.data.shape))
        else:
            target = np.zeros(image.data.shape, dtype)
        yield target
        if kind == ".png":
            _write_png(part, target, image)
        elif isinstance(target, np.memmap):
            target.flush()
        if path.exists():
            _remove(path)
        os.replace(part, path)
    finally:
        _remove(part)


def check_output(path: Path, image: Image, overwrite: bool) -> None:
    """Raise a `UserError` if an image cannot be written there."""
    kind = path.suffix.lower()
    if path.name.lower().endswith(".ome.zarr") or kind not in (*TIFF, ".npy", ".png", ".zarr"):
        raise UserError(f"{path}: cannot be written; end the name in one of {WRITTEN}")
    if kind == ".png" and image.axes not in ("YX", "YXC"):
        raise UserError(f"{path}: a PNG holds one plane (YX or YXC), not {image.axes}")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already; use --overwrite to replace it")
    if path.is_dir() and not _is_zarr(path):
        raise UserError(f"{path} is a folder and will not be replaced by an image")


def _is_zarr(path: Path) -> bool:
    marks = ("zarr.json", ".zgroup", ".zarray")
    return path.is_dir() and any((path / mark).exists() for mark in marks)


def _natural(path: Path) -> list[Any]:
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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
