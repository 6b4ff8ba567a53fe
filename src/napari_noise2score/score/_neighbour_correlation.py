"""Measure how neighbouring time points or planes differ, and how correlated their noise is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..image.axes import Layout
from ..noise.kernel import Kernel
from ._valid_of_each import ValidOfEach
from .decorrelation import fill_and_decorrelate
from .patches import loop_shape

MAX_LAG = 3  # distance of neighbours that are compared
FAR_LAG = 8  # structure alone is about as similar at this distance, noise is not
MAX_PLANES = 12  # that are compared with their neighbours, of all images
MAX_SIDE = 128  # pixels along Y and X of what is compared
TILE_SIDE = 16
MAX_OF_STRUCTURE = 0.2  # correlation of structure in flat tiles
FLAT_SHARE = 0.3  # of the tiles, those with the least structure
MIN_TILES = 4


def neighbour_correlations(
    arrays: Sequence[Any], layouts: Sequence[Layout], kernel: Kernel | None, axis: str
) -> tuple[list[float], float]:
    """Return the correlation of neighbours by their distance along an axis, and that of structure.

    The finest detail of a plane (differences of diagonal neighbours) is compared with that of its
    neighbours in tiles that have the least structure: there it is noise. What little structure is
    left is about as similar at a larger distance.

    Parameters
    ----------
    arrays, layouts : sequence
        Images and their layouts.
    kernel : Kernel or None
        Correlation of the noise between pixels, undone first.
    axis : str
        ``"T"`` or ``"Z"``.

    Returns
    -------
    correlations : list of float
        For distances from 1 to 3, as far as the images extend; empty if nothing can be compared.
    structure : float
        What structure alone contributes at most; the noise is correlated by what exceeds it.
    """
    valid = ValidOfEach(arrays, layouts)
    products: dict[int, list[np.ndarray]] = {}
    structure: dict[int, list[np.ndarray]] = {}
    for which, position in _positions(layouts, axis):
        where, number = layouts[which], layouts[which].loop.index(axis)
        size = where.shape[where.axes.index(axis)]
        details = {}
        last = min(FAR_LAG, size - 1 - position[number])
        for lag in sorted({0, *range(1, min(MAX_LAG, last) + 1), last}):
            at = [*position[:number], position[number] + lag, *position[number + 1 :]]
            details[lag] = _detail(arrays[which], where, valid, which, at, kernel)
        if details[0] is None:
            continue
        own, means = details[0]
        noise = np.maximum(_tiles(own**2), 1e-30)
        flatness = (_tiles(means**2) - _tiles(means) ** 2) / noise
        for lag, found_there in details.items():
            if lag and found_there is not None:
                other = found_there[0]
                powers = np.sqrt(_tiles(own**2) * _tiles(other**2))
                products.setdefault(lag, []).append(_tiles(own * other) / np.maximum(powers, 1e-30))
                structure.setdefault(lag, []).append(flatness)
    found: dict[int, float] = {}
    for lag, values in products.items():
        ratio, flatness = np.concatenate(values), np.concatenate(structure[lag])
        if len(ratio) >= MIN_TILES:
            flat = flatness <= np.quantile(flatness, FLAT_SHARE)
            found[lag] = float(ratio[flat].mean())
    # of two frames nothing shows what structure alone would have
    far = max(found[max(found)], 0.0) if len(found) > 1 else MAX_OF_STRUCTURE
    return [found[lag] for lag in range(1, MAX_LAG + 1) if lag in found], far


def neighbour_change(
    arrays: Sequence[Any],
    layouts: Sequence[Layout],
    kernel: Kernel | None,
    axis: str,
    distance: int = 1,
) -> float | None:
    """Return how much images change from a plane to its neighbours, beside their noise.

    Parameters
    ----------
    arrays, layouts, kernel, axis
        As for `neighbour_correlations`.
    distance : int
        Distance of the neighbours.

    Returns
    -------
    float or None
        The mean squared difference of a plane and the mean of its two neighbours, less that of the
        noise, in units of the variance of the noise, which is that of the finest detail; None if
        nothing can be compared. Of two planes only, it is that of the one and the other.
    """
    valid = ValidOfEach(arrays, layouts)
    differences, noise = [], []
    for which, position in _positions(layouts, axis):
        where, number = layouts[which], layouts[which].loop.index(axis)
        size = where.shape[where.axes.index(axis)]
        # beyond an end the other neighbour takes its place
        beside = [
            at if 0 <= at < size else 2 * position[number] - at
            for at in (position[number] - distance, position[number] + distance)
        ]
        if not all(0 <= at < size for at in beside):
            continue
        found = [
            _detail(arrays[which], where, valid, which,
                    [*position[:number], at, *position[number + 1 :]], kernel)
            for at in (position[number], *beside)
        ]  # fmt: skip
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            continue
        (_, own), (_, before), (_, after) = known
        # the noise of sums of 2×2 pixels is that of one pixel, as they are halved
        expected = 2.0 if beside[0] == beside[1] else 1.5
        fine = sum(_tiles(detail**2) for detail, _ in known) / len(known)
        differences.append(_tiles((own - (before + after) / 2) ** 2) - expected * fine)
        noise.append(fine)
    power = float(np.concatenate(noise).sum()) if noise else 0.0
    if power == 0:
        return None
    per_pixel = 1 / 4  # of what 2×2 pixels have in common
    return float(per_pixel * np.concatenate(differences).sum() / power)


def _positions(layouts: Sequence[Layout], axis: str) -> list[tuple[int, list[int]]]:
    """Return planes or volumes that are spread over the images, each with neighbours after it."""
    having = [i for i, where in enumerate(layouts) if axis in where.loop]
    chosen = []
    each = max(1, MAX_PLANES // max(len(having), 1))
    for which in having[:MAX_PLANES]:
        where = layouts[which]
        number, sizes = where.loop.index(axis), list(loop_shape(where))
        sizes[number] = max(sizes[number] - 1, 1)
        total = int(np.prod(sizes, dtype=np.int64))
        for i in range(min(each, total)):
            at = np.unravel_index(i * total // min(each, total), sizes)
            chosen.append((which, [int(n) for n in at]))
    return chosen


def _detail(
    array: Any,
    where: Layout,
    valid: ValidOfEach,
    which: int,
    position: Sequence[int],
    kernel: Kernel | None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the finest detail of the middle of a plane, and half the sums of 2×2 pixels.

    None if too few pixels are valid, or the plane is too small.
    """
    space = []
    for name, n in zip(where.space, where.space_shape, strict=True):
        side = min(n, 1 if name == "Z" else MAX_SIDE)
        space.append(slice((n - side) // 2, (n - side) // 2 + side))
    block, invalid = valid[which].read(array, where, position, space)
    if invalid is not None and invalid.mean() > 0.5:
        return None
    block, invalid = fill_and_decorrelate(np.asarray(block, np.float32), invalid, kernel)
    y = block.reshape(-1, *block.shape[-2:])[0].astype(np.float64)
    y = y[: y.shape[0] // 2 * 2, : y.shape[1] // 2 * 2]
    if min(y.shape) < 2 * TILE_SIDE:
        return None
    a, b, c, d = y[::2, ::2], y[1::2, ::2], y[::2, 1::2], y[1::2, 1::2]
    return (a - b - c + d) / 2, (a + b + c + d) / 2


def _tiles(values: np.ndarray) -> np.ndarray:
    """Return the mean of each tile, 1-D."""
    side = TILE_SIDE // 2
    y, x = (n // side for n in values.shape)
    cut = values[: y * side, : x * side].reshape(y, side, x, side)
    means: np.ndarray = cut.mean((1, 3)).ravel()
    return means
