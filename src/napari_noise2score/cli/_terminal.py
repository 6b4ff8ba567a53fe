"""Report warnings, errors and faults of a command on the terminal."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import DataWarning, explain, one_line
from ..fault_log import PROGRAM, write_log

EXIT_USER_ERROR = 2
EXIT_FAULT = 70
EXIT_INTERRUPTED = 130
OUT_OF_MEMORY = f"{PROGRAM}: memory ran out: close other programs\n".encode()
MAX_WARNINGS = 20  # per run: every file of a large folder may cause the same warning


def say(message: str) -> None:
    """Print a line to the standard error stream."""
    print(one_line(message), file=sys.stderr)


@contextmanager
def plain_warnings(debug: bool = False) -> Iterator[None]:
    """Print each `DataWarning` once, as one line, and suppress all other warnings.

    Parameters
    ----------
    debug : bool
        Whether to show all warnings unchanged.
    """
    if debug:
        yield
        return
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = str(message)
        if not issubclass(category, DataWarning) or text in seen:
            return
        seen.add(text)
        if len(seen) <= MAX_WARNINGS:
            print(f"{PROGRAM}: warning: {one_line(text)}", file=sys.stderr)
        elif len(seen) == MAX_WARNINGS + 1:
            print(f"{PROGRAM}: warning: further warnings are not shown", file=sys.stderr)

    last_resort, logging.lastResort = logging.lastResort, None
    raise_errors, logging.raiseExceptions = logging.raiseExceptions, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", DataWarning)
            warnings.showwarning = show
            yield
    finally:
        logging.lastResort, logging.raiseExceptions = last_resort, raise_errors


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that a terminated job is cleaned up and can be resumed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], None]]:
    """Defer an interrupt until the current step is complete; a second interrupt acts at once.

    Yields
    ------
    callable
        To be called between two steps: raises the deferred ``KeyboardInterrupt``, if any.
    """
    deferred: list[int] = []

    def check() -> None:
        if deferred:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield check
        return

    def defer(number: int, _frame: Any) -> None:
        check()
        deferred.append(number)

    before = {number: signal.signal(number, defer) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(command: Callable[[], int | None], debug: bool = False) -> int:
    """Run a command and return its exit code; report any exception as one line.

    Parameters
    ----------
    command : callable
        What to run.
    debug : bool
        Whether to show the traceback of an error.

    Returns
    -------
    int
        0 on success; 2 for a mistake of the user or unsuitable data; 70 for a fault of this
        program; 130 if interrupted.

    Examples
    --------
    >>> run(lambda: None)
    0
    """
    for stream in (sys.stdout, sys.stderr):
        # a terminal of Windows may have no µ or σ
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")
    try:
        with plain_warnings(debug):
            code = _run(command, debug)
            if code:
                gc.collect()  # objects left by a failed job may warn when they are collected
            return code
    except MemoryError:
        # too little is left to word a message
        os.write(2, OUT_OF_MEMORY)
        return EXIT_USER_ERROR


def _run(command: Callable[[], int | None], debug: bool) -> int:
    try:
        with terminate_as_interrupt():
            return command() or 0
    except KeyboardInterrupt:
        print(f"{PROGRAM}: stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # the reader of our output has closed it, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_USER_ERROR
    except Exception as error:
        if debug:
            traceback.print_exc()
        if said := explain(error):
            print(f"{PROGRAM}: {said}", file=sys.stderr)
            return EXIT_USER_ERROR
        print(f"{PROGRAM}: {_fault(error)}", file=sys.stderr)
        return EXIT_FAULT


def _fault(error: Exception) -> str:
    said = one_line(f"{type(error).__name__}: {error}"[:150])
    try:
        log = write_log(error)
    except OSError:
        return f"a fault of this program, not of yours ({said}); --debug shows where"
    return f"a fault of this program, not of yours ({said}); please report it with {log}"
