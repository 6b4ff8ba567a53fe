"""Choose the size of the patches that a network is trained on."""

from __future__ import annotations

from collections.abc import Sequence

from ..image.axes import Layout
from ..noise.kernel import Kernel
from .decorrelation import margins_of
from .patches import MIN_PIECES_TO_SPLIT, count_pieces

PATCH_SIZE = {2: (64, 64), 3: (8, 48, 48)}  # pixels along the axes of space, by their number
MIN_PATCH_SIDE = 8  # pixels, after a correlation is undone


def patch_size(
    layouts: Sequence[Layout], stride: tuple[int, ...], kernel: Kernel | None
) -> tuple[int, ...]:
    """Return the size of patches in pixels, a multiple of the stride along each axis.

    It is `PATCH_SIZE`, or smaller if the largest image is smaller. If a corner of each image is
    held out, it is at most half the size of the largest image along Y and X.
    """
    largest = [max(n) for n in zip(*(where.space_shape for where in layouts), strict=True)]
    if count_pieces(layouts) < MIN_PIECES_TO_SPLIT:
        inner = [n - m for n, m in zip(largest, margins_of(kernel, len(stride)), strict=True)]
        # smaller patches are useless; the network is then trained on held-out pixels as well
        if min(inner[-2:]) >= 2 * MIN_PATCH_SIDE:
            largest = inner
        halves = zip(largest[-2:], stride[-2:], strict=True)
        largest[-2:] = [max(n // 2 // s, 1) * s for n, s in halves]
    sizes = zip(PATCH_SIZE[len(stride)], largest, stride, strict=True)
    return tuple(min(p, -(-n // s) * s) for p, n, s in sizes)
