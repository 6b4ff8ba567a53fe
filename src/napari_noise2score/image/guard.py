"""Turn every failure to read an input, damaged or missing, into an error of one line."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from ..errors import ReadError, UserError, is_memory_error

MAX_DETAIL = 160
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV, errno.ENXIO)


@contextmanager
def reading(source: Any) -> Iterator[None]:
    """Convert any exception raised while an input is read into a `ReadError` of one line.

    ``MemoryError`` and exceptions that end the program pass through. The name of the file is
    prepended to a `UserError` that lacks it.

    Parameters
    ----------
    source : path-like
        File or address, with which the message begins.

    Raises
    ------
    ReadError
        If any other exception is raised inside the context.

    Examples
    --------
    >>> with reading("a.tif"):
    ...     raise KeyError("ImageWidth")
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.ReadError: a.tif: cannot be read, or damaged ('ImageWidth')
    """
    try:
        yield
    except UserError as error:
        if os.path.basename(source) in str(error):
            raise
        raise type(error)(f"{source}: {error}") from None
    except Exception as error:
        if is_memory_error(error):
            raise MemoryError from error
        raise ReadError(f"{source}: {_reason(error)}") from error


@dataclass(frozen=True)
class Guarded:
    """An array in a file that raises a `ReadError` whenever reading fails.

    It is sliced like a numpy array, and read only then. It can be pickled if the wrapped array can,
    so that other processes may read it.

    Attributes
    ----------
    array : array-like
        The array that reads the file.
    source : str
        File or address, for messages.
    files : tuple of (str, int)
        Local files with the size, in bytes, that each must keep while it is read.
    first : (int, int), optional
        An axis, and how many of its leading elements are visible: colours without alpha.

    Examples
    --------
    >>> array = Guarded(np.arange(6).reshape(2, 3), "a.npy")
    >>> array.shape, array[1]
    ((2, 3), array([3, 4, 5]))
    """

    array: Any
    source: str
    files: tuple[tuple[str, int], ...] = ()
    first: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis."""
        shape = [int(n) for n in self.array.shape]
        if self.first is not None:
            shape[self.first[0]] = self.first[1]
        return tuple(shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels, in the byte order of this machine."""
        dtype: np.dtype = np.dtype(self.array.dtype).newbyteorder("=")
        return dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.array.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of the pieces that are read at once; None if any part can be read."""
        return getattr(self.array, "chunks", None)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        with reading(self.source):
            try:
                values = np.asarray(self.array[self._within(index)])
            finally:
                # a missing file explains more than the decoder's error, and data read from a file
                # that was truncated meanwhile may be wrong
                self._check_files()
        return values.astype(self.dtype, copy=False)

    def _check_files(self) -> None:
        for path, size in self.files:
            if os.stat(path).st_size != size:
                raise ReadError(f"{path}: was changed while it was read")

    def _within(self, index: Any) -> Any:
        """Convert an index into the visible part to an index into the whole array."""
        if self.first is None:
            return index
        axis, count = self.first
        index = index if isinstance(index, tuple) else (index,)
        here = [i is Ellipsis for i in index]
        at = here.index(True) if any(here) else len(index)
        rest = (slice(None),) * (self.ndim - len(index) + any(here))
        full = [*index[:at], *rest, *index[at + 1 :]]
        part = full[axis]
        kept = range(count)[part]
        if isinstance(kept, range):
            full[axis] = slice(kept.start, kept.stop, kept.step) if kept.step > 0 else list(kept)
        else:
            full[axis] = kept
        return tuple(full)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[...].astype(dtype or self.dtype, copy=False)


def sized(paths: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Return local files with their sizes in bytes, as `Guarded` takes them."""
    return tuple((path, os.stat(path).st_size) for path in paths)


def check_size(source: Any, shape: Sequence[int], dtype: np.dtype, piece: Sequence[int]) -> None:
    """Raise a `ReadError` if metadata claim an impossible size.

    Parameters
    ----------
    source : path-like
        The file or address.
    shape, dtype
        Shape and dtype of the whole array according to the metadata.
    piece : sequence of int
        Shape of the smallest part that can be read; it must fit in memory.

    Raises
    ------
    ReadError
        If a size is negative or not addressable, or a piece exceeds the memory of this machine.

    Examples
    --------
    >>> check_size("a.zarr", (10**12, 10**12), np.dtype("uint16"), (1, 1))
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.ReadError: a.zarr: damaged: claims to be an array of ... bytes
    """
    total = math.prod(int(n) for n in shape) * dtype.itemsize
    if min(shape, default=0) < 0 or total >= 2**62:
        raise ReadError(f"{source}: damaged: claims to be an array of {total:.3g} bytes")
    part = math.prod(int(n) for n in piece) * dtype.itemsize
    if part > psutil.virtual_memory().total:
        raise ReadError(
            f"{source}: its pieces of {part / 2**30:.0f} GiB do not fit in memory; "
            "save it in smaller chunks"
        )


def plain(error: BaseException) -> str:
    r"""Return the message of an exception as one short line.

    Examples
    --------
    >>> plain(ValueError("no header\nin line 3"))
    'no header in line 3'
    """
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= MAX_DETAIL else said[: MAX_DETAIL - 1] + "…"


def _reason(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "cannot be read (permission denied)"
    if isinstance(error, OSError) and error.errno in GONE:
        return f"is no longer there ({error.strerror})"
    return f"cannot be read, or damaged ({plain(error)})"
