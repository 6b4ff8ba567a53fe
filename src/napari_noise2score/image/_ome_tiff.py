"""Read and write the OME-XML of TIFF files."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np

from ..errors import ReadError
from ._channels import WHITE, channel, color_of, entries
from ._imagej import read_notes
from ._units import SYMBOLS, convert, number_of, size_of, unit_of
from .image import Image

# larger numbers are damage, and would exhaust memory
MAX_PLANES = 20_000_000
# an axis of OME-XML that is neither time nor channel nor space
OTHER = "Q"
MAX_FILES_NAMED = 3  # in a message


def parse_ome(source: Any, text: str) -> ET.Element:
    """Return the root element of OME-XML; see `parse_xml`."""
    return parse_xml(source, text, "OME-XML")


def parse_xml(source: Any, text: str, what: str) -> ET.Element:
    """Return the root element of XML; a message calls it by the third argument.

    Raises
    ------
    ReadError
        If it is not XML, or declares entities, which can expand without limit.
    """
    if re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise ReadError(f"{source}: its {what} declares a document type, which is not accepted")
    try:
        return ET.fromstring(text)  # noqa: S314  entities are refused above
    except (ET.ParseError, ValueError, RecursionError) as error:
        raise ReadError(f"{source}: its {what} is damaged ({error})") from None


def images_of(root: ET.Element) -> list[ET.Element]:
    """Return the images that OME-XML describes."""
    return [child for child in root if _name(child) == "Image"]


def companion_of(root: ET.Element) -> str:
    """Return the name of the companion file that holds the metadata, empty if there is none."""
    for child in root:
        if _name(child) == "BinaryOnly":
            return child.attrib.get("MetadataFile", "")
    return ""


def members(root: ET.Element, own: str) -> set[str]:
    """Return the names of all files of the images that a file belongs to.

    Parameters
    ----------
    root : xml.etree.ElementTree.Element
        As from `parse_ome`.
    own : str
        Name of the file itself.
    """
    found = [_files(image, root.attrib.get("UUID"), own) for image in images_of(root)]
    mine = [names for names in found if own in names] or found
    return set().union(*mine) | {own} if mine else {own}


def check_ome(path: Path, root: ET.Element) -> None:
    """Raise a `ReadError` if files are missing, or numbers are larger than a file can hold."""
    missing = sorted(
        name for name in members(root, path.name) if not (path.parent / name).is_file()
    )
    if missing:
        named = ", ".join(missing[:MAX_FILES_NAMED]) + (
            ", …" if len(missing) > MAX_FILES_NAMED else ""
        )
        some = "file of it is" if len(missing) == 1 else "files of it are"
        raise ReadError(f"{path}: {len(missing)} {some} missing: {named}")
    for image in images_of(root):
        for pixels in _children(image, "Pixels"):
            counts = [_whole(pixels.attrib.get(f"Size{a}", 1)) for a in "TCZ"]
            for data in _children(pixels, "TiffData"):
                counts += [
                    _whole(data.attrib.get(key, 0)) for key in ("PlaneCount", "NumPlanes", "IFD")
                ]
            sizes = counts[:3]
            if max(counts) > MAX_PLANES or sizes[0] * sizes[1] * sizes[2] > MAX_PLANES:
                raise ReadError(f"{path}: damaged: its OME-XML claims more planes than can be")
    for along in root.iter():
        if _name(along).startswith("ModuloAlong"):
            start, end, step = (
                number_of(along.attrib.get(key, default))
                for key, default in (("Start", 0), ("End", 0), ("Step", 1))
            )
            if None in (start, end, step) or not step or (end - start) / step > MAX_PLANES:  # type: ignore[operator]
                raise ReadError(f"{path}: damaged: its OME-XML divides an axis without end")


def planes_promised(root: ET.Element) -> int:
    """Return the number of planes of the first image, 0 if unknown."""
    for image in images_of(root):
        for pixels in _children(image, "Pixels"):
            samples = [_whole(c.attrib.get("SamplesPerPixel", 1)) for c in _channels(pixels)]
            count = int(np.prod([_whole(pixels.attrib.get(f"Size{a}", 1)) for a in "TCZ"]))
            return count // max(1, *samples, 1)
    return 0


def ome_facts(image: ET.Element, dtype: np.dtype) -> dict[str, Any]:
    """Return the metadata of one OME-XML image as arguments of `Image`.

    Parameters
    ----------
    image : xml.etree.ElementTree.Element
        The ``Image`` element.
    dtype : numpy.dtype
        Type of the pixels.

    Returns
    -------
    dict
        ``scale``, ``translate``, ``units``, ``channels``, ``omero`` and ``notes``.
    """
    pixels = next(iter(_children(image, "Pixels")), None)
    if pixels is None:
        return {}
    scale: dict[str, float] = {}
    units: dict[str, str] = {}
    for axis, key, default in (
        ("X", "PhysicalSizeX", "µm"),
        ("Y", "PhysicalSizeY", "µm"),
        ("Z", "PhysicalSizeZ", "µm"),
        ("T", "TimeIncrement", "s"),
    ):
        size = size_of(pixels.attrib.get(key))
        unit = unit_of(pixels.attrib.get(f"{key}Unit", default))
        if size is not None and unit:
            scale[axis], units[axis] = size, unit
    translate = _positions(pixels, units)
    listed = _channels(pixels)
    names = [c.attrib.get("Name", "") for c in listed]
    colors = [_color(c.attrib.get("Color")) for c in listed]
    omero: dict[str, Any] = {}
    if any(colors):
        top = float(np.iinfo(dtype).max) if dtype.kind in "ui" else 65535.0
        shown = [
            channel(name, color or WHITE, limits=(0.0, top))
            for name, color in zip(names, colors, strict=True)
        ]
        omero = {"channels": shown}
    text = next((d.text for d in _children(image, "Description")), None)
    return {
        "scale": scale,
        "translate": translate,
        "units": units,
        "channels": tuple(names) if any(names) else (),
        "omero": omero,
        "notes": read_notes(text),
    }


def ome_metadata(image: Image) -> dict[str, Any]:
    """Return the metadata of an image in the form in which `tifffile` writes them into OME-XML."""
    axes = image.axes.replace("S", OTHER)
    if image.rgb and axes.endswith("C"):
        axes = axes[:-1] + "S"
    facts: dict[str, Any] = {"axes": axes, "Name": image.name}
    for axis, size in image.scale.items():
        key = "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"
        if axis not in "CS":
            facts[key] = size
            if unit := image.units.get(axis):
                facts[f"{key}Unit"] = SYMBOLS.get(unit, unit)
    if "C" in image.axes and not image.rgb:
        count = image.data.shape[image.axes.index("C")]
        about: dict[str, Any] = {}
        if len(image.channels) == count:
            about["Name"] = list(image.channels)
        colors = [color_of(entry) for entry in entries(image.omero)]
        if len(colors) == count and all(colors):
            about["Color"] = [_packed(color) for color in colors if color]
        if about:
            facts["Channel"] = about
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
    if job := image.notes.get("job"):
        # the same job writes the same bytes
        facts["UUID"] = str(uuid5(NAMESPACE_OID, str(job)))
    return facts


def _positions(pixels: ET.Element, units: dict[str, str]) -> dict[str, float]:
    """Return the position of the first plane in the unit of the pixel size."""
    translate: dict[str, float] = {}
    plane = next(iter(_children(pixels, "Plane")), None)
    for axis in "XYZ" if plane is not None else "":
        assert plane is not None
        place = number_of(plane.attrib.get(f"Position{axis}"))
        said = plane.attrib.get(f"Position{axis}Unit")
        # the schema's default is 'reference frame', but many programs mean micrometres
        unit = unit_of(said) if said is not None else units.get(axis, "micrometer")
        if place is None or not unit:
            continue
        into = units.setdefault(axis, unit)
        if (moved := convert(place, unit, into)) is not None:
            translate[axis] = moved
    return translate


def _files(image: ET.Element, uuid: str | None, own: str) -> set[str]:
    """Return the names of the files of an image; a renamed file is recognised by its UUID."""
    names = set()
    for data in [d for p in _children(image, "Pixels") for d in _children(p, "TiffData")]:
        listed = list(_children(data, "UUID"))[:1]
        name = listed[0].attrib.get("FileName", own) if listed else own
        itself = not listed or name.lower() == own.lower() or (uuid and listed[0].text == uuid)
        names.add(own if itself else name)
    return names


def _channels(pixels: ET.Element) -> list[ET.Element]:
    return list(_children(pixels, "Channel"))


def _children(element: ET.Element, name: str) -> Iterator[ET.Element]:
    return (child for child in element if _name(child) == name)


def _name(element: ET.Element) -> str:
    return str(element.tag).rsplit("}", 1)[-1]


def _whole(text: Any) -> int:
    try:
        return int(text)
    except (TypeError, ValueError):
        return 0


def _color(text: str | None) -> str | None:
    """Return a colour as hexadecimal RGB, from OME's signed RGBA number."""
    value = number_of(text)
    if value is None:
        return None
    return f"{(int(value) & 0xFFFFFFFF) >> 8:06X}"


def _packed(color: tuple[int, int, int]) -> int:
    """Return an opaque colour as OME's signed 32-bit RGBA number."""
    value = (color[0] << 24) | (color[1] << 16) | (color[2] << 8) | 255
    return value - (1 << 32) if value >= 1 << 31 else value
