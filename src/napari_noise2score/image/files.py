"""Image files read: TIFF, PNG, NPY, zarr; folders and globs of them."""

from __future__ import annotations

import glob
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

from ..errors import UserError
from .axes import parse_axes
from .image import Image, facts_of
from .npy import read_beside
from .paths import is_zarr, local_path
from .tiff import ask_for_axes, read_tiff
from .zarrs import read_zarr

TIFF = (".tif", ".tiff")
PICTURE = (".png", ".jpg", ".jpeg")
READ = (*TIFF, *PICTURE, ".npy", ".zarr")


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
    path = local_path(source)
    if path is None:
        return [str(source)]
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
    file = local_path(path)
    if file is None:
        return replace(read_zarr(str(path), axes), source=str(path))
    path = file
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
    facts: dict[str, Any] = {}
    if kind in PICTURE:
        data, rgb, facts["notes"] = _read_picture(path)
    elif kind == ".npy":
        data, beside = _read_npy(path), read_beside(path)
        if (beside.get("shape"), beside.get("dtype")) == (list(data.shape), str(data.dtype)):
            facts, axes = facts_of(beside), axes or str(beside["axes"])
            rgb = facts.pop("rgb", False)
    else:
        raise UserError(f"{path}: not a kind of image that can be read ({', '.join(READ)})")
    if axes is None and (rgb or data.ndim == 2):
        axes = "YXC" if rgb else "YX"
    if axes is None:
        raise UserError(ask_for_axes(path, data.ndim))
    return Image(data, parse_axes(axes, data.ndim), rgb=rgb, name=path.stem, **facts)


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
