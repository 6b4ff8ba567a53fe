"""What the file system of Linux, macOS or Windows accepts: names, lengths, case, replacing."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError

NAME = sys.platform
# names that Windows gives to devices, whatever follows them after a dot
RESERVED = {"CON", "PRN", "AUX", "NUL"} | {
    f"{port}{n}" for port in ("COM", "LPT") for n in "123456789"
}
FORBIDDEN = frozenset('<>:"|?*') | frozenset(map(chr, range(32)))
MAX_PATH = 259  # characters, of Windows unless long paths are switched on
# characters of the longest name inside a store while it is written, as /0/c/0/0/0.….partial
INSIDE_STORE = 80
MAX_WAIT = 2.0  # seconds for another program, often a virus scanner, to close a file
LONG_PATHS = r"SYSTEM\CurrentControlSet\Control\FileSystem"


def check_names(path: Path, extra: int = 0) -> None:
    """Raise a `UserError` if this system cannot hold a file of this name, or would change it.

    Parameters
    ----------
    path : Path
        The file.
    extra : int
        Characters that are added to the name while the file is written.

    Raises
    ------
    UserError
        On Windows, for a device's name such as NUL, a character that names cannot hold, a dot or a
        space at the end of a name, and a path that is too long.

    Examples
    --------
    >>> check_names(Path("denoised.tif"))
    """
    if NAME != "win32":
        return
    for name in path.parts[1:] if path.anchor else path.parts:
        if name in (".", ".."):
            continue
        if name.partition(".")[0].rstrip(" ").upper() in RESERVED:
            raise UserError(f"{path}: Windows keeps the name {name} for a device; choose another")
        if found := sorted(FORBIDDEN & set(name)):
            raise UserError(f"{path}: a name on Windows cannot hold {found[0]!r}; leave it out")
        if name[-1] in ". ":
            raise UserError(
                f"{path}: Windows drops a dot or space at the end of '{name}'; remove it"
            )
    length = len(os.path.abspath(path)) + extra
    if length > MAX_PATH and not _allows_long_paths():
        raise UserError(
            f"{path}: the path is {length - MAX_PATH} characters too long for Windows: choose a "
            "shorter name or folder, or switch on its long paths"
        )


def _allows_long_paths() -> bool:
    """Return whether Windows is set to accept paths of any length."""
    try:
        import winreg

        registry: Any = winreg
        with registry.OpenKey(registry.HKEY_LOCAL_MACHINE, LONG_PATHS) as key:
            return bool(registry.QueryValueEx(key, "LongPathsEnabled")[0])
    except (ImportError, OSError):
        return False


def comparable(path: str | os.PathLike[str]) -> str:
    """Return a text that is equal for two paths if this system takes them for one.

    Examples
    --------
    >>> comparable("a.tif") == comparable("b.tif")
    False
    """
    text = os.path.normpath(path)
    if NAME == "darwin":
        text = unicodedata.normalize("NFC", text)
    return text.casefold() if NAME in ("darwin", "win32") else text


def replace(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename a file, replacing an existing one.

    Raises
    ------
    UserError
        On Windows, if another program has one of them open for longer than `MAX_WAIT`.
    """
    _patiently(os.replace, source, target)


def rename(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename a file or folder.

    Raises
    ------
    UserError
        As for `replace`.
    """
    _patiently(os.rename, source, target)


def _patiently(
    function: Callable[[Any, Any], None],
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
) -> None:
    """Rename; on Windows, try again while another program has the file open."""
    until = time.monotonic() + MAX_WAIT
    while True:
        try:
            return function(source, target)
        except PermissionError:
            if NAME != "win32":
                raise
            if time.monotonic() > until:
                raise UserError(
                    f"{target} cannot be written while another program has it open: close it "
                    "there, and repeat"
                ) from None
            time.sleep(0.05)


def remove_after_closing(path: Path) -> None:
    """Remove a file that could not be removed while it was open, as is so on Windows."""
    if NAME == "win32":
        with contextlib.suppress(OSError):  # another job may have opened it
            path.unlink(missing_ok=True)
