"""TIFF files as ImageJ and OME write them, with axes, pixel size and channel names."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from ..errors import UserError
from .axes import parse_axes
from .image import Image
from .output import FileArray

# spelt as OME-Zarr and napari spell them
UNITS = {
    "µm": "micrometer", "μm": "micrometer", "um": "micrometer", "micron": "micrometer",
    "microns": "micrometer", "\\u00B5m": "micrometer", "nm": "nanometer", "mm": "millimeter",
    "cm": "centimeter", "m": "meter", "inch": "inch", "s": "second", "sec": "second",
    "ms": "millisecond", "min": "minute", "h": "hour",
}  # fmt: skip
SYMBOLS = {
    "micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm", "meter": "m",
    "second": "s", "millisecond": "ms", "minute": "min", "hour": "h",
}  # fmt: skip
IMAGEJ_ORDER = "TZCYX"


@dataclass(frozen=True)
class Mapped:
    """An array in a file, which is open only while a part of it is read.

    A memory map would keep the file open, and a folder may hold more images than files may be.
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.array(np.memmap(self.path, self.dtype, "r", self.offset, self.shape)[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[...].astype(dtype or self.dtype)


def read_tiff(path: Path, axes: str | None) -> Image:
    """Open a TIFF file lazily; see `read_image`."""
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            said, dtype, shape, offset = (
                series.axes, series.dtype, series.shape, series.dataoffset
            )  # fmt: skip
            if dtype is not None:
                dtype = dtype.newbyteorder(file.byteorder)
            if file.is_ome and file.ome_metadata:
                facts = _ome_facts(file.ome_metadata)
            elif file.is_imagej:
                facts = _imagej_facts(file, said)
            else:
                facts = {}
        if dtype is None or series.size == 0:
            raise UserError(f"{path}: the file holds no image")
        data: Any
        if offset is not None:
            data = Mapped(path, dtype, shape, offset)
        else:
            store = tifffile.imread(path, aszarr=True, series=0, level=0)
            data = zarr.open_array(store, mode="r")
    except (tifffile.TiffFileError, OSError, ValueError, IndexError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a TIFF file that can be read, or damaged") from None
    return Image(
        data=data,
        axes=parse_axes(axes, len(shape)) if axes else _axes_said(path, said, len(shape)),
        rgb="S" in said,
        name=path.name.removesuffix(path.suffix).removesuffix(".ome"),
        **facts,
    )


def create_tiff(path: Path, image: Image, dtype: np.dtype) -> FileArray:
    """Make a TIFF file of zeros with the metadata of an image, and return its pixels.

    It is an ImageJ hyperstack where ImageJ knows the order of axes and the type, and the name
    does not say ``.ome.tif``; otherwise an OME-TIFF.
    """
    shape = tuple(image.data.shape)
    simple = image.axes == "".join(a for a in IMAGEJ_ORDER if a in image.axes) and not image.rgb
    fits = np.prod(shape, dtype=np.int64) * dtype.itemsize < 2**32 - 2**20
    imagej = (
        ".ome" not in path.name and simple and fits and dtype in (np.uint8, np.uint16, np.float32)
    )
    options: dict[str, Any] = {"photometric": "rgb" if image.rgb else "minisblack"}
    if imagej:
        options |= {"imagej": True, "metadata": _imagej_metadata(image)}
        if "X" in image.scale:
            # pixels per unit; ImageJ takes the unit from its own field
            sizes = [image.scale.get(a, image.scale["X"]) for a in "XY"]
            options["resolution"] = tuple(1 / size for size in sizes)
    else:
        options |= {"ome": True, "bigtiff": not fits, "metadata": _ome_metadata(image)}
    # the pixels are a hole in the file as yet
    place = tifffile.imwrite(path, shape=shape, dtype=dtype, returnoffset=True, **options)
    assert place is not None  # as they are not compressed
    return FileArray(path, dtype, shape, place[0])


def open_tiff(path: Path, axes: str) -> FileArray:
    """Open the pixels of a file that `create_tiff` made for writing, in the order of these axes."""
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        assert series.dataoffset is not None
        return FileArray(path, series.dtype, series.shape, series.dataoffset)


def _axes_said(path: Path, said: str, ndim: int) -> str:
    if said in ("YX", "YXS", "SYX"):
        return said.replace("S", "C")
    if set(said) <= set("TCZYXS") and not {"C", "S"} <= set(said):
        return parse_axes(said, ndim)
    raise UserError(ask_for_axes(path, ndim))


def ask_for_axes(path: Path | str, ndim: int) -> str:
    """Say that an image does not name its axes, and how to."""
    example = {3: "ZYX", 4: "TZYX", 5: "TCZYX"}.get(ndim, "YX")
    return (
        f"{path}: a {ndim}-dimensional image, and the file does not name its axes; say which "
        f"they are, for example --axes {example} (letters T, C, Z, Y, X)"
    )


def _ome_facts(xml: str) -> dict[str, Any]:
    root = ET.fromstring(xml)
    name = root.tag.removesuffix("OME")
    pixels = root.find(f".//{name}Pixels")
    if pixels is None:
        return {}
    scale, units = {}, {}
    for axis, key, default in (
        ("X", "PhysicalSizeX", "µm"),
        ("Y", "PhysicalSizeY", "µm"),
        ("Z", "PhysicalSizeZ", "µm"),
        ("T", "TimeIncrement", "s"),
    ):
        if key in pixels.attrib:
            scale[axis] = float(pixels.attrib[key])
            unit = pixels.attrib.get(f"{key}Unit", default)
            units[axis] = UNITS.get(unit, unit)
    planes = pixels.findall(f"{name}Plane")
    translate = {}
    for axis in "XYZ" if planes else "":
        if (place := planes[0].attrib.get(f"Position{axis}")) is not None:
            translate[axis] = float(place)
    channels = [c.attrib.get("Name", "") for c in pixels.findall(f"{name}Channel")]
    notes: dict[str, Any] = {}
    description = root.find(f".//{name}Description")
    if description is not None and description.text:
        notes = _notes(description.text)
    return {
        "scale": scale,
        "translate": translate,
        "units": units,
        "channels": tuple(channels) if any(channels) else (),
        "notes": notes,
    }


def _ome_metadata(image: Image) -> dict[str, Any]:
    axes = image.axes[:-1] + "S" if image.rgb and image.axes.endswith("C") else image.axes
    facts: dict[str, Any] = {"axes": axes, "Name": image.name}
    for axis, size in image.scale.items():
        key = "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"
        if axis != "C":
            facts[key] = size
            if unit := image.units.get(axis):
                facts[f"{key}Unit"] = SYMBOLS.get(unit, unit)
    if image.channels and not image.rgb:
        facts["Channel"] = {"Name": list(image.channels)}
    if image.translate and not image.rgb:
        planes = np.prod(
            [n for a, n in zip(image.axes, image.data.shape, strict=True) if a not in "YX"],
            dtype=int,
        )
        facts["Plane"] = {}
        for axis, place in image.translate.items():
            if axis in "XYZ":
                facts["Plane"][f"Position{axis}"] = [place] * int(planes)
                unit = SYMBOLS.get(image.units.get(axis, ""), "µm")
                facts["Plane"][f"Position{axis}Unit"] = [unit] * int(planes)
    if image.notes:
        facts["Description"] = json.dumps(dict(image.notes))
    return facts


def _imagej_facts(file: tifffile.TiffFile, axes: str) -> dict[str, Any]:
    said: Mapping[str, Any] = file.imagej_metadata or {}
    unit = UNITS.get(str(said.get("unit", "")), str(said.get("unit", "")))
    scale, units, translate = {}, {}, {}
    tags = file.pages.first.tags
    for axis, tag in (("X", "XResolution"), ("Y", "YResolution")):
        # without a unit, ImageJ's resolution is a printer's and no pixel size
        if unit and unit != "pixel" and tag in tags and tags[tag].value[0]:
            scale[axis] = tags[tag].value[1] / tags[tag].value[0]
            units[axis] = unit
    if unit and unit != "pixel" and "Z" in axes and "spacing" in said:
        scale["Z"], units["Z"] = float(said["spacing"]), unit
    if "T" in axes and said.get("finterval"):
        scale["T"], units["T"] = float(said["finterval"]), "second"
    for axis, key in (("X", "xorigin"), ("Y", "yorigin"), ("Z", "zorigin")):
        # ImageJ counts the origin in pixels
        if key in said and axis in scale:
            translate[axis] = -float(said[key]) * scale[axis]
    labels = said.get("Labels") or []
    channels = dict(file.series[0].sizes).get("channel", 0)
    return {
        "scale": scale,
        "translate": translate,
        "units": units,
        "channels": tuple(labels[:channels]) if len(labels) >= channels > 0 else (),
        "notes": _notes(str(said.get("noise2score", ""))),
    }


def _imagej_metadata(image: Image) -> dict[str, Any]:
    facts: dict[str, Any] = {"axes": image.axes}
    if unit := image.units.get("X"):
        # ImageJ writes its files in Latin-1, where its own sign for a micrometre is 'um'
        facts["unit"] = SYMBOLS.get(unit, unit).replace("µ", "u")
    if "Z" in image.scale:
        facts["spacing"] = image.scale["Z"]
    if "T" in image.scale:
        facts["finterval"] = image.scale["T"]
    for axis, key in (("X", "xorigin"), ("Y", "yorigin"), ("Z", "zorigin")):
        if axis in image.translate and axis in image.scale:
            facts[key] = -image.translate[axis] / image.scale[axis]
    if image.channels and "C" in image.axes:
        planes = {a: n for a, n in zip(image.axes, image.data.shape, strict=True) if a not in "YX"}
        labels = list(image.channels)
        facts["Labels"] = labels * int(np.prod([*planes.values()], dtype=int) // len(labels))
    if image.notes:
        facts["noise2score"] = json.dumps(dict(image.notes))
    return facts


def _notes(text: str) -> dict[str, Any]:
    """Our own notes, where the text holds them."""
    try:
        notes = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return notes if isinstance(notes, dict) else {}
