"""Zarr arrays and OME-Zarr images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ..errors import UserError
from ..score.axes import LETTERS, parse_axes
from .image import Image
from .tiff import ask_for_axes


def read_zarr(path: Path, axes: str | None) -> Image:
    """Open a zarr array, or the sharpest level of an OME-Zarr image; see `read_image`."""
    try:
        node = zarr.open(str(path), mode="r")
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not a zarr store, or damaged") from None
    name = path.name.removesuffix(".zarr").removesuffix(".ome")
    attributes: Any = dict(node.attrs)
    if isinstance(node, zarr.Array):
        return _read_array(path, node, attributes, axes, name)
    attributes = attributes.get("ome", attributes)
    if not (isinstance(attributes, Mapping) and attributes.get("multiscales")):
        raise UserError(f"{path}: a zarr group, but not an OME-Zarr image; name one of its arrays")
    try:
        return _read_ome(node, attributes, axes, name)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a valid OME-Zarr image ({detail})") from None


def create_zarr(path: Path, image: Image, dtype: np.dtype) -> zarr.Array:
    """Make a zarr 3 array of zeros with the metadata of an image."""
    # chunks of one plane or a thin slab: fit for viewing, and never shared by two tiles
    sizes = {"Y": 512, "X": 512, "Z": 8}
    chunks = tuple(
        min(n, sizes.get(a, 1)) for a, n in zip(image.axes, image.data.shape, strict=True)
    )
    return zarr.create_array(
        str(path),
        shape=tuple(image.data.shape),
        dtype=dtype,
        chunks=chunks,
        zarr_format=3,
        dimension_names=[a.lower() for a in image.axes],
        attributes={
            "axes": image.axes,
            "scale": dict(image.scale),
            "translate": dict(image.translate),
            "units": dict(image.units),
            "channels": list(image.channels),
            "rgb": image.rgb,
            "notes": dict(image.notes),
        },
    )


def _read_array(
    path: Path, array: zarr.Array, attributes: Mapping[str, Any], axes: str | None, name: str
) -> Image:
    said = attributes.get("axes")
    names = getattr(array.metadata, "dimension_names", None)
    if axes is None and isinstance(said, str):
        axes = said
    elif axes is None and names and all(n and n.upper() in LETTERS for n in names):
        axes = "".join(names)
    elif axes is None and array.ndim == 2:
        axes = "YX"
    if axes is None:
        raise UserError(ask_for_axes(path, array.ndim))

    def numbers(key: str) -> dict[str, float]:
        return {str(a): float(v) for a, v in dict(attributes.get(key) or {}).items()}

    return Image(
        data=array,
        axes=parse_axes(axes, array.ndim),
        scale=numbers("scale"),
        translate=numbers("translate"),
        units=dict(attributes.get("units") or {}),
        channels=tuple(attributes.get("channels") or ()),
        rgb=bool(attributes.get("rgb", False)),
        name=name,
        notes=dict(attributes.get("notes") or {}),
    )


def _read_ome(
    group: zarr.Group, attributes: Mapping[str, Any], axes: str | None, name: str
) -> Image:
    scales = attributes["multiscales"][0]
    level = scales["datasets"][0]
    array = group[level["path"]]
    if not isinstance(array, zarr.Array):
        raise UserError(f"its level '{level['path']}' is not an array")
    # version 0.3 named axes by plain strings
    said = [a if isinstance(a, Mapping) else {"name": a} for a in scales["axes"]]
    letters = "".join(str(a["name"]) for a in said)
    letters = parse_axes(axes or letters, array.ndim)
    scale, translate = np.ones(array.ndim), np.zeros(array.ndim)
    for part in (level, scales):
        for step in part.get("coordinateTransformations", []):
            values = step.get(step["type"])
            if step["type"] == "scale":
                factor = np.asarray(values, dtype=float)
                scale, translate = scale * factor, translate * factor
            elif step["type"] == "translation":
                translate = translate + np.asarray(values, dtype=float)
    channels = (attributes.get("omero") or {}).get("channels", [])
    return Image(
        data=array,
        axes=letters,
        scale={a: float(v) for a, v in zip(letters, scale, strict=True) if a != "C"},
        translate={a: float(v) for a, v in zip(letters, translate, strict=True) if v},
        units={str(a["name"]).upper(): str(a["unit"]) for a in said if a.get("unit")},
        channels=tuple(str(c.get("label", "")) for c in channels),
        name=str(scales.get("name") or name),
    )
