"""Pixels that were never recorded: padding, masked background, NaN and nodata values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from scipy import ndimage

from ..errors import UserError
from .axes import Layout, parse_axes, read_block

# No detector records more: float32 nodata values (-3.4e38) and netCDF fill values (9.97e36) do.
LARGEST_VALUE = 1e30
# Padding is first seen as solid squares of one grey level, of this side in pixels (odd).
SOLID_SIDE = 15
# Levels of solid squares: with more of them the image is flat rather than padded.
MAX_LEVELS = 2
# How many planes are looked at, whole up to this many pixels, else in windows on a grid.
PLANES = 4
WHOLE_PLANE = 384**2
WINDOW, WINDOWS_PER_AXIS = 128, 3
# Padding is at least this share of the pixels looked at.
MIN_SHARE = 0.002
# Padding is pure: single pixels of other values within it are rarer than this. Where few photons
# are detected, single counts lie among zeros.
MAX_SPECKS = 1e-4
# Probability that a solid square of the level occurs by chance anywhere in the image.
MAX_CHANCE = 1e-9
# Pixels of the level that are joined to a solid square belong to it up to this distance.
GROWN, MAX_GROWN_SIDE = 15, 7
# Pixels around padding in which the level is counted.
RING = 4
# Invalid pixels are filled from the nearest valid one no further away than this besides the reach
# that is asked for, and smoothed by a Gaussian of this standard deviation.
FILL_REACH, FILL_SMOOTHING = 24, 2.0


@dataclass(frozen=True, eq=False)
class ValidPixels:
    """Which pixels of an image were recorded, decided block by block.

    NaN, infinite and absurdly large values (above 1e30) are never valid. Besides, there may be
    grey levels that fill solid areas, and a mask.

    Attributes
    ----------
    levels : tuple of (float, int)
        Grey levels of padding, each with the side of the solid square (odd, in pixels) from which
        on an area of it is padding; 1 where the level occurs nowhere else.
    excluded : array-like or None
        True where a pixel was masked, of the shape of the image.

    Examples
    --------
    >>> image = np.random.default_rng(0).normal(100, 5, (64, 64)).astype(np.float32)
    >>> image[:20] = 0
    >>> image[40, 40] = np.nan
    >>> valid = find_valid(image, "YX")
    >>> valid.levels
    ((0.0, 3),)
    >>> int(valid.invalid(image).sum())
    1281
    """

    levels: tuple[tuple[float, int], ...] = ()
    excluded: Any = field(default=None, repr=False)

    @property
    def halo(self) -> int:
        """How many pixels around a block along Y and X its mask depends on."""
        return max((side - 1 + GROWN for _, side in self.levels if side > 1), default=0)

    def invalid(self, block: np.ndarray) -> np.ndarray | None:
        """Say which pixels of a block are not valid, by their values.

        Parameters
        ----------
        block : ndarray
            Grey levels, shape ``(..., Y, X)``. Within `halo` of an edge that is not one of the
            image the answer may differ from that for the whole image.

        Returns
        -------
        ndarray or None
            bool, of the shape of the block; None if every pixel is valid.
        """
        found = np.zeros(block.shape, bool)
        if block.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                limit = min(LARGEST_VALUE, float(np.finfo(block.dtype).max))
                found |= ~(np.abs(block) <= limit)
        for level, side in self.levels:
            found |= _grown(block == level, side)
        return found if found.any() else None

    def read(
        self,
        array: Any,
        where: Layout,
        position: Sequence[int],
        space: Sequence[slice],
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read one block and say which of its pixels are not valid.

        Parameters
        ----------
        array, where, position, space
            As for `read_block`.

        Returns
        -------
        block : ndarray
            Shape ``(channel, *space)``, dtype of the array.
        invalid : ndarray or None
            bool, of the same shape; None if every pixel is valid.
        """
        halo = self.halo
        wide, inner = list(space), [slice(None)] * len(space)
        for axis in (-2, -1) if halo else ():
            start, stop, _ = space[axis].indices(where.space_shape[axis])
            first = max(start - halo, 0)
            wide[axis] = slice(first, min(stop + halo, where.space_shape[axis]))
            inner[axis] = slice(start - first, stop - first)
        block = read_block(array, where, position, wide)
        invalid = self.invalid(np.ma.getdata(block))
        if isinstance(block, np.ma.MaskedArray):
            hidden = np.ma.getmaskarray(block)
            block, invalid = block.data, hidden if invalid is None else invalid | hidden
        cut = (slice(None), *inner)
        block = block[cut]
        if invalid is not None:
            invalid = invalid[cut]
        if self.excluded is not None:
            masked = read_block(self.excluded, where, position, space).astype(bool)
            invalid = masked if invalid is None else invalid | masked
        return block, invalid if invalid is not None and invalid.any() else None


def find_valid(data: Any, axes: str) -> ValidPixels:
    """Find which pixels of an image were recorded, from a few of its planes.

    Parameters
    ----------
    data : array-like
        numpy (also masked), dask or zarr array; four planes of it are read, of large ones a grid
        of windows.
    axes : str
        One letter of ``TCZYX`` for each dimension.

    Returns
    -------
    ValidPixels

    Raises
    ------
    UserError
        If none of the pixels looked at is valid.

    Notes
    -----
    A grey level is padding if it fills solid squares of 15 × 15 pixels that chance does not
    explain: by how often the level occurs right beside them, no such square is expected anywhere
    in a billion such images, and hardly any single pixel of another value lies among them. The
    brightest level is saturation rather than padding, unless it is far from all others. An image
    of one value is constant, not padded.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(0.05, (256, 256))
    >>> find_valid(counts, "YX").levels  # true zeros
    ()
    """
    found, some = look_for_valid(data, axes)
    if not some:
        raise UserError(
            "the image holds no valid pixel: all that were looked at are NaN, infinite or masked"
        )
    return found


def look_for_valid(data: Any, axes: str) -> tuple[ValidPixels, bool]:
    """Do what `find_valid` does, and say whether there is any valid pixel."""
    axes = parse_axes(axes, len(data.shape))
    excluded = None
    if isinstance(data, np.ma.MaskedArray):
        mask = np.ma.getmask(data)
        excluded = mask if mask is not np.ma.nomask and mask.any() else None
        data = data.data
    # planes one by one, as channels may be padded differently
    where = Layout(axes, tuple(int(n) for n in data.shape), "YX", False)
    plain = ValidPixels((), excluded)
    planes, hidden, seen = [], 0, 0
    for position, space in _places(where):
        block, invalid = plain.read(data, where, position, space)
        seen += block.size
        if invalid is not None:
            hidden += int(invalid.sum())
        planes.append((block[0], None if invalid is None else invalid[0]))
    return ValidPixels(_padding_levels(planes), excluded), hidden < seen or not seen


def valid_of(image: Any, axes: str | None = None) -> ValidPixels:
    """Give the valid pixels of an image, which are looked for once if it is an `Image`.

    Parameters
    ----------
    image : Image or array-like
        The image.
    axes : str, optional
        Its axes; those of an `Image` by default.

    Returns
    -------
    ValidPixels

    Raises
    ------
    UserError
        If it has no valid pixel.
    """
    from .image import Image

    if not isinstance(image, Image):
        return find_valid(image, axes or "YX")
    known: ValidPixels | None = image.valid
    if known is None or not _fits(known, image.data):
        known = find_valid(image.data, axes or image.axes)
        object.__setattr__(image, "valid", known)
    return known


class LazyValid:
    """The valid pixels of an image that nothing is read of until they are asked for.

    Parameters
    ----------
    image : Image or array-like
        The image.
    axes : str
        Its axes.
    """

    def __init__(self, image: Any, axes: str):
        self._image, self._axes = image, axes
        self._found: ValidPixels | None = None

    def __call__(self) -> ValidPixels:
        """Return the valid pixels, looked for once; see `valid_of`."""
        if self._found is None:
            self._found = valid_of(self._image, self._axes)
        return self._found


def fill(block: np.ndarray, invalid: np.ndarray, reach: int, default: float) -> np.ndarray:
    """Continue the valid part of a block smoothly into its invalid pixels.

    Parameters
    ----------
    block : ndarray
        Shape ``(..., Y, X)``.
    invalid : ndarray
        bool, of the same shape.
    reach : int
        How far from a valid pixel the values of invalid ones matter.
    default : float
        Value of pixels farther from a valid one than that and some more.

    Returns
    -------
    ndarray
        Of the shape of the block, floating point; valid pixels as they were.

    Examples
    --------
    >>> step = np.ones((1, 5)) * [1, 1, 1, 9, 9]
    >>> fill(step, step == 9, 10, 0.0)
    array([[1., 1., 1., 1., 1.]])
    """
    out = np.array(block, dtype=np.result_type(block.dtype, np.float32))
    shape = out.shape[-2:]
    planes, masks = out.reshape(-1, *shape), invalid.reshape(-1, *shape)
    for plane, mask in zip(planes, masks, strict=True):
        if not mask.any():
            continue
        if mask.all():
            plane[...] = default
            continue
        away, nearest = ndimage.distance_transform_edt(mask, return_indices=True)
        plane[mask] = plane[tuple(at[mask] for at in nearest)]
        plane[away > reach + FILL_REACH] = default
        smooth = ndimage.gaussian_filter(plane, FILL_SMOOTHING)
        plane[mask] = smooth[mask]
    return out


def _fits(valid: ValidPixels, data: Any) -> bool:
    return valid.excluded is None or valid.excluded.shape == data.shape


def _places(where: Layout) -> list[tuple[list[int], list[slice]]]:
    """Give position and space of what is looked at: a few planes, whole or in windows."""
    sizes = [where.shape[where.axes.index(a)] for a in where.loop]
    count = int(np.prod(sizes, dtype=np.int64))
    chosen = sorted({round(i * (count - 1) / max(PLANES - 1, 1)) for i in range(PLANES)})
    if np.prod(where.space_shape, dtype=np.int64) <= WHOLE_PLANE:
        windows = [[slice(0, n) for n in where.space_shape]]
    else:
        starts = [
            sorted({round(i * max(n - WINDOW, 0) / (WINDOWS_PER_AXIS - 1))
                    for i in range(WINDOWS_PER_AXIS)})
            for n in where.space_shape
        ]  # fmt: skip
        windows = [[slice(a, a + WINDOW) for a in corner] for corner in product(*starts)]
    return [
        ([int(p) for p in (np.unravel_index(number, sizes) if sizes else ())], space)
        for number in chosen
        for space in windows
    ]


def _padding_levels(
    planes: Sequence[tuple[np.ndarray, np.ndarray | None]],
) -> tuple[tuple[float, int], ...]:
    """Give the grey levels of padding and the side from which on an area of each is padding."""
    candidates = set().union(*(_solid_levels(plane, mask) for plane, mask in planes))
    if not candidates or len(candidates) > MAX_LEVELS:
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
    """Give the values of which aligned squares of a plane consist, such as a solid square holds."""
    half = (SOLID_SIDE + 1) // 2
    rows, columns = (n // half for n in plane.shape)
    if not rows or not columns:
        return set()
    cells = plane[: rows * half, : columns * half]
    # most squares differ in their first two pixels: only the others are looked at in full
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
            if len(found) > MAX_LEVELS:
                break
    return found


def _padding_side(
    planes: Sequence[tuple[np.ndarray, np.ndarray | None]], level: Any, candidates: set[Any]
) -> int | None:
    """Give the least side of a solid square of padding of a level; None if it is no padding."""
    area = specks = ring_size = ring_hits = valid_count = loose = total = 0
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
            around = ndimage.uniform_filter(here.astype(np.float32), 3, mode="reflect")
            # of its eight neighbours six or more have the level
            alone = ~here & known & (around > 5.5 / 9)
            specks += int((alone & closed).sum())
            ring = ndimage.maximum_filter(closed, 2 * RING + 1) & ~closed & known
            ring_size += int(ring.sum())
            ring_hits += int((here & ring).sum())
            # corners too acute for a square, but not what zeros of few photons are joined by
            joined = ndimage.binary_dilation(solid, np.ones((3, 3)), GROWN, here)
        else:
            joined = np.zeros(plane.shape, bool)
        rest = ~joined & known
        valid_count += int(rest.sum())
        loose += int((here & rest).sum())
        densest = max(densest, _densest(here & rest, rest))
        values = plane[rest & ~here & ~np.isin(plane, list(candidates))]
        others.append(values[:: values.size // 100_000 + 1])
    if area < max(MIN_SHARE * total, 1) or not valid_count:
        return None
    if specks > MAX_SPECKS * area:
        return None
    limit = (MAX_CHANCE / total) ** (1 / SOLID_SIDE**2)
    if ring_size and ring_hits > limit * ring_size:
        return None
    rest = np.concatenate(others).astype(np.float64)
    if not rest.size:
        return None
    low, high = np.quantile(rest, [0.001, 0.999])
    if level >= rest.max() and level - high <= high - low:
        return None  # saturated
    if not loose and valid_count > 10_000 and not rest.min() <= level <= rest.max():
        return 1
    often = max(densest, loose / valid_count, 1 / valid_count)
    for side in range(3, SOLID_SIDE + 1, 2):
        if often ** (side**2) * total < MAX_CHANCE:
            return side
    return SOLID_SIDE


def _densest(here: np.ndarray, known: np.ndarray) -> float:
    """Give the largest share of a level in any square that is valid throughout."""
    side = SOLID_SIDE + 1
    rows, columns = (n // side for n in here.shape)
    if not rows or not columns:
        return 0.0
    cut = np.s_[: rows * side, : columns * side]
    shape = rows, side, columns, side
    share = here[cut].reshape(shape).mean(axis=(1, 3))
    whole = known[cut].reshape(shape).all(axis=(1, 3))
    return float(share[whole].max()) if whole.any() else 0.0


def _grown(area: np.ndarray, side: int) -> np.ndarray:
    """Return the part of an area, ``(..., Y, X)``, that is solid or joined to what is."""
    solid = _opened(area, side)
    # among zeros of few photons one would go on from pixel to pixel
    if side == 1 or side > MAX_GROWN_SIDE or not solid.any():
        return solid
    cross = ndimage.generate_binary_structure(2, 1)
    around = cross.reshape(*[1] * (area.ndim - 2), 3, 3)
    return ndimage.binary_dilation(solid, around, GROWN, area)


def _opened(area: np.ndarray, side: int) -> np.ndarray:
    """Give what squares of a side that lie in an area cover; it is mirrored at its edges."""
    if side == 1:
        return area
    for filtered in (ndimage.minimum_filter1d, ndimage.maximum_filter1d):
        for axis in (-2, -1):
            area = filtered(area.view(np.uint8), side, axis=axis, mode="reflect").view(bool)
    return area
