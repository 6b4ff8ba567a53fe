"""Draw random patches of images of any size, and hold some out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..image.axes import Layout
from ..image.valid import ValidPixels
from ..noise.kernel import Kernel
from ._valid_of_each import ValidOfEach
from .context import NO_CONTEXT, Context, neighbours_of
from .decorrelation import Block, fill_and_decorrelate, margins_of
from .empty import draw_nonempty, is_large

MIN_PIECES_TO_SPLIT = 10  # with fewer planes or volumes, a corner of each is held out instead
MAX_HELD_OUT_PIECES = 32
MIN_VALID_SHARE = 0.5  # of a patch; otherwise it is drawn again
MAX_DRAWS_OF_INVALID = 30
MAX_DRAWS_OF_CORNER = 1000


class Place(NamedTuple):
    """Place of a patch: number of its image, index along the looped axes, first pixel in space."""

    which: int
    position: tuple[int, ...]
    start: tuple[int, ...]


class DrawnPatches(NamedTuple):
    """Patches, which of their pixels are valid, and their neighbours.

    Attributes
    ----------
    y : ndarray
        As from `Patches.draw`.
    valid : ndarray or None
        As from `Patches.draw_masked`.
    context : ndarray or None
        Means of the neighbours, see `join_neighbours`, NaN where they are not known, float32, shape
        ``(count, groups of neighbours * channels, *size)``; None if there is no context.
    channel : ndarray
        The channel of each patch where channels are separate, otherwise 0, int, shape ``(count,)``.
    """

    y: np.ndarray
    valid: np.ndarray | None
    context: np.ndarray | None
    channel: np.ndarray


class Patches:
    """Draws random patches from images, and reads only these patches.

    Validation patches come from planes or volumes that are held out from training or, if there are
    few, from a corner of each that is held out. If the channels are separate, they take turns, and
    the same planes of all of them are held out.

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
    context : Context
        The neighbours that are read with each patch.

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
        context: Context = NO_CONTEXT,
    ):
        self.images, self.layouts, self.kernel = list(images), list(layouts), kernel
        self.valid = valid or ValidOfEach(self.images, self.layouts)
        self.size, self.context = tuple(size), context
        # A⁻¹ needs pixels around a patch, which are read with it
        self._margins = margins_of(kernel, len(size))
        counts = np.array([count_pieces([where]) for where in self.layouts])
        self._ends = np.cumsum(counts)
        self._channels = max(separate_channels(where) for where in self.layouts)
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
        drawn = self.draw_with_context(count, rng, held_out)
        return drawn.y, drawn.valid

    def draw_with_context(
        self, count: int, rng: np.random.Generator, held_out: bool = False
    ) -> DrawnPatches:
        """Draw patches as `draw_masked` does, with their neighbours.

        Parameters
        ----------
        count, rng, held_out
            As for `draw`.

        Returns
        -------
        DrawnPatches
        """
        turns = self._channels_in_turn(count, rng)
        drawn = [self._draw_one(rng, held_out, turn) for turn in turns]
        patches = np.stack([patch for patch, *_ in drawn])
        neighbours = np.stack([each[2] for each in drawn]) if self.context.offsets else None
        channel = np.array([each[3] for each in drawn])
        if all(each[1] is None for each in drawn):
            return DrawnPatches(patches, None, neighbours, channel)
        masks = [np.ones_like(patch) if valid is None else valid for patch, valid, *_ in drawn]
        return DrawnPatches(patches, np.stack(masks), neighbours, channel)

    def _channels_in_turn(self, count: int, rng: np.random.Generator) -> list[int]:
        """Return the channel of each patch, if the channels are separate."""
        if self._channels == 1:
            return [0] * count
        first = int(rng.integers(self._channels))
        return [(first + i) % self._channels for i in range(count)]

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
        self, rng: np.random.Generator, held_out: bool, turn: int
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, int]:
        """Draw a patch, and return which of its pixels are valid, its neighbours and channel."""
        (block, invalid), place = draw_nonempty(
            lambda: self._draw_valid(rng, held_out, turn), rng, self._skip_empty
        )
        where = self.layouts[place.which]
        channel = place.position[where.loop.index("C")] if "C" in where.loop else 0
        block, invalid = fill_and_decorrelate(block, invalid, self.kernel)
        around = self._read_neighbours(place, block)
        channels = len(block)
        if invalid is None:
            turned = _flip_and_rotate(_joined(block, around), rng)
            return turned[:channels], None, turned[channels:], channel
        both = np.concatenate([block, ~invalid]).astype(np.float32)
        both = _flip_and_rotate(_joined(both, around), rng)
        valid = both[channels : 2 * channels]
        return both[:channels], valid, both[2 * channels :], channel

    def _draw_valid(
        self, rng: np.random.Generator, held_out: bool, turn: int
    ) -> tuple[Block, Place]:
        """Draw until most of a patch is valid; return the most valid patch otherwise."""
        best: tuple[Block, Place] | None = None
        best_share = 0.0
        for _ in range(MAX_DRAWS_OF_INVALID):
            place = self._choose_place(rng, held_out, turn)
            block, invalid = self._read(place)
            share = 1.0 if invalid is None else 1 - float(invalid.mean())
            if share >= MIN_VALID_SHARE:
                return (block, invalid), place
            if share > best_share:
                best, best_share = ((block, invalid), place), share
        if best is None:
            raise no_valid_pixel()
        return best

    def _read_neighbours(self, place: Place, block: np.ndarray) -> np.ndarray:
        """Return the neighbours of a patch, NaN where they are not known."""
        found = []
        for position in neighbours_of(self.layouts[place.which], place.position, self.context):
            if position is None:
                found.append(np.full_like(block, np.nan))
                continue
            levels, invalid = self._read(place._replace(position=position))
            levels, invalid = fill_and_decorrelate(levels, invalid, self.kernel)
            found.append(levels if invalid is None else np.where(invalid, np.nan, levels))
        if not found:
            return block[:0]
        frames = [torch.from_numpy(np.asarray(frame, np.float32)) for frame in found]
        return join_neighbours(frames, self.context).numpy()

    def _choose_place(self, rng: np.random.Generator, held_out: bool, turn: int) -> Place:
        """Choose a random patch, of a given channel where the channels are separate."""
        piece = self._choose(rng, held_out)
        which = int(np.searchsorted(self._ends, piece, side="right"))
        where = self.layouts[which]
        first = int(self._ends[which - 1]) if which else 0
        sizes = scene_shape(where)
        position = [int(i) for i in np.unravel_index(piece - first, sizes)] if sizes else []
        if "C" in where.loop:
            position.insert(where.loop.index("C"), turn % separate_channels(where))
        start = self._start(where.space_shape, rng, held_out)
        return Place(which, tuple(position), tuple(start))

    def _read(self, place: Place) -> Block:
        """Read a patch with its margins, and which of its pixels are invalid."""
        which, position, start = place
        read = [size + margin for size, margin in zip(self.size, self._margins, strict=True)]
        space = [slice(a, a + n) for a, n in zip(start, read, strict=True)]
        block, invalid = self.valid[which].read(
            self.images[which], self.layouts[which], position, space
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


def join_neighbours(frames: Sequence[Tensor], context: Context) -> Tensor:
    """Return the grey levels of neighbours as a network sees them: as means.

    Parameters
    ----------
    frames : sequence of Tensor
        Grey levels of each neighbour, NaN where they are not known, shape ``(channels, *space)``.
    context : Context
        The context, of as many neighbours.

    Returns
    -------
    Tensor
        Means of the known grey levels of each of its `groups`, shape
        ``(groups * channels, *space)``.
    """
    return torch.cat(
        [torch.stack([frames[i] for i in group]).nanmean(dim=0) for group in context.groups]
    )


def no_valid_pixel() -> UserError:
    """Return the error for images that contain no valid pixel."""
    return UserError(
        "the images hold no valid pixel: all that were read are NaN, infinite, masked or padding"
    )


def _pad(block: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return a block continued by reflection to a size along the axes of space."""
    missing = [(0, wanted - n) for n, wanted in zip(block.shape[1:], size, strict=True)]
    return np.pad(block, [(0, 0), *missing], mode="reflect")


def _joined(block: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Return a block and its neighbours as one array, or the block itself if there are none."""
    return np.concatenate([block, around]) if len(around) else block


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


def scene_shape(where: Layout) -> tuple[int, ...]:
    """Return the size along each looped axis but that of separate channels."""
    return tuple(where.shape[where.axes.index(a)] for a in where.loop if a != "C")


def separate_channels(where: Layout) -> int:
    """Return the number of channels that are seen one at a time, 1 if there are none."""
    return where.shape[where.axes.index("C")] if "C" in where.loop else 1


def count_pieces(layouts: Sequence[Layout]) -> int:
    """Return the number of planes, or of volumes for a 3-D network, of one channel."""
    return sum(int(np.prod(scene_shape(where), dtype=np.int64)) for where in layouts)
