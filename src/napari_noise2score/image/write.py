"""Write images as TIFF, zarr, NPY, PNG, NIfTI or MRC; the name decides the format."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ..errors import UserError
from ._mrc import check_mrc, create_mrc, open_mrc
from ._nifti import check_nifti, create_nifti, open_nifti, write_gzipped
from ._npy import beside, create_npy, open_npy, read_beside, write_beside
from ._pictures import check_picture, write_picture
from ._tiff_write import create_tiff, open_tiff, tiff_dtype
from .arrays import read_piece
from .image import Image
from .ome_zarr import (
    blocks,
    build_pyramid,
    check_axes,
    create_ome_zarr,
    open_finest_level,
    write_units,
)
from .output import check_output, written
from .paths import is_ome_zarr
from .zarrs import SyncedStore, create_zarr

TIFF = (".tif", ".tiff")
MRC = (".mrc", ".mrcs", ".map", ".rec", ".st", ".ali")
NIFTI = (".nii", ".nii.gz")
SUFFIXES = (*TIFF, ".npy", ".png", ".zarr", *NIFTI, *MRC)
IN_MEMORY = (".png", ".nii.gz")
"""Formats that are compressed as a whole: the result is computed in memory."""
WRITTEN = ".tif, .ome.tif, .ome.zarr, .zarr, .npy, .png, .nii, .nii.gz, .mrc"


def write_image(
    path: str | os.PathLike[str],
    image: Image,
    overwrite: bool = False,
    *,
    ome_zarr: str = "0.5",
) -> None:
    """Write an image with its metadata; the format follows the name.

    Parameters
    ----------
    path : path-like
        Its suffix is one of .tif, .tiff, .ome.tif, .ome.zarr, .zarr, .npy, .png, .nii, .nii.gz,
        .mrc. The metadata of ``x.npy`` are written to ``x.npy.json``. NIfTI and MRC keep the header
        of an image that was read from the same format.
    image : Image
        The image; lazy data are computed block by block.
    overwrite : bool
        Whether an existing file may be replaced.
    ome_zarr : {"0.5", "0.4"}
        Version of OME-Zarr to write.

    Raises
    ------
    UserError
        If the file exists, is an input, cannot be created, or has an unknown suffix.

    Examples
    --------
    >>> import tempfile
    >>> from napari_noise2score import read_image
    >>> file = Path(tempfile.mkdtemp()) / "stack.ome.zarr"
    >>> write_image(file, Image(np.zeros((5, 16, 16)), "ZYX", units={"Z": "micrometer"}))
    >>> dict(read_image(file).units)
    {'Z': 'micrometer'}
    """
    with open_output(Path(path), image, image.data.dtype, overwrite, ome_zarr) as target:
        shape = image.data.shape
        # whole shards of a store, whole planes of any other file
        unit = write_units(image.axes, shape)[1]
        if suffix_of(path) != ".zarr":
            unit = (1, *shape[1:]) if len(shape) > 2 else shape
        for block in blocks(shape, unit):
            target[block] = read_piece(image.data, block)


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the ending of a name that decides the format, in lower case.

    Examples
    --------
    >>> suffix_of("brain.NII.gz"), suffix_of("cells.ome.tif")
    ('.nii.gz', '.tif')
    """
    name = os.path.basename(os.fspath(path)).lower()
    return ".nii.gz" if name.endswith(".nii.gz") else os.path.splitext(name)[1]


@contextmanager
def open_output(
    path: Path,
    image: Image,
    dtype: np.dtype,
    overwrite: bool = False,
    ome_zarr: str = "0.5",
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> Iterator[Any]:
    """Yield an array to fill block by block; the file gets its name only when complete.

    Parameters
    ----------
    path : Path
        The file.
    image : Image
        Provides shape and metadata; its pixels are not read.
    dtype : numpy.dtype
        Type of the pixels.
    overwrite : bool
        Whether an existing file may be replaced.
    ome_zarr : {"0.5", "0.4"}
        Version of OME-Zarr to write.
    inputs : iterable of path-like
        Other inputs of the job, none of which may be replaced.

    Yields
    ------
    array-like
        Written as ``target[index] = values``.

    Raises
    ------
    UserError
        If the file exists, is an input, cannot be created, or has an unknown suffix. If the context
        raises an exception, the incomplete file is removed.
    """
    dtype = np.dtype(dtype)
    path = check_image_output(path, image, dtype, overwrite, inputs)
    with written(path, overwrite) as part:
        target = create_target(part, image, dtype, ome_zarr)
        try:
            yield target
            finish_target(part, target, image)
        finally:
            close_target(target)
        publish_beside(path, image, dtype)


def check_image_output(
    path: str | os.PathLike[str],
    image: Image,
    dtype: np.dtype,
    overwrite: bool = False,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> Path:
    """Raise a `UserError` if an image cannot be written to a path; nothing is changed.

    Parameters
    ----------
    path, image, dtype, overwrite, inputs
        As for `open_output`.

    Returns
    -------
    Path
        The path to write to, as from `output.check_output`.
    """
    kind = suffix_of(path)
    if kind in SUFFIXES:
        check_format(kind, path, image, np.dtype(dtype))
    files = [*image.files, image.source, *inputs]
    # the size of a compressed store is not known in advance
    pixels = 0 if kind in (".zarr", *IN_MEMORY) else np.prod(image.data.shape, dtype=float)
    nbytes = int(pixels * np.dtype(dtype).itemsize)
    found = check_output(path, inputs=filter(None, files), overwrite=overwrite, nbytes=nbytes)
    if kind == ".dcm":
        raise UserError(f"{found}: DICOM is not written; end the name in .nii or .ome.zarr")
    if kind not in SUFFIXES:
        raise UserError(f"{found}: cannot be written; end the name in one of {WRITTEN}")
    if kind == ".npy":
        check_output(beside(found), overwrite=overwrite or bool(read_beside(found)))
    return found


def check_format(kind: str, path: Any, image: Image, dtype: np.dtype) -> None:
    """Raise a `UserError` if a format cannot hold the axes or the dtype of an image."""
    if kind == ".png":
        check_picture(path, image, dtype)
    elif kind in TIFF:
        tiff_dtype(path, dtype)
    elif kind in NIFTI:
        check_nifti(path, image, dtype)
    elif kind in MRC:
        check_mrc(path, image, dtype)
    elif is_ome_zarr(path):
        check_axes(path, image)


def create_target(
    part: Path, image: Image, dtype: np.dtype, ome_zarr: str = "0.5", ndim: int = 2
) -> Any:
    """Create an empty file or store for an image and return the target array.

    Parameters
    ----------
    part : Path
        The file or store to create, as from `output.hidden_name`; the suffix decides the format.
    image : Image
        Provides shape and metadata.
    dtype : numpy.dtype
        Type of the pixels.
    ome_zarr : {"0.5", "0.4"}
        Version of OME-Zarr.
    ndim : {2, 3}
        Whether a store is written plane by plane or in blocks of planes.

    Returns
    -------
    array-like
        Written as ``target[index] = values`` in the order of the image's axes.
    """
    kind, dtype = suffix_of(part), dtype.newbyteorder("=")
    if kind in TIFF:
        return create_tiff(part, image, dtype)
    if is_ome_zarr(part):
        return create_ome_zarr(part, image, dtype, ome_zarr, ndim)
    if kind == ".zarr":
        return create_zarr(part, image, dtype)
    if kind == ".npy":
        return create_npy(part, dtype, image.data.shape)
    if kind == ".nii":
        return create_nifti(part, image, dtype)
    if kind in MRC:
        return create_mrc(part, image, dtype)
    return np.zeros(image.data.shape, dtype)


def open_target(part: Path, axes: str) -> Any:
    """Open a file or store made by `create_target` to write pixels.

    Parameters
    ----------
    part : Path
        The file or store.
    axes : str
        Axes in the order in which pixels are written.

    Returns
    -------
    array-like
        As from `create_target`.
    """
    kind = suffix_of(part)
    if kind in TIFF:
        return open_tiff(part, axes)
    if is_ome_zarr(part):
        return open_finest_level(part, axes)
    if kind == ".npy":
        return open_npy(part)
    if kind == ".nii":
        return open_nifti(part, axes)
    if kind in MRC:
        return open_mrc(part, axes)
    return zarr.open_array(SyncedStore(part), mode="r+")


def finish_target(part: Path, target: Any, image: Image) -> None:
    """Complete a file or store whose pixels have all been written."""
    if suffix_of(part) == ".png":
        write_picture(part, target, image)
    elif suffix_of(part) == ".nii.gz":
        write_gzipped(part, target, image)
    elif is_ome_zarr(part):
        build_pyramid(part)


def publish_beside(path: Path, image: Image, dtype: np.dtype) -> None:
    """Write metadata that the format of a result cannot hold to a second file."""
    if path.suffix.lower() == ".npy":
        write_beside(path, image, dtype)


def close_target(target: Any) -> None:
    """Close the file behind a target array, if there is one."""
    if close := getattr(target, "close", None):
        close()
