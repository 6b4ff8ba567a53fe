"""The one way in which anything is written: claimed, complete or not at all, never over an input.

A result grows under a hidden name beside its own, behind a lock that another job sees, and gets
its name by a rename when all of it is on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import UserError
from .paths import is_zarr, local_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HIDDEN = ".part-"
LOCK = ".lock"
MAX_NAME_BYTES = 255  # of most file systems, where the system does not say
ZEROS_WRITTEN_AT_ONCE = 2**24  # bytes
# seconds that the owner of a lock has to write who it is
LOCK_PATIENCE = 0.5
# what a system without locks of files says
NO_LOCKS = {"ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL"}


def hidden_name(path: Path) -> Path:
    """Return the name under which a result grows until it is complete."""
    return path.with_name(f"{HIDDEN}{path.name}")


def check_output(
    path: str | os.PathLike[str],
    *,
    inputs: Iterable[str | os.PathLike[str]] = (),
    overwrite: bool = False,
    nbytes: int = 0,
) -> Path:
    """Raise a `UserError` if a file or store cannot be written there; change nothing.

    Parameters
    ----------
    path : path-like
        Where it would be written.
    inputs : iterable of path-like
        What the job reads: files, stores, models, configurations. None of it may be replaced.
    overwrite : bool
        Whether a file or a store that exists may be replaced.
    nbytes : int
        Bytes that are needed, 0 if that is not known beforehand.

    Returns
    -------
    Path
        The path on the disk, with symbolic links to files resolved.

    Raises
    ------
    UserError
        If it is no place on a disk, is an input or part of one, exists already, is neither a file
        nor a store, cannot be made, has too long a name, or is too large for the disk.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a.npy"
    >>> np.save(file, np.zeros(3))
    >>> check_output(file, inputs=[file], overwrite=True)
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.UserError: .../a.npy is an input of this job; raw data are never ...
    """
    found = local_path(path)
    if found is None:
        raise UserError(f"{path}: results are written to a disk, not through the network")
    if os.path.islink(found):
        if not found.exists():
            raise UserError(f"{found} is a link to a file that does not exist")
        found = found.resolve()
    if not found.name:
        raise UserError(f"{found}: give the name of a file")
    _check_inputs(found, inputs)
    _check_no_store_above(found)
    _check_target(found, overwrite)
    _check_folder(found, nbytes)
    return found


def _check_inputs(path: Path, inputs: Iterable[str | os.PathLike[str]]) -> None:
    for one in inputs:
        source = local_path(one) if os.fspath(one) else None
        if source is None or not source.exists():
            continue
        source, target = source.resolve(), path.resolve()
        if target == source or (path.exists() and os.path.samefile(path, source)):
            raise UserError(f"{path} is an input of this job; raw data are never overwritten")
        if target in source.parents and path.exists() and not _is_plain_folder(path):
            raise UserError(f"{path} holds an input of this job; raw data are never overwritten")
        if source.is_dir() and is_zarr(source) and source in target.parents:
            raise UserError(f"{path} lies in an input of this job; raw data are never altered")


def _check_no_store_above(path: Path) -> None:
    # a store is a folder, which is easily entered by mistake
    if inside := next((folder for folder in path.parents if is_zarr(folder)), None):
        raise UserError(f"{path} would lie in the store {inside}: choose a folder beside it")


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
        raise UserError(f"{path} cannot be made: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be made: the folder {folder} may not be written to")
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
def claimed(path: Path) -> Iterator[None]:
    """Hold a path against any other job that would write it, until the block ends.

    The folders above it are made, and removed again if the block fails and leaves them empty.

    Parameters
    ----------
    path : Path
        As from `check_output`.

    Raises
    ------
    UserError
        If another job writes it; with its host, process and start time.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # it is not empty, or another job removed it
                folder.rmdir()
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path.with_name(f".{path.name}{LOCK}")
    try:
        file = _open_lock(lock, path)
    except OSError as error:
        raise UserError(f"{path} cannot be made: {error.strerror or error}") from None
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without its owner's name
            file.truncate(0)
            file.write(json.dumps(_this_process()))
            file.flush()
        yield
    finally:
        # no longer: once it is closed another job may take it
        with contextlib.suppress(OSError):
            lock.unlink(missing_ok=True)
        file.close()


def _open_lock(lock: Path, path: Path) -> IO[str]:
    """Return the lock file, open and held; a lock that nobody holds any more is taken over."""
    while True:
        file = open(lock, "a+")  # noqa: SIM115
        try:
            if not _hold(file):
                raise UserError(_busy(lock, path))
            # its owner may have removed it between both
            if os.path.exists(lock) and os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _hold(file: IO[str]) -> bool:
    """Take hold of an open lock file; False if another process has it."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            if errno.errorcode.get(error.errno or 0) not in NO_LOCKS:
                raise
    # without locks of the system, what stands in the file must do
    return not _is_running(_owner(file))


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }


def _owner(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        owner = json.loads(file.read())
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_running(owner: dict[str, Any]) -> bool:
    if not owner:
        return False
    if owner.get("host") != socket.gethostname():
        return True  # that cannot be told from here
    import psutil

    return isinstance(owner.get("process"), int) and psutil.pid_exists(owner["process"])


def _busy(lock: Path, path: Path) -> str:
    until = time.monotonic() + LOCK_PATIENCE
    owner: dict[str, Any] = {}
    while not owner and time.monotonic() < until:
        with contextlib.suppress(OSError), open(lock) as file:
            owner = _owner(file)
        time.sleep(0.02)
    who = "another job"
    if owner:
        who = (
            f"another job (process {owner.get('process')} on {owner.get('host')}, "
            f"since {owner.get('since')})"
        )
    return f"{path} is being written by {who}; wait for it, or choose another name"


@contextmanager
def written(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give a hidden path to write a file or a store to; it gets its name when the block ends.

    Parameters
    ----------
    path : Path
        As from `check_output`.
    overwrite : bool
        Whether what is there may be replaced.

    Yields
    ------
    Path
        What is written there is published, or removed if the block fails.

    Raises
    ------
    UserError
        If another job writes it, or it has come into being meanwhile.

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
            with contextlib.suppress(OSError):  # where the disk is gone so is the part
                remove(part)


def publish(part: Path, path: Path, overwrite: bool = False) -> None:
    """Give a complete file or store its name, once all of it is on the disk.

    Parameters
    ----------
    part : Path
        The complete file or store.
    path : Path
        Its name, in the same folder.
    overwrite : bool
        Whether to replace what has that name: a file at one stroke, a store by moving it aside
        first and removing it last.

    Raises
    ------
    UserError
        If something has that name and may not be replaced; the part is left as it is.
    """
    sync(part)
    if not os.path.lexists(path):
        _rename_without_replacing(part, path)
    elif not overwrite:
        raise UserError(f"{path} exists already; use --overwrite to replace it")
    elif part.is_file() and path.is_file():
        os.replace(part, path)
    else:
        aside = path.with_name(f".old-{path.name}")
        remove(aside)
        os.rename(path, aside)
        try:
            os.rename(part, path)
        except BaseException:
            os.rename(aside, path)
            raise
        sync_folder(path.parent)
        remove(aside)
    sync_folder(path.parent)


def _rename_without_replacing(part: Path, path: Path) -> None:
    if part.is_file():
        try:
            os.link(part, path)  # unlike a rename this never replaces a file
        except FileExistsError:
            raise UserError(f"{path} exists already; use --overwrite to replace it") from None
        except OSError:
            pass  # a file system without hard links
        else:
            os.unlink(part)
            return
    # a folder replaces nothing but an empty folder
    os.rename(part, path)


def sync(path: Path) -> None:
    """Return when a file, or a store with all that is in it, is on the disk."""
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                _sync_file(os.path.join(folder, name))
            sync_folder(Path(folder))
    else:
        _sync_file(path)


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk."""
    if os.name != "nt":  # where a folder cannot be opened
        _sync_file(folder)


def _sync_file(path: str | Path) -> None:
    number = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def remove(path: Path) -> None:
    """Remove a file, or a store with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class FileArray:
    """An array in a file, written by index with ordinary writes.

    A memory map would end the whole process where the disk is full: here that is an error.

    Parameters
    ----------
    path : Path
        A file that exists; it is made as long as the array needs, and that room is taken at once.
    dtype : numpy.dtype
        Type of the pixels, as they lie in the file.
    shape : sequence of int
        Shape of the array, in C order.
    offset : int
        Bytes before the first pixel.

    Raises
    ------
    OSError
        If the disk is too small.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "pixels"
    >>> file.touch()
    >>> target = FileArray(file, np.dtype("u1"), (2, 3))
    >>> target[1, 1:] = [7, 8]
    >>> target.close()
    >>> list(file.read_bytes())
    [0, 0, 0, 0, 7, 8]
    """

    def __init__(self, path: Path, dtype: np.dtype, shape: Sequence[int], offset: int = 0):
        self.dtype, self.shape, self.offset = np.dtype(dtype), tuple(shape), offset
        sizes = [*self.shape[1:], 1]
        self._strides = [int(s) * self.dtype.itemsize for s in np.cumprod(sizes[::-1])[::-1]]
        self._lock = threading.Lock()
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115
        try:
            count = int(np.prod(self.shape, dtype=np.int64))
            _allocate(self._file, offset, count * self.dtype.itemsize)
        except BaseException:
            self._file.close()
            raise

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __setitem__(self, index: Any, values: Any) -> None:
        spans = self._spans(index)
        kept = [stop - start for start, stop, whole in spans if whole]
        block = np.broadcast_to(np.asarray(values, dtype=self.dtype), kept)
        sizes = [stop - start for start, stop, _ in spans]
        block = np.ascontiguousarray(block).reshape(sizes)
        # what lies in one piece in the file is written in one piece
        first = len(sizes)
        while first > 0 and sizes[first:] == list(self.shape[first:]):
            first -= 1
        for at in np.ndindex(*sizes[:first]):
            starts = [start + n for (start, _, _), n in zip(spans, at, strict=False)]
            starts += [start for start, _, _ in spans[first:]]
            place = sum(n * stride for n, stride in zip(starts, self._strides, strict=True))
            self._write(self.offset + place, block[at].tobytes())

    def _spans(self, index: Any) -> list[tuple[int, int, bool]]:
        """Return start and stop along each axis, and whether the index keeps that axis."""
        parts = list(index) if isinstance(index, tuple) else [index]
        if Ellipsis in [p for p in parts if p is Ellipsis]:
            at = next(i for i, p in enumerate(parts) if p is Ellipsis)
            parts[at : at + 1] = [slice(None)] * (self.ndim - len(parts) + 1)
        parts += [slice(None)] * (self.ndim - len(parts))
        spans = []
        for part, n in zip(parts, self.shape, strict=True):
            if isinstance(part, slice):
                start, stop, step = part.indices(n)
                if step != 1:
                    raise IndexError("only whole ranges can be written")
                spans.append((start, max(start, stop), True))
            else:
                at = range(n)[part]
                spans.append((at, at + 1, False))
        return spans

    def _write(self, place: int, data: bytes) -> None:
        view = memoryview(data)
        with self._lock:
            self._file.seek(place)
            while view:
                view = view[self._file.write(view) :]

    def sync(self) -> None:
        """Return when the disk has what was written."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; what was written is on its way to the disk."""
        self._file.close()


def _allocate(file: Any, offset: int, nbytes: int) -> None:
    """Make a file so long that the pixels have room, and take that room at once."""
    if not nbytes:
        return
    size = os.fstat(file.fileno()).st_size
    try:
        os.posix_fallocate(file.fileno(), offset, nbytes)
        return
    except AttributeError:
        pass  # neither Windows nor macOS has it
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
    file.seek(size)
    left = offset + nbytes - size
    while left > 0:
        left -= file.write(bytes(min(left, ZEROS_WRITTEN_AT_ONCE)))
