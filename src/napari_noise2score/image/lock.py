"""Lock files that keep two jobs from writing the same output."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from ..errors import UserError
from .system import remove_after_closing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
msvcrt: Any = importlib.import_module("msvcrt") if os.name == "nt" else None

LOCK = ".lock"
LOCKED_BYTE = 2**30  # beyond the name of the owner, which others may read
# seconds to wait until the owner of a lock has written its name
MAX_WAIT_FOR_OWNER = 0.5
# error codes of file systems without locks
NO_LOCKS = {"ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL"}


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Lock an output path against other jobs for the duration of the context.

    Missing folders are created; they are removed again if the context fails and leaves them empty.

    Parameters
    ----------
    path : Path
        As from `check_output`.

    Raises
    ------
    UserError
        If another job is writing it. The message names its host, process and start time.
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
        raise UserError(f"{path} cannot be created: {error.strerror or error}") from None
    try:
        with contextlib.suppress(
            OSError
        ):  # on a full disk, the lock works without its owner's name
            file.truncate(0)
            file.write(json.dumps(_this_process()))
            file.flush()
        yield
    finally:
        # unlink before closing: once closed, another job may hold the file
        with contextlib.suppress(OSError):
            lock.unlink(missing_ok=True)
        file.close()
        remove_after_closing(lock)


def _open_lock(lock: Path, path: Path) -> IO[str]:
    """Return the lock file, open and locked; a stale lock is taken over."""
    while True:
        file = open(lock, "a+")  # noqa: SIM115
        try:
            if not _hold(file):
                raise UserError(_busy(lock, path))
            # the previous owner may have removed it after it was opened here
            if os.path.exists(lock) and os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _hold(file: IO[str]) -> bool:
    """Lock an open lock file; return False if another process holds the lock."""
    if msvcrt is not None:
        os.lseek(file.fileno(), LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            return True
        except OSError:
            return False
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            if errno.errorcode.get(error.errno or 0) not in NO_LOCKS:
                raise
    # without system locks, rely on the owner named in the file
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
        return True  # processes of another host cannot be checked
    import psutil

    return isinstance(owner.get("process"), int) and psutil.pid_exists(owner["process"])


def _busy(lock: Path, path: Path) -> str:
    until = time.monotonic() + MAX_WAIT_FOR_OWNER
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
