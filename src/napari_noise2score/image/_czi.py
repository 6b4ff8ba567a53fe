"""Read Zeiss CZI files by czifile: one scene, plane by plane."""

from __future__ import annotations

import threading
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from ..errors import DataWarning, ReadError, UserError
from ._channels import WHITE, named_channel
from ._format import Format, axes_of, choose_series
from ._ome_tiff import parse_xml
from ._stack import Opened, Stack, guarded, stamp_of
from ._tiff_check import cut_off
from ._units import number_of, size_of
from .guard import check_size
from .image import Image

MAX_OPEN = 4
MAX_PLANES = 4  # decoded planes that are kept
LOOPED = "TCZM"  # M: the tiles of a mosaic
RAW, JPEG, JPEG_XR, ZSTD0, ZSTD1 = 0, 1, 4, 5, 6
DECODED_AS_RGB = (JPEG, JPEG_XR)
_lock = threading.Lock()


@dataclass(frozen=True)
class _Plane:
    """A plane in a file: what is needed to read and decode it."""

    scene: int
    place: Mapping[str, int]
    shape: tuple[int, ...]
    dtype: np.dtype
    compression: int
    entry: Any


@dataclass(frozen=True)
class _Scene:
    """The planes of a scene by their index along T, C, Z and M; sizes of the axes."""

    planes: Mapping[tuple[int, ...], _Plane]
    sizes: Mapping[str, int]
    number: int


def read_czi(path: Path, axes: str | None, series: int | None = None) -> Image:
    """Open one scene of a CZI file lazily; see `read_image`.

    The tiles of a mosaic are not stitched: they are read as samples, axis ``S``.
    """
    file = path.resolve()
    opened = _open(file, stamp_of(file)).file
    scenes = _scenes(file, stamp_of(file))
    root = parse_xml(path, opened.metadata() or "<none/>", "metadata")
    names = _scene_names(root, [scene.number for scene in scenes])
    at = choose_series(path, names, series)
    scene = _complete(path, scenes[at])
    first = next(iter(scene.planes.values()))
    looped = [a for a in LOOPED if scene.sizes[a] > 1]
    tiles = scene.sizes["M"]
    if tiles > 1:
        warnings.warn(
            f"{path}: a mosaic of {tiles} tiles, read tile by tile as axis S; stitch the result",
            DataWarning,
            stacklevel=2,
        )
    shape = (*(scene.sizes[a] for a in looped), *first.shape)
    check_size(path, shape, first.dtype, first.shape)
    read = partial(_read, file, stamp_of(file), at, tuple(looped))
    chunks = (*(1 for _ in looped), *first.shape)
    stack = Stack(shape, first.dtype, len(looped), read, chunks)
    rgb = len(first.shape) > 2
    if rgb and "C" in looped:
        raise UserError(f"{path}: channels in colour cannot be read; export it as OME-TIFF")
    said = "".join(looped).replace("M", "S") + ("YXC" if rgb else "YX")
    scale, units = _sizes(root, opened, scene.sizes["T"])
    channels, omero = ((), {}) if rgb else _channels(root, scene.sizes["C"])
    return Image(
        guarded(path, stack),
        axes_of(path, axes, said, len(shape)),
        scale={a: s for a, s in scale.items() if a in said},
        units={a: u for a, u in units.items() if a in said},
        channels=channels,
        omero=omero,
        rgb=rgb,
        name=path.stem if len(scenes) < 2 else f"{path.stem} {names[at] or at + 1}",
    )


def count_czi(path: Path) -> int:
    """Return the number of scenes."""
    file = path.resolve()
    return len(_scenes(file, stamp_of(file)))


@lru_cache(maxsize=MAX_OPEN)
def _open(file: Path, stamp: tuple[int, int]) -> Opened:  # noqa: ARG001
    # the stamp is part of the cache's key only
    import czifile

    return Opened(czifile.CziFile(str(file)))


@lru_cache(maxsize=MAX_OPEN)
def _scenes(file: Path, stamp: tuple[int, int]) -> tuple[_Scene, ...]:
    planes = [_plane(file, entry) for entry in _open(file, stamp).file.subblock_directory]
    full = [plane for plane in planes if plane is not None]
    if not full:
        raise ReadError(f"{file}: the file holds no image")
    found = []
    for number in sorted({plane.scene for plane in full}):
        own = [plane for plane in full if plane.scene == number]
        varying = {a for p in own for a in p.place if a not in LOOPED and p.place[a]}
        if varying:
            raise UserError(
                f"{file}: its axis {min(varying)} cannot be read; export it as OME-TIFF"
            )
        if len({(plane.shape, plane.dtype) for plane in own}) > 1:
            raise UserError(
                f"{file}: its planes differ in size or type, as the tiles of some mosaics do; "
                "export it as OME-TIFF"
            )
        places = {a: sorted({plane.place.get(a, 0) for plane in own}) for a in LOOPED}
        listed = {
            tuple(places[a].index(plane.place.get(a, 0)) for a in LOOPED): plane for plane in own
        }
        found.append(_Scene(listed, {a: len(p) for a, p in places.items()}, number))
    return tuple(found)


def _plane(file: Path, entry: Any) -> _Plane | None:
    """Return an entry of the directory of either version of czifile; None for a coarser level."""
    if hasattr(entry, "dimension_entries"):  # before 2026
        sizes = {d.dimension: (d.start, d.size, d.stored_size) for d in entry.dimension_entries}
        dtype = np.dtype(entry.dtype)
        samples, dtype = (dtype.shape or (1,))[0], dtype.base
    else:
        every = zip(entry.dims, entry.start, entry.shape, entry.stored_shape, strict=True)
        sizes = {dim: (start, size, stored) for dim, start, size, stored in every if dim != "S"}
        sizes |= {"M": (max(entry.mosaic_index, 0), 1, 1), "S": (max(entry.scene_index, 0), 1, 1)}
        samples, dtype = entry.pixel_type.samples, np.dtype(entry.pixel_type.dtype)
    if int(entry.pyramid_type) or any(size != stored for _, size, stored in sizes.values()):
        return None
    if int(entry.file_part):
        raise UserError(f"{file}: one of several files of an image; export it as OME-TIFF")
    place = {a: int(start) for a, (start, *_) in sizes.items()}
    shape = (sizes["Y"][1], sizes["X"][1], *((samples,) if samples > 1 else ()))
    if any(size > 1 for a, (_, size, _) in sizes.items() if a not in "YX"):
        raise UserError(f"{file}: its planes are stored in volumes; export it as OME-TIFF")
    scene = place.pop("S", 0)
    place = {a: n for a, n in place.items() if a not in "YX"}
    return _Plane(scene, place, shape, dtype, int(entry.compression), entry)


def _complete(path: Path, scene: _Scene) -> _Scene:
    """Return a scene without time points that were not recorded to their end."""
    inner = list(product(*(range(scene.sizes[a]) for a in LOOPED[1:])))
    whole = 0
    while whole < scene.sizes["T"] and all((whole, *at) in scene.planes for at in inner):
        whole += 1
    if whole == 0:
        raise ReadError(cut_off(path, len(scene.planes), scene.sizes["T"] * len(inner)))
    if whole < scene.sizes["T"]:
        warnings.warn(
            f"{path}: {whole} of {scene.sizes['T']} time points are complete; the others are "
            "left out",
            DataWarning,
            stacklevel=2,
        )
    return _Scene(scene.planes, {**scene.sizes, "T": whole}, scene.number)


def _read(
    file: Path,
    stamp: tuple[int, int],
    scene: int,
    looped: tuple[str, ...],
    at: tuple[int, ...],
    inside: tuple[slice, ...],
) -> np.ndarray:
    place = dict(zip(looped, at, strict=True))
    return _decoded(file, stamp, scene, tuple(place.get(a, 0) for a in LOOPED))[inside]


@lru_cache(maxsize=MAX_PLANES)
def _decoded(file: Path, stamp: tuple[int, int], scene: int, at: tuple[int, ...]) -> np.ndarray:
    plane = _scenes(file, stamp)[scene].planes[at]
    with _lock:
        if hasattr(plane.entry, "data_segment"):  # before 2026
            segment = plane.entry.data_segment()
        else:
            segment = plane.entry.read_segment_data(_open(file, stamp).file)
        stored = bytes(segment.data(raw=True))
    values = _decode(file, plane, stored).reshape(plane.shape)
    if len(plane.shape) > 2 and plane.compression not in DECODED_AS_RGB:
        values = values[..., [2, 1, 0, *range(3, plane.shape[2])]]  # stored as blue, green, red
    return values


def _decode(file: Path, plane: _Plane, stored: bytes) -> np.ndarray:
    nbytes = int(np.prod(plane.shape)) * plane.dtype.itemsize
    if plane.compression == JPEG:
        return np.asarray(imagecodecs.jpeg_decode(stored))
    if plane.compression == JPEG_XR:
        return np.asarray(imagecodecs.jpegxr_decode(stored))
    shuffled = False
    if plane.compression == ZSTD1:
        # a header of one byte, or of three if the bytes of 16-bit pixels may be separated
        shuffled = stored[0] == 3 and bool(stored[2] & 1)
        stored = stored[stored[0] :]
    if plane.compression in (ZSTD0, ZSTD1):
        stored = bytes(imagecodecs.zstd_decode(stored, out=nbytes))
    elif plane.compression != RAW:
        raise ReadError(f"{file}: its compression (number {plane.compression}) is not supported")
    if len(stored) < nbytes:
        raise ReadError(f"{file}: damaged: a plane has {len(stored)} of {nbytes} bytes")
    values = np.frombuffer(stored[:nbytes], np.uint8)
    if shuffled:
        values = np.ascontiguousarray(values.reshape(2, -1).T)
    return values.view(plane.dtype)


def _scene_names(root: ET.Element, numbers: list[int]) -> list[str]:
    named = {
        number_of(scene.get("Index")): scene.get("Name", "")
        for scene in root.iterfind(".//Information/Image/Dimensions/S/Scenes/Scene")
    }
    return [named.get(float(number), "") for number in numbers]


def _sizes(root: ET.Element, opened: Any, times: int) -> tuple[dict[str, float], dict[str, str]]:
    """Return pixel size, and the time between two time points."""
    scale: dict[str, float] = {}
    for distance in root.iterfind(".//Scaling/Items/Distance"):
        size = size_of(distance.findtext("Value"))  # in metres
        if size and distance.get("Id") in ("X", "Y", "Z"):
            scale[str(distance.get("Id"))] = float(f"{size * 1e6:.9g}")
    units = dict.fromkeys(scale, "micrometer")
    step = size_of(root.findtext(".//Image/Dimensions/T/Positions/Interval/Increment"))
    if step is None and times > 1:
        step = _measured_step(opened, times)
    if step:
        scale["T"], units["T"] = float(f"{step:.7g}"), "second"
    return scale, units


def _measured_step(opened: Any, times: int) -> float | None:
    """Return the mean time between two time points in seconds, or None if it is not known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # many files have no attachments
        listed = list(opened.attachments())
    for one in listed:
        if one.attachment_entry.name == "TimeStamps":
            found = np.ravel(one.data()).astype(float)[:times]
            return size_of((found[-1] - found[0]) / (len(found) - 1)) if len(found) > 1 else None
    return None


def _channels(root: ET.Element, count: int) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the names of the channels and their display settings."""
    listed = root.findall(".//Information/Image/Dimensions/Channels/Channel")
    if len(listed) != count:
        return (), {}
    names = tuple(one.get("Name") or "" for one in listed)
    shown = {one.get("Id"): one for one in root.iterfind(".//DisplaySetting/Channels/Channel")}
    colors = []
    for one in listed:
        setting = shown.get(one.get("Id"))
        text = (setting.findtext("Color") if setting is not None else None) or ""
        colors.append(text[-6:] if len(text) == 9 else "")
    omero = {}
    if any(colors):
        pairs = zip(names, colors, strict=True)
        omero = {"channels": [named_channel(name, color or WHITE) for name, color in pairs]}
    return (names if any(names) else ()), omero


FORMAT = Format("Zeiss CZI", (".czi",), read_czi, count_czi, library="czifile")
