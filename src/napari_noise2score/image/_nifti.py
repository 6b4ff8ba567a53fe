"""Read and write NIfTI volumes by nibabel: MRI, CT and PET, with their affine and header."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ReadError, UserError
from ._file_array import FileArray
from ._format import Format, axes_of
from ._imagej import read_notes
from ._reorder import Reordered
from ._stack import Rescaled, guarded, plain_array
from ._units import convert
from .image import Image
from .output import remove

SUFFIXES = (".nii", ".nii.gz")
# axis i of a NIfTI file, the fastest first; T or S is the fourth
ORDER = "XYZTC"
BUFFER = 2**22  # bytes
COMMENT = 6  # code of a header extension
LENGTHS = {"meter": "meter", "mm": "millimeter", "micron": "micrometer"}
TIMES = {"sec": "second", "msec": "millisecond", "usec": "microsecond"}


def read_nifti(path: Path, axes: str | None) -> Image:
    """Open a NIfTI-1 or NIfTI-2 file lazily; see `read_image`.

    The fourth axis is ``T`` if the header states a time step, unless a table of diffusion weights
    (``.bval``) lies beside the file; otherwise it is ``S``.
    """
    import nibabel as nib

    loaded: Any = nib.load(path)
    header: Any = loaded.header
    kinds: Any = (nib.Nifti1Image, nib.Nifti2Image)
    if not isinstance(loaded, kinds):
        raise ReadError(f"{path}: not a NIfTI volume")
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > len(ORDER) and shape[-1] == 1:
        shape = shape[:-1]
    space, time = header.get_xyzt_units()
    # the numbers have single precision
    steps = [float(f"{step:.7g}") for step in header.get_zooms()]
    timed = time in TIMES and len(steps) > 3 and steps[3] > 0 and not _has_weights(path)
    order = ORDER if timed else ORDER.replace("T", "S")
    array = plain_array(path, header.get_data_dtype(), shape[::-1], int(loaded.dataobj.offset))
    slope, intercept = (float(v) for v in (loaded.dataobj.slope, loaded.dataobj.inter))
    if (slope, intercept) != (1.0, 0.0):
        kind = np.dtype("float64" if array.dtype.itemsize > 4 else "float32")
        array = Rescaled(array, slope, intercept, kind)
    said = order[: len(shape)][::-1] if 2 <= len(shape) <= len(ORDER) else None
    units = dict.fromkeys("XYZ", LENGTHS.get(space, "")) | {"T": TIMES.get(time, "")}
    letters = axes_of(path, axes, said, len(shape))
    known = [a for a in letters if a in (said or "") and a not in "CS"]
    return Image(
        guarded(path, array),
        letters,
        scale={a: steps[order.index(a)] for a in known},
        units={a: units[a] for a in known if units[a]},
        name=path.name[: -len(_suffix(path))],
        header={"nifti": header.binaryblock},
        notes=_notes(header),
    )


def _suffix(path: Path) -> str:
    return next(s for s in SUFFIXES[::-1] if path.name.lower().endswith(s))


def _has_weights(path: Path) -> bool:
    """Return whether the b-values of diffusion MRI lie beside a file."""
    stem = path.name[: -len(_suffix(path))]
    return any((path.parent / f"{stem}{end}").exists() for end in (".bval", ".bvals"))


def _notes(header: Any) -> dict[str, Any]:
    """Return our own notes from the comments in a header."""
    for extension in header.extensions:
        if extension.get_code() == COMMENT:
            text = extension.text if hasattr(extension, "text") else extension.get_content()
            text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
            found = read_notes(text.rstrip("\0")).get("noise2score")
            if isinstance(found, dict):
                return found
    return {}


def check_nifti(path: Any, image: Image, dtype: np.dtype) -> None:
    """Raise a `UserError` if NIfTI cannot hold the axes or the dtype of an image."""
    FORMAT.check_library(path)
    if {"T", "S"} <= {*image.axes}:
        raise UserError(f"{path}: NIfTI has one axis for T and S, not both; write .ome.zarr")
    if dtype.kind not in "uif" or dtype == np.float16:
        raise UserError(f"{path}: NIfTI cannot hold {dtype}; write .ome.zarr or .npy")


def create_nifti(path: Path, image: Image, dtype: np.dtype) -> FileArray | Reordered:
    """Create an uncompressed NIfTI file of zeros with the header of an image; return its pixels.

    The header and affine are those of the file that the image was read from; without one, the
    pixel size is written, and the affine if the image has one. Header extensions are not copied,
    as they may hold data of a patient.
    """
    import nibabel as nib

    axes = _file_axes(image.axes)
    sizes = dict(zip(image.axes, image.data.shape, strict=True))
    dims = [sizes.get(a, 1) for a in ORDER.replace("T", "S" if "S" in axes else "T")]
    while len(dims) > 3 and dims[-1] == 1 and ORDER[len(dims) - 1] not in axes.replace("S", "T"):
        dims.pop()
    if len(dims) == 3 and "Z" not in axes:
        dims.pop()
    kept: Any = image.header.get("nifti")
    large = max(dims) >= 2**15 or (kept and len(kept) > nib.Nifti1Header.sizeof_hdr)
    kind: Any = nib.Nifti2Header if large else nib.Nifti1Header
    header = kind(kept) if kept and len(kept) == kind.sizeof_hdr else kind()
    header = header.as_byteswapped("<")
    header.set_data_shape(dims)
    header.set_data_dtype(dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"], header["cal_max"] = 0, 0
    header["magic"] = header.single_magic
    if not kept:
        _describe(header, image, dims)
    text = json.dumps({"noise2score": dict(image.notes)}).encode()
    header.extensions.clear()
    if image.notes:
        header.extensions.append(nib.nifti1.Nifti1Extension(COMMENT, text))
    header["vox_offset"] = 0
    with open(path, "wb") as file:
        # nibabel moves the pixels behind the extensions
        header.write_to(file)
        offset = -(-max(file.tell(), header.single_vox_offset) // 16) * 16
        header["vox_offset"] = offset
        file.seek(0)
        header.write_to(file)
    return _target(path, np.dtype(dtype), image.axes, sizes, offset)


def open_nifti(path: Path, axes: str) -> FileArray | Reordered:
    """Open the pixels of a file made by `create_nifti` for writing, in the given order of axes."""
    import nibabel as nib

    loaded: Any = nib.load(path)
    header = loaded.header
    dims = dict(zip(ORDER, header.get_data_shape(), strict=False))
    sizes = {a: int(dims.get("T" if a == "S" else a, 1)) for a in axes}
    # the header does not keep the offset once the file is loaded
    return _target(path, header.get_data_dtype(), axes, sizes, int(loaded.dataobj.offset))


def write_gzipped(path: Path, values: np.ndarray, image: Image) -> None:
    """Write an image that is in memory as a compressed NIfTI file; see `create_nifti`."""
    plain = path.with_name(path.name.removesuffix(".gz"))
    try:
        target = create_nifti(plain, image, values.dtype)
        target[...] = values
        target.close()
        with open(plain, "rb") as file, gzip.open(path, "wb", compresslevel=6) as packed:
            shutil.copyfileobj(file, packed, BUFFER)
    finally:
        remove(plain)


def _target(
    path: Path, dtype: np.dtype, axes: str, sizes: dict[str, int], offset: int
) -> FileArray | Reordered:
    ordered = _file_axes(axes)
    array = FileArray(path, dtype, [sizes[a] for a in ordered], offset)
    order = tuple(axes.index(a) for a in ordered)
    return array if ordered == axes else Reordered(array, order)


def _file_axes(axes: str) -> str:
    """Return axes in the order of a file, the slowest first."""
    return "".join(a for a in "CSTZYX" if a in axes)


def _describe(header: Any, image: Image, dims: list[int]) -> None:
    """Write pixel size and affine of an image that has no NIfTI header of its own."""
    steps = [1.0] * len(dims)
    for i, axis in enumerate(ORDER[: len(dims)]):
        into = "second" if axis == "T" else "millimeter"
        size = image.scale.get(axis)
        if size is not None and axis != "C":
            converted = convert(size, image.units.get(axis, ""), into)
            steps[i] = size if converted is None else converted
    header.set_zooms(steps)
    known = "millimeter" if "X" in image.units else ""
    header.set_xyzt_units("mm" if known else 0, "sec" if "T" in image.units else 0)
    affine = image.header.get("affine")
    if affine is not None:
        header.set_qform(np.asarray(affine), code="scanner")
        header.set_sform(np.asarray(affine), code="scanner")


FORMAT = Format("NIfTI", SUFFIXES, read_nifti, library="nibabel")
