"""Run a generator on a background thread, and report its progress to the window."""

from __future__ import annotations

import atexit
import contextlib
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

from napari.qt.threading import GeneratorWorker, create_worker
from napari.utils.notifications import Notification, notification_manager, show_error
from qtpy.QtCore import Qt, QThreadPool
from superqt.utils import WorkerBase

from ..errors import explain, one_line
from ..fault_log import write_log

PERIOD = 0.1  # seconds between two messages to the window


@atexit.register
def _end_workers() -> None:
    """Wait for every job to end while Qt still exists.

    napari does so when its event loop quits; a script that closes its viewer has no such loop.
    """
    with contextlib.suppress(RuntimeError):  # a job took longer
        WorkerBase.await_workers(30_000)


class Failure(NamedTuple):
    """An exception that ended a job, carried to the window's thread."""

    error: Exception


def start(
    steps: Generator[Any, None, None],
    *,
    yielded: Callable[[list[Any]], None],
    returned: Callable[[Failure | None], None],
    finished: Callable[[], None] | None = None,
    warned: Callable[[tuple[Any, ...]], None] | None = None,
) -> GeneratorWorker:
    """Run a generator on a background thread until it ends or ``worker.quit()`` is called.

    Parameters
    ----------
    steps : generator
        The job. It is closed on the background thread when the worker quits.
    yielded : callable
        Called a few times a second with a list of what was yielded since the last call.
    returned : callable
        Called with None when the generator ends, or with its `Failure`. Not called after
        ``quit``.
    finished : callable, optional
        Called last, however the job ended.
    warned : callable, optional
        Called with each warning as ``(message, category, ...)``.

    Returns
    -------
    GeneratorWorker
        The running worker. The callables run on the window's thread; as methods of a
        QObject they are dropped when that object is destroyed.
    """
    groups = _grouped(steps)

    def work() -> Generator[list[Any], None, Failure | None]:
        # the worker takes a RuntimeError, which torch raises when memory is short, for its own
        # deletion and would never report the end: so return every error instead
        try:
            yield from groups
        except Exception as error:
            return Failure(error)
        return None

    work.__qualname__ = "noise2score"  # the name that napari shows if it is closed meanwhile
    worker = create_worker(work, _start_thread=False)
    worker.yielded.connect(yielded)
    worker.returned.connect(returned)
    if finished is not None:
        worker.finished.connect(finished)
    if warned is not None:
        worker.warned.connect(warned)
    # directly, that is on the background thread, as cleaning up may take a while
    worker.aborted.connect(groups.close, Qt.ConnectionType.DirectConnection)
    worker.start()
    return worker


def _grouped(steps: Generator[Any, None, None]) -> Generator[list[Any], None, None]:
    """Yield what the steps yield in groups, at most one each `PERIOD`."""
    group: list[Any] = []
    last = 0.0
    # napari has as many threads as the machine has cores: give this one's place back, so that
    # short jobs do not wait for a long training
    pool = QThreadPool.globalInstance()
    assert pool is not None
    pool.releaseThread()
    try:
        for step in steps:
            group.append(step)
            if time.monotonic() - last >= PERIOD:
                yield group
                group, last = [], time.monotonic()
        if group:
            yield group
    finally:
        pool.reserveThread()
        steps.close()


def report(error: Exception, again_on_cpu: Callable[[], None] | None = None) -> None:
    """Show an error as a napari notification: one line if the user can correct it.

    Parameters
    ----------
    error : Exception
        What went wrong.
    again_on_cpu : callable, optional
        What a button calls that is offered when a graphics card ran out of memory.
    """
    if is_out_of_memory(error):
        button = [("Use the processor", lambda _notice: again_on_cpu())] if again_on_cpu else []
        notification_manager.dispatch(Notification(message_of(error), "error", actions=button))
    elif explain(error):
        show_error(message_of(error))
    else:
        notification_manager.receive_error(type(error), error, error.__traceback__)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether the memory of a graphics card was too small."""
    return isinstance(error, RuntimeError) and "out of memory" in str(error).lower()


def message_of(error: Exception) -> str:
    """Return an error as one line for the person at the window."""
    if is_out_of_memory(error):
        return (
            "The graphics card ran out of memory. Close other programs that use it, or set "
            "Device to cpu; on the command line, a smaller --tile needs less."
        )
    if message := explain(error):
        return message
    fault = one_line(f"{type(error).__name__}: {error}"[:150])
    with contextlib.suppress(OSError):
        return (
            f"A fault of this program, not of yours ({fault}). Please report it with {log(error)}"
        )
    return f"A fault of this program, not of yours ({fault})."


def log(error: Exception) -> Path:
    """Write the traceback of an error to a file, once, and return its path."""
    if (path := getattr(error, "noise2score_log", None)) is None:
        path = write_log(error)
        error.noise2score_log = path  # type: ignore[attr-defined]
    return path
