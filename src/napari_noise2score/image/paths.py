"""Distinguish paths on a disk from network addresses, and recognise zarr stores."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")
ON_DISK = re.compile(r"(?:file|local):(?://(?:localhost(?=/))?)?(?=.)")
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
    if (found := ON_DISK.match(text)) and ADDRESS.match(text):
        rest = text[found.end() :]
        return Path(unquote(rest) if text.startswith("file:") else rest)
    return None if ADDRESS.match(text) else Path(text)


def is_ome_zarr(path: str | os.PathLike[str]) -> bool:
    """Return whether a name ends in ``.ome.zarr``."""
    return os.path.basename(path).lower().endswith(".ome.zarr")


def is_zarr(path: Path) -> bool:
    """Return whether a path is a zarr store."""
    return path.is_dir() and any((path / name).exists() for name in ZARR_METADATA)
