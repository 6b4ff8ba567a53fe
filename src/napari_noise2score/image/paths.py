"""Distinguish paths on a disk from network addresses, and recognise zarr stores."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from . import system

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")
ON_DISK = re.compile(r"(?:file|local):(?://(?:localhost(?=/))?)?(?=.)")
DRIVE = re.compile(r"/[A-Za-z]:/")  # as in file:///C:/data/a.tif
INSIDE = re.compile(r"(.+\.(?:h5|hdf5|hdf)):(/.*)", re.IGNORECASE)
ZARR_METADATA = ("zarr.json", ".zgroup", ".zarray")


def local_path(source: str | os.PathLike[str]) -> Path | None:
    """Return the local path that a path or an address refers to, or None for a network address.

    Parameters
    ----------
    source : path-like
        A path, or an address such as ``file:///data/a.zarr``, ``local://a.zarr`` or ``s3://bucket/a``.

    Returns
    -------
    Path or None

    Examples
    --------
    >>> local_path("file:///data/a%20b.zarr").as_posix()
    '/data/a b.zarr'
    >>> local_path("s3://bucket/a.zarr") is None
    True
    """
    text = os.fspath(source)
    if "://" not in text and INSIDE.fullmatch(text):
        return Path(text)
    if (found := ON_DISK.match(text)) and ADDRESS.match(text):
        rest = text[found.end() :]
        rest = unquote(rest) if text.startswith("file:") else rest
        return Path(rest[1:] if system.NAME == "win32" and DRIVE.match(rest) else rest)
    return None if ADDRESS.match(text) else Path(text)


def file_of(path: Path) -> Path:
    """Return the file of a path that goes on inside an HDF5 file; other paths are unchanged.

    Examples
    --------
    >>> file_of(Path("cells.h5:/raw/volume")).name
    'cells.h5'
    """
    return Path(split_inside(path)[0])


def split_inside(path: Path) -> tuple[str, str]:
    """Return the file of a path, and the path inside it, empty if there is none."""
    found = INSIDE.fullmatch(str(path))
    return (found[1], found[2]) if found else (str(path), "")


def is_ome_zarr(path: str | os.PathLike[str]) -> bool:
    """Return whether a name ends in ``.ome.zarr``."""
    return os.path.basename(path).lower().endswith(".ome.zarr")


def is_zarr(path: Path) -> bool:
    """Return whether a path is a zarr store."""
    return path.is_dir() and any((path / name).exists() for name in ZARR_METADATA)
