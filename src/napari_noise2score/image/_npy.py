"""Read and write NPY files, each with its metadata in a JSON file of the same name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ReadError
from ._file_array import FileArray
from ._format import Format, axes_of
from ._raw import RawArray
from .guard import Guarded, check_size, sized
from .image import Image, described, facts_of
from .output import hidden_name, remove
from .system import replace

BESIDE = ".json"
KEYS = {"axes", "shape", "dtype", "notes"}


def read_npy(path: Path, axes: str | None) -> Image:
    """Open a NPY file with the metadata beside it; see `read_image`."""
    data, beside = _read_array(path), read_beside(path)
    facts: dict[str, Any] = {}
    if (beside.get("shape"), beside.get("dtype")) == (list(data.shape), str(data.dtype)):
        facts, axes = facts_of(beside), axes or str(beside["axes"])
    said = "YXC" if facts.get("rgb") else None
    return Image(data, axes_of(path, axes, said, data.ndim), name=path.stem, **facts)


def _read_array(path: Path) -> Guarded:
    """Return the array of a NPY file; only its header is read.

    Raises
    ------
    ReadError
        If it is no NPY file of numbers, or its length disagrees with its header.
    """
    try:
        # mapping the file checks that its length agrees with the header
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(mapped, np.memmap):
            raise ValueError("not an array")
    except (Exception, MemoryError):
        # the header is a Python literal, and a damaged one may be nested without limit
        raise ReadError(f"{path}: not a NPY array of numbers, or damaged") from None
    fortran = mapped.flags.f_contiguous and not mapped.flags.c_contiguous
    check_size(path, mapped.shape, mapped.dtype, ())
    array = RawArray(path.resolve(), mapped.dtype, mapped.shape, int(mapped.offset), bool(fortran))
    return Guarded(array, str(path), sized([str(path)]))


def write_beside(path: Path, image: Image, dtype: np.dtype) -> None:
    """Write the metadata of a NPY file to the JSON file next to it."""
    name = beside(path)
    part = hidden_name(name)
    # shape and dtype show whether the pixels are still those that are described
    facts = described(image) | {"shape": list(image.data.shape), "dtype": str(np.dtype(dtype))}
    try:
        part.write_text(json.dumps(facts, indent=1), encoding="utf-8")
        replace(part, name)
    finally:
        remove(part)


def read_beside(path: Path) -> dict[str, Any]:
    """Return the metadata written by `write_beside`, empty if there are none."""
    try:
        facts = json.loads(beside(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) and facts.keys() >= KEYS else {}


def beside(path: Path) -> Path:
    """Return the name of the JSON file with the metadata of a NPY file."""
    return path.with_name(path.name + BESIDE)


def create_npy(part: Path, dtype: np.dtype, shape: tuple[int, ...]) -> FileArray:
    """Create a NPY file of zeros and return its pixels."""
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": tuple(int(n) for n in shape),
    }
    with open(part, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        offset = file.tell()
    return FileArray(part, dtype, shape, offset)


def open_npy(part: Path) -> FileArray:
    """Open the pixels of a file made by `create_npy` for writing."""
    with open(part, "rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return FileArray(part, dtype, shape, file.tell())


FORMAT = Format("NumPy", (".npy",), read_npy)
