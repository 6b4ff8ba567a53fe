"""Read Imaris files by h5py: HDF5 files with one array for each time point and channel."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ReadError
from ._channels import named_channel
from ._format import Format, axes_of
from ._hdf5 import open_hdf5, read_dataset
from ._stack import Stack, guarded
from ._units import number_of, size_of, unit_of
from .guard import check_size
from .image import Image

FINEST = "DataSet/ResolutionLevel 0"
UNNAMED = "(name not specified)"


def read_imaris(path: Path, axes: str | None) -> Image:
    """Open the finest level of an Imaris file lazily, with axes TCZYX; see `read_image`."""
    file = path.resolve()
    with open_hdf5(file) as opened:
        return _read(path, file, opened, axes)


def _read(path: Path, file: Path, opened: Any, axes: str | None) -> Image:
    about = opened["DataSetInfo/Image"].attrs
    times = len(opened[FINEST])
    channels = len(opened[f"{FINEST}/TimePoint 0"])
    first = opened[f"{FINEST}/TimePoint 0/Channel 0/Data"]
    # arrays are padded to whole chunks
    size = tuple(int(_text(about, a)) for a in "ZYX")
    if any(n > padded or n < 1 for n, padded in zip(size, first.shape, strict=True)):
        raise ReadError(f"{path}: damaged: its arrays are smaller than its image")
    shape, chunks = (times, channels, *size), (1, 1, *(first.chunks or first.shape))
    check_size(path, shape, first.dtype, chunks)
    stack = Stack(shape, first.dtype, 2, partial(_read_volume, file), chunks)
    scale, translate, units = {}, {}, {}
    for number, axis in enumerate("XYZ"):
        low, high = (number_of(_text(about, f"Ext{end}{number}")) for end in ("Min", "Max"))
        if (
            low is not None
            and high is not None
            and (step := size_of((high - low) / size[2 - number]))
        ):
            scale[axis], translate[axis] = float(f"{step:.7g}"), low
            units[axis] = unit_of(_text(about, "Unit"))
    if interval := _interval(opened, times):
        scale["T"], units["T"] = interval, "second"
    named = [opened.get(f"DataSetInfo/Channel {c}") for c in range(channels)]
    names = tuple(_text(c.attrs, "Name") if c is not None else "" for c in named)
    names = tuple("" if name == UNNAMED else name for name in names)
    colors = [_color(_text(c.attrs, "Color")) if c is not None else "" for c in named]
    omero: dict[str, Any] = {}
    if all(colors):
        shown = [named_channel(name, color) for name, color in zip(names, colors, strict=True)]
        omero = {"channels": shown}
    return Image(
        guarded(path, stack),
        axes_of(path, axes, "TCZYX", len(shape)),
        scale=scale,
        translate=translate,
        units={axis: unit for axis, unit in units.items() if unit},
        channels=names if any(names) else (),
        omero=omero,
        name=path.stem,
    )


def _read_volume(file: Path, at: tuple[int, ...], inside: tuple[slice, ...]) -> np.ndarray:
    name = f"{FINEST}/TimePoint {at[0]}/Channel {at[1]}/Data"
    return read_dataset(file, name, (), inside)


def _text(attributes: Any, name: str) -> str:
    """Return an attribute, which Imaris writes as an array of single characters."""
    value = attributes.get(name, "")
    return b"".join(value).decode("latin-1") if isinstance(value, np.ndarray) else str(value)


def _interval(opened: Any, times: int) -> float | None:
    """Return the mean time between two time points in seconds, or None if it is not known."""
    about = opened.get("DataSetInfo/TimeInfo")
    if about is None or times < 2:
        return None
    try:
        ends = [datetime.fromisoformat(_text(about.attrs, f"TimePoint{n}")) for n in (1, times)]
    except ValueError:
        return None
    return size_of((ends[1] - ends[0]).total_seconds() / (times - 1))


def _color(text: str) -> str:
    """Return red, green and blue from 0 to 1 as six hexadecimal digits, empty if unknown."""
    values = [number_of(part) for part in text.split()]
    if len(values) != 3 or any(v is None for v in values):
        return ""
    return "".join(f"{round(255 * min(max(v or 0.0, 0.0), 1.0)):02X}" for v in values)


FORMAT = Format("Imaris", (".ims",), read_imaris, library="h5py")
