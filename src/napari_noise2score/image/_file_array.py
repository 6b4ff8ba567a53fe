"""Write an array in a file by index, without a memory map."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MAX_BYTES_OF_ZEROS = 2**24  # written at once


class FileArray:
    """An array in a file, written by index with ordinary writes.

    A memory map would crash the process on a full disk; here, a full disk is an exception.

    Parameters
    ----------
    path : Path
        An existing file. It is extended to the size of the array, and the space is allocated.
    dtype : numpy.dtype
        Type of the pixels in the file.
    shape : sequence of int
        Shape of the array, in C order.
    offset : int
        Bytes before the first pixel.

    Raises
    ------
    OSError
        If there is not enough space on the disk.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "pixels"
    >>> file.touch()
    >>> target = FileArray(file, np.dtype("u1"), (2, 3))
    >>> target[1, 1:] = [7, 8]
    >>> target.close()
    >>> list(file.read_bytes())
    [0, 0, 0, 0, 7, 8]
    """

    def __init__(self, path: Path, dtype: np.dtype, shape: Sequence[int], offset: int = 0):
        self.dtype, self.shape, self.offset = np.dtype(dtype), tuple(shape), offset
        sizes = [*self.shape[1:], 1]
        self._strides = [int(s) * self.dtype.itemsize for s in np.cumprod(sizes[::-1])[::-1]]
        self._lock = threading.Lock()
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115
        try:
            count = int(np.prod(self.shape, dtype=np.int64))
            _allocate(self._file, offset, count * self.dtype.itemsize)
        except BaseException:
            self._file.close()
            raise

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __setitem__(self, index: Any, values: Any) -> None:
        spans = self._spans(index)
        kept = [stop - start for start, stop, whole in spans if whole]
        block = np.broadcast_to(np.asarray(values, dtype=self.dtype), kept)
        sizes = [stop - start for start, stop, _ in spans]
        block = np.ascontiguousarray(block).reshape(sizes)
        # contiguous pixels are written at once
        first = len(sizes)
        while first > 0 and sizes[first:] == list(self.shape[first:]):
            first -= 1
        for at in np.ndindex(*sizes[:first]):
            starts = [start + n for (start, _, _), n in zip(spans, at, strict=False)]
            starts += [start for start, _, _ in spans[first:]]
            place = sum(n * stride for n, stride in zip(starts, self._strides, strict=True))
            self._write(self.offset + place, block[at].tobytes())

    def _spans(self, index: Any) -> list[tuple[int, int, bool]]:
        """Return start and stop along each axis, and whether the indexed array keeps the axis."""
        items = list(index) if isinstance(index, tuple) else [index]
        if any(item is Ellipsis for item in items):
            at = next(i for i, item in enumerate(items) if item is Ellipsis)
            items[at : at + 1] = [slice(None)] * (self.ndim - len(items) + 1)
        items += [slice(None)] * (self.ndim - len(items))
        spans = []
        for part, n in zip(items, self.shape, strict=True):
            if isinstance(part, slice):
                start, stop, step = part.indices(n)
                if step != 1:
                    raise IndexError("only whole ranges can be written")
                spans.append((start, max(start, stop), True))
            else:
                at = range(n)[part]
                spans.append((at, at + 1, False))
        return spans

    def _write(self, place: int, data: bytes) -> None:
        view = memoryview(data)
        with self._lock:
            self._file.seek(place)
            while view:
                view = view[self._file.write(view) :]

    def sync(self) -> None:
        """Flush what was written to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _allocate(file: Any, offset: int, nbytes: int) -> None:
    """Extend a file to hold the pixels, and allocate the space."""
    if not nbytes:
        return
    size = os.fstat(file.fileno()).st_size
    try:
        os.posix_fallocate(file.fileno(), offset, nbytes)
        return
    except AttributeError:
        pass  # neither Windows nor macOS has it
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    file.seek(size)
    left = offset + nbytes - size
    while left > 0:
        left -= file.write(bytes(min(left, MAX_BYTES_OF_ZEROS)))
