"""One guard for everything that is read: what a damaged or vanished input raises is one line."""

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
    """Raise a `ReadError` of one line for whatever goes wrong while an input is read.

    ``MemoryError`` passes, as does what ends a program. A `UserError` gets the name of the file
    if it has none.

    Parameters
    ----------
    source : path-like
        The file or address; the line begins with it.

    Raises
    ------
    ReadError
        If anything else is raised inside.

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
    """An array in a file, of which every failure to be read is a `ReadError`.

    Sliced as numpy arrays are; nothing is read until then. It can be pickled where the array
    inside can, so that other processes may read it.

    Attributes
    ----------
    array : array-like
        What reads the file.
    source : str
        The file or address, for messages.
    files : tuple of (str, int)
        Local files with the size each must keep while they are read.
    first : (int, int), optional
        An axis, and how many of the first along it are there for the reader: colours and no alpha.

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
        return np.dtype(self.array.dtype).newbyteorder("=")

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
        """Size of the pieces that are read at once, None where any part can be."""
        return getattr(self.array, "chunks", None)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        with reading(self.source):
            try:
                values = np.asarray(self.array[self._within(index)])
            finally:
                # that a file is gone says more than how its decoder failed; and what was read of
                # one that shrank meanwhile need not be what it held
                self._check_files()
        return values.astype(self.dtype, copy=False)

    def _check_files(self) -> None:
        for path, size in self.files:
            if os.stat(path).st_size != size:
                raise ReadError(f"{path}: was changed while it was read")

    def _within(self, index: Any) -> Any:
        """Return an index into the whole array, of one into what is there for the reader."""
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
    """Return local files with their sizes in bytes, as `Guarded` wants them."""
    return tuple((path, os.stat(path).st_size) for path in paths)


def check_size(source: Any, shape: Sequence[int], dtype: np.dtype, piece: Sequence[int]) -> None:
    """Raise a `ReadError` where metadata claim a size that no array can have.

    Parameters
    ----------
    source : path-like
        The file or address.
    shape, dtype
        What the metadata say of the whole array.
    piece : sequence of int
        Shape of the smallest part that can be read, which must fit in memory.

    Raises
    ------
    ReadError
        If the sizes are negative or beyond what can be addressed, or a piece exceeds the memory
        of this machine.

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
    r"""Return what an error says in one short line.

    Examples
    --------
    >>> plain(ValueError("no header\nin line 3"))
    'no header in line 3'
    """
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= MAX_DETAIL else said[: MAX_DETAIL - 1] + "…"


def _reason(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)"
    if isinstance(error, OSError) and error.errno in GONE:
        return f"is no longer there ({error.strerror})"
    return f"cannot be read, or damaged ({plain(error)})"
