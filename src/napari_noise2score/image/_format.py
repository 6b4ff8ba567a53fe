"""What every reader of a file format states: names, library, and how images are opened."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import DataWarning, UserError, one_line
from .axes import parse_axes
from .image import Image

INSTALL = 'pip install "napari-noise2score[formats]"'


def _never(path: Path) -> bool:  # noqa: ARG001
    return False


@dataclass(frozen=True)
class Format:
    """A file format that can be read. Each is one module, listed in `formats`.

    Attributes
    ----------
    name : str
        As in messages and tables, such as ``"Zeiss CZI"``.
    suffixes : tuple of str
        Endings of file names, in lower case, the usual one first.
    read : callable
        Opens an image, without reading its pixels if the format allows. It is called with the path,
        the axes that the caller names (str or None) and, unless a file always holds one image, the
        number of the image from 1 (int, or None for the default).
    count : callable or None
        Returns the number of images in a file; None if a file always holds one.
    library : str
        Module that must be installed, by the extra ``formats``; empty if it always is.
    recognizes : callable
        Returns whether a folder, or a file whose name says nothing, has this format.
    result : str
        Ending of results in a folder of many, if the format itself cannot be written.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[..., Image]
    count: Callable[[Path], int] | None = None
    library: str = ""
    recognizes: Callable[[Path], bool] = _never
    result: str = ".tif"

    def find_missing(self) -> str:
        """Return why the library that this format needs cannot be imported, empty if it can."""
        try:
            if self.library:
                import_module(self.library)
        except ModuleNotFoundError as error:
            return f"{error.name} is not installed"
        except Exception as error:  # a library may fail in any way when it is imported
            return one_line(error)
        return ""

    def check_library(self, path: Any) -> None:
        """Raise a `UserError` that names the extra if the library is missing."""
        if reason := self.find_missing():
            raise UserError(f"{path}: {self.name} cannot be read: {reason}; {INSTALL}")


def axes_of(path: Path | str, axes: str | None, said: str | None, ndim: int) -> str:
    """Return the axes that the caller names, or else those that the file names.

    Parameters
    ----------
    path : path-like
        The file, for messages.
    axes, said : str or None
        Axes of the caller and of the file. Two dimensions are always ``YX``.
    ndim : int
        Number of dimensions.

    Raises
    ------
    UserError
        If nobody names them, or they do not fit.
    """
    axes = axes or said or ("YX" if ndim == 2 else None)
    if axes is None:
        raise UserError(ask_for_axes(path, ndim))
    return parse_axes(axes, ndim)


def ask_for_axes(path: Path | str, ndim: int) -> str:
    """Return a message saying that an image does not name its axes, and how to name them."""
    example = {3: "ZYX", 4: "TZYX", 5: "TCZYX"}.get(ndim, "YX")
    return (
        f"{path}: the file does not say what its {ndim} dimensions are; "
        f"name them, as in --axes {example}"
    )


def choose_series(path: Path, names: Sequence[str], series: int | None) -> int:
    """Return the index of the requested image of a file.

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        Names of its images, empty where they have none.
    series : int or None
        Number from 1. By default the first, with a `DataWarning` if there are others.

    Raises
    ------
    UserError
        If there is no such image.
    """
    if series is not None and not 1 <= series <= len(names):
        raise UserError(f"{path}: there is no series {series}; the file has {len(names)}")
    if series is None and len(names) > 1:
        named = f" ('{names[0]}')" if names[0] else ""
        warnings.warn(
            f"{path}: series 1 of {len(names)} is read{named}; --series N or all reads others",
            DataWarning,
            stacklevel=2,
        )
    return (series or 1) - 1
