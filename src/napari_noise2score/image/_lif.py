"""Read Leica LIF files by liffile: one image, plane by plane."""

from __future__ import annotations

import threading
import warnings
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataWarning, ReadError, UserError
from ._format import Format, axes_of, choose_series
from ._stack import Opened, Stack, cut_short, guarded, stamp_of
from ._units import convert, size_of, unit_of
from .axes import LETTERS
from .guard import check_size
from .image import Image

MAX_OPEN = 4
# axes of Leica: the tiles of a mosaic are samples; bands of emission or excitation are channels
CALLED = {"M": "S", "λ": "C", "Λ": "C"}
_lock = threading.Lock()


def read_lif(path: Path, axes: str | None, series: int | None = None) -> Image:
    """Open one image of a LIF file lazily; see `read_image`.

    The tiles of a mosaic are not stitched: they are read as samples, axis ``S``. Planes along X and
    Z are read with Y in the place of Z.
    """
    file = path.resolve()
    names = [image.path for image in _images(file, stamp_of(file))]
    if not names:
        raise ReadError(f"{path}: the file holds no image")
    at = choose_series(path, names, series)
    image = _images(file, stamp_of(file))[at]
    if image.is_flim:
        raise UserError(f"{path}: '{names[at]}' holds photon arrival times, not an image")
    sizes = {str(a): int(n) for a, n in image.sizes.items()}
    frame = tuple(str(a) for a in image.frames.frame_dims)
    looped = tuple(str(a) for a in sizes if a not in frame)
    shape = tuple(sizes[a] for a in (*looped, *frame))
    check_size(path, shape, image.dtype, shape[len(looped) :])
    _check_whole(path, image)
    rgb = "S" in frame
    letters: dict[str, str] = {a: CALLED.get(a, a) for a in sizes}
    letters |= {"S": "C"} | {"Z": _plane_axis(sizes)}
    order = "".join(letters[a] for a in (*looped, *frame))
    said = order if len({*order}) == len(order) and {*order} <= {*LETTERS} else None
    if sizes.get("M", 1) > 1:
        warnings.warn(
            f"{path}: a mosaic of {sizes['M']} tiles, read tile by tile as axis S; stitch the "
            "result",
            DataWarning,
            stacklevel=2,
        )
    chunks = (*(1 for _ in looped), *shape[len(looped) :])
    read = partial(_read, file, stamp_of(file), at, looped)
    scale, units = _sizes(image, letters)
    return Image(
        guarded(path, Stack(shape, image.dtype, len(looped), read, chunks)),
        axes_of(path, axes, said, len(shape)),
        scale=scale,
        units=units,
        channels=_channels(image, dict(zip(said or "", shape, strict=False)).get("C", 1)),
        rgb=rgb,
        name=path.stem if len(names) < 2 else f"{path.stem} {names[at]}".replace("/", " "),
    )


def count_lif(path: Path) -> int:
    """Return the number of images."""
    file = path.resolve()
    return len(_images(file, stamp_of(file)))


def _images(file: Path, stamp: tuple[int, int]) -> Any:
    return _open(file, stamp).file.images


@lru_cache(maxsize=MAX_OPEN)
def _open(file: Path, stamp: tuple[int, int]) -> Opened:  # noqa: ARG001
    # the stamp is part of the cache's key only
    import liffile

    return Opened(liffile.LifFile(file))


def _read(
    file: Path,
    stamp: tuple[int, int],
    number: int,
    looped: tuple[str, ...],
    at: tuple[int, ...],
    inside: tuple[slice, ...],
) -> np.ndarray:
    with _lock:
        image = _images(file, stamp)[number]
        frame: np.ndarray = image.frame(**dict(zip(looped, at, strict=True)))
    return frame[inside]


def _check_whole(path: Path, image: Any) -> None:
    """Raise a `ReadError` if the file ends before the pixels of an image do."""
    block, size = image.memory_block, path.stat().st_size
    if block.offset >= 0 and block.offset + block.size > size:
        raise ReadError(cut_short(path, size, block.offset + block.size))


def _plane_axis(sizes: dict[str, int]) -> str:
    """Return what Z is called: Y if planes extend along X and Z."""
    return "Z" if "Y" in sizes else "Y"


def _sizes(image: Any, letters: dict[str, str]) -> tuple[dict[str, float], dict[str, str]]:
    """Return pixel size and time step, from the positions of the first and the last pixel."""
    scale: dict[str, float] = {}
    units: dict[str, str] = {}
    described = {
        dim.get("DimID"): dim.get("Unit")
        for dim in image.xml_element.iterfind(".//Dimensions/DimensionDescription")
    }
    for axis, places in image.coords.items():
        letter = letters.get(axis, axis)
        if letter in "TZYX" and len(places) > 1:
            number = {"X": "1", "Y": "2", "Z": "3", "T": "4"}[axis]
            unit = unit_of(described.get(number))
            step = size_of(abs(places[-1] - places[0]) / (len(places) - 1))
            into = "micrometer" if unit == "meter" else unit
            size = step and convert(step, unit, into)
            if size:
                scale[letter], units[letter] = float(f"{size:.9g}"), into
    return scale, units


def _channels(image: Any, count: int) -> tuple[str, ...]:
    """Return the names of the channels: their dyes, or else their look-up tables."""
    listed = image.xml_element.findall(".//Channels/ChannelDescription")
    if len(listed) != count:
        return ()
    dyes = [
        {p.findtext("Key"): p.findtext("Value") for p in one.iterfind("ChannelProperty")}
        for one in listed
    ]
    names = [
        dye.get("DyeName") or one.get("LUTName") or ""
        for dye, one in zip(dyes, listed, strict=True)
    ]
    return tuple(names) if any(names) else ()


FORMAT = Format("Leica LIF", (".lif",), read_lif, count_lif, library="liffile")
