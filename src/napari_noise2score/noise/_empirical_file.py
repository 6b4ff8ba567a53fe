"""The file of an empirical noise model: three arrays of numbers in an NPZ archive."""

from __future__ import annotations

import io
import lzma
import math
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError, quoted
from ..image.output import check_output, written
from .base import Array

# bytes of the arrays in a file, unpacked: a thousand levels of 30,000 bins
MAX_FILE_BYTES = 2**28
MAX_NAME_LENGTH = 300  # of a file in a message
# what reading a damaged archive, or one of another kind, can raise
DAMAGED = (
    OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, NotImplementedError,
    SyntaxError, OverflowError, MemoryError, RecursionError, struct.error,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip


def check_name(name: str) -> None:
    """Raise a `UserError` if the name of a file cannot be part of a noise model's text."""
    if not name.isprintable() or ("'" in name and '"' in name):
        raise UserError(
            f"empirical: the file name {quoted(name)} cannot be part of a noise model: "
            "rename the file"
        )


def format_name(name: str) -> str:
    """Return the name of a file as written in a noise model, in quotes where necessary.

    Examples
    --------
    >>> format_name("noise.npz"), format_name("my noise.npz")
    ('noise.npz', '"my noise.npz"')
    """
    if all(c.isalnum() or c in "_-./\\:~" for c in name):
        return name
    mark = "'" if '"' in name else '"'
    return mark + name + mark


def write_arrays(file: str | os.PathLike[str], arrays: dict[str, Array]) -> Path:
    """Write arrays to an NPZ file.

    Parameters
    ----------
    file : path
        Path to write to; ".npz" is added if it is missing. An existing file is replaced.
    arrays : dict of ndarray
        By name.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    UserError
        If there is a double quote in the name, or the file cannot be written.
    """
    path = Path(file)
    if '"' in str(path):
        raise UserError(f"empirical: {path}: the name may not contain a double quote")
    if path.suffix != ".npz":
        path = path.with_name(path.name + ".npz")
    with (
        written(check_output(path, overwrite=True), overwrite=True) as part,
        open(part, "wb") as archive,
    ):
        np.savez_compressed(archive, **arrays)  # type: ignore[arg-type]
    return path


def read_arrays(file: str, names: Sequence[str]) -> list[Array]:
    """Read arrays of numbers from an NPZ file that must contain exactly these.

    Nothing is ever unpickled, and sizes are checked before anything is unpacked.

    Parameters
    ----------
    file : str
        Its path.
    names : sequence of str
        Names of the arrays.

    Returns
    -------
    list of ndarray
        In the order of the names.

    Raises
    ------
    UserError
        If there is no such file, it cannot be read, or it is not such an archive.
    """
    wrong = UserError(
        f"empirical: {quoted(file, MAX_NAME_LENGTH)} is not a noise model file, or it is damaged"
    )
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise wrong
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if sorted(m.filename for m in members) != sorted(f"{name}.npy" for name in names):
                raise wrong
            if sum(member.file_size for member in members) > MAX_FILE_BYTES:
                raise wrong
            return [_parse_npy(archive.read(f"{name}.npy")) for name in names]
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"empirical: there is no file {quoted(file, MAX_NAME_LENGTH)}") from None
    except PermissionError as error:
        raise UserError(
            f"empirical: {quoted(file, MAX_NAME_LENGTH)} cannot be read ({error.strerror})"
        ) from None
    except UserError:
        raise
    except DAMAGED:
        raise wrong from None


def _parse_npy(content: bytes) -> Array:
    """Read an NPY file of real numbers, no larger than what follows its header."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(stream)
    if dtype.kind not in "uif" or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError("not an array of numbers")
    stream.seek(0)
    array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array
