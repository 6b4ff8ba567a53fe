"""Write TIFF files: ImageJ hyperstacks where possible, otherwise OME-TIFF."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..errors import DataWarning, UserError
from ._file_array import FileArray
from ._imagej import imagej_metadata
from ._ome_tiff import OTHER, ome_metadata
from ._reorder import Reordered
from .image import Image
from .output import HIDDEN

ORDER = "TZCSYX"
IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
TIFF_DTYPES = (*IMAGEJ_DTYPES, "int8", "int16", "int32", "uint32", "float64")
# types that TIFF does not support, and the type that holds all their values
WIDER = {"bool": "uint8", "float16": "float32"}


@dataclass(frozen=True)
class TiffLayout:
    """How an image is written as a TIFF file.

    Attributes
    ----------
    axes : str
        Axes of the file.
    order : tuple of int
        Axis i of the file is axis ``order[i]`` of the image.
    shape : tuple of int
        Shape in the order of the file.
    dtype : numpy.dtype
        Type of the pixels in the file; it holds all values of the requested type.
    options : dict
        Further arguments of ``tifffile.imwrite``.
    """

    axes: str
    order: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    options: dict[str, Any]


def tiff_layout(path: Path, image: Image, dtype: np.dtype) -> TiffLayout:
    """Return how an image is written as a TIFF file of a given name.

    An ImageJ hyperstack is written if ImageJ supports the order of axes and the dtype, and the name
    does not end in ``.ome.tif``; otherwise an OME-TIFF. Planes are contiguous in a TIFF file: if Y
    and X are not the last axes, the image is written in the order TZCSYX.

    Parameters
    ----------
    path : Path
        Name of the file.
    image : Image
        Provides shape and metadata; its pixels are not read.
    dtype : numpy.dtype
        Type of the pixels to be written.

    Returns
    -------
    TiffLayout

    Raises
    ------
    UserError
        If TIFF does not support the type.

    Examples
    --------
    >>> image = Image(np.zeros((64, 72, 3), np.float32), "YXZ")
    >>> tiff_layout(Path("a.tif"), image, np.dtype("float16")).shape
    (3, 64, 72)
    """
    dtype = tiff_dtype(path, dtype)
    image = _in_order(image)
    axes, order, shape = image.axes, image.data.order, tuple(image.data.shape)
    simple = axes == "".join(a for a in ORDER if a in axes) and not image.rgb and "S" not in axes
    fits = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize < 2**32 - 2**20
    options: dict[str, Any] = {"photometric": "rgb" if image.rgb else "minisblack"}
    if not is_ome_tiff(path) and simple and fits and dtype.name in IMAGEJ_DTYPES:
        options |= {"imagej": True, "metadata": imagej_metadata(image)}
        if "X" in image.scale:
            # pixels per unit; ImageJ takes the unit from its own field
            sizes = [image.scale.get(a, image.scale["X"]) for a in "XY"]
            options["resolution"] = tuple(1 / size for size in sizes)
    else:
        options |= {"ome": True, "bigtiff": not fits, "metadata": ome_metadata(image)}
    return TiffLayout(axes, order, shape, dtype, options)


def create_tiff(path: Path, image: Image, dtype: np.dtype) -> FileArray | Reordered:
    """Create a TIFF file of zeros with the metadata of an image; return its pixels.

    Parameters
    ----------
    path : Path
        Name of the file; its suffix decides whether it is an OME-TIFF.
    image : Image
        Provides shape and metadata.
    dtype : numpy.dtype
        Type of the pixels.

    Returns
    -------
    array-like
        Written as ``target[index] = values`` in the order of the image's axes.
    """
    plan = tiff_layout(path, image, dtype)
    if plan.axes != image.axes:
        warnings.warn(
            f"{path.name.removeprefix(HIDDEN)}: axes {image.axes} are written as {plan.axes}, "
            "as planes are contiguous in a TIFF",
            DataWarning,
            stacklevel=2,
        )
    # the pixels are not allocated yet
    place = tifffile.imwrite(
        path, shape=plan.shape, dtype=plan.dtype, returnoffset=True, **plan.options
    )
    assert place is not None  # uncompressed pixels have an offset
    return _target(path, plan, image.axes, place[0])


def open_tiff(path: Path, axes: str) -> FileArray | Reordered:
    """Open the pixels of a file made by `create_tiff` for writing, in the given order of axes."""
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        offset, dtype = series.dataoffset, series.dtype
        rgb = series.keyframe.photometric == tifffile.PHOTOMETRIC.RGB
        named = series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    assert offset is not None
    assert dtype is not None
    sizes = dict(zip(*named, strict=True))
    if rgb:
        sizes["C"] = sizes["S"]
    sizes["S"] = sizes.get(OTHER, 1)
    wanted = _file_axes(axes, rgb)
    order = tuple(axes.index(a) for a in wanted)
    shape = tuple(sizes.get(a, 1) for a in wanted)
    return _target(path, TiffLayout(wanted, order, shape, dtype, {}), axes, offset)


def _target(path: Path, plan: TiffLayout, axes: str, offset: int) -> FileArray | Reordered:
    array = FileArray(path, plan.dtype, plan.shape, offset)
    return array if plan.axes == axes else Reordered(array, plan.order)


def tiff_dtype(path: Path, dtype: np.dtype) -> np.dtype:
    """Return the TIFF type that holds all values of a dtype, or raise a `UserError`.

    Examples
    --------
    >>> tiff_dtype(Path("a.tif"), np.dtype("float16"))
    dtype('float32')
    """
    dtype = np.dtype(dtype)
    name = WIDER.get(dtype.name, dtype.name)
    if name not in TIFF_DTYPES:
        raise UserError(
            f"{path}: a TIFF cannot hold {dtype}; write .ome.zarr or .npy, or omit --dtype same"
        )
    return np.dtype(name)


def is_ome_tiff(path: Path) -> bool:
    """Return whether a name is that of an OME-TIFF."""
    return path.name.lower().endswith((".ome.tif", ".ome.tiff"))


@dataclass(frozen=True)
class _Shape:
    """Placeholder for the pixels of an image whose axes have been reordered."""

    shape: tuple[int, ...]
    dtype: np.dtype
    order: tuple[int, ...]


def _in_order(image: Image) -> Image:
    """Return an image without pixels whose axes are in an order that TIFF supports."""
    axes = image.axes
    colours = image.rgb and "C" in axes and image.data.shape[axes.index("C")] in (3, 4)
    wanted = _file_axes(axes, colours)
    order = tuple(axes.index(a) for a in wanted)
    shape = tuple(int(image.data.shape[i]) for i in order)
    return replace(image, data=_Shape(shape, image.data.dtype, order), axes=wanted, rgb=colours)


def _file_axes(axes: str, colours: bool) -> str:
    """Return the axes in an order that TIFF supports, unchanged if possible."""
    if colours:
        return axes if axes.endswith("YXC") else _sorted(axes.replace("C", "")) + "C"
    # OME-XML lets S share the numbers of another axis, which must precede it if all are in use
    kept = axes.endswith("YX") and not {*"STCZ"} <= {*axes}
    return axes if kept else _sorted(axes)


def _sorted(axes: str) -> str:
    return "".join(a for a in ORDER if a in axes)
