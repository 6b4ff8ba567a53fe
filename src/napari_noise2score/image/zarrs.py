"""Zarr arrays and OME-Zarr images, read from a disk or through the network."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from pydantic import ValidationError
from yaozarrs import v04, v05
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from ..errors import UserError
from .axes import LETTERS, parse_axes
from .image import Image, described, facts_of
from .output import sync
from .tiff import ask_for_axes

MODELS: dict[str, Any] = {"0.4": v04.Multiscale, "0.5": v05.Multiscale}


def read_zarr(path: Path | str, axes: str | None) -> Image:
    """Open a zarr array, or the sharpest level of an OME-Zarr image; see `read_image`."""
    node = _open(path)
    name = str(path).rstrip("/").rsplit("/")[-1].removesuffix(".zarr").removesuffix(".ome")
    attributes: Any = dict(node.attrs)
    if isinstance(node, zarr.Array):
        return _read_array(path, node, attributes, axes, name)
    attributes = attributes.get("ome", attributes)
    try:
        return _read_ome(node, attributes, axes, name)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "function-wrap")
        said = " ".join(f"{where}: {first['msg']}".split())
        raise UserError(f"{path}: not a valid OME-Zarr image ({said})") from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a valid OME-Zarr image ({detail})") from None


def create_zarr(path: Path, image: Image, dtype: np.dtype) -> zarr.Array:
    """Make a zarr 3 array of zeros with the metadata of an image."""
    # chunks of one plane: fit for viewing, and never shared by two tiles
    sizes = {"Y": 512, "X": 512}
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
        attributes=described(image),
    )


class SyncedStore(LocalStore):
    """A store on a disk, whose chunks are on that disk once they are written.

    So that a journal that calls a block finished is right after a power cut, too.
    """

    async def set(self, key: str, value: Any) -> None:
        """Write a chunk, and return when the disk has it."""
        await super().set(key, value)
        await asyncio.to_thread(sync, self.root / key)


class Unreachable(OSError):
    """A server failed; a job then ends as it does on a full disk, and can be resumed."""


class _Remote(WrapperStore[FsspecStore]):
    """A store in the network: however it fails, it is `Unreachable`, in one line."""

    async def get(self, *args: Any, **settings: Any) -> Any:
        try:
            return await super().get(*args, **settings)
        except Exception as error:
            raise _unreachable(self._store.fs.unstrip_protocol(self._store.path), error) from None


def _open(path: Path | str) -> zarr.Array | zarr.Group:
    """Open what is there; whatever keeps it from being opened is one line."""
    if "://" in str(path):
        return _open_remote(str(path))
    try:
        return zarr.open(str(path), mode="r")
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not a zarr store, or damaged") from None


def _open_remote(path: str) -> zarr.Array | zarr.Group:
    try:
        from fsspec.core import url_to_fs

        files, root = url_to_fs(path)
        # one question before the many that zarr asks at a time: where there is no answer, those
        # would still wait for theirs when the program ends, and complain
        files.exists(f"{root}/zarr.json")
        return zarr.open(_Remote(FsspecStore.from_url(path, read_only=True)), mode="r")
    except ImportError as error:
        raise UserError(
            f"{path}: {_plain(error)}; "
            "pip install 'napari-noise2score[remote]' reads from the network"
        ) from None
    except FileNotFoundError:
        bucket = root.split("/")[0]
        if path.startswith("s3:") and not files.exists(bucket):
            raise UserError(f"{path}: there is no bucket '{bucket}'") from None
        raise UserError(f"{path}: not a zarr store, or there is none") from None
    except Unreachable as error:
        raise UserError(str(error)) from None
    except Exception as error:
        raise UserError(str(_unreachable(path, error))) from None


def _unreachable(path: str, error: Exception) -> Unreachable:
    # a server may fail in as many ways as there are servers
    said = _plain(error)
    if "credentials" in said:
        said += "; set FSSPEC_S3_ANON=true if the bucket is open to all"
    return Unreachable(f"{path}: cannot be read ({said})")


def _plain(error: Exception) -> str:
    """Give what an error says in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _read_array(
    path: Path | str,
    array: zarr.Array,
    attributes: Mapping[str, Any],
    axes: str | None,
    name: str,
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

    try:
        return Image(array, parse_axes(axes, array.ndim), name=name, **facts_of(attributes))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read_ome(
    group: zarr.Group, attributes: Mapping[str, Any], axes: str | None, name: str
) -> Image:
    if "plate" in attributes or "well" in attributes:
        raise UserError("a plate of many images; name one of them, as in plate.zarr/A/1/0")
    if not attributes.get("multiscales"):
        if "bioformats2raw.layout" in attributes:
            raise UserError("a collection of images; name one of them, as in collection.zarr/0")
        raise UserError("a zarr group, but not an OME-Zarr image; name one of its arrays")
    scales = _checked_scales(attributes)
    levels = [group.get(dataset["path"]) for dataset in scales["datasets"]]
    for dataset, level in zip(scales["datasets"], levels, strict=True):
        if not isinstance(level, zarr.Array):
            raise UserError(f"its level '{dataset['path']}' is missing or not an array")
        if level.ndim != len(scales["axes"]):
            raise UserError(
                f"its level '{dataset['path']}' has {level.ndim} dimensions, "
                f"but {len(scales['axes'])} axes are named"
            )
    array: Any = levels[0]
    letters = parse_axes(axes or "".join(a["name"] for a in scales["axes"]), array.ndim)
    scale, translate = np.ones(array.ndim), np.zeros(array.ndim)
    for part in (scales["datasets"][0], scales):
        for step in part.get("coordinateTransformations") or []:
            if step["type"] == "scale":
                factor = np.asarray(step["scale"], dtype=float)
                scale, translate = scale * factor, translate * factor
            else:
                translate = translate + np.asarray(step["translation"], dtype=float)
    omero = attributes.get("omero") or {}
    notes = (scales.get("metadata") or {}).get("noise2score")
    return Image(
        data=array,
        axes=letters,
        scale={a: float(v) for a, v in zip(letters, scale, strict=True) if a != "C"},
        translate={a: float(v) for a, v in zip(letters, translate, strict=True) if v},
        units={a: s["unit"] for a, s in zip(letters, scales["axes"], strict=True) if s.get("unit")},
        channels=tuple(str(c.get("label", "")) for c in omero.get("channels", [])),
        name=str(scales.get("name") or name),
        omero=omero,
        notes=notes if isinstance(notes, dict) else {},
    )


def _checked_scales(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Give the first multiscale image as its version's specification has it, or raise."""
    scales = dict(attributes["multiscales"][0])
    version = str(attributes.get("version") or scales.get("version") or "0.4")
    if isinstance(scales["axes"][0], str):
        # version 0.3 named axes by plain strings, and no pixel size
        kinds = {"t": "time", "c": "channel"}
        names = scales["axes"]
        scales["axes"] = [{"name": a, "type": kinds.get(a, "space")} for a in names]
        ones = [{"type": "scale", "scale": [1.0] * len(names)}]
        scales["datasets"] = [{"coordinateTransformations": ones} | d for d in scales["datasets"]]
        version = "0.4"
    if version not in MODELS:
        raise UserError(f"OME-Zarr {version} is not known here; {' and '.join(MODELS)} are")
    return valid_scales(scales, version)


def valid_scales(scales: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Give a multiscale image as a version's specification has it; a ``ValidationError`` if not."""
    with warnings.catch_warnings():
        # a unit that is spelt in an unusual way is taken as it is
        warnings.simplefilter("ignore")
        checked = MODELS[version].model_validate(dict(scales) | {"version": version})
    return checked.model_dump(mode="json")
