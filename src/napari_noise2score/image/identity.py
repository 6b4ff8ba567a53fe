"""Identify the inputs of a job, so that it is never resumed with other data."""

from __future__ import annotations

import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from .axes import layout, read_block
from .image import Image
from .paths import local_path

MAX_BYTES_DIGESTED = 2**28  # larger images in memory are identified by three blocks
METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


def files_of(image: Image) -> tuple[str, ...]:
    """Return all files, stores and addresses that an image is read from."""
    return image.files or ((image.source,) if image.source else ())


def identify_image(image: Image) -> dict[str, Any]:
    """Describe the pixels of an image so that different images have different descriptions.

    Parameters
    ----------
    image : Image
        Three blocks of its pixels are read; all of them if they are in memory.

    Returns
    -------
    dict
        Size and modification time of each file; for each store, a digest of its metadata and of
        the list of its chunks; and a digest of pixels. Values are JSON.

    Examples
    --------
    >>> first, second = Image(np.zeros((8, 8)), "YX"), Image(np.ones((8, 8)), "YX")
    >>> identify_image(first) == identify_image(second)
    False
    """
    return {
        "files": {file: _identify_file(file) for file in files_of(image)},
        "shape": list(image.data.shape),
        "axes": image.axes,
        "type": str(image.data.dtype),
        "pixels": _digest_pixels(image),
    }


def key_of(facts: Any) -> str:
    """Return a 16-digit hexadecimal key of the description of a job."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _identify_file(file: str) -> Any:
    path = local_path(file)
    if path is None:
        return "remote"  # identified by its pixels
    try:
        if path.is_dir():
            return _digest_store(path)
        status = path.stat()
    except OSError:
        return "missing"
    return [status.st_size, status.st_mtime_ns]


def _digest_store(path: Path) -> str:
    """Return a digest of the metadata and of name, size and time of every other file."""
    digest = blake2b(digest_size=8)
    for folder, names, files in os.walk(path):
        names.sort()
        for name in sorted(files):
            file = os.path.join(folder, name)
            digest.update(os.fsencode(os.path.relpath(file, path)))
            if name in METADATA:
                digest.update(Path(file).read_bytes())
            else:
                status = os.stat(file)
                digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def _digest_pixels(image: Image) -> str:
    digest = blake2b(digest_size=8)
    data = image.data
    if isinstance(data, np.ndarray) and data.nbytes <= MAX_BYTES_DIGESTED:
        digest.update(np.ascontiguousarray(data).view(np.uint8).data if data.size else b"")
        return digest.hexdigest()
    where = layout(image.axes, data.shape)
    sizes = [where.shape[where.axes.index(a)] for a in where.loop]
    middle = [slice(n // 2 - min(32, n // 2), n // 2 + 32) for n in where.space_shape]
    for position in ([0] * len(sizes), [n // 2 for n in sizes], [n - 1 for n in sizes]):
        digest.update(read_block(data, where, position, middle).tobytes())
    return digest.hexdigest()
