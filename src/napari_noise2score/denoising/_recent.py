"""Keep the planes or volumes that were read last, as those beside them need them again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from dask.utils import SerializableLock

MAX_BYTES = 2**29


class Frame(NamedTuple):
    """A block of one plane or volume with its halo.

    Attributes
    ----------
    y : Tensor
        Grey levels, invalid pixels filled, float32, shape ``(1, channels, *space)``.
    block, invalid : ndarray or None
        As of `BlockData`.
    known : Tensor
        The same, NaN where they are not known, for those beside it.
    """

    y: torch.Tensor
    block: np.ndarray[Any, np.dtype[Any]] | None
    invalid: np.ndarray[Any, np.dtype[Any]] | None
    known: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        filled = None if self.known is self.y else self.known
        arrays = (self.y, self.block, self.invalid, filled)
        return sum(array.nbytes for array in arrays if array is not None)


class RecentFrames:
    """The frames that were read last, by place, as many as a limit of memory allows.

    Several threads may use it; a copy that is sent to another process is empty.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._frames: OrderedDict[Any, Frame] = OrderedDict()
        self._max_bytes, self._bytes = max_bytes, 0
        self._lock = SerializableLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return RecentFrames, (self._max_bytes,)

    def get(self, key: Any, read: Callable[[], Frame]) -> Frame:
        """Return the frame at a place; it is read if it is not among the last ones."""
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key]
        frame = read()
        with self._lock:
            if key not in self._frames:
                self._frames[key] = frame
                self._bytes += frame.nbytes
            while self._bytes > self._max_bytes and len(self._frames) > 1:
                self._bytes -= self._frames.popitem(last=False)[1].nbytes
        return frame
