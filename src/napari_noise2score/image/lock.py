"""Locks, by which one job sees that another writes the same file."""

from __future__ import annotations

import contextlib
import errno
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

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
# seconds that the owner of a lock has to write who it is
LOCK_PATIENCE = 0.5
# what a file system without locks says
NO_LOCKS = {"ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL"}


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
