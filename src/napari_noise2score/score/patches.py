"""Random patches of images that may be larger than memory, some kept back for validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from ..image.axes import Layout, read_block
from ..noise.kernel import Kernel

# from so many pieces on, whole ones are held out
MANY = 10
HELD_OUT_PIECES = 32
# what has more pixels than this may be empty for the most part, and is searched for what is not
LARGE = 2**27
TRIES = 8
# the dark is part of the image as well: so many of the empty patches are kept
KEPT = 0.1
# the mean of a cell of 4×4 pixels varies 1.0 times as much as white noise makes it vary
CELL = 4
EMPTY = 1.5


class Patches:
    """Draws patches from images, reading nothing but what it gives.

    Validation patches come from pieces (planes, volumes) that training never sees or, where
    there are few pieces, from a corner of each that training never touches.

    Parameters
    ----------
    images : sequence of array-like
        numpy, dask or zarr arrays.
    layouts : sequence of Layout
        One for each image.
    size : tuple of int
        Size of a patch in space. Where an image is smaller it is continued by reflection.
    rng : numpy.random.Generator
        Chooses which pieces are held out.
    kernel : Kernel, optional
        Correlation to undo.

    Notes
    -----
    Patches are flipped along each axis and turned by quarter turns in the YX plane. From images of
    more than 2²⁷ pixels most patches that hold nothing but noise are passed over.
    """

    def __init__(
        self,
        images: Sequence[Any],
        layouts: Sequence[Layout],
        size: tuple[int, ...],
        rng: np.random.Generator,
        kernel: Kernel | None = None,
    ):
        self.images, self.layouts, self.kernel = list(images), list(layouts), kernel
        self.size = tuple(size)
        # what A⁻¹ takes from around a patch is read with it
        self._around = around(kernel, len(size))
        counts = np.array([count_pieces([where]) for where in self.layouts])
        self._ends = np.cumsum(counts)
        pieces = int(self._ends[-1])
        self._whole = pieces >= MANY
        if self._whole:
            kept = min(HELD_OUT_PIECES, max(1, pieces // 20))
            self._held = np.sort(rng.choice(pieces, kept, replace=False))
        else:
            self._held = np.arange(pieces)
        self._choosy = is_large(self.layouts)
        # a pixel is as likely as any other, whatever image it is in
        area = np.array([float(np.prod(where.space_shape)) for where in self.layouts])
        self._share = np.cumsum(counts * area) / np.sum(counts * area)

    def draw(self, count: int, rng: np.random.Generator, held_out: bool = False) -> np.ndarray:
        """Draw patches.

        Parameters
        ----------
        count : int
            Number of patches.
        rng : numpy.random.Generator
            Source of chance.
        held_out : bool
            From what training never sees, or from all else.

        Returns
        -------
        ndarray
            float32, shape ``(count, channels, *size)``, grey levels, of A⁻¹ y if there is a kernel.

        Raises
        ------
        UserError
            If a pixel is not a finite number.
        """
        return np.stack([self._one(rng, held_out) for _ in range(count)])

    def _one(self, rng: np.random.Generator, held_out: bool) -> np.ndarray:
        block = telling(lambda: self._any(rng, held_out), rng, self._choosy)
        if self.kernel is not None:
            # before it is turned: the kernel need not look the same from all sides
            block = decorrelated(block, self.kernel)
        return _turn(block, rng)

    def _any(self, rng: np.random.Generator, held_out: bool) -> np.ndarray:
        piece = self._choose(rng, held_out)
        which = int(np.searchsorted(self._ends, piece, side="right"))
        where = self.layouts[which]
        first = int(self._ends[which - 1]) if which else 0
        position = np.unravel_index(piece - first, loop_shape(where)) if where.loop else ()
        start = self._start(where.space_shape, rng, held_out)
        read = [size + more for size, more in zip(self.size, self._around, strict=True)]
        space = [slice(a, a + n) for a, n in zip(start, read, strict=True)]
        block = read_block(self.images[which], where, [int(p) for p in position], space)
        return _grow(checked(block), read)

    def _choose(self, rng: np.random.Generator, held_out: bool) -> int:
        if held_out:
            return int(rng.choice(self._held))
        while True:
            which = int(np.searchsorted(self._share, rng.random(), side="right"))
            which = min(which, len(self.images) - 1)
            first = int(self._ends[which - 1]) if which else 0
            piece = int(rng.integers(first, self._ends[which]))
            if not self._whole or piece not in self._held:
                return piece

    def _start(self, shape: tuple[int, ...], rng: np.random.Generator, held_out: bool) -> list[int]:
        # noise that A⁻¹ has made white has nothing in common outside the patches themselves
        inner = [n - more for n, more in zip(shape, self._around, strict=True)]
        room = [max(n - size, 0) for n, size in zip(inner, self.size, strict=True)]
        if self._whole:
            return [int(rng.integers(r + 1)) for r in room]
        # the corner at the far end of Y and X, a quarter of each, is for validation
        corner = [max(n - max(n // 4, size), 0) for n, size in zip(inner, self.size, strict=True)]
        for _ in range(1000):
            start = [int(rng.integers(r + 1)) for r in room]
            if held_out:
                inside = zip(corner[-2:], room[-2:], strict=True)
                return start[:-2] + [int(rng.integers(c, r + 1)) for c, r in inside]
            ends = [a + size for a, size in zip(start, self.size, strict=True)]
            if any(end <= c for end, c in zip(ends[-2:], corner[-2:], strict=True)):
                return start
        # too small to be divided: validation then shares pixels with training
        return start


def is_large(layouts: Sequence[Layout]) -> bool:
    """Say whether images are so large that it pays to look for what is in them."""
    return sum(float(np.prod(where.shape, dtype=np.float64)) for where in layouts) > LARGE


def telling(
    draw: Callable[[], np.ndarray], rng: np.random.Generator, choosy: bool = True
) -> np.ndarray:
    """Draw a block, and most often another in its place as long as it is empty."""
    block = draw()
    for _ in range(TRIES if choosy else 0):
        if not is_empty(block) or rng.random() < KEPT:
            break
        block = draw()
    return block


def is_empty(block: np.ndarray) -> bool:
    """Say whether a block holds nothing but white noise, or nothing at all.

    Noise is told by the differences of neighbours, what is in the image by the means of cells.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(100, 10, (1, 64, 64))
    >>> is_empty(noise), is_empty(noise + 10 * np.sin(np.arange(64) / 10))
    (True, False)
    """
    y, x = (n - n % CELL for n in block.shape[-2:])
    if min(y, x) < 2 * CELL:
        return False
    part = block[..., :y, :x].astype(np.float64)
    noise = float(np.mean(np.diff(part, axis=-1) ** 2)) / 2
    cells = part.reshape(*part.shape[:-2], y // CELL, CELL, x // CELL, CELL).mean((-3, -1))
    # each channel has a level of its own
    varies = float(np.mean(np.var(cells, axis=tuple(range(1, cells.ndim)))))
    return varies <= EMPTY * noise / CELL**2


def checked(block: np.ndarray) -> np.ndarray:
    """Give a block as float32; a `UserError` where a pixel is not a finite number."""
    block = np.asarray(block, dtype=np.float32)
    if not np.isfinite(block).all():
        raise UserError(
            "the image holds pixels that are not numbers (NaN or infinite): "
            "replace them, for example by a neighbour's value, and try again"
        )
    return block


def decorrelated(block: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Give A⁻¹ of every plane of a block, less `Kernel.reach` on each side of Y and X."""
    inner = slice(kernel.reach, -kernel.reach or None)
    return kernel.undo(torch.from_numpy(block))[..., inner, inner].numpy()


def around(kernel: Kernel | None, ndim: int) -> tuple[int, ...]:
    """Give by how much more, in all, is read along each axis of space for A⁻¹ of a patch."""
    return (0,) * (ndim - 2) + (2 * kernel.reach if kernel else 0,) * 2


def _grow(block: np.ndarray, size: Sequence[int]) -> np.ndarray:
    missing = [(0, wanted - n) for n, wanted in zip(block.shape[1:], size, strict=True)]
    return np.pad(block, [(0, 0), *missing], mode="reflect")


def _turn(block: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if block.ndim == 4 and rng.random() < 0.5:
        block = block[:, ::-1]
    if rng.random() < 0.5:
        block = block[..., ::-1]
    turns = int(rng.integers(4))
    if block.shape[-1] != block.shape[-2]:
        turns = turns // 2 * 2
    return np.ascontiguousarray(np.rot90(block, turns, axes=(-2, -1)))


def loop_shape(where: Layout) -> tuple[int, ...]:
    """Size along each looped axis."""
    return tuple(where.shape[where.axes.index(a)] for a in where.loop)


def count_pieces(layouts: Sequence[Layout]) -> int:
    """Give the number of planes, or of volumes for a 3-D network."""
    return sum(int(np.prod(loop_shape(where), dtype=np.int64)) for where in layouts)
