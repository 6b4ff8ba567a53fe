"""Find pixels that were never recorded: padding, masked background, NaN and nodata values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import scipy  # its submodules are imported when they are used

from ..errors import UserError
from ._padding import MAX_GROWTH, grown, padding_levels
from .axes import Layout, parse_axes, read_block

# Larger values are nodata markers, such as -3.4e38 (float32) and 9.97e36 (netCDF).
LARGEST_VALUE = 1e30
# Number of planes that are sampled. Planes of more pixels are sampled in windows on a grid.
MAX_PLANES_SAMPLED = 4
MAX_PIXELS_OF_WHOLE_PLANE = 384**2
WINDOW_SIDE, WINDOWS_PER_AXIS = 128, 3
# Invalid pixels this far, in pixels, beyond the requested reach are still filled from the nearest
# valid one; filled pixels are smoothed by a Gaussian of this standard deviation.
FILL_REACH, FILL_SMOOTHING = 24, 2.0


@dataclass(frozen=True, eq=False)
class ValidPixels:
    """A rule that decides, block by block, which pixels of an image were recorded.

    NaN, infinite values and magnitudes above 1e30 are never valid. Nor are solid areas of a
    padding level, or masked pixels.

    Attributes
    ----------
    levels : tuple of (float, int)
        Grey levels of padding, each with the side (odd, in pixels) of the smallest solid square
        that counts as padding; 1 if the level occurs nowhere else.
    excluded : array-like or None
        Mask of the shape of the image, True where a pixel is excluded.

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
        """Number of pixels along Y and X around a block that its mask depends on."""
        return max((side - 1 + MAX_GROWTH for _, side in self.levels if side > 1), default=0)

    def invalid(self, block: np.ndarray) -> np.ndarray | None:
        """Return which pixels of a block are invalid, judged by their values.

        Parameters
        ----------
        block : ndarray
            Grey levels, shape ``(..., Y, X)``. Within `halo` of an edge that is not an edge of the
            image, the result may differ from that for the whole image.

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
            found |= grown(block == level, side)
        return found if found.any() else None

    def read(
        self,
        array: Any,
        where: Layout,
        position: Sequence[int],
        space: Sequence[slice],
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read one block and find its invalid pixels.

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
    """Find which pixels of an image were recorded by sampling a few of its planes.

    Parameters
    ----------
    data : array-like
        numpy (also masked), dask or zarr array. At most four planes are read; of large planes, a
        grid of windows.
    axes : str
        One letter of ``STCZYX`` for each dimension.

    Returns
    -------
    ValidPixels

    Raises
    ------
    UserError
        If none of the sampled pixels is valid.

    Notes
    -----
    A grey level is padding if it fills solid squares of 15 × 15 pixels that recorded pixels would
    not form: given how often the level occurs in the border of the area, the probability of one
    such square in the image is below 10⁻⁹, and almost no pixels of other values lie inside. The
    brightest level is taken for saturation unless it is far from all others. An image of a single
    value is constant, not padded.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(0.05, (256, 256))
    >>> find_valid(counts, "YX").levels  # true zeros
    ()
    """
    found, some = look_for_valid(data, axes)
    if not some:
        raise UserError(
            "the image holds no valid pixel: all that were sampled are NaN, infinite or masked"
        )
    return found


def look_for_valid(data: Any, axes: str) -> tuple[ValidPixels, bool]:
    """Return the result of `find_valid`, and whether any sampled pixel is valid."""
    axes = parse_axes(axes, len(data.shape))
    # an array that is corrected as it is read knows its valid pixels
    known: ValidPixels | None = getattr(data, "valid_pixels", None)
    if known is not None:
        return known, True
    excluded = None
    if isinstance(data, np.ma.MaskedArray):
        mask = np.ma.getmask(data)
        excluded = mask if mask is not np.ma.nomask and mask.any() else None
        data = data.data
    # one plane at a time, as padding may differ between channels
    where = Layout(axes, tuple(int(n) for n in data.shape), "YX", False)
    plain = ValidPixels((), excluded)
    planes, hidden, seen = [], 0, 0
    for position, space in _places(where):
        block, invalid = plain.read(data, where, position, space)
        seen += block.size
        if invalid is not None:
            hidden += int(invalid.sum())
        planes.append((block[0], None if invalid is None else invalid[0]))
    return ValidPixels(padding_levels(planes), excluded), hidden < seen or not seen


def valid_of(image: Any, axes: str | None = None) -> ValidPixels:
    """Return the valid pixels of an image; for an `Image` they are searched for once.

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
    """The valid pixels of an image, searched for at the first call.

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
        """Return the valid pixels; see `valid_of`."""
        if self._found is None:
            self._found = valid_of(self._image, self._axes)
        return self._found


def fill(block: np.ndarray, invalid: np.ndarray, reach: int, default: float) -> np.ndarray:
    """Extrapolate the valid part of a block smoothly into its invalid pixels.

    Parameters
    ----------
    block : ndarray
        Shape ``(..., Y, X)``.
    invalid : ndarray
        bool, of the same shape.
    reach : int
        Distance, in pixels, from valid pixels up to which filled values have an effect.
    default : float
        Value of pixels farther away than that plus `FILL_REACH`.

    Returns
    -------
    ndarray
        Floating point, same shape; valid pixels are unchanged.

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
        away, nearest = scipy.ndimage.distance_transform_edt(mask, return_indices=True)
        plane[mask] = plane[tuple(at[mask] for at in nearest)]
        plane[away > reach + FILL_REACH] = default
        smooth = scipy.ndimage.gaussian_filter(plane, FILL_SMOOTHING)
        plane[mask] = smooth[mask]
    return out


def _fits(valid: ValidPixels, data: Any) -> bool:
    return valid.excluded is None or valid.excluded.shape == data.shape


def _places(where: Layout) -> list[tuple[list[int], list[slice]]]:
    """Return position and slices of the samples: a few planes, whole or in windows."""
    sizes = [where.shape[where.axes.index(a)] for a in where.loop]
    count = int(np.prod(sizes, dtype=np.int64))
    chosen = sorted(
        {round(i * (count - 1) / max(MAX_PLANES_SAMPLED - 1, 1)) for i in range(MAX_PLANES_SAMPLED)}
    )
    if np.prod(where.space_shape, dtype=np.int64) <= MAX_PIXELS_OF_WHOLE_PLANE:
        windows = [[slice(0, n) for n in where.space_shape]]
    else:
        starts = [
            sorted({round(i * max(n - WINDOW_SIDE, 0) / (WINDOWS_PER_AXIS - 1))
                    for i in range(WINDOWS_PER_AXIS)})
            for n in where.space_shape
        ]  # fmt: skip
        windows = [[slice(a, a + WINDOW_SIDE) for a in corner] for corner in product(*starts)]
    return [
        ([int(p) for p in (np.unravel_index(number, sizes) if sizes else ())], space)
        for number in chosen
        for space in windows
    ]
