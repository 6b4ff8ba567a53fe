"""Interpret the axes of an image: which are looped over, which are channels, which are space.

Axes are letters of ``STCZYX`` in the order of the array, such as ``"TZYX"``. ``S`` is for samples:
images that have nothing to do with each other, as diffusion directions or the images of a data set.
They are never repeats, neighbours or channels. Everything here works on shapes alone; no pixels are
read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ..errors import UserError, quoted
from .arrays import read_piece

LETTERS = "STCZYX"
MAX_CHANNELS = 4


def parse_axes(axes: str, ndim: int) -> str:
    """Check an axes string against the number of dimensions of an image.

    Parameters
    ----------
    axes : str
        One letter of ``STCZYX`` for each dimension, in any order, with Y and X among them.
        Lower case is accepted.
    ndim : int
        Number of dimensions of the image.

    Returns
    -------
    str
        The axes in upper case.

    Raises
    ------
    UserError
        If a letter is unknown or repeated, Y or X is missing, or the count is wrong.

    Examples
    --------
    >>> parse_axes("zyx", 3)
    'ZYX'
    """
    if not isinstance(axes, str):
        raise UserError(f"axes are a text such as 'TYX', not {type(axes).__name__}")
    letters = axes.strip().upper()
    unknown = [a for a in letters if a not in LETTERS]
    if unknown:
        raise UserError(
            f"axes {quoted(axes)}: {quoted(unknown[0])} is not an axis; "
            "use the letters S, T, C, Z, Y, X"
        )
    if len(set(letters)) != len(letters):
        raise UserError(f"axes {quoted(axes)}: each axis may be named once only")
    if "Y" not in letters or "X" not in letters:
        raise UserError(f"axes {quoted(axes)}: both Y and X must be named")
    if len(letters) != ndim:
        raise UserError(
            f"axes {quoted(axes)} name {len(letters)} dimensions, but the image has {ndim}"
        )
    return letters


@dataclass(frozen=True)
class Layout:
    """How an array is divided into pieces of shape ``(channel, *space)``.

    Attributes
    ----------
    axes : str
        Checked axes, as from `parse_axes`.
    shape : tuple of int
        Shape of the array.
    space : str
        The axes the network sees as space, ``"YX"`` or ``"ZYX"``, in this order.
    joint : bool
        Whether the network sees all channels together; otherwise each is processed separately.
    """

    axes: str
    shape: tuple[int, ...]
    space: str
    joint: bool

    @property
    def channels(self) -> int:
        """Number of channels that the network sees at once."""
        return self.shape[self.axes.index("C")] if self.joint else 1

    @property
    def all_channels(self) -> int:
        """Number of channels of the array, seen at once or not; 1 if it has no such axis."""
        return self.shape[self.axes.index("C")] if "C" in self.axes else 1

    @property
    def space_shape(self) -> tuple[int, ...]:
        """Size along each axis of space, in the order of `space`."""
        return tuple(self.shape[self.axes.index(a)] for a in self.space)

    @property
    def loop(self) -> str:
        """Axes that are looped over, in the order of the array."""
        inside = self.space + ("C" if self.joint else "")
        return "".join(a for a in self.axes if a not in inside)

    def positions(self) -> Iterator[tuple[int, ...]]:
        """Yield the index along each looped axis for every piece of the image."""
        return product(*(range(self.shape[self.axes.index(a)]) for a in self.loop))

    def index(self, position: Sequence[int], space: Sequence[slice]) -> tuple[Any, ...]:
        """Return the array index of a block, given its position and its slices in space."""
        at: dict[str, Any] = dict(zip(self.loop, position, strict=True))
        at |= dict(zip(self.space, space, strict=True))
        return tuple(at.get(a, slice(None)) for a in self.axes)

    def to_block(self, values: np.ndarray) -> np.ndarray:
        """Return a piece with its axes arranged as ``(channel, *space)``."""
        left = [a for a in self.axes if a not in self.loop]
        if self.joint:
            return values.transpose([left.index(a) for a in "C" + self.space])
        return values.transpose([left.index(a) for a in self.space])[None]

    def from_block(self, block: np.ndarray) -> np.ndarray:
        """Return a block with its axes in the order of the array; the inverse of `to_block`."""
        left = [a for a in self.axes if a not in self.loop]
        order = ("C" if self.joint else "") + self.space
        return (block if self.joint else block[0]).transpose([order.index(a) for a in left])


def layout(axes: str, shape: Sequence[int], ndim: int = 2) -> Layout:
    """Return how an image is presented to a network of 2 or 3 spatial dimensions.

    A 2-D network processes each ``YX`` plane, a 3-D network each ``ZYX`` volume. Up to four
    channels are processed together, more than four separately.

    Parameters
    ----------
    axes : str
        Axes of the array.
    shape : sequence of int
        Shape of the array.
    ndim : {2, 3}
        Spatial dimensions of the network.

    Returns
    -------
    Layout

    Raises
    ------
    UserError
        If the axes do not fit the shape, an axis is empty, or Z is missing for 3-D.

    Examples
    --------
    >>> layout("TCYX", (10, 2, 512, 512)).loop
    'T'
    >>> layout("TZYX", (10, 30, 512, 512), ndim=3).space_shape
    (30, 512, 512)
    """
    axes = parse_axes(axes, len(shape))
    if ndim not in (2, 3):
        raise UserError(f"a network has 2 or 3 spatial dimensions, not {ndim}")
    if 0 in shape:
        raise UserError(f"the image is empty: its shape is {tuple(shape)}")
    if ndim == 3 and "Z" not in axes:
        raise UserError(f"axes '{axes}' have no Z: a 3-D network needs one, or use 2-D")
    joint = "C" in axes and shape[axes.index("C")] <= MAX_CHANNELS
    return Layout(axes, tuple(int(n) for n in shape), "ZYX"[3 - ndim :], joint)


def read_block(
    array: Any, where: Layout, position: Sequence[int], space: Sequence[slice]
) -> np.ndarray:
    """Read one block of an array-like as ``(channel, *space)``, and nothing else.

    Parameters
    ----------
    array : array-like
        numpy, dask or zarr; it is sliced, never copied whole.
    where : Layout
        Layout of the array.
    position : sequence of int
        Index along each axis of ``where.loop``.
    space : sequence of slice
        Slices along the axes of space.

    Returns
    -------
    numpy.ndarray
        Shape ``(channel, *space)``, dtype of the array.
    """
    return where.to_block(read_piece(array, where.index(position, space)))
