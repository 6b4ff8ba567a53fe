"""Read PNG and JPEG pictures, and write PNGs where no information is lost."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo

from ..errors import ReadError, UserError
from ._format import Format, axes_of
from ._imagej import read_notes
from .guard import reading
from .image import Image

PICTURE_DTYPES = ("uint8", "uint16")
# Pillow's modes that have grey levels, and whether they are in colour
MODES = {
    "1": False, "L": False, "LA": False, "I": False, "I;16": False, "I;16B": False, "F": False,
    "RGB": True, "RGBA": True, "P": True,
}  # fmt: skip
PNG_HEADER = 26
# pixels per byte of a file; a picture of a single grey level comes close
MAX_EXPANSION = 10_000


def read_picture(path: Path, axes: str | None) -> Image:
    """Read a picture without its alpha channel; see `read_image`."""
    data, rgb, notes = _read_pixels(path)
    axes = axes_of(path, axes, "YXC" if rgb else "YX", data.ndim)
    return Image(data, axes, rgb=rgb, name=path.stem, notes=notes)


def _read_pixels(path: Path) -> tuple[np.ndarray, bool, dict[str, Any]]:
    """Read a picture without its alpha channel.

    Returns
    -------
    numpy.ndarray
        Shape ``(Y, X)`` or, in colour, ``(Y, X, 3)``.
    bool
        Whether it is in colour.
    dict
        Our own notes, if it has any.

    Raises
    ------
    ReadError
        If it is damaged, larger than Pillow accepts, an animation, or in CMYK.
    """
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Picture.open(path, formats=("PNG", "JPEG")) as picture:
            if (count := getattr(picture, "n_frames", 1)) > 1:
                raise ReadError(f"{path}: contains {count} pictures; save them as a TIFF")
            if picture.mode not in MODES:
                raise ReadError(f"{path}: its colours are {picture.mode}; convert it to RGB")
            pixels = picture.width * picture.height
            if pixels > path.stat().st_size * MAX_EXPANSION:
                raise ReadError(
                    f"{path}: damaged: claims {picture.width} × {picture.height} pixels"
                )
            notes = read_notes(getattr(picture, "text", {}).get("noise2score"))
            if picture.format == "PNG" and _deep_colours(path):
                data = _read_deep(path)
                return data, data.ndim == 3, notes
            if picture.mode == "P":
                # a palette of greys makes a grey-level image
                picture.load()
                colours = np.asarray(picture.convert("RGB"))
                grey = bool(np.ptp(colours, axis=-1).max(initial=0) == 0)
                return (colours[..., 0] if grey else colours), not grey, notes
            data = np.asarray(picture)
            if picture.mode == "1":
                data = data.astype(np.uint8) * np.uint8(255)
            elif picture.mode == "I":
                data = _narrowed(data)
            elif picture.mode in ("LA", "RGBA"):
                data = data[..., 0] if picture.mode == "LA" else data[..., :3]
            return data.astype(data.dtype.newbyteorder("=")), MODES[picture.mode], notes


def check_picture(path: Path, image: Image, dtype: np.dtype | None) -> None:
    """Raise a `UserError` if a PNG cannot hold an image without loss.

    Parameters
    ----------
    path : Path
        Name of the file.
    image : Image
        Provides shape and axes.
    dtype : numpy.dtype or None
        Type of the pixels to be written, None if not known yet.
    """
    if image.axes not in ("YX", "YXC"):
        raise UserError(f"{path}: a PNG holds one plane (YX or YXC), not {image.axes}")
    count = image.data.shape[-1] if image.axes == "YXC" else 1
    if count not in (1, 3):
        raise UserError(f"{path}: a PNG holds grey levels or 3 colours, not {count} channels")
    if dtype is None:
        return
    dtype = np.dtype(dtype)
    if dtype.name not in PICTURE_DTYPES:
        raise UserError(
            f"{path}: a PNG holds whole numbers 0-65535, not {dtype}; use .tif, or --dtype same "
            "where the input is a picture"
        )
    if count > 1 and dtype.name == "uint16":
        raise UserError(f"{path}: a PNG in colours is written in 8 bits only; use .tif")


def write_picture(path: Path, values: np.ndarray, image: Image) -> None:
    """Write an image as PNG; see `check_picture` for what a PNG can hold."""
    text = PngInfo()
    if image.notes:
        text.add_text("noise2score", json.dumps(dict(image.notes)))
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    Picture.fromarray(values).save(path, format="png", pnginfo=text)


def _deep_colours(path: Path) -> bool:
    """Return whether a PNG has 16-bit colours, which Pillow would reduce to 8 bits."""
    with open(path, "rb") as file:
        head = file.read(PNG_HEADER)
    return len(head) == PNG_HEADER and head[24] == 16 and head[25] in (2, 4, 6)


def _read_deep(path: Path) -> np.ndarray:
    from imagecodecs import png_decode

    values = png_decode(path.read_bytes())
    if values.ndim == 3 and values.shape[-1] in (2, 4):
        values = values[..., : values.shape[-1] - 1]
    return values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values


def _narrowed(data: np.ndarray) -> np.ndarray:
    """Return grey levels as 16-bit integers, which Pillow may return in 32 bits."""
    if data.size and (data.min() < 0 or data.max() > np.iinfo(np.uint16).max):
        return data
    return data.astype(np.uint16)


FORMAT = Format("PNG, JPEG", (".png", ".jpg", ".jpeg"), read_picture)
