"""Write results safely: locked, complete or not at all, and never over an input.

A result is written under a hidden name in the same folder, protected by a lock, and renamed to its
final name once all of it is on the disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from .lock import claimed
from .paths import file_of, is_zarr, local_path
from .system import INSIDE_STORE, check_names, rename, replace

HIDDEN = ".part-"
MAX_NAME_BYTES = 255  # used where the system does not report its limit


def hidden_name(path: Path) -> Path:
    """Return the hidden name under which a result is written until it is complete."""
    return path.with_name(f"{HIDDEN}{path.name}")


def aside_name(path: Path) -> Path:
    """Return the name of a store that is being replaced, until its replacement is in place."""
    return path.with_name(f".old-{path.name}")


def check_output(
    path: str | os.PathLike[str],
    *,
    inputs: Iterable[str | os.PathLike[str]] = (),
    overwrite: bool = False,
    nbytes: int = 0,
) -> Path:
    """Raise a `UserError` if an output cannot be written; nothing is changed.

    Parameters
    ----------
    path : path-like
        Where the output is to be written.
    inputs : iterable of path-like
        Everything the job reads: files, stores, models, configurations. None may be replaced.
    overwrite : bool
        Whether an existing file or store may be replaced.
    nbytes : int
        Size of the output in bytes, 0 if unknown.

    Returns
    -------
    Path
        Local path, with symbolic links to files resolved.

    Raises
    ------
    UserError
        If the path is not local, is an input or part of one, exists already, is neither a file nor
        a store, cannot be created, has too long a name, or the output does not fit on the disk.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> file = Path(tempfile.mkdtemp()) / "a.npy"
    >>> np.save(file, np.zeros(3))
    >>> check_output(file, inputs=[file], overwrite=True)
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.UserError: .../a.npy is an input of this job; raw data are never ...
    """
    found = local_path(path)
    if found is None:
        # pathlib merges the two slashes of an address
        address = str(path).replace("://", ":/", 1).replace(":/", "://", 1)
        raise UserError(f"{address}: results are written to a disk, not through the network")
    if os.path.islink(found):
        if not found.exists():
            raise UserError(f"{found} is a link to a file that does not exist")
        found = found.resolve()
    if not found.name:
        raise UserError(f"{found} is not the name of a file")
    inside = INSIDE_STORE if found.suffix.lower() == ".zarr" else 0
    check_names(found, len(f"{HIDDEN}.journal.new") + inside)
    _check_inputs(found, inputs)
    _check_no_store_above(found)
    _check_target(found, overwrite)
    _check_folder(found, nbytes)
    return found


def _check_inputs(path: Path, inputs: Iterable[str | os.PathLike[str]]) -> None:
    for one in inputs:
        source = local_path(one) if os.fspath(one) else None
        source = source and file_of(source)
        if source is None or not source.exists():
            continue
        source, target = source.resolve(), path.resolve()
        if source in (hidden_name(target), aside_name(target)):
            raise UserError(
                f"{source} has a name that is used while {path.name} is written, and would be "
                "removed; rename it, or choose another name for the result"
            )
        if target == source or (path.exists() and os.path.samefile(path, source)):
            raise UserError(f"{path} is an input of this job; raw data are never overwritten")
        if target in source.parents and path.exists() and not _is_plain_folder(path):
            raise UserError(f"{path} holds an input of this job; raw data are never overwritten")
        if source.is_dir() and is_zarr(source) and source in target.parents:
            raise UserError(f"{path} is inside an input of this job; raw data are never altered")


def _check_no_store_above(path: Path) -> None:
    # a store is a folder, and easily entered by mistake in a file dialog
    if inside := next((folder for folder in path.parents if is_zarr(folder)), None):
        raise UserError(f"{path} would be inside the store {inside}: choose a folder outside it")


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not is_zarr(path)


def _check_target(path: Path, overwrite: bool) -> None:
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{path} is a device or a pipe; results are written to files only")
    if _is_plain_folder(path):
        raise UserError(f"{path} is a folder and will not be replaced by a file")
    if not overwrite:
        raise UserError(f"{path} exists already; use --overwrite to replace it")


def _check_folder(path: Path, nbytes: int) -> None:
    folder = path.parent
    while not folder.exists():
        if os.path.lexists(folder):
            raise UserError(f"{folder} is a link to a folder that does not exist")
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"{path} cannot be created: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be created: the folder {folder} may not be written to")
    longest = len(os.fsencode(f"{HIDDEN}{path.name}.journal"))
    most = MAX_NAME_BYTES
    with contextlib.suppress(OSError, ValueError, AttributeError):
        most = os.pathconf(folder, "PC_NAME_MAX")
    sizes = [(path.name, longest), *((part, len(os.fsencode(part))) for part in path.parts)]
    for name, size in sizes:
        if size > most:
            over = size - most
            raise UserError(f"the name {name[:40]}… is too long: shorten it by {over} bytes")
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise UserError(
            f"{path}: {_size(nbytes)} are needed, and {_size(free)} are free on its disk"
        )


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"


@contextmanager
def written(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a hidden path to write a file or a store to; rename it when the context ends.

    Parameters
    ----------
    path : Path
        As from `check_output`.
    overwrite : bool
        Whether an existing result may be replaced.

    Yields
    ------
    Path
        Where to write. The file or store is published on success, and removed on failure.

    Raises
    ------
    UserError
        If another job is writing it, or has created it meanwhile.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with written(file) as part:
    ...     _ = part.write_text("complete")
    >>> file.read_text(), len(list(file.parent.iterdir()))
    ('complete', 1)
    """
    with claimed(path):
        if os.path.lexists(path) and not overwrite:
            raise UserError(f"{path} exists already; use --overwrite to replace it")
        part = hidden_name(path)
        try:
            remove(part)
            yield part
            publish(part, path, overwrite)
        finally:
            with contextlib.suppress(OSError):  # if the disk is gone, so is the part
                remove(part)


def publish(part: Path, path: Path, overwrite: bool = False) -> None:
    """Rename a complete file or store to its final name, once all of it is on the disk.

    Parameters
    ----------
    part : Path
        The complete file or store.
    path : Path
        Its final name, in the same folder.
    overwrite : bool
        Whether to replace an existing result: a file atomically; a store by moving it aside first
        and removing it last.

    Raises
    ------
    UserError
        If the final name exists and may not be replaced. The part is kept.
    """
    sync(part)
    if not os.path.lexists(path):
        _rename_without_replacing(part, path)
    elif not overwrite:
        raise UserError(f"{path} exists already; use --overwrite to replace it")
    elif part.is_file() and path.is_file():
        replace(part, path)
    else:
        aside = aside_name(path)
        remove(aside)
        rename(path, aside)
        try:
            rename(part, path)
        except BaseException:
            rename(aside, path)
            raise
        sync_folder(path.parent)
        remove(aside)
    sync_folder(path.parent)


def _rename_without_replacing(part: Path, path: Path) -> None:
    if part.is_file():
        try:
            os.link(part, path)  # unlike a rename, this never replaces a file
        except FileExistsError:
            raise UserError(f"{path} exists already; use --overwrite to replace it") from None
        except OSError:
            pass  # the file system has no hard links
        else:
            os.unlink(part)
            return
    # renaming a folder can only replace an empty folder
    rename(part, path)


def sync(path: Path) -> None:
    """Flush a file, or all files of a store, to the disk."""
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                _sync_file(os.path.join(folder, name))
            sync_folder(Path(folder))
    else:
        _sync_file(path)


def sync_folder(folder: Path) -> None:
    """Flush the directory entries of a folder to the disk."""
    if os.name != "nt":  # Windows cannot open a folder
        _sync_file(folder)


def _sync_file(path: str | Path) -> None:
    number = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def remove(path: Path) -> None:
    """Remove a file or a whole store, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
