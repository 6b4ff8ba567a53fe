"""Take one channel of an image, without reading it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .corrected import is_corrected
from .image import Image
from .valid import ValidPixels


class _OneChannel:
    """A channel of an array-like, which is sliced when the channel is."""

    def __init__(self, data: Any, axis: int, number: int):
        self._data, self._axis, self._number = data, axis, number
        self.shape = tuple(n for at, n in enumerate(data.shape) if at != axis)
        self.dtype, self.ndim = data.dtype, len(self.shape)
        self.is_corrected = is_corrected(data)

    def __getitem__(self, index: Any) -> Any:
        given = index if isinstance(index, tuple) else (index,)
        if Ellipsis in given:
            at = given.index(Ellipsis)
            missing = self.ndim - len(given) + 1
            given = (*given[:at], *[slice(None)] * missing, *given[at + 1 :])
        whole = [*given, *[slice(None)] * (self.ndim - len(given))]
        whole.insert(self._axis, self._number)
        return self._data[tuple(whole)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)


def count_channels(image: Image) -> int:
    """Return the number of channels of an image, 1 if it has no such axis.

    Examples
    --------
    >>> count_channels(Image(np.zeros((2, 8, 8)), "CYX"))
    2
    """
    return int(image.data.shape[image.axes.index("C")]) if "C" in image.axes else 1


def channel_of(image: Image, number: int) -> Image:
    """Return one channel of an image, lazily; an image without channels is returned itself.

    Parameters
    ----------
    image : Image
        The image.
    number : int
        Number of the channel, from 0.

    Returns
    -------
    Image
        Without the axis C and what is stated of the other channels.

    Examples
    --------
    >>> both = Image(np.arange(8).reshape(2, 2, 2), "CYX", channels=("DAPI", "actin"))
    >>> one = channel_of(both, 1)
    >>> one.axes, one.data[0, :].tolist(), one.name
    ('YX', [4, 5], 'image actin')
    """
    if "C" not in image.axes:
        return image
    axis = image.axes.index("C")
    valid = image.valid
    if valid is not None and valid.excluded is not None:
        valid = ValidPixels(valid.levels, _OneChannel(valid.excluded, axis, number))
    named = number < len(image.channels) and image.channels[number]
    return replace(
        image,
        data=_taken(image.data, axis, number),
        axes=image.axes.replace("C", ""),
        channels=(),
        rgb=False,
        omero={},
        imagej={},
        name=f"{image.name} {named or f'channel {number + 1}'}",
        valid=valid,
    )


def _taken(data: Any, axis: int, number: int) -> Any:
    """Return one channel of an array-like."""
    if (isinstance(data, np.ndarray) and not isinstance(data, np.memmap)) or hasattr(data, "dask"):
        return data[(slice(None),) * axis + (number,)]
    return _OneChannel(data, axis, number)
