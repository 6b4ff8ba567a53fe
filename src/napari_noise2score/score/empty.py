"""Recognize blocks of images that contain only noise, and draw most of those again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from ..image.axes import Layout
from .decorrelation import Block

# Larger images may be mostly empty: most empty patches are drawn again, but not all, because dark
# areas belong to the image.
MAX_PIXELS_DRAWN_EVENLY = 2**27
MAX_DRAWS_OF_EMPTY = 8
KEPT_SHARE_OF_EMPTY = 0.1
# A patch is empty if the variance of the means of its cells is at most this multiple of what white
# noise causes.
CELL_SIDE = 4  # pixels
MAX_VARIANCE_RATIO = 1.5

Extra = TypeVar("Extra")


def is_large(layouts: Sequence[Layout]) -> bool:
    """Return whether images are so large that most of their empty patches are skipped."""
    pixels = sum(float(np.prod(where.shape, dtype=np.float64)) for where in layouts)
    return pixels > MAX_PIXELS_DRAWN_EVENLY


def draw_nonempty(
    draw: Callable[[], tuple[Block, Extra]], rng: np.random.Generator, skip_empty: bool = True
) -> tuple[Block, Extra]:
    """Draw a block, and draw again most times that it is empty.

    Parameters
    ----------
    draw : callable
        Draws a block, and returns it with anything else.
    rng : numpy.random.Generator
        Random generator.
    skip_empty : bool
        Whether to skip empty blocks at all.

    Returns
    -------
    tuple
        As from `draw`.
    """
    drawn = draw()
    for _ in range(MAX_DRAWS_OF_EMPTY if skip_empty else 0):
        if not is_empty(drawn[0][0]) or rng.random() < KEPT_SHARE_OF_EMPTY:
            break
        drawn = draw()
    return drawn


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
