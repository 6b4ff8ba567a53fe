"""Arrays that other libraries read piece by piece, and arrays in compressed files."""

from __future__ import annotations

import gzip
import math
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ReadError
from ._raw import RawArray, bounding_box
from .guard import Guarded, check_size, sized

MAX_UNZIPPED = 2  # files
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Stack:
    """An array of pieces (planes, frames or volumes) that are read one at a time.

    Attributes
    ----------
    shape, dtype
        As those of an array.
    looped : int
        Number of leading axes along which each element is a piece.
    read : callable
        Returns a part of a piece, given the index of the piece and its slices, both as tuples. It
        can be pickled.
    chunks : tuple of int
        Shape of the part that is read at once.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    looped: int
    read: Callable[[tuple[int, ...], tuple[slice, ...]], np.ndarray]
    chunks: tuple[int, ...]

    def __getitem__(self, index: Any) -> np.ndarray:
        index, low, high = bounding_box(index, self.shape)
        values = np.empty([b - a for a, b in zip(low, high, strict=True)], self.dtype)
        n = self.looped
        inside = tuple(slice(a, b) for a, b in zip(low[n:], high[n:], strict=True))
        if values.size:
            for at in product(*(range(a, b) for a, b in zip(low[:n], high[:n], strict=True))):
                place = tuple(i - a for i, a in zip(at, low[:n], strict=True))
                values[place] = self.read(at, inside)
        return np.asarray(values[index])


@dataclass(frozen=True)
class Rescaled:
    """An array whose pixels are multiplied by a slope, and then an intercept is added.

    Attributes
    ----------
    array : array-like
        The stored values.
    slope, intercept : float
        As above.
    dtype : numpy.dtype
        Type of the result.
    """

    array: Any
    slope: float
    intercept: float
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis."""
        return tuple(self.array.shape)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of the pieces that are read at once; None if any part can be read."""
        return getattr(self.array, "chunks", None)

    def __getitem__(self, index: Any) -> np.ndarray:
        values = np.asarray(self.array[index]).astype(np.float64) * self.slope + self.intercept
        return values.astype(self.dtype)


@dataclass(frozen=True)
class Unzipped:
    """An array in a gzip file, which is unpacked into memory when it is first read.

    Attributes
    ----------
    path : Path
        The file.
    dtype, shape
        As those of an array in C order.
    offset : int
        Bytes before the first pixel, once unpacked.
    stamp : tuple of int
        Size and modification time of the file.
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    stamp: tuple[int, int]

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of the part that is read at once: all of it."""
        return self.shape

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(_unzip(self)[index])


@lru_cache(maxsize=MAX_UNZIPPED)
def _unzip(array: Unzipped) -> np.ndarray:
    values = np.empty(array.shape, array.dtype)
    view, done = memoryview(values.reshape(-1).view(np.uint8).data), 0
    with gzip.GzipFile(array.path) as file:
        file.seek(array.offset)
        while done < len(view) and (got := file.readinto(view[done:])):
            done += got
    if done < len(view):
        raise ReadError(cut_short(array.path, array.offset + done, array.offset + len(view)))
    return values


class Opened:
    """A file that a library holds open, closed when nobody uses it any more.

    Parameters
    ----------
    file : object
        Has a method ``close``.
    """

    def __init__(self, file: Any):
        self.file = file
        weakref.finalize(self, file.close)


def stamp_of(path: Path) -> tuple[int, int]:
    """Return size and modification time of a file, so that a replaced file is opened again."""
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns


def plain_array(path: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> Any:
    """Return the uncompressed pixels of a file, which may be packed by gzip as a whole.

    Parameters
    ----------
    path : Path
        The file.
    dtype : numpy.dtype
        Type of the pixels, including byte order.
    shape : tuple of int
        Shape in C order.
    offset : int
        Bytes before the first pixel.

    Raises
    ------
    ReadError
        If the file is too short, or an image that must be unpacked does not fit in memory.
    """
    path, nbytes = path.resolve(), math.prod(shape) * dtype.itemsize
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP_MAGIC
    check_size(path, shape, dtype, shape if packed else ())
    if packed:
        return Unzipped(path, dtype, shape, offset, stamp_of(path))
    if (size := os.stat(path).st_size) < offset + nbytes:
        raise ReadError(cut_short(path, size, offset + nbytes))
    return RawArray(path, dtype, shape, offset)


def cut_short(path: Path, found: int, promised: int) -> str:
    """Return the message about a file that is shorter than its header says.

    Examples
    --------
    >>> cut_short(Path("a.mrc"), 10, 1024)
    'a.mrc: cut off: 10 of 1024 bytes are there'
    """
    return f"{path}: cut off: {found} of {promised} bytes are there"


def guarded(path: Path, array: Any) -> Guarded:
    """Return an array in a file as `Image` takes it."""
    return Guarded(array, str(path), sized([str(path.resolve())]))
