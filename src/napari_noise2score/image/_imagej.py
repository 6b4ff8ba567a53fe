"""Read and write the metadata that ImageJ stores in TIFF files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tifffile

from ._channels import WHITE, channel, color_of, entries, window_of
from ._units import SYMBOLS, number_of, size_of, unit_of
from .image import Image

# kept unchanged, so that ImageJ displays a result like its input
KEPT = ("mode", "min", "max", "Info", "Labels", "Ranges", "LUTs", "ROI", "Overlays", "Properties")
LEVELS = 256
INCH = 2
CENTIMETER = 3
CM_PER_INCH = 2.54
# resolutions of printers and screens, which do not describe the size of a pixel
PRINTED_DPI = (72, 96, 100, 120, 150, 180, 200, 240, 300, 350, 400, 600, 1200, 2400)


def imagej_facts(file: tifffile.TiffFile, dtype: np.dtype, channels: int) -> dict[str, Any]:
    """Return the metadata of an ImageJ file as arguments of `Image`.

    Parameters
    ----------
    file : tifffile.TiffFile
        An open file in ImageJ's format.
    dtype : numpy.dtype
        Type of the pixels.
    channels : int
        Number of channels, 0 if there is no such axis.

    Returns
    -------
    dict
        ``scale``, ``translate``, ``units``, ``channels``, ``omero``, ``imagej`` and ``notes``.
    """
    said: Mapping[str, Any] = file.imagej_metadata or {}
    kept = {key: _plain_value(said[key]) for key in KEPT if said.get(key) is not None}
    if isinstance(kept.get("Labels"), str):
        kept["Labels"] = [kept["Labels"]]
    labels = [str(label) for label in kept.get("Labels") or []]
    names = tuple(labels[:channels]) if len(labels) >= channels > 0 else ()
    return {
        **_sizes(said, file.pages.first.tags),
        "channels": names,
        "omero": _shown(kept, names, dtype, max(channels, 1)),
        "imagej": kept,
        "notes": read_notes(said.get("noise2score")),
    }


def imagej_metadata(image: Image) -> dict[str, Any]:
    """Return the metadata of an image in the form in which `tifffile` writes them for ImageJ."""
    facts: dict[str, Any] = {"axes": image.axes}
    unit = image.units.get("X", "")
    for axis, key in (("X", "unit"), ("Y", "yunit"), ("Z", "zunit"), ("T", "tunit")):
        own = image.units.get(axis, "")
        # ImageJ assumes that Y and Z have the unit of X, and that time is in seconds
        if own and (axis == "X" or own != ("second" if axis == "T" else unit)):
            facts[key] = _ascii(SYMBOLS.get(own, own))
    if "Z" in image.scale:
        facts["spacing"] = image.scale["Z"]
    if "T" in image.scale:
        facts["finterval"] = image.scale["T"]
    for axis, key in (("X", "xorigin"), ("Y", "yorigin"), ("Z", "zorigin")):
        if axis in image.translate and axis in image.scale:
            facts[key] = -image.translate[axis] / image.scale[axis]
    facts |= _display_settings(image)
    if image.notes:
        facts["noise2score"] = json.dumps(dict(image.notes))
    return facts


def printed_resolution(tags: tifffile.TiffTags) -> dict[str, dict[str, Any]]:
    """Return pixel sizes from a resolution in pixels per inch or centimetre."""
    scale, units = {}, {}
    unit = {INCH: "inch", CENTIMETER: "centimeter"}.get(tags.valueof("ResolutionUnit", 1))
    for axis in "YX" if unit else "":
        size = resolution(tags, axis)
        if size is None or unit is None:
            continue
        dpi = (1 if unit == "inch" else CM_PER_INCH) / size
        if dpi > 1.001 and not any(abs(dpi / known - 1) < 0.002 for known in PRINTED_DPI):
            scale[axis], units[axis] = size, unit
    return {"scale": scale, "units": units}


def resolution(tags: tifffile.TiffTags, axis: str) -> float | None:
    """Return the size of a pixel along X or Y in the unit of the resolution."""
    value = tags.valueof(f"{axis}Resolution")
    if not isinstance(value, tuple) or len(value) != 2 or not value[0]:
        return None
    return size_of(value[1] / value[0])


def read_notes(text: Any) -> dict[str, Any]:
    """Return our own notes from a text, empty if it has none."""
    try:
        notes = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _sizes(said: Mapping[str, Any], tags: tifffile.TiffTags) -> dict[str, dict[str, Any]]:
    unit = unit_of(said.get("unit"))
    own = {"X": unit} | {
        axis: unit_of(said.get(f"{axis.lower()}unit")) or unit for axis in ("Y", "Z")
    }
    sizes = {axis: resolution(tags, axis) for axis in "XY"}
    spacing = number_of(said.get("spacing"))
    # ImageJ uses a negative spacing for stacks that run downwards
    sizes["Z"] = size_of(abs(spacing)) if spacing else None
    # without a unit, the resolution is not a pixel size
    scale: dict[str, Any] = {a: s for a, s in sizes.items() if s is not None and own[a]}
    units: dict[str, Any] = {axis: own[axis] for axis in scale}
    if not unit:
        printed = printed_resolution(tags)
        scale, units = printed["scale"] | scale, printed["units"] | units
    if interval := size_of(said.get("finterval")):
        scale["T"], units["T"] = interval, unit_of(said.get("tunit")) or "second"
    translate = {}
    for axis in "XYZ":
        # ImageJ gives the origin in pixels
        place = number_of(said.get(f"{axis.lower()}origin"))
        if place is not None and axis in scale:
            translate[axis] = -place * scale[axis]
    return {"scale": scale, "translate": translate, "units": units}


def _shown(
    kept: Mapping[str, Any], names: Sequence[str], dtype: np.dtype, count: int
) -> dict[str, Any]:
    """Return ImageJ's display settings of the channels in OME-Zarr's form, if there are any."""
    tables, ranges = kept.get("LUTs") or [], list(kept.get("Ranges") or [])
    low, high = number_of(kept.get("min")), number_of(kept.get("max"))
    if not ranges and low is not None and high is not None:
        ranges = [low, high] * count
    if not tables and not ranges:
        return {}
    top = float(np.iinfo(dtype).max) if dtype.kind in "ui" else 65535.0
    listed = []
    for i in range(count):
        table = tables[i] if i < len(tables) else None
        color = "".join(f"{line[-1]:02X}" for line in table) if table else WHITE
        window = (ranges[2 * i], ranges[2 * i + 1]) if len(ranges) > 2 * i + 1 else None
        label = names[i] if i < len(names) else ""
        listed.append(channel(label, color, window, (0.0, top)))
    composite = kept.get("mode") in ("composite", "color")
    return {"channels": listed, "rdefs": {"model": "color" if composite else "greyscale"}}


def _display_settings(image: Image) -> dict[str, Any]:
    """Return look-up tables, display ranges and labels that match the image."""
    planes = {a: n for a, n in zip(image.axes, image.data.shape, strict=True) if a not in "YX"}
    count, channels = int(np.prod([*planes.values()], dtype=int)), planes.get("C", 1)
    settings: dict[str, Any] = dict(image.imagej)
    if not image.imagej:
        settings = _from_omero(image, channels)
    if len(settings.get("Labels") or []) != count:
        settings.pop("Labels", None)
        names = list(image.channels)
        if names and len(names) == channels and "C" in image.axes:
            # ImageJ orders planes, and so labels, with the channel varying fastest
            settings["Labels"] = names * (count // len(names))
    tables = [np.asarray(table, np.uint8) for table in settings.pop("LUTs", [])]
    if len(tables) == channels and all(table.shape == (3, LEVELS) for table in tables):
        settings["LUTs"] = tables
    if len(settings.get("Ranges") or []) != 2 * channels:
        settings.pop("Ranges", None)
    if channels == 1 and settings.get("mode") == "composite":
        settings.pop("mode")
    return settings


def _from_omero(image: Image, channels: int) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    listed = entries(image.omero)
    if len(listed) != channels:
        return settings
    windows = [window_of(entry) for entry in listed]
    if all(windows):
        settings["Ranges"] = [float(v) for window in windows for v in window or ()]
        settings["min"], settings["max"] = settings["Ranges"][:2]
    colors = [color_of(entry) for entry in listed]
    if all(colors) and (channels > 1 or colors[0] != (255, 255, 255)):
        ramp = np.arange(LEVELS)
        settings["LUTs"] = [[(ramp * c // 255).tolist() for c in color or ()] for color in colors]
    if channels > 1 and "LUTs" in settings:
        grey = image.omero.get("rdefs")
        model = grey.get("model") if isinstance(grey, Mapping) else None
        settings["mode"] = "grayscale" if model == "greyscale" else "composite"
    return settings


def _plain_value(value: Any) -> Any:
    """Convert arrays to lists, so that metadata can be compared."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain_value(item) for item in value]
    return value


def _ascii(unit: str) -> str:
    # ImageJ files are Latin-1; ImageJ itself writes 'um' for a micrometre
    return unit.replace("µ", "u").replace("Å", "angstrom")
