"""Undo what a detector adds to every image: fixed maps of offset and gain, offsets of rows."""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._line_offsets import line_offsets, row_differences
from .arrays import read_piece
from .axes import Layout
from .image import Image
from .valid import ValidPixels, fill, valid_of

__all__ = ["CorrectedArray", "PixelCorrection", "corrected", "is_corrected", "row_differences"]

Array = NDArray[Any]

# pixels around a block from which those of a defect are filled: the smoothing of `fill`
FILL_MARGIN = 12
# pixels of a plane from which the offsets of its lines are estimated, and their least width
MAX_PIXELS_FOR_OFFSETS, MIN_WIDTH_FOR_OFFSETS = 2**24, 1024
BLOCKS_OF_A_WIDE_PLANE = 8
MAX_PLANES_KEPT = 1000  # whose offsets are kept


@dataclass(frozen=True, eq=False)
class PixelCorrection:
    """What is undone in the planes of a channel: ``y' = (y - shift) * factor + back``.

    Attributes
    ----------
    shift, factor : ndarray or None
        Of the shape of a plane ``(Y, X)`` or of a volume ``(Z, Y, X)``; None for 0 and 1.
    back : float
        Grey level that is added, so that a common offset stays.
    defective : ndarray or None
        Pixels that record nothing of use, such as hot pixels; bool, shape as above.
    rows, columns : float
        Standard deviation of random offsets of rows and columns, in grey levels; 0 for none.
    restores : bool
        Whether a result is divided by the factor, so that its grey levels are those of the image.
    """

    shift: Array | None = None
    factor: Array | None = None
    back: float = 0.0
    defective: Array | None = None
    rows: float = 0.0
    columns: float = 0.0
    restores: bool = False


class CorrectedArray:
    """An image whose planes are corrected as they are read.

    Parameters
    ----------
    raw : array-like
        The image as it was recorded.
    axes : str
        Its axes.
    corrections : sequence of PixelCorrection
        One for all channels, or one for each.
    valid : ValidPixels
        Which pixels of the raw image are valid.
    fills : bool
        Whether defective pixels are filled from their neighbours; otherwise they keep a value that
        means nothing, and are left out by the mask that `corrected` gives the image.
    """

    dtype = np.dtype(np.float32)
    is_corrected = True

    def __init__(
        self,
        raw: Any,
        axes: str,
        corrections: Sequence[PixelCorrection],
        valid: ValidPixels,
        fills: bool = False,
    ):
        self.raw, self.axes, self.corrections = raw, axes, tuple(corrections)
        self.valid, self.fills = valid, fills
        self.shape = tuple(int(n) for n in raw.shape)
        self.ndim = len(self.shape)
        self._offsets: dict[tuple[int, ...], tuple[Array, Array]] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # locks cannot be sent to other processes
        return {**self.__dict__, "_offsets": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __getitem__(self, index: Any) -> Array:
        slices, kept = _region(index, self.shape)
        margin = (
            FILL_MARGIN
            if self.fills and any(c.defective is not None for c in self.corrections)
            else 0
        )
        wide, inner = _widened(slices, self.axes, self.shape, margin)
        piece = np.array(read_piece(self.raw, wide), dtype=np.float32)  # a copy of its own
        planes = _as_planes(piece, self.axes)
        for position, plane in _numbered(planes, wide, self.axes):
            plane[...] = self._corrected_plane(plane, position, wide)
        cut: Array = piece[inner][kept]
        return cut

    def _corrected_plane(
        self, plane: Array, position: tuple[int, ...], place: Sequence[slice]
    ) -> Array:
        """Return a part of one plane after correction, float32."""
        correction = self.correction_at(position)
        ys, xs = (place[self.axes.index(a)] for a in "YX")
        out = self._calibrated(plane.astype(np.float64), position, (ys, xs))
        if correction.rows or correction.columns:
            rows, columns = self._offsets_of(position)
            out -= rows[ys, None] + columns[None, xs]
        defective = self.part_of(correction.defective, position, (ys, xs))
        if self.fills and defective is not None and defective.any():
            known = defective | ~np.isfinite(out)
            out = np.where(defective, fill(out, known, FILL_MARGIN, correction.back), out)
        return out.astype(np.float32)

    def _calibrated(
        self, plane: Array, position: tuple[int, ...], place: tuple[slice, slice]
    ) -> Array:
        """Return a part of a plane after its maps are undone."""
        correction = self.correction_at(position)
        shift = self.part_of(correction.shift, position, place)
        factor = self.part_of(correction.factor, position, place)
        out = plane if shift is None else plane - shift
        out = out if factor is None else out * factor
        return out + correction.back

    def _offsets_of(self, position: tuple[int, ...]) -> tuple[Array, Array]:
        """Return the offsets of the rows and of the columns of a plane, estimated once."""
        with self._lock:
            known = self._offsets.get(position)
            if known is None:
                known = self._offsets[position] = self._estimate_offsets(position)
                if len(self._offsets) > MAX_PLANES_KEPT:
                    self._offsets.pop(next(iter(self._offsets)))  # the oldest
            return known

    def _estimate_offsets(self, position: tuple[int, ...]) -> tuple[Array, Array]:
        correction = self.correction_at(position)
        height, width = (self.shape[self.axes.index(a)] for a in "YX")
        rows, columns = np.zeros(height), np.zeros(width)
        if correction.rows:
            wide = self._read_for_offsets(position, "X", height, width)
            rows = line_offsets(wide, correction.rows)
        if correction.columns:
            tall = self._read_for_offsets(position, "Y", width, height, rows)
            columns = line_offsets(tall, correction.columns)
        return rows, columns

    def _read_for_offsets(
        self,
        position: tuple[int, ...],
        along: str,
        lines: int,
        length: int,
        rows: Array | None = None,
    ) -> Array:
        """Read a plane as lines, of a large plane a few blocks across all of them."""
        wanted = max(MIN_WIDTH_FOR_OFFSETS, MAX_PIXELS_FOR_OFFSETS // lines)
        if length <= wanted:
            cuts = [slice(0, length)]
        else:
            size = wanted // BLOCKS_OF_A_WIDE_PLANE
            first = np.linspace(0, length - size, BLOCKS_OF_A_WIDE_PLANE).astype(int)
            cuts = [slice(int(a), int(a) + size) for a in first]
        where = Layout(self.axes, self.shape, "YX", False)
        read = []
        for cut in cuts:
            place = (slice(0, lines), cut) if along == "X" else (cut, slice(0, lines))
            block, invalid = self.valid.read(self.raw, where, position, place)
            plane = self._calibrated(np.asarray(block[0], np.float64), position, place)
            if rows is not None:
                plane = plane - rows[place[0], None]
            defective = self.part_of(self.correction_at(position).defective, position, place)
            for mask in (None if invalid is None else invalid[0], defective):
                plane = plane if mask is None else np.where(mask, np.nan, plane)
            read.append(plane if along == "X" else plane.T)
        return np.concatenate(read, axis=1)

    def correction_at(self, position: tuple[int, ...]) -> PixelCorrection:
        """Return the correction of the channel of a plane."""
        if len(self.corrections) == 1:
            return self.corrections[0]
        return self.corrections[position[_loop(self.axes).index("C")]]

    def part_of(
        self, array: Array | None, position: tuple[int, ...], place: tuple[slice, slice]
    ) -> Array | None:
        """Return the part of a map that belongs to a part of a plane."""
        if array is None:
            return None
        if array.ndim == 3:
            array = array[position[_loop(self.axes).index("Z")]]
        return array[place]

    @property
    def valid_pixels(self) -> ValidPixels:
        """The rule that decides which of the corrected pixels are valid."""
        defects = not self.fills and any(c.defective is not None for c in self.corrections)
        padded = bool(self.valid.levels) or self.valid.excluded is not None
        return ValidPixels((), _Mask(self, defects) if defects or padded else None)

    def factor_at(self, where: Layout, position: Sequence[int], space: Sequence[slice]) -> Any:
        """Return what a result is divided by, to have the grey levels of the raw image.

        Parameters
        ----------
        where : Layout
            Layout of the image.
        position : sequence of int
            Index along each looped axis.
        space : sequence of slice
            Slices along the axes of space.

        Returns
        -------
        ndarray or float
            Broadcasts to ``(channels, *space)``; 1.0 if the grey levels are the same.
        """
        if not any(c.restores for c in self.corrections):
            return 1.0
        at = dict(zip(where.loop, position, strict=True))
        each = []
        for channel, correction in enumerate(self.corrections):
            if "C" in at and len(self.corrections) > 1 and at["C"] != channel:
                continue
            factor = correction.factor if correction.restores else None
            if factor is None:
                each.append(np.ones((1,) * len(space)))
                continue
            if factor.ndim == 3 and "Z" in at:
                factor = factor[at["Z"]]
            each.append(factor[tuple(space[-factor.ndim :])])
        shape = np.broadcast_shapes(*(factor.shape for factor in each))
        return np.stack([np.broadcast_to(factor, shape) for factor in each])


class _Mask:
    """Which pixels of a corrected image are not valid, found as they are read."""

    dtype = np.dtype(bool)

    def __init__(self, of: CorrectedArray, defects: bool):
        self.of, self.defects = of, defects
        self.shape, self.ndim = of.shape, of.ndim

    def __getitem__(self, index: Any) -> Array:
        of = self.of
        slices, kept = _region(index, of.shape)
        wide, inner = _widened(slices, of.axes, of.shape, of.valid.halo)
        raw = _as_planes(np.asarray(read_piece(of.raw, wide)), of.axes)
        found = np.zeros([cut.stop - cut.start for cut in wide], bool)
        planes = _as_planes(found, of.axes)
        invalid = of.valid.invalid(raw)
        if invalid is not None:
            planes |= invalid
        if of.valid.excluded is not None:
            planes |= _as_planes(np.asarray(of.valid.excluded[wide], bool), of.axes)
        if self.defects:
            ys, xs = (wide[of.axes.index(a)] for a in "YX")
            for position, plane in _numbered(planes, wide, of.axes):
                defective = of.part_of(of.correction_at(position).defective, position, (ys, xs))
                if defective is not None:
                    plane |= defective
        cut: Array = found[inner][kept]
        return cut


def corrected(
    image: Image, corrections: Sequence[PixelCorrection], *, fills: bool = False
) -> Image:
    """Return an image that is corrected as it is read.

    Parameters
    ----------
    image : Image
        The image as it was recorded; nothing of it is altered.
    corrections : sequence of PixelCorrection
        One for all channels, or one for each.
    fills : bool
        Whether defective pixels are filled from their neighbours; otherwise they are not valid.

    Returns
    -------
    Image
        float32.

    Raises
    ------
    UserError
        If the image has no valid pixel.

    Examples
    --------
    >>> dark = np.array([[0.0, 5], [0, 0]])
    >>> image = corrected(Image(np.full((2, 2), 7), "YX"), [PixelCorrection(shift=dark)])
    >>> image.data[:]
    array([[7., 2.],
           [7., 7.]], dtype=float32)
    """
    data = CorrectedArray(image.data, image.axes, corrections, valid_of(image), fills)
    return replace(image, data=data, valid=data.valid_pixels)


def is_corrected(data: Any) -> bool:
    """Return whether an array, or the image that it is a channel of, is corrected already."""
    return bool(getattr(data, "is_corrected", False))


def _loop(axes: str) -> str:
    """Return the axes other than Y and X."""
    return "".join(a for a in axes if a not in "YX")


def _region(index: Any, shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[Any, ...]]:
    """Return an index as slices of step 1, and the index that finishes it."""
    given = list(index) if isinstance(index, tuple) else [index]
    if any(part is Ellipsis for part in given):
        at = next(i for i, part in enumerate(given) if part is Ellipsis)
        given[at : at + 1] = [slice(None)] * (len(shape) - len(given) + 1)
    given += [slice(None)] * (len(shape) - len(given))
    slices: list[slice] = []
    kept: list[Any] = []
    for part, size in zip(given, shape, strict=True):
        if isinstance(part, slice):
            places = range(*part.indices(size))
            if len(places) == 0:
                slices.append(slice(0, 0))
                kept.append(slice(None))
                continue
            first, last = min(places[0], places[-1]), max(places[0], places[-1])
            slices.append(slice(first, last + 1))
            kept.append(slice(None, None, places.step))
        else:
            number = operator.index(part)
            if not -size <= number < size:
                raise IndexError(f"index {number} is out of bounds for an axis of size {size}")
            slices.append(slice(number % size, number % size + 1))
            kept.append(0)
    return tuple(slices), tuple(kept)


def _widened(
    slices: Sequence[slice], axes: str, shape: Sequence[int], margin: int
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return slices with a margin along Y and X, and where the slices lie within them."""
    wide, inner = [], []
    for axis, cut, size in zip(axes, slices, shape, strict=True):
        more = margin if axis in "YX" and cut.stop > cut.start else 0
        first = max(cut.start - more, 0)
        wide.append(slice(first, min(cut.stop + more, size)))
        inner.append(slice(cut.start - first, cut.stop - first))
    return tuple(wide), tuple(inner)


def _as_planes(piece: Array, axes: str) -> Array:
    """Return a view of an array with Y and X as its last axes."""
    return np.moveaxis(piece, [axes.index("Y"), axes.index("X")], [-2, -1])


def _numbered(
    planes: Array, wide: Sequence[slice], axes: str
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Yield the planes of a part of an image with their index along the other axes."""
    first = [cut.start for axis, cut in zip(axes, wide, strict=True) if axis not in "YX"]
    for at in np.ndindex(planes.shape[:-2]):
        yield tuple(a + b for a, b in zip(first, at, strict=True)), planes[at]
