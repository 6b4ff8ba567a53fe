"""Read uncompressed arrays from files: NPY and plain TIFF."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ReadError

# gaps up to this many bytes are read along, as a further read would cost more
MAX_GAP = 4096
# length in bytes of a read that includes gaps
MAX_RUN = 2**24


@dataclass(frozen=True)
class RawArray:
    """An array in a file that is open only while a part of it is read.

    A memory map would keep the file open, and a folder may hold more images than a process may open
    files. It would also crash the process if the file were truncated or its disk lost.

    Attributes
    ----------
    path : Path
        The file.
    dtype : numpy.dtype
        Type of the pixels, including byte order.
    shape : tuple of int
        Size along each axis.
    offset : int
        Bytes before the first pixel.
    fortran : bool
        Whether the first axis varies fastest in the file, rather than the last.
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    fortran: bool = False

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        index, low, high = bounding_box(index, self.shape)
        if self.fortran:
            values = self._box(low[::-1], high[::-1], self.shape[::-1]).T
        else:
            values = self._box(low, high, self.shape)
        return np.asarray(values[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[...].astype(dtype or self.dtype, copy=False)

    def _box(self, low: list[int], high: list[int], shape: tuple[int, ...]) -> np.ndarray:
        """Read a box in as few contiguous reads as possible."""
        size = tuple(b - a for a, b in zip(low, high, strict=True))
        values = np.empty(size, self.dtype)
        if not values.size:
            return values
        item = self.dtype.itemsize
        strides = [item * math.prod(shape[i + 1 :]) for i in range(len(shape))]
        # one contiguous read spans the axes from `across` on
        across = len(shape) - 1
        while across > 0:
            gap = strides[across - 1] - size[across] * strides[across]
            if gap > MAX_GAP or (gap and size[across - 1] * strides[across - 1] > MAX_RUN):
                break
            across -= 1
        # a read runs from the lowest to the highest corner of the axes from `across` on
        start = sum(a * s for a, s in zip(low[across:], strides[across:], strict=True))
        end = sum((b - 1) * s for b, s in zip(high[across:], strides[across:], strict=True)) + item
        with open(self.path, "rb", buffering=0) as file:
            for at in product(*(range(n) for n in size[:across])):
                place = sum((a + i) * s for a, i, s in zip(low, at, strides, strict=False))
                data = _read_exactly(file, self.path, self.offset + place + start, end - start)
                values[at] = np.lib.stride_tricks.as_strided(
                    np.frombuffer(data, self.dtype, 1), size[across:], strides[across:]
                )
        return values


def _read_exactly(file: Any, path: Path, offset: int, count: int) -> bytearray:
    data = bytearray(count)
    view, done = memoryview(data), 0
    file.seek(offset)
    while done < count:
        got = file.readinto(view[done:])
        if not got:
            raise ReadError(f"{path}: cut off: it ends at byte {os.fstat(file.fileno()).st_size}")
        done += got
    return data


def bounding_box(
    index: Any, shape: tuple[int, ...]
) -> tuple[tuple[Any, ...], list[int], list[int]]:
    """Return the smallest box that contains an index, and the index relative to that box."""
    index = index if isinstance(index, tuple) else (index,)
    used = [i for i in index if i is not None and i is not Ellipsis]
    if any(np.ndim(i) > 1 and np.asarray(i).dtype == bool for i in used):
        return index, [0] * len(shape), list(shape)
    if Ellipsis not in [i for i in index if i is None or not np.ndim(i)]:
        index = (*index, Ellipsis)
    where = [i is Ellipsis for i in index].index(True)
    rest = (slice(None),) * (len(shape) - len(used))
    index = (*index[:where], *rest, *index[where + 1 :])
    rebased: list[Any] = []
    low, high, axis = [], [], 0
    for part in index:
        if part is None:
            rebased.append(None)
            continue
        if axis >= len(shape):
            raise IndexError(f"too many indices for an array of {len(shape)} axes")
        n = shape[axis]
        axis += 1
        if isinstance(part, slice):
            steps = range(*part.indices(n))
            a, b = (min(steps[0], steps[-1]), max(steps[0], steps[-1]) + 1) if steps else (0, 0)
            stop = steps.stop - a
            rebased.append(
                slice(steps.start - a, stop if stop >= 0 else None, steps.step)
                if steps
                else slice(0, 0)
            )
        else:
            asked = np.asarray(part)
            if asked.dtype == bool:
                asked = np.flatnonzero(asked)
            asked = np.where(asked < 0, asked + n, asked)
            if asked.size and (asked.min() < 0 or asked.max() >= n):
                raise IndexError(f"index {part} is out of bounds for an axis of {n}")
            a, b = (int(asked.min()), int(asked.max()) + 1) if asked.size else (0, 0)
            rebased.append(asked.astype(np.intp) - a if asked.ndim else int(asked) - a)
        low.append(a)
        high.append(b)
    return tuple(rebased), low, high
