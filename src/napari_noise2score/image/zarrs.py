"""Read zarr arrays and OME-Zarr images from a disk or over the network; create zarr arrays."""

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
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from ..errors import ReadError, UserError, is_memory_error
from ._format import Format, ask_for_axes
from .axes import LETTERS, parse_axes
from .guard import Guarded, check_size, plain, reading
from .image import Image, described, facts_of
from .output import sync
from .paths import is_zarr

MODELS: dict[str, Any] = {"0.4": v04.Multiscale, "0.5": v05.Multiscale}
# fixed by the specification before axes were named
FIRST_AXES = "tczyx"
FIRST_VERSIONS = ("0.1", "0.2")
KINDS = {"t": "time", "s": "sample", "c": "channel"}
METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


def read_zarr(path: Path | str, axes: str | None) -> Image:
    """Open a zarr array, or the finest level of an OME-Zarr image; see `read_image`."""
    name = str(path).rstrip("/").rsplit("/")[-1].removesuffix(".zarr").removesuffix(".ome")
    with reading(path):
        node = _open(path)
        attributes: Any = dict(node.attrs)
        if isinstance(node, zarr.Array):
            return _read_array(path, node, attributes, axes, name)
        attributes = attributes.get("ome", attributes)
        if not isinstance(attributes, Mapping):
            raise UserError(f"{path}: not a valid OME-Zarr image (its metadata are not a mapping)")
        try:
            return _read_ome(path, node, attributes, axes, name)
        except ReadError:
            raise
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"] if part != "function-wrap")
            reason = plain(ValueError(f"{where}: {first['msg']}"))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            reason = plain(error)
        raise UserError(f"{path}: not a valid OME-Zarr image ({reason}){_way_round(node)}")


def create_zarr(path: Path, image: Image, dtype: np.dtype) -> zarr.Array:
    """Create a zarr 3 array of zeros with the metadata of an image."""
    # chunks of one plane: suited to viewing, and never shared by two tiles
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
    """A store on a disk that flushes each chunk to the disk before it reports success.

    A journal that lists a block as finished is then right even after a power failure.
    """

    async def set(self, key: str, value: Any) -> None:
        """Write a chunk and flush it to the disk."""
        await super().set(key, value)
        await asyncio.to_thread(sync, self.root / key)


class _Watched(WrapperStore[Store]):
    """A store that distinguishes a chunk that was never written from a store that vanished.

    zarr reads a missing chunk as the fill value, which is right for an array that was written in
    part. If the metadata of the array are missing too, the store itself is gone: its folder was
    removed, or its disk or server is unavailable.
    """

    def __init__(self, store: Store, address: str, found: set[str] | None = None):
        super().__init__(store)
        self._address = address
        # metadata keys of all nodes opened so far
        self._found = set() if found is None else found

    def _with_store(self, store: Store) -> _Watched:
        return type(self)(store, self._address, self._found)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        try:
            value = await self._store.get(key, prototype, byte_range)
        except Exception as error:
            if is_memory_error(error):
                raise
            raise ReadError(_unreachable(self._address, error)) from error
        if key.rsplit("/", 1)[-1] in METADATA:
            if value is not None:
                self._found.add(key)
        elif value is None:
            await self._check_there(key, prototype)
        return value

    async def _check_there(self, key: str, prototype: Any) -> None:
        folders = key.split("/")[:-1]
        parents = ["/".join(folders[:n]) for n in range(len(folders), -1, -1)]
        known = (
            mark
            for parent in parents
            for name in METADATA[:3]
            if (mark := f"{parent}/{name}".lstrip("/")) in self._found
        )
        mark = next(known, "")
        try:
            # read rather than list: the listing of a bucket may be cached
            there = not mark or await self._store.get(mark, prototype) is not None
        except Exception as error:
            raise ReadError(_unreachable(self._address, error)) from error
        if not there:
            raise ReadError(f"{self._address}: is no longer there ('{mark}' is gone)")


def _open(path: Path | str) -> zarr.Array | zarr.Group:
    """Open a zarr array or group; any failure becomes an error of one line."""
    if "://" in str(path):
        return _open_remote(str(path))
    store = _Watched(LocalStore(Path(path).resolve(), read_only=True), str(path))
    try:
        return _open_node(store)
    except UserError:
        raise
    except Exception as error:
        if is_memory_error(error):
            raise
        raise ReadError(f"{path}: not a zarr store, or damaged") from None


def _open_node(store: Store) -> zarr.Array | zarr.Group:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # consolidated metadata may be outdated
        try:
            return zarr.open_array(store, mode="r")
        except (zarr.errors.BaseZarrError, FileNotFoundError, KeyError):
            return zarr.open_group(store, mode="r", use_consolidated=False)


def _open_remote(path: str) -> zarr.Array | zarr.Group:
    try:
        from fsspec.core import url_to_fs

        files, root = url_to_fs(path)
        # one request before zarr's many concurrent ones: without an answer those would still be
        # pending at exit, and print errors
        files.exists(f"{root}/zarr.json")
        return _open_node(_Watched(FsspecStore.from_url(path, read_only=True), path))
    except ImportError as error:
        raise UserError(
            f"{path}: {plain(error)}; "
            "pip install 'napari-noise2score[remote]' reads from the network"
        ) from None
    except FileNotFoundError:
        bucket = root.split("/")[0]
        if path.startswith("s3:") and not files.exists(bucket):
            raise UserError(f"{path}: there is no bucket '{bucket}'") from None
        raise UserError(f"{path}: not a zarr store, or there is none") from None
    except UserError:
        raise
    except Exception as error:
        if is_memory_error(error):
            raise
        raise ReadError(_unreachable(path, error)) from error


def _unreachable(path: str, error: Exception) -> str:
    # servers fail in many different ways; the message is passed on as it is
    said = plain(error)
    if "credentials" in said:
        said += "; set FSSPEC_S3_ANON=true if the bucket is open to all"
    return f"{path}: cannot be read ({said})"


def _guarded(path: Path | str, array: zarr.Array) -> Guarded:
    check_size(path, array.shape, array.dtype, array.chunks)
    return Guarded(array, str(path))


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
        facts = facts_of(attributes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return Image(_guarded(path, array), parse_axes(axes, array.ndim), name=name, **facts)


def _read_ome(
    path: Path | str, group: zarr.Group, attributes: Mapping[str, Any], axes: str | None, name: str
) -> Image:
    if "plate" in attributes or "well" in attributes:
        raise UserError("a plate of many images; name one of them, as in plate.zarr/A/1/0")
    if not attributes.get("multiscales"):
        if "bioformats2raw.layout" in attributes:
            raise UserError("a collection of images; name one of them, as in collection.zarr/0")
        if isinstance(attributes.get("labels"), list):
            raise UserError("a group of labels, not an image; name the image that holds it")
        raise UserError(f"a zarr group, but not an OME-Zarr image{_way_round(group)}")
    scales = dict(attributes["multiscales"][0])
    version = str(attributes.get("version") or scales.get("version") or "0.4")
    levels = _levels(group, scales)
    array = levels[0]
    try:
        scales = _completed(scales, version, array.ndim)
        scales = valid_scales(scales, "0.4" if version not in MODELS else version)
        for dataset, level in zip(scales["datasets"], levels, strict=True):
            if level.ndim != len(scales["axes"]):
                raise UserError(
                    f"its level '{dataset['path']}' has {level.ndim} dimensions, "
                    f"but {len(scales['axes'])} axes are named"
                )
    except (UserError, ValueError, KeyError, TypeError, AttributeError):
        if axes is None:
            raise
        # the faulty metadata do not concern the pixels, and the caller names the axes
        scales = {}
    named = scales.get("axes") or []
    letters = parse_axes(axes or "".join(a["name"] for a in named), array.ndim)
    scale, translate = _place(scales, array.ndim)
    omero = attributes.get("omero")
    omero = dict(omero) if isinstance(omero, Mapping) else {}
    shown = omero.get("channels")
    labels = [c.get("label", "") for c in shown or [] if isinstance(c, Mapping)]
    about = scales.get("metadata")
    notes = about.get("noise2score") if isinstance(about, Mapping) else None
    return Image(
        data=_guarded(path, array),
        axes=letters,
        scale={
            a: v for a, v in zip(letters, scale, strict=True) if a not in "CS" and v is not None
        },
        translate={a: v for a, v in zip(letters, translate, strict=True) if v},
        units={a: s["unit"] for a, s in zip(letters, named, strict=False) if s.get("unit")},
        channels=tuple(map(str, labels)),
        name=str(scales.get("name") or name),
        omero=omero,
        notes=notes if isinstance(notes, dict) else {},
    )


def _levels(group: zarr.Group, scales: Mapping[str, Any]) -> list[zarr.Array]:
    """Return the arrays of all levels, the finest first."""
    datasets = scales["datasets"]
    if not datasets:
        raise UserError("its list of datasets is empty")
    levels: list[Any] = [group.get(dataset["path"]) for dataset in datasets]
    for dataset, level in zip(datasets, levels, strict=True):
        if not isinstance(level, zarr.Array):
            raise UserError(f"its level '{dataset['path']}' is missing or not an array")
    return levels


def _completed(scales: dict[str, Any], version: str, ndim: int) -> dict[str, Any]:
    """Return multiscale metadata completed with axes and transformations that are missing."""
    if version not in MODELS and version not in (*FIRST_VERSIONS, "0.3"):
        raise UserError(f"OME-Zarr {version} is not supported; {' and '.join(MODELS)} are")
    if "axes" not in scales and (version in FIRST_VERSIONS or ndim == len(FIRST_AXES)):
        scales = scales | {"axes": list(FIRST_AXES)}
    if "axes" not in scales:
        raise UserError(f"its axes are not named; name them, as in --axes {'TCZYX'[-ndim:]}")
    if isinstance(scales["axes"][0], str):
        scales = scales | {
            "axes": [{"name": a, "type": KINDS.get(a, "space")} for a in scales["axes"]]
        }
    # without a known pixel size the specification still requires a number
    ones = [{"type": "scale", "scale": [1.0] * len(scales["axes"])}]
    datasets = [
        d if d.get("coordinateTransformations") else d | {"coordinateTransformations": ones}
        for d in scales["datasets"]
    ]
    return scales | {"datasets": datasets}


def _place(scales: Mapping[str, Any], ndim: int) -> tuple[list[float | None], list[float]]:
    """Return pixel size and position along each axis of the finest level."""
    scale, translate = np.ones(ndim), np.zeros(ndim)
    if not scales:
        return [None] * ndim, [0.0] * ndim
    for part in (scales["datasets"][0], scales):
        for step in part.get("coordinateTransformations") or []:
            if step["type"] == "scale":
                factor = np.asarray(step["scale"], dtype=float)
                scale, translate = scale * factor, translate * factor
            elif step["type"] == "translation":
                translate = translate + np.asarray(step["translation"], dtype=float)
    good = np.isfinite(scale) & (scale > 0)
    return (
        [float(v) if ok else None for v, ok in zip(scale, good, strict=True)],
        [float(v) if np.isfinite(v) else 0.0 for v in translate],
    )


def _way_round(group: zarr.Group) -> str:
    """Return a hint on how to read an array inside the group, empty if there is none."""
    try:
        names = sorted(name for name, _ in group.arrays())
    except Exception:
        # some servers cannot list their content, nor can a damaged store be listed
        return ""
    return f"; give the path of one of its arrays, such as {names[0]}, with --axes" if names else ""


def valid_scales(scales: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return multiscale metadata validated against their version of the specification."""
    with warnings.catch_warnings():
        # unusual names of units are accepted
        warnings.simplefilter("ignore")
        checked = MODELS[version].model_validate(dict(scales) | {"version": version})
    validated: dict[str, Any] = checked.model_dump(mode="json")
    return validated


FORMAT = Format("OME-Zarr, zarr", (".zarr",), read_zarr, recognizes=is_zarr)
