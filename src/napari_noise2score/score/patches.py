"""Random patches of images that may be larger than memory, some kept back for validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from ..errors import UserError
from ..image.axes import Layout
from ..image.valid import ValidPixels, fill, look_for_valid
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
# a patch of which less than this share is valid is drawn anew, so often at most
MIN_VALID, MAX_DRAWS = 0.5, 30


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
    valid : ValidOfEach, optional
        The valid pixels of the images; looked for if not given.

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
        valid: ValidOfEach | None = None,
    ):
        self.images, self.layouts, self.kernel = list(images), list(layouts), kernel
        self.valid = valid or ValidOfEach(self.images, self.layouts)
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
            Invalid pixels are filled smoothly.

        Raises
        ------
        UserError
            If the images hold no valid pixel.
        """
        return self.draw_masked(count, rng, held_out)[0]

    def draw_masked(
        self, count: int, rng: np.random.Generator, held_out: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw patches as `draw` does, and say which of their pixels are valid.

        Returns
        -------
        patches : ndarray
            As from `draw`.
        known : ndarray or None
            float32, of the same shape, 1 where a pixel is valid and 0 elsewhere; None if all are.
        """
        drawn = [self._one(rng, held_out) for _ in range(count)]
        patches = np.stack([patch for patch, _ in drawn])
        if all(known is None for _, known in drawn):
            return patches, None
        known = np.stack([np.ones_like(patch) if k is None else k for patch, k in drawn])
        return patches, known

    def _one(
        self, rng: np.random.Generator, held_out: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        block, invalid = telling(lambda: self._valid(rng, held_out), rng, self._choosy)
        block, invalid = undone(block, invalid, self.kernel)
        if invalid is None:
            return _turn(block, rng), None
        both = _turn(np.concatenate([block, ~invalid]).astype(np.float32), rng)
        return both[: len(block)], both[len(block) :]

    def _valid(
        self, rng: np.random.Generator, held_out: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw until most of a patch is valid, or take the one that was best."""
        best: tuple[np.ndarray, np.ndarray | None] | None = None
        most = 0.0
        for _ in range(MAX_DRAWS):
            block, invalid = self._any(rng, held_out)
            share = 1.0 if invalid is None else 1 - float(invalid.mean())
            if share >= MIN_VALID:
                return block, invalid
            if share > most:
                best, most = (block, invalid), share
        if best is None:
            raise no_valid_pixel()
        return best

    def _any(
        self, rng: np.random.Generator, held_out: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        piece = self._choose(rng, held_out)
        which = int(np.searchsorted(self._ends, piece, side="right"))
        where = self.layouts[which]
        first = int(self._ends[which - 1]) if which else 0
        position = np.unravel_index(piece - first, loop_shape(where)) if where.loop else ()
        start = self._start(where.space_shape, rng, held_out)
        read = [size + more for size, more in zip(self.size, self._around, strict=True)]
        space = [slice(a, a + n) for a, n in zip(start, read, strict=True)]
        block, invalid = self.valid[which].read(
            self.images[which], where, [int(p) for p in position], space
        )
        block = np.asarray(block, dtype=np.float32)
        return _grow(block, read), None if invalid is None else _grow(invalid, read)

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


class ValidOfEach:
    """The valid pixels of each of many images, looked for when one is first used."""

    def __init__(self, images: Sequence[Any], layouts: Sequence[Layout]):
        self._images, self._layouts = images, layouts
        self._found: dict[int, ValidPixels] = {}

    def __getitem__(self, which: int) -> ValidPixels:
        if which not in self._found:
            # one image of many without a valid pixel is passed over
            axes = self._layouts[which].axes
            self._found[which], _ = look_for_valid(self._images[which], axes)
        return self._found[which]


def no_valid_pixel() -> UserError:
    """Give the error of images in which nothing was recorded."""
    return UserError(
        "the images hold no valid pixel: all that were looked at are NaN, infinite, masked or "
        "padding"
    )


def is_large(layouts: Sequence[Layout]) -> bool:
    """Say whether images are so large that it pays to look for what is in them."""
    return sum(float(np.prod(where.shape, dtype=np.float64)) for where in layouts) > LARGE


Drawn = tuple[np.ndarray, np.ndarray | None]
"""A block, and which of its pixels are not valid."""


def telling(draw: Callable[[], Drawn], rng: np.random.Generator, choosy: bool = True) -> Drawn:
    """Draw a block, and most often another in its place as long as it is empty."""
    block, invalid = draw()
    for _ in range(TRIES if choosy else 0):
        if not is_empty(block) or rng.random() < KEPT:
            break
        block, invalid = draw()
    return block, invalid


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


def undone(block: np.ndarray, invalid: np.ndarray | None, kernel: Kernel | None) -> Drawn:
    """Fill the invalid pixels of a block, and undo a correlation.

    Parameters
    ----------
    block, invalid : ndarray
        Grey levels, shape ``(channels, *space)``, and where they are not valid.
    kernel : Kernel or None
        The correlation; the block is then smaller by its reach on each side of Y and X.

    Returns
    -------
    block : ndarray
        float32 if anything was done to it.
    invalid : ndarray or None
        Where it is not valid, or depends most on what is not.
    """
    if invalid is not None:
        usual = float(np.median(block[~invalid])) if not invalid.all() else 0.0
        block = fill(block, invalid, max(block.shape), usual).astype(np.float32)
    if kernel is not None:
        block = decorrelated(np.asarray(block, dtype=np.float32), kernel)
        if invalid is not None:
            wide = 2 * (max(len(kernel.taps), len(kernel.taps[0])) // 2) + 1
            invalid = ndimage.maximum_filter(
                invalid, (*[1] * (invalid.ndim - 2), wide, wide), mode="nearest"
            )[..., kernel.reach : -kernel.reach or None, kernel.reach : -kernel.reach or None]
    return block, invalid


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
