"""Write arrays whose axes are in another order in the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Reordered:
    """An array that is written with its axes in an order other than its own.

    Attributes
    ----------
    array : array-like
        The array that is written to.
    order : tuple of int
        Axis i of the array is axis ``order[i]`` of the values that are assigned.
    """

    array: Any
    order: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels."""
        dtype: np.dtype = self.array.dtype
        return dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the order of the values that are assigned."""
        return tuple(self.array.shape[self.order.index(i)] for i in range(len(self.order)))

    def __setitem__(self, index: Any, values: np.ndarray) -> None:
        index = index if isinstance(index, tuple) else (index,)
        index = (*index, *[slice(None)] * (len(self.order) - len(index)))
        left = [i for i, at in enumerate(index) if isinstance(at, slice)]
        if np.ndim(values):
            values = np.transpose(values, [left.index(i) for i in self.order if i in left])
        self.array[tuple(index[i] for i in self.order)] = values

    def close(self) -> None:
        """Close the file behind the array, if there is one."""
        if close := getattr(self.array, "close", None):
            close()
