"""Read and write MRC and CCP4 files by mrcfile: volumes and stacks of electron microscopy."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ReadError, UserError
from ._file_array import FileArray
from ._format import Format, axes_of
from ._reorder import Reordered
from ._stack import guarded, plain_array
from ._units import convert
from .image import Image

SUFFIXES = (".mrc", ".mrcs", ".map", ".rec", ".st", ".ali", ".mrc.gz", ".map.gz")
HEADER = 1024  # bytes
DTYPES = ("int8", "int16", "float32", "uint16", "float16")
MAX_LABELS, LABEL = 10, 80
STACKS = (".mrcs", ".st", ".ali")
STACK, VOLUME, VOLUMES = 0, 1, 401  # space groups
NOTES = ("job", "fingerprint", "version")
NOTE = re.compile(r"noise2score job (\S+) model (\S+) version (\S*)")


def read_mrc(path: Path, axes: str | None) -> Image:
    """Open an MRC file lazily; see `read_image`.

    The sections of a stack are ``S``, as particles and tilts are not repeats; name a movie by
    ``--axes TYX``.
    """
    import mrcfile
    from mrcfile.utils import data_dtype_from_header, data_shape_from_header

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # faults of a header are reported if they matter
        opened: Any = mrcfile.open(path, header_only=True, permissive=True)
    with opened:
        header, extended = opened.header, opened.extended_header
        if header is None:
            raise ReadError(f"{path}: cut off, or not an MRC file")
        dtype = data_dtype_from_header(header)
        shape = tuple(int(n) for n in data_shape_from_header(header))
        offset = HEADER + int(header.nsymbt)
        kept = header.astype(_header_dtype()).tobytes()
        if extended is not None and dtype.newbyteorder("<") == dtype:
            kept += extended.tobytes()
        order = _order(header)
        cells = {a: (float(header.cella[a.lower()]), int(header[f"m{a.lower()}"])) for a in "XYZ"}
        stack = int(header.ispg) == STACK or path.suffix.lower() in STACKS
        labels = [bytes(label).decode("latin-1") for label in header.label]
    if len(shape) == 4:
        said = f"S{order}"
    else:
        said = f"S{order[1:]}"[-len(shape) :] if stack or len(shape) == 2 else order
    letters = axes_of(path, axes, said, len(shape))
    # the numbers have single precision
    scale = {
        a: float(f"{size / n:.7g}") for a, (size, n) in cells.items() if n > 0 and a in letters
    }
    known = {a for a in scale if scale[a] > 0}
    return Image(
        guarded(path, plain_array(path, dtype, shape, offset)),
        letters,
        scale=scale,
        units=dict.fromkeys(known, "angstrom"),
        name=path.name.split(".")[0] if path.name.lower().endswith(".gz") else path.stem,
        header={"mrc": kept},
        notes=_notes(labels),
    )


def _notes(labels: list[str]) -> dict[str, Any]:
    for label in labels:
        if found := NOTE.search(label):
            return dict(zip(NOTES, found.groups(), strict=True))
    return {}


def mrc_dtype(path: Any, dtype: np.dtype) -> np.dtype:
    """Return the MRC type that holds all values of a dtype, or raise a `UserError`."""
    name = {"uint8": "uint16", "float64": "float32"}.get(dtype.name, dtype.name)
    if name not in DTYPES:
        raise UserError(f"{path}: an MRC file cannot hold {dtype}; write .ome.zarr or .tif")
    return np.dtype(name).newbyteorder("<")


def check_mrc(path: Any, image: Image, dtype: np.dtype) -> None:
    """Raise a `UserError` if MRC cannot hold the axes or the dtype of an image."""
    FORMAT.check_library(path)
    mrc_dtype(path, dtype)
    if len({*image.axes} - {*"ZYX"}) > 1 or "C" in image.axes:
        raise UserError(
            f"{path}: an MRC file holds ZYX and one axis of S or T, not {image.axes}; "
            "write .ome.zarr or .tif"
        )


def create_mrc(path: Path, image: Image, dtype: np.dtype) -> FileArray | Reordered:
    """Create an MRC file of zeros with the header of an image; return its pixels.

    The header, with its extension, is that of the file that the image was read from; without one,
    the pixel size is written.
    """
    from mrcfile.utils import mode_from_dtype

    dtype = mrc_dtype(path, dtype)
    kept: bytes = image.header.get("mrc", b"")
    sizes = dict(zip(image.axes, image.data.shape, strict=True))
    header = np.zeros((), _header_dtype())
    if kept:
        header[...] = np.frombuffer(kept, _header_dtype(), 1)[0]
    else:
        _describe(header, image, sizes)
    ordered = _file_axes(image.axes, header)
    header["nx"], header["ny"] = sizes[ordered[-1]], sizes[ordered[-2]]
    header["nz"] = np.prod([sizes[a] for a in ordered[:-2]], dtype=np.int64)
    header["mode"] = mode_from_dtype(dtype)
    header["machst"] = (0x44, 0x44, 0, 0)
    header["map"] = b"MAP "
    header["nsymbt"] = max(0, len(kept) - HEADER)
    # unknown statistics, as the format marks them
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = 0, -1, -2, -1
    if image.notes:
        job, model, made_by = (image.notes.get(key, "-") for key in NOTES)
        note = f"noise2score job {job} model {model} version {made_by}"[:LABEL]
        count = min(int(header["nlabl"]), MAX_LABELS - 1)
        header["label"][count] = note.encode("ascii", "replace")
        header["nlabl"] = count + 1
    with open(path, "wb") as file:
        file.write(header.tobytes() + kept[HEADER:])
    return open_mrc(path, image.axes)


def open_mrc(path: Path, axes: str) -> FileArray | Reordered:
    """Open the pixels of a file made by `create_mrc` for writing, in the given order of axes."""
    from mrcfile.utils import dtype_from_mode

    header = np.fromfile(path, _header_dtype(), 1)[0]
    ordered = _file_axes(axes, header)
    nz, ny, nx = (int(header[f"n{a}"]) for a in "zyx")
    volume = int(header["mz"]) if len(axes) == 4 else 1
    shape = (nz // volume, volume, ny, nx) if len(axes) == 4 else (nz, ny, nx)[-len(axes) :]
    dtype = dtype_from_mode(header["mode"]).newbyteorder("<")
    array = FileArray(path, dtype, shape, HEADER + int(header["nsymbt"]))
    return array if ordered == axes else Reordered(array, tuple(axes.index(a) for a in ordered))


def _order(header: Any) -> str:
    """Return the axes of sections, rows and columns."""
    order = "".join("?XYZ?"[min(max(int(header[f"map{c}"]), 0), 4)] for c in "src")
    return order if {*order} == {*"XYZ"} else "ZYX"


def _file_axes(axes: str, header: Any) -> str:
    """Return axes in the order of a file, the slowest first."""
    return "".join(a for a in f"ST{_order(header)}" if a in axes)


def _header_dtype() -> np.dtype:
    from mrcfile.dtypes import HEADER_DTYPE

    little: np.dtype = HEADER_DTYPE.newbyteorder("<")
    return little


def _describe(header: Any, image: Image, sizes: dict[str, int]) -> None:
    """Write pixel size, axes and kind of an image that has no MRC header of its own."""
    for number, axis in enumerate("XYZ", 1):
        size = convert(image.scale.get(axis, 0.0), image.units.get(axis, ""), "angstrom")
        header[f"m{axis.lower()}"] = count = sizes.get(axis, 1)
        header["cella"][axis.lower()] = (size or 0.0) * count
        header["map" + "crs"[number - 1]] = number
    header["cellb"] = (90, 90, 90)
    header["nversion"] = 20141
    looped = {"S", "T"} & {*image.axes}
    header["ispg"] = (VOLUMES if looped else VOLUME) if "Z" in image.axes else STACK


FORMAT = Format("MRC, CCP4", SUFFIXES, read_mrc, library="mrcfile", result=".mrc")
