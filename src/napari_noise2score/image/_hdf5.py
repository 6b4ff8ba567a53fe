"""Read arrays in HDF5 files by h5py, named by their path inside the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ._format import Format, axes_of
from ._stack import Stack, guarded
from .axes import LETTERS
from .guard import check_size
from .image import Image
from .paths import split_inside

MAX_NAMED = 6  # arrays, in a message
DIMENSIONS = {"time": "T", "channel": "C", "depth": "Z", "height": "Y", "width": "X"}


def read_hdf5(path: Path, axes: str | None) -> Image:
    """Open an array of an HDF5 file lazily; see `read_image`.

    The path is ``file.h5:/path/inside``; the second part may be omitted if the file holds one
    array of at least two dimensions. Axes are read from dimension labels and from ``axistags``,
    the pixel size from ``element_size_um``.
    """
    import h5py

    name, inside = split_inside(path)
    file = Path(name).resolve()
    with open_hdf5(file) as opened:
        chosen = opened.get(inside) if inside else _only_array(path, opened)
        if not isinstance(chosen, h5py.Dataset):
            raise UserError(f"{name}: there is no array '{inside}'; {_named(name, opened)}")
        letters = axes_of(path, axes, _axes(chosen), chosen.ndim)
        sizes = np.ravel(chosen.attrs.get("element_size_um", ()))
        array, called = dataset_array(file, chosen), str(chosen.name).strip("/")
    space = [a for a in letters if a in "ZYX"]
    scale = dict(zip(space, map(float, sizes), strict=True)) if len(sizes) == len(space) else {}
    return Image(
        guarded(file, array),
        letters,
        scale=scale,
        units=dict.fromkeys(scale, "micrometer"),
        name=f"{file.stem} {called}",
    )


def dataset_array(file: Path, dataset: Any) -> Stack:
    """Return an HDF5 array that is read from its file, and can be sent to another process."""
    shape, dtype = tuple(dataset.shape), dataset.dtype
    chunks = dataset.chunks or (*(1 for _ in shape[:-2]), *shape[-2:])
    check_size(file, shape, dtype, chunks)
    return Stack(shape, dtype, 0, partial(read_dataset, file, dataset.name), chunks)


def read_dataset(
    file: Path, name: str, at: tuple[int, ...], inside: tuple[slice, ...]
) -> np.ndarray:
    """Read a part of an array; what `Stack` calls for an array without looped axes."""
    with open_hdf5(file) as opened:
        values: np.ndarray = opened[name][(*at, *inside)]
    return values


@contextmanager
def open_hdf5(file: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading, no longer than needed, as nobody can write to it meanwhile."""
    import h5py

    try:
        opened = h5py.File(file, "r")
    except OSError:
        # on a file system without locks, or while another program writes the file
        opened = h5py.File(file, "r", locking=False)
    with opened:
        yield opened


def _arrays(opened: Any) -> list[str]:
    """Return the names of all arrays that may be images."""
    import h5py

    found: list[str] = []

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim >= 2 and node.dtype.kind in "uif":
            found.append(f"/{name}")

    opened.visititems(visit)
    return found


def _only_array(path: Path, opened: Any) -> Any:
    names = _arrays(opened)
    if len(names) != 1:
        raise UserError(f"{path}: {_named(str(path), opened)}")
    return opened[names[0]]


def _named(file: str, opened: Any) -> str:
    """Return a sentence that names the arrays of a file."""
    names = _arrays(opened)
    if not names:
        return "the file holds no image"
    more = ", …" if len(names) > MAX_NAMED else ""
    return (
        f"name an array, as in '{file}:{names[0]}'; it holds {', '.join(names[:MAX_NAMED])}{more}"
    )


def _axes(dataset: Any) -> str | None:
    """Return the axes that an array names, or None."""
    # read as an attribute, as the library's function for labels crashes on a damaged file
    labels = [_plain(label) for label in np.ravel(dataset.attrs.get("DIMENSION_LABELS", ()))]
    try:
        tags = json.loads(dataset.attrs.get("axistags", "{}")).get("axes", [])
        labels = [str(tag["key"]).lower() for tag in tags] or labels
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass  # other programs write other things there
    letters = "".join(DIMENSIONS.get(label, label.upper()) for label in labels)
    return letters if len(letters) == dataset.ndim and {*letters} <= {*LETTERS} else None


def _plain(label: Any) -> str:
    return (label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)).lower()


FORMAT = Format("HDF5", (".h5", ".hdf5", ".hdf"), read_hdf5, library="h5py")
