"""The terminal's side of a program: how warnings, errors and faults reach the person at it."""

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

MISTAKE = 2
FAULT = 70
INTERRUPTED = 130
MAX_WARNINGS = 20  # of one run: a folder of a thousand files may have the same thing to say of each


def say(message: str) -> None:
    """Print a line for the person at the terminal, beside what the command prints."""
    print(one_line(message), file=sys.stderr)


@contextmanager
def plain_warnings(debug: bool = False) -> Iterator[None]:
    """Print each `DataWarning` once as a line, and keep all other warnings off the terminal.

    Parameters
    ----------
    debug : bool
        Whether to let all of them through as they are.
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
            print(f"{PROGRAM}: warning: and more of the kind", file=sys.stderr)

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
    """Let a request to terminate end the program as Ctrl-C does: cleared up, and resumable."""
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
    """Hold an interrupt back until a step is complete; a second one is not held back.

    Yields
    ------
    callable
        To be called between two steps: raises the ``KeyboardInterrupt`` that was held back.
    """
    held: list[int] = []

    def check() -> None:
        if held:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield check
        return

    def hold(number: int, _frame: Any) -> None:
        check()
        held.append(number)

    before = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(command: Callable[[], int | None], debug: bool = False) -> int:
    """Run a command and return its exit code; whatever it raises is one line.

    Parameters
    ----------
    command : callable
        What to run.
    debug : bool
        Whether to show the traceback of an error.

    Returns
    -------
    int
        0; 2 for a mistake of the person's or data that cannot answer; 70 for a fault of this
        program; 130 when interrupted.

    Examples
    --------
    >>> run(lambda: None)
    0
    """
    with plain_warnings(debug):
        code = _run(command, debug)
        if code:
            gc.collect()  # what a failed job leaves may warn when it is collected
        return code


def _run(command: Callable[[], int | None], debug: bool) -> int:
    try:
        with terminate_as_interrupt():
            return command() or 0
    except KeyboardInterrupt:
        print(f"{PROGRAM}: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # who read what is printed has gone, as `| head` does; nothing can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return MISTAKE
    except Exception as error:
        if debug:
            traceback.print_exc()
        if said := explain(error):
            print(f"{PROGRAM}: {said}", file=sys.stderr)
            return MISTAKE
        print(f"{PROGRAM}: {_fault(error)}", file=sys.stderr)
        return FAULT


def _fault(error: Exception) -> str:
    said = one_line(f"{type(error).__name__}: {error}"[:150])
    try:
        log = write_log(error)
    except OSError:
        return f"a fault of this program, not of yours ({said}); --debug shows where"
    return f"a fault of this program, not of yours ({said}); please report it with {log}"
