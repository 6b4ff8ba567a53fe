"""Check arrays of any library in one place: numpy, dask, zarr, torch, xarray, nested lists."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import UserError, quoted

# advice for pixels that are not real numbers, by the kind of numpy dtype
REMEDIES = {
    "b": "make it 0 and 1 by astype('uint8')",
    "c": "take its magnitude (abs) or its real part",
    "M": "give grey levels, not dates",
    "m": "give grey levels, not times",
    "V": "choose one of its fields",
    "O": "make it one array of numbers, all images of one size, by numpy.stack",
}
# xarray dimension names, in lower case, that stand for an axis
DIMENSIONS = {
    "time": "T", "frame": "T", "channel": "C", "band": "C", "wavelength": "C", "depth": "Z",
    "plane": "Z", "slice": "Z", "row": "Y", "lat": "Y", "latitude": "Y", "column": "X", "col": "X",
    "lon": "X", "longitude": "X",
    "s": "C",  # libraries that read files call the colours of a pixel S
}  # fmt: skip


def as_image_array(data: Any) -> Any:
    """Return a sliceable array-like of integers or floating-point numbers.

    Parameters
    ----------
    data : array-like
        numpy (also memory-mapped or masked), dask, zarr, h5py, anything else with ``shape``,
        ``dtype`` and slices; a torch or CuPy array on any device; an xarray DataArray; nested lists
        of numbers; anything else that numpy can convert.

    Returns
    -------
    array-like
        Sliceable arrays are returned unchanged and unread; everything else becomes a numpy array.
        Masks are kept.

    Raises
    ------
    UserError
        If the pixels are not real numbers, a size is unknown, or it is not an array.

    Examples
    --------
    >>> as_image_array([[1, 2], [3, 4]]).shape
    (2, 2)
    >>> as_image_array(np.zeros((4, 4), complex))
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.UserError: pixels of type complex128 cannot be denoised: take its
    magnitude (abs) or its real part
    """
    library = type(data).__module__.partition(".")[0]
    if library == "torch" and hasattr(data, "detach"):
        data = _from_torch(data)
    elif library == "cupy" and hasattr(data, "get"):
        data = data.get()
    elif library == "xarray":
        if not hasattr(data, "dims") or not hasattr(data, "dtype"):
            raise UserError("an xarray Dataset holds several arrays: choose one of its variables")
        if data.chunks is not None:
            data = data.data
    elif isinstance(data, np.ndarray) and not isinstance(data, np.memmap | np.ma.MaskedArray):
        # slices of a numpy.matrix always have two dimensions
        data = np.asarray(data)
    elif not (hasattr(data, "shape") and hasattr(data, "dtype")):
        data = _from_numbers(data)
    try:
        shape, dtype = tuple(data.shape), np.dtype(data.dtype)
        unknown = any(math.isnan(n) for n in shape)
    except TypeError:
        raise UserError(
            f"{type(data).__name__} is not an array of numbers of a type that numpy knows"
        ) from None
    if unknown:
        raise UserError(
            f"the size of the image is unknown (its shape is {shape}): "
            "call compute_chunk_sizes() on the dask array first"
        )
    if dtype.kind not in "uif":
        remedy = REMEDIES.get(dtype.kind, "use integers or floating point numbers")
        raise UserError(f"pixels of type {str(dtype)[:80]} cannot be denoised: {remedy}")
    if not shape:
        raise UserError("a single number is not an image")
    if 0 in shape:
        raise UserError(f"the image is empty: its shape is {shape}")
    return data


def read_piece(data: Any, index: Any) -> np.ndarray:
    """Read a part of an array-like, and nothing else.

    Parameters
    ----------
    data : array-like
        As `as_image_array` returns it.
    index : tuple
        Integers and slices.

    Returns
    -------
    numpy.ndarray
        dtype of the array; a masked array if the array is one.

    Examples
    --------
    >>> import dask.array as da
    >>> read_piece(da.arange(10), slice(2, 4))
    array([2, 3])
    """
    piece = data[index]
    if hasattr(piece, "dask"):
        # The caller may itself be a dask task, so no second thread pool is used. Without callbacks,
        # napari's opportunistic cache, which is not thread-safe, does not see these tasks.
        piece = piece.compute(scheduler="synchronous", callbacks=[])
    return np.asanyarray(piece) if isinstance(piece, np.ma.MaskedArray) else np.asarray(piece)


def described_by_xarray(data: Any) -> dict[str, Any]:
    """Return the axes and pixel size of an xarray DataArray; nothing for other arrays.

    Parameters
    ----------
    data : array-like

    Returns
    -------
    dict
        ``axes``, ``scale`` and ``translate`` as arguments of `Image`, where known.
    """
    if type(data).__module__.partition(".")[0] != "xarray" or not hasattr(data, "dims"):
        return {}
    letters = [DIMENSIONS.get(str(d).lower(), str(d).upper()) for d in data.dims]
    if not all(a in "TCZYX" for a in letters) or len(set(letters)) != len(letters):
        return {}
    scale, translate = {}, {}
    for letter, dimension in zip(letters, data.dims, strict=True):
        places = _places(data.coords, dimension)
        if letter != "C" and len(places) > 1:
            steps = np.diff(places)
            if steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-3, atol=0):
                scale[letter] = float((places[-1] - places[0]) / (len(places) - 1))
                translate[letter] = float(places[0])
    return {"axes": "".join(letters), "scale": scale, "translate": translate}


def _places(coordinates: Mapping[Any, Any], dimension: Any) -> np.ndarray:
    if dimension not in coordinates:
        return np.empty(0)
    places = np.asarray(coordinates[dimension])
    return places.astype(np.float64) if places.dtype.kind in "uif" else np.empty(0)


def _from_torch(data: Any) -> np.ndarray:
    try:
        data = data.detach().cpu().resolve_conj().resolve_neg()
        return np.asarray(data.float() if str(data.dtype) == "torch.bfloat16" else data)
    except (RuntimeError, TypeError, NotImplementedError):
        raise UserError(
            f"a torch tensor of type {data.dtype}, {data.layout}, on {data.device}, is not an "
            "image: make it dense, of integers or floating point numbers"
        ) from None


def _from_numbers(data: Any) -> np.ndarray:
    what = quoted(type(data).__name__)
    if isinstance(data, str | bytes | Mapping) or data is None:
        raise UserError(f"{what} is not an image: give an array, or read_image(path)")
    try:
        return np.asarray(data)
    except (TypeError, ValueError, OverflowError):
        raise UserError(
            f"{what} is not an image: its rows are not numbers, or not of equal length"
        ) from None
