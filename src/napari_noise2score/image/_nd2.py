"""Read Nikon ND2 files by nd2: time, position, Z and channels, frame by frame."""

from __future__ import annotations

import math
import threading
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ReadError, UserError
from ._channels import named_channel
from ._format import Format, axes_of, choose_series
from ._stack import Opened, Stack, guarded, stamp_of
from ._tiff_check import cut_off
from ._units import number_of, size_of
from .guard import check_size
from .image import Image

MAX_OPEN = 4
MAX_FRAMES = 4  # decoded frames that are kept
_lock = threading.Lock()


def read_nd2(path: Path, axes: str | None, series: int | None = None) -> Image:
    """Open one position of an ND2 file lazily; see `read_image`."""
    file = path.resolve()
    opened = _open(file, stamp_of(file)).file
    sizes = {str(a): int(n) for a, n in opened.sizes.items()}
    names = _positions(opened)
    position = choose_series(path, names, series)
    frame = [a for a in sizes if a in "CYXS"]
    loops = [a for a in sizes if a not in frame]
    if unknown := {*loops} - {*"TPZ"}:
        raise UserError(f"{path}: its axis {unknown.pop()} cannot be read")
    outer = [a for a in loops if a != "P"]
    order = "".join([*outer, *frame])
    shape = tuple(sizes[a] for a in order)
    dtype = np.dtype(opened.dtype)
    check_size(path, shape, dtype, shape[len(outer) :])
    counts = tuple(sizes[a] for a in loops)
    if (found := int(opened.attributes.sequenceCount)) < math.prod(counts):
        raise ReadError(cut_off(path, found, math.prod(counts)))
    read = partial(_read, file, stamp_of(file), counts, tuple(loops), position)
    rgb = "S" in frame
    said = order.replace("S", "C") if rgb and "C" not in frame else order
    stack = Stack(shape, dtype, len(outer), read, (*(1 for _ in outer), *shape[len(outer) :]))
    space = opened.voxel_size()
    scale = {a: s for a in "XYZ" if (s := size_of(getattr(space, a.lower()))) and a in order}
    units = dict.fromkeys(scale, "micrometer")
    if interval := _interval(opened, counts, tuple(loops)):
        scale["T"], units["T"] = interval, "second"
    about = [] if rgb else [c.channel for c in opened.metadata.channels or ()]
    shown = [named_channel(str(c.name), _color(c.color)) for c in about]
    return Image(
        guarded(path, stack),
        axes_of(path, axes, said, len(shape)),
        scale=scale,
        units=units,
        channels=tuple(str(c.name) for c in about),
        omero={"channels": shown} if shown else {},
        rgb=rgb,
        name=path.stem if len(names) < 2 else f"{path.stem} {names[position] or position + 1}",
    )


def count_nd2(path: Path) -> int:
    """Return the number of positions."""
    file = path.resolve()
    return len(_positions(_open(file, stamp_of(file)).file))


@lru_cache(maxsize=MAX_OPEN)
def _open(file: Path, stamp: tuple[int, int]) -> Opened:  # noqa: ARG001
    # the stamp is part of the cache's key only
    import nd2

    return Opened(nd2.ND2File(file))


def _read(
    file: Path,
    stamp: tuple[int, int],
    counts: tuple[int, ...],
    loops: tuple[str, ...],
    position: int,
    at: tuple[int, ...],
    inside: tuple[slice, ...],
) -> np.ndarray:
    """Read a part of a frame, (C, Y, X) or (Y, X, S)."""
    rest = iter(at)
    place = [position if a == "P" else next(rest) for a in loops]
    number = int(np.ravel_multi_index(place, counts)) if loops else 0
    return _frame(file, stamp, number)[inside]


@lru_cache(maxsize=MAX_FRAMES)
def _frame(file: Path, stamp: tuple[int, int], number: int) -> np.ndarray:
    with _lock:
        frame: np.ndarray = _open(file, stamp).file.read_frame(number)
    return frame


def _positions(opened: Any) -> list[str]:
    """Return the names of all positions, empty where they have none."""
    count = int(opened.sizes.get("P", 1))
    for loop in opened.experiment or ():
        if loop.type == "XYPosLoop" and len(loop.parameters.points) == count:
            return [str(point.name or "") for point in loop.parameters.points]
    return [""] * count


def _interval(opened: Any, counts: tuple[int, ...], loops: tuple[str, ...]) -> float | None:
    """Return the time between two time points in seconds, or None if it is not known."""
    if "T" not in loops:
        return None
    for loop in opened.experiment or ():
        if loop.type == "TimeLoop" and (planned := size_of(loop.parameters.periodMs)):
            return planned / 1000
    # without a planned interval, frames follow each other as fast as they can
    last = [n - 1 if a == "T" else 0 for a, n in zip(loops, counts, strict=True)]
    ends, times = ([0] * len(loops), last), []
    for place in ends:
        about = opened.frame_metadata(int(np.ravel_multi_index(place, counts)))
        times.append(number_of(about.channels[0].time.relativeTimeMs))
    if None in times or max(last) < 1:
        return None
    step = size_of((times[1] - times[0]) / max(last))  # type: ignore[operator]
    return step and float(f"{step / 1000:.6g}")


def _color(color: Any) -> str:
    return f"{color.r:02X}{color.g:02X}{color.b:02X}"


FORMAT = Format("Nikon ND2", (".nd2",), read_nd2, count_nd2, library="nd2")
