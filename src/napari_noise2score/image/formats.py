"""The registry of file formats that can be read; each is defined by a module of its own."""

from __future__ import annotations

import os
from pathlib import Path

from . import _czi, _dicom, _hdf5, _imaris, _lif, _mrc, _nd2, _nifti, _npy, _pictures, _tiff, zarrs
from ._format import INSTALL, Format
from .paths import file_of

__all__ = ["FORMATS", "INSTALL", "READ", "Format", "format_of", "is_single"]

FORMATS: tuple[Format, ...] = (
    _tiff.FORMAT, zarrs.FORMAT, _npy.FORMAT, _pictures.FORMAT, _nifti.FORMAT, _dicom.FORMAT,
    _mrc.FORMAT, _czi.FORMAT, _nd2.FORMAT, _lif.FORMAT, _hdf5.FORMAT, _imaris.FORMAT,
)  # fmt: skip
"""All formats, the most common first."""

READ = tuple(suffix for each in FORMATS for suffix in each.suffixes)
"""Endings of all files that can be read, in lower case."""


def format_of(path: Path) -> Format | None:
    """Return the format of an existing file or folder, or None if it is not known.

    The name of a file decides; a folder, or a file whose name says nothing, is looked into.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Format or None

    Examples
    --------
    >>> format_of(Path("Stack.OME.TIF")).name
    'TIFF'
    >>> format_of(Path("notes.txt")) is None
    True
    """
    path = file_of(path)
    name = path.name.lower()
    if not path.is_dir():
        for each in FORMATS:
            if name.endswith(each.suffixes):
                return each
    return next((each for each in FORMATS if each.recognizes(path)), None)


def is_single(path: Path) -> bool:
    """Return whether a folder is an image: a zarr store, or nothing but DICOM files."""
    kind = format_of(path) if path.is_dir() else None
    if kind is not _dicom.FORMAT:
        return kind is not None
    others = tuple(suffix for suffix in READ if suffix not in kind.suffixes)
    return not any(name.lower().endswith(others) for name in os.listdir(path))
