"""Find the grey levels of padding: values that fill solid areas too large to occur by accident."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # its submodules are imported when they are used

# Side, in pixels (odd), of the solid squares of one grey level by which padding is detected.
SOLID_SIDE = 15
# With more grey levels than this filling solid squares, an image is flat rather than padded.
MAX_PADDING_LEVELS = 2
# Smallest fraction of the sampled pixels that counts as padding.
MIN_PADDING_FRACTION = 0.002
# Largest fraction of isolated other values inside padding. Where few photons are detected, single
# counts are scattered among true zeros, which are not padding.
MAX_SPECK_FRACTION = 1e-4
# Largest acceptable probability that recorded pixels form such a square anywhere in the image.
MAX_FALSE_ALARM_PROBABILITY = 1e-9
# Connected pixels of the same level belong to the padding up to this distance, in pixels, from a
# solid square. Squares larger than the second number are not grown: see `grown`.
MAX_GROWTH, MAX_GROWN_SIDE = 15, 7
# Width, in pixels, of the border around padding in which occurrences of the level are counted.
BORDER_WIDTH = 4


def padding_levels(
    planes: Sequence[tuple[np.ndarray, np.ndarray | None]],
) -> tuple[tuple[float, int], ...]:
    """Return the grey levels of padding.

    Parameters
    ----------
    planes : sequence of (ndarray, ndarray or None)
        Planes or windows of planes, ``(Y, X)``, each with a mask that is True where a pixel is
        already known to be invalid.

    Returns
    -------
    tuple of (float, int)
        Each grey level with the side, in pixels, of its smallest solid square that is padding.
    """
    candidates = set().union(*(_solid_levels(plane, mask) for plane, mask in planes))
    if not candidates or len(candidates) > MAX_PADDING_LEVELS:
        return ()
    if len(candidates) == 1 and all(
        mask is None and (plane == plane.flat[0]).all() for plane, mask in planes
    ):
        return ()
    found = []
    for level in sorted(candidates):
        side = _padding_side(planes, level, candidates)
        if side is not None:
            found.append((float(level), side))
    return tuple(found)


def _solid_levels(plane: np.ndarray, mask: np.ndarray | None) -> set[Any]:
    """Return the values that fill a whole cell of a grid laid over a plane.

    The cells are so small that a solid square of `SOLID_SIDE` contains at least one of them.
    """
    half = (SOLID_SIDE + 1) // 2
    rows, columns = (n // half for n in plane.shape)
    if not rows or not columns:
        return set()
    cells = plane[: rows * half, : columns * half]
    # comparing two corners of each cell rules out most cells cheaply
    same = cells[::half, ::half] == cells[half - 1 :: half, half - 1 :: half]
    found = set()
    for row, column in zip(*np.nonzero(same), strict=True):
        at = np.s_[row * half : (row + 1) * half, column * half : (column + 1) * half]
        cell = plane[at]
        value = cell[0, 0]
        if value in found or (mask is not None and mask[at].any()):
            continue
        if (cell == value).all():
            found.add(value)
            if len(found) > MAX_PADDING_LEVELS:
                break
    return found


def _padding_side(
    planes: Sequence[tuple[np.ndarray, np.ndarray | None]], level: Any, candidates: set[Any]
) -> int | None:
    """Return the side of the smallest solid square of a level that is padding, or None."""
    area = specks = border_size = border_hits = valid_count = loose = total = 0
    densest = 0.0
    others = []
    for plane, mask in planes:
        here = plane == level
        total += plane.size
        solid = _opened(here, SOLID_SIDE)
        known = np.ones(plane.shape, bool) if mask is None else ~mask
        if solid.any():
            area += int(solid.sum())
            closed = ~_opened(~solid, SOLID_SIDE)
            around = scipy.ndimage.uniform_filter(here.astype(np.float32), 3, mode="reflect")
            # a pixel is a speck if at least six of its eight neighbours have the level
            alone = ~here & known & (around > 5.5 / 9)
            specks += int((alone & closed).sum())
            border = scipy.ndimage.maximum_filter(closed, 2 * BORDER_WIDTH + 1) & ~closed & known
            border_size += int(border.sum())
            border_hits += int((here & border).sum())
            # include acute corners that no square reaches, but not chains of single zero counts
            connected = scipy.ndimage.binary_dilation(solid, np.ones((3, 3)), MAX_GROWTH, here)
        else:
            connected = np.zeros(plane.shape, bool)
        rest = ~connected & known
        valid_count += int(rest.sum())
        loose += int((here & rest).sum())
        densest = max(densest, _densest(here & rest, rest))
        values = plane[rest & ~here & ~np.isin(plane, list(candidates))]
        others.append(values[:: values.size // 100_000 + 1])
    if area < max(MIN_PADDING_FRACTION * total, 1) or not valid_count:
        return None
    if specks > MAX_SPECK_FRACTION * area:
        return None
    limit = (MAX_FALSE_ALARM_PROBABILITY / total) ** (1 / SOLID_SIDE**2)
    if border_size and border_hits > limit * border_size:
        return None
    rest = np.concatenate(others).astype(np.float64)
    if not rest.size:
        return None
    low, high = np.quantile(rest, [0.001, 0.999])
    if level >= rest.max() and level - high <= high - low:
        return None  # saturation, not padding
    if not loose and valid_count > 10_000 and not rest.min() <= level <= rest.max():
        return 1
    frequency = max(densest, loose / valid_count, 1 / valid_count)
    for side in range(3, SOLID_SIDE + 1, 2):
        if frequency ** (side**2) * total < MAX_FALSE_ALARM_PROBABILITY:
            return side
    return SOLID_SIDE


def _densest(here: np.ndarray, known: np.ndarray) -> float:
    """Return the largest fraction of a level in any square whose pixels are all valid."""
    side = SOLID_SIDE + 1
    rows, columns = (n // side for n in here.shape)
    if not rows or not columns:
        return 0.0
    cut = np.s_[: rows * side, : columns * side]
    shape = rows, side, columns, side
    share = here[cut].reshape(shape).mean(axis=(1, 3))
    whole = known[cut].reshape(shape).all(axis=(1, 3))
    return float(share[whole].max()) if whole.any() else 0.0


def grown(area: np.ndarray, side: int) -> np.ndarray:
    """Return the part of an area that is solid, or connected to a solid part.

    Parameters
    ----------
    area : ndarray
        Where pixels have the level, bool, shape ``(..., Y, X)``.
    side : int
        Side, in pixels, of the squares that count as solid.
    """
    solid = _opened(area, side)
    # a large side means that the level is frequent elsewhere, so growing would follow single pixels
    if side == 1 or side > MAX_GROWN_SIDE or not solid.any():
        return solid
    cross = scipy.ndimage.generate_binary_structure(2, 1)
    around = cross.reshape(*[1] * (area.ndim - 2), 3, 3)
    dilated: np.ndarray = scipy.ndimage.binary_dilation(solid, around, MAX_GROWTH, area)
    return dilated


def _opened(area: np.ndarray, side: int) -> np.ndarray:
    """Return the morphological opening of an area by a square; edges are mirrored."""
    if side == 1:
        return area
    for filtered in (scipy.ndimage.minimum_filter1d, scipy.ndimage.maximum_filter1d):
        for axis in (-2, -1):
            area = filtered(area.view(np.uint8), side, axis=axis, mode="reflect").view(bool)
    return area
