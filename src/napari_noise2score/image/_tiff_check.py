"""Check that a TIFF file is complete, without reading pixels."""

from __future__ import annotations

import contextlib
import math
import os
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..errors import DataWarning, ReadError
from ._ome_tiff import parse_ome, planes_promised
from .guard import check_size

MAX_TAGS = 4096
DESCRIPTION = 270
OME_TAIL = 16
# size in bytes of each type of tag value
TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8,
    17: 8, 18: 8,
}  # fmt: skip
# pixels per byte of compressed data; damaged sizes imply more
MAX_EXPANSION = 2**20


def walk(path: Path) -> tuple[int, bool]:
    """Follow the chain of page directories of a TIFF file.

    Returns
    -------
    int
        Number of complete directories.
    bool
        Whether the chain ends properly, and neither leaves the file nor returns to itself.

    Raises
    ------
    ReadError
        If it is not a TIFF file.
    """
    end = os.stat(path).st_size
    with open(path, "rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        kind = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) >= 8 else 0
        if kind not in (42, 43):
            raise ReadError(f"{path}: not a TIFF file that can be read, or damaged")
        if kind == 43 and len(head) < 16:
            return 0, False
        count_of, size, tag = (f"{order}H", 4, 12) if kind == 42 else (f"{order}Q", 8, 20)
        offset_of = f"{order}{'I' if kind == 42 else 'Q'}"
        (offset,) = struct.unpack_from(offset_of, head, 4 if kind == 42 else 8)
        seen: set[int] = set()
        whole = True
        while offset:
            if offset in seen or offset + struct.calcsize(count_of) > end:
                return len(seen), False
            file.seek(offset)
            (tags,) = struct.unpack(count_of, file.read(struct.calcsize(count_of)))
            here = offset + struct.calcsize(count_of) + tags * tag
            if tags > MAX_TAGS or here + size > end:
                return len(seen), False
            # tag values may lie at the very end of the file
            whole = _values_fit(file.read(tags * tag), order or "<", kind == 43, end) and whole
            seen.add(offset)
            (offset,) = struct.unpack(offset_of, file.read(size))
    return len(seen), whole


def _values_fit(directory: bytes, order: str, big: bool, end: int) -> bool:
    """Return whether the values of all tags of a directory lie within the file."""
    form, place = (f"{order}HHQQ", 8) if big else (f"{order}HHII", 4)
    return all(
        (nbytes := TYPE_BYTES.get(kind, 0) * count) <= place or offset + nbytes <= end
        for _, kind, count, offset in struct.iter_unpack(form, directory)
    )


def says_ome(path: Path) -> bool:
    """Return whether a file's description ends like OME-XML, at the cost of one small read."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
            order = {b"II": "<", b"MM": ">"}[head[:2]]
            big = struct.unpack(f"{order}H", head[2:4])[0] == 43
            (offset,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", head, 8 if big else 4)
            form, size = (f"{order}HHQQ", 20) if big else (f"{order}HHII", 12)
            file.seek(offset)
            count_form = f"{order}{'Q' if big else 'H'}"
            (tags,) = struct.unpack(count_form, file.read(struct.calcsize(count_form)))
            directory = file.read(min(tags, MAX_TAGS) * size)
            for start in range(0, len(directory) - size + 1, size):
                tag, _, count, place = struct.unpack_from(form, directory, start)
                if tag == DESCRIPTION:
                    file.seek(place + max(0, count - OME_TAIL))
                    return b"OME>" in file.read(OME_TAIL)
    except (OSError, KeyError, struct.error, ValueError, OverflowError):
        # the error is reported when the file is read
        return False
    return False


def check_whole(path: Path, file: tifffile.TiffFile, pages: int, whole: bool) -> None:
    """Raise a `ReadError` if the file is truncated or lacks planes that its metadata promise.

    Parameters
    ----------
    path : Path
        The file.
    file : tifffile.TiffFile
        The file, open.
    pages, whole
        As from `walk`.
    """
    promised = _promised(file)
    first = file.pages.first if pages and len(file.pages) else None
    if whole and first is None:
        raise ReadError(f"{path}: the file holds no image")
    size = file.filehandle.size
    if whole:
        if not file.is_imagej or pages != 1 or promised <= 1:
            return
        assert first is not None
        # ImageJ writes one directory for large stacks, followed by the pixels of all planes
        if not first.is_contiguous or first.dataoffsets[0] + promised * first.nbytes <= size:
            return
    found = 0
    if first is not None and first.dataoffsets:
        found = sum(_fits(page, size) for page in _loadable(file))
        if first.is_contiguous and first.nbytes and promised:
            found = max(found, min(promised, (size - first.dataoffsets[0]) // first.nbytes))
    raise ReadError(cut_off(path, max(0, found), promised))


def check_series(path: Path, series: tifffile.TiffPageSeries) -> None:
    """Raise a `ReadError` if pixels of a series are missing or its sizes are impossible.

    The strips or tiles of every page are compared with the size of its file. A warning reports
    those that were never written and are read as zeros.
    """
    key = series.keyframe
    shape = tuple(series.shape)
    dtype: Any = series.dtype  # None in damaged files
    if dtype is None or series.size == 0:
        raise ReadError(f"{path}: the file holds no image")
    check_size(path, shape, dtype, key.chunks)
    promised = max(1, series.size // max(1, key.size))
    offset = series.dataoffset
    if offset is not None:
        left = (key.parent.filehandle.size - offset) // max(1, key.nbytes)
        if left < promised:
            raise ReadError(cut_off(path, max(0, left), promised))
        return
    pieces = math.prod(key.chunked)
    check_decoder(path, key)
    found, unwritten, total = 0, 0, 0
    # a damaged file may list more pages than it can contain
    for page in series._pages:  # noqa: SLF001
        if page is None:
            continue
        state = _state(page, pieces, page.parent.filehandle.size, key)
        if state is None:
            continue
        found += 1
        unwritten += state
        total += pieces
    if found < promised:
        raise ReadError(cut_off(path, found, promised))
    if unwritten:
        warnings.warn(
            f"{path}: {unwritten} of {total} pieces were never written and read as zeros",
            DataWarning,
            stacklevel=2,
        )


def check_decoder(path: Path, page: tifffile.TiffPage) -> None:
    """Raise a `ReadError` if a compression or a colour model is not supported."""
    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression]
        tifffile.TIFF.UNPREDICTORS[page.predictor]
    except (KeyError, ValueError, ImportError) as error:
        name = getattr(page.compression, "name", page.compression)
        raise ReadError(f"{path}: its compression {name} is not supported ({error})") from None
    if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
        raise ReadError(f"{path}: its colours are for a printer (CMYK); convert it to RGB")


def cut_off(path: Path, found: int, promised: int) -> str:
    """Return the message about a truncated file.

    Examples
    --------
    >>> cut_off(Path("stack.tif"), 3, 6)
    'stack.tif: cut off: 3 of 6 planes are there'
    """
    if promised > found:
        return f"{path}: cut off: {found} of {promised} planes are there"
    return f"{path}: cut off: the file ends after {found} plane{'s' * (found != 1)}"


def _promised(file: tifffile.TiffFile) -> int:
    """Return the number of planes according to the metadata, 0 if it is not stated."""
    if not len(file.pages):
        return 0
    if file.is_ome and file.ome_metadata:
        return planes_promised(parse_ome(file.filename, file.ome_metadata))
    if file.is_imagej:
        said: Any = file.imagej_metadata or {}
        counts = [said.get(key, 1) for key in ("frames", "slices", "channels")]
        counts = [n if isinstance(n, int) else 1 for n in counts]
        samples = max(1, int(file.pages.first.samplesperpixel))
        if samples > 1 and counts[2] == samples:
            counts[2] = 1
        images = said.get("images", 1)
        return int(max(math.prod(counts), images if counts == [1, 1, 1] else 1))
    shaped: Any = file.shaped_metadata
    if file.is_shaped and shaped:
        shape = shaped[0].get("shape", ())
        plane = max(1, file.pages.first.size)
        return math.prod(int(n) for n in shape) // plane if shape else 0
    return 0


def _loadable(file: tifffile.TiffFile) -> list[Any]:
    """Return the pages before the point at which a file is truncated."""
    found: list[Any] = []
    # which directory is damaged does not matter: those before it are counted
    with contextlib.suppress(Exception):
        found.extend(file.pages)
    return found


def _fits(page: Any, size: int) -> bool:
    return bool(len(page.dataoffsets)) and all(
        offset + count <= size
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    )


def _state(page: Any, pieces: int, size: int, key: tifffile.TiffPage) -> int | None:
    """Return how many strips or tiles of a page were never written, None if some are truncated."""
    offsets = np.asarray(page.dataoffsets, dtype=np.float64)
    counts = np.asarray(page.databytecounts, dtype=np.float64)
    if len(offsets) != len(counts) or len(offsets) < pieces:
        return None
    if np.any(offsets + counts > size) or np.any(offsets < 0) or np.any(counts < 0):
        return None
    empty = int(np.count_nonzero((offsets == 0) | (counts == 0)))
    stored = counts.sum()
    expansion = 1 if key.compression == 1 else MAX_EXPANSION
    # pixels of 1, 4 or 12 bits are packed in the file
    bits = min(key.bitspersample, 8 * key.dtype.itemsize) if key.dtype is not None else 0
    if not empty and key.size * bits > 8 * stored * expansion:
        return None
    return empty
