"""Draw random patches of images of any size, and hold some out for validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from ..errors import UserError
from ..image.axes import Layout
from ..image.valid import ValidPixels, fill
from ..noise.kernel import Kernel
from ._valid_of_each import ValidOfEach

MIN_PIECES_TO_SPLIT = 10  # with fewer planes or volumes, a corner of each is held out instead
MAX_HELD_OUT_PIECES = 32
# Larger images may be mostly empty: most empty patches are drawn again, but not all, because dark
# areas belong to the image.
MAX_PIXELS_DRAWN_EVENLY = 2**27
MAX_DRAWS_OF_EMPTY = 8
KEPT_SHARE_OF_EMPTY = 0.1
# A patch is empty if the variance of the means of its cells is at most this multiple of what white
# noise causes.
CELL_SIDE = 4  # pixels
MAX_VARIANCE_RATIO = 1.5
MIN_VALID_SHARE = 0.5  # of a patch; otherwise it is drawn again
MAX_DRAWS_OF_INVALID = 30
MAX_DRAWS_OF_CORNER = 1000


class Patches:
    """Draws random patches from images, and reads only these patches.

    Validation patches come from planes or volumes that are held out from training or, if there are
    few, from a corner of each that is held out.

    Parameters
    ----------
    images : sequence of array-like
        numpy, dask or zarr arrays.
    layouts : sequence of Layout
        One for each image.
    size : tuple of int
        Size of a patch in pixels, along the axes of space. Smaller images are continued by
        reflection.
    rng : numpy.random.Generator
        Chooses which planes or volumes are held out.
    kernel : Kernel, optional
        Correlation kernel to undo.
    valid : ValidOfEach or sequence of ValidPixels, optional
        The valid pixels of the images; determined if not given.

    Notes
    -----
    Patches are flipped along each axis and rotated by multiples of 90° in the YX plane. From images
    of more than 2²⁷ pixels, most patches that contain only noise are skipped.
    """

    def __init__(
        self,
        images: Sequence[Any],
        layouts: Sequence[Layout],
        size: tuple[int, ...],
        rng: np.random.Generator,
        kernel: Kernel | None = None,
        valid: ValidOfEach | Sequence[ValidPixels] | None = None,
    ):
        self.images, self.layouts, self.kernel = list(images), list(layouts), kernel
        self.valid = valid or ValidOfEach(self.images, self.layouts)
        self.size = tuple(size)
        # A⁻¹ needs pixels around a patch, which are read with it
        self._margins = margins_of(kernel, len(size))
        counts = np.array([count_pieces([where]) for where in self.layouts])
        self._ends = np.cumsum(counts)
        pieces = int(self._ends[-1])
        self._whole = pieces >= MIN_PIECES_TO_SPLIT
        if self._whole:
            kept = min(MAX_HELD_OUT_PIECES, max(1, pieces // 20))
            self._held = np.sort(rng.choice(pieces, kept, replace=False))
        else:
            self._held = np.arange(pieces)
        self._skip_empty = is_large(self.layouts)
        # images are drawn in proportion to their pixels, so that all pixels are equally likely
        area = np.array([float(np.prod(where.space_shape)) for where in self.layouts])
        self._share = np.cumsum(counts * area) / np.sum(counts * area)

    def draw(self, count: int, rng: np.random.Generator, held_out: bool = False) -> np.ndarray:
        """Draw patches.

        Parameters
        ----------
        count : int
            Number of patches.
        rng : numpy.random.Generator
            Random generator.
        held_out : bool
            Draw from the pixels that are held out, or from the others.

        Returns
        -------
        ndarray
            Grey levels y, or A⁻¹ y if there is a kernel, float32, shape
            ``(count, channels, *size)``. Invalid pixels are filled smoothly.

        Raises
        ------
        UserError
            If the images contain no valid pixel.
        """
        return self.draw_masked(count, rng, held_out)[0]

    def draw_masked(
        self, count: int, rng: np.random.Generator, held_out: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw patches as `draw` does, and return which of their pixels are valid.

        Parameters
        ----------
        count, rng, held_out
            As for `draw`.

        Returns
        -------
        patches : ndarray
            As from `draw`.
        valid : ndarray or None
            1 for valid and 0 for invalid pixels, float32, of the same shape; None if all are valid.
        """
        drawn = [self._draw_one(rng, held_out) for _ in range(count)]
        patches = np.stack([patch for patch, _ in drawn])
        if all(valid is None for _, valid in drawn):
            return patches, None
        masks = [np.ones_like(patch) if valid is None else valid for patch, valid in drawn]
        return patches, np.stack(masks)

    @property
    def separate(self) -> bool:
        """Whether held-out patches have no pixel in common with the others."""
        sides = map(self._corner_of, self.layouts)
        return self._whole or all(any(n - m >= s for n, m, s in side) for side in sides)

    def count_pixels(self) -> tuple[int, int]:
        """Return the number of pixels that held-out patches, and the others, are drawn from."""
        pixels = np.array([float(np.prod(where.space_shape)) for where in self.layouts])
        total = pixels * [count_pieces([where]) for where in self.layouts]
        if self._whole:
            held = np.sum(pixels[np.searchsorted(self._ends, self._held, side="right")])
        else:
            sides = map(self._corner_of, self.layouts)
            held = np.sum(total * [np.prod([min(m / n, 1) for n, m, _ in a]) for a in sides])
        return int(held), int(np.sum(total) - (held if self.separate else 0))

    def _corner_of(self, where: Layout) -> list[tuple[int, int, int]]:
        """Return size of the image, of the held-out corner and of a patch, along Y and X."""
        sizes = zip(where.space_shape, self._margins, self.size, strict=True)
        return [(n - m, max((n - m) // 4, size), size) for n, m, size in sizes][-2:]

    def _draw_one(
        self, rng: np.random.Generator, held_out: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw a patch, and return which of its pixels are valid."""
        block, invalid = draw_nonempty(
            lambda: self._draw_valid(rng, held_out), rng, self._skip_empty
        )
        block, invalid = fill_and_decorrelate(block, invalid, self.kernel)
        if invalid is None:
            return _flip_and_rotate(block, rng), None
        both = _flip_and_rotate(np.concatenate([block, ~invalid]).astype(np.float32), rng)
        return both[: len(block)], both[len(block) :]

    def _draw_valid(self, rng: np.random.Generator, held_out: bool) -> Block:
        """Draw until most of a patch is valid; return the most valid patch otherwise."""
        best: Block | None = None
        best_share = 0.0
        for _ in range(MAX_DRAWS_OF_INVALID):
            block, invalid = self._read_random(rng, held_out)
            share = 1.0 if invalid is None else 1 - float(invalid.mean())
            if share >= MIN_VALID_SHARE:
                return block, invalid
            if share > best_share:
                best, best_share = (block, invalid), share
        if best is None:
            raise no_valid_pixel()
        return best

    def _read_random(self, rng: np.random.Generator, held_out: bool) -> Block:
        """Read a random patch with its margins, and which of its pixels are invalid."""
        piece = self._choose(rng, held_out)
        which = int(np.searchsorted(self._ends, piece, side="right"))
        where = self.layouts[which]
        first = int(self._ends[which - 1]) if which else 0
        position = np.unravel_index(piece - first, loop_shape(where)) if where.loop else ()
        start = self._start(where.space_shape, rng, held_out)
        read = [size + margin for size, margin in zip(self.size, self._margins, strict=True)]
        space = [slice(a, a + n) for a, n in zip(start, read, strict=True)]
        block, invalid = self.valid[which].read(
            self.images[which], where, [int(p) for p in position], space
        )
        block = np.asarray(block, dtype=np.float32)
        return _pad(block, read), None if invalid is None else _pad(invalid, read)

    def _choose(self, rng: np.random.Generator, held_out: bool) -> int:
        """Return the number of a random plane or volume."""
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
        """Return the first index of a random patch along each axis of space."""
        # margins may overlap with held-out patches: A⁻¹ makes the noise of the patches independent
        inner = [n - margin for n, margin in zip(shape, self._margins, strict=True)]
        last = [max(n - size, 0) for n, size in zip(inner, self.size, strict=True)]
        if self._whole:
            return [int(rng.integers(n + 1)) for n in last]
        # the last quarter along Y and X is held out
        corner = [max(n - max(n // 4, size), 0) for n, size in zip(inner, self.size, strict=True)]
        for _ in range(MAX_DRAWS_OF_CORNER):
            start = [int(rng.integers(n + 1)) for n in last]
            if held_out:
                inside = zip(corner[-2:], last[-2:], strict=True)
                return start[:-2] + [int(rng.integers(c, n + 1)) for c, n in inside]
            ends = [a + size for a, size in zip(start, self.size, strict=True)]
            if any(end <= c for end, c in zip(ends[-2:], corner[-2:], strict=True)):
                return start
        # the image is too small to hold anything out: validation shares pixels with training
        return start


def no_valid_pixel() -> UserError:
    """Return the error for images that contain no valid pixel."""
    return UserError(
        "the images hold no valid pixel: all that were read are NaN, infinite, masked or padding"
    )


def is_large(layouts: Sequence[Layout]) -> bool:
    """Return whether images are so large that most of their empty patches are skipped."""
    pixels = sum(float(np.prod(where.shape, dtype=np.float64)) for where in layouts)
    return pixels > MAX_PIXELS_DRAWN_EVENLY


Block = tuple[np.ndarray, np.ndarray | None]
"""A block, shape ``(channels, *space)``, and which of its pixels are invalid, None if none are."""


def draw_nonempty(
    draw: Callable[[], Block], rng: np.random.Generator, skip_empty: bool = True
) -> Block:
    """Draw a block, and draw again most times that it is empty.

    Parameters
    ----------
    draw : callable
        Draws a block.
    rng : numpy.random.Generator
        Random generator.
    skip_empty : bool
        Whether to skip empty blocks at all.

    Returns
    -------
    block : ndarray
        The block.
    invalid : ndarray or None
        Which of its pixels are invalid.
    """
    block, invalid = draw()
    for _ in range(MAX_DRAWS_OF_EMPTY if skip_empty else 0):
        if not is_empty(block) or rng.random() < KEPT_SHARE_OF_EMPTY:
            break
        block, invalid = draw()
    return block, invalid


def is_empty(block: np.ndarray) -> bool:
    """Return whether a block is constant or contains only white noise.

    The noise is measured by the differences of neighbouring pixels, the signal by the variance of
    the means of cells.

    Parameters
    ----------
    block : ndarray
        Grey levels, shape ``(channels, *space)``.

    Returns
    -------
    bool

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(100, 10, (1, 64, 64))
    >>> is_empty(noise), is_empty(noise + 10 * np.sin(np.arange(64) / 10))
    (True, False)
    """
    side = CELL_SIDE
    y, x = (n - n % side for n in block.shape[-2:])
    if min(y, x) < 2 * side:
        return False
    cropped = block[..., :y, :x].astype(np.float64)
    noise = float(np.mean(np.diff(cropped, axis=-1) ** 2)) / 2
    cells = cropped.reshape(*cropped.shape[:-2], y // side, side, x // side, side).mean((-3, -1))
    # the variance within each channel, as channels differ in brightness
    variance = float(np.mean(np.var(cells, axis=tuple(range(1, cells.ndim)))))
    return variance <= MAX_VARIANCE_RATIO * noise / side**2


def fill_and_decorrelate(
    block: np.ndarray, invalid: np.ndarray | None, kernel: Kernel | None
) -> Block:
    """Fill the invalid pixels of a block, and undo a correlation.

    Parameters
    ----------
    block, invalid : ndarray
        Grey levels, shape ``(channels, *space)``, and which of them are invalid.
    kernel : Kernel or None
        Correlation kernel; if given, the result is smaller by its reach on each side along Y and X.

    Returns
    -------
    block : ndarray
        Grey levels, float32 if they were changed.
    invalid : ndarray or None
        Which pixels are invalid or depend strongly on invalid ones, bool.
    """
    if invalid is not None:
        typical = float(np.median(block[~invalid])) if not invalid.all() else 0.0
        block = fill(block, invalid, max(block.shape), typical).astype(np.float32)
    if kernel is not None:
        block = decorrelated(np.asarray(block, dtype=np.float32), kernel)
        if invalid is not None:
            wide = 2 * (max(len(kernel.taps), len(kernel.taps[0])) // 2) + 1
            invalid = ndimage.maximum_filter(
                invalid, (*[1] * (invalid.ndim - 2), wide, wide), mode="nearest"
            )[..., kernel.reach : -kernel.reach or None, kernel.reach : -kernel.reach or None]
    return block, invalid


def decorrelated(block: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Return A⁻¹ of every plane of a block.

    Parameters
    ----------
    block : ndarray
        Grey levels, float32, shape ``(..., Y, X)``.
    kernel : Kernel
        Correlation kernel A.

    Returns
    -------
    ndarray
        float32, smaller by `Kernel.reach` on each side along Y and X.
    """
    inner = slice(kernel.reach, -kernel.reach or None)
    whitened: np.ndarray = kernel.undo(torch.from_numpy(block))[..., inner, inner].numpy()
    return whitened


def margins_of(kernel: Kernel | None, ndim: int) -> tuple[int, ...]:
    """Return the pixels that A⁻¹ needs beside a patch, both sides together, for each axis."""
    return (0,) * (ndim - 2) + (2 * kernel.reach if kernel else 0,) * 2


def _pad(block: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return a block continued by reflection to a size along the axes of space."""
    missing = [(0, wanted - n) for n, wanted in zip(block.shape[1:], size, strict=True)]
    return np.pad(block, [(0, 0), *missing], mode="reflect")


def _flip_and_rotate(block: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a block flipped and rotated at random."""
    if block.ndim == 4 and rng.random() < 0.5:
        block = block[:, ::-1]
    if rng.random() < 0.5:
        block = block[..., ::-1]
    turns = int(rng.integers(4))
    if block.shape[-1] != block.shape[-2]:
        turns = turns // 2 * 2
    return np.ascontiguousarray(np.rot90(block, turns, axes=(-2, -1)))


def loop_shape(where: Layout) -> tuple[int, ...]:
    """Return the size along each looped axis."""
    return tuple(where.shape[where.axes.index(a)] for a in where.loop)


def count_pieces(layouts: Sequence[Layout]) -> int:
    """Return the number of planes, or of volumes for a 3-D network."""
    return sum(int(np.prod(loop_shape(where), dtype=np.int64)) for where in layouts)
