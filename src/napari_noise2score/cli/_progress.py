"""Show the progress of a long job on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from ..progress import Progress, run_to_end
from ._terminal import say

T = TypeVar("T")


def track(
    run: Iterator[Any], name: str, describe: Callable[[Any], tuple[float, str]]
) -> Iterator[Any]:
    """Yield the progress of a job while showing it as a bar on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as ProgressBar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with ProgressBar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=1.0, note="starting")
        for progress in run:
            done, note = describe(progress)
            bar.update(task, completed=done, note=note)
            yield progress


def finish(run: Iterator[Progress[T]], name: str) -> T:
    """Run a job to its result, with a bar on the terminal."""
    result: T = run_to_end(track(run, name, lambda p: (p.fraction, "")))
    return result


def follow(run: Generator[Progress[Any]], name: str) -> None:
    """Run a job to its end, with a progress bar and a line for each message.

    An interrupt reaches the job wherever it arrives, so that the job can add a note to it that
    says what is kept; each note is printed as a line.
    """
    try:
        for progress in track(run, name, lambda p: (p.fraction, f"tile {p.done} of {p.total}")):
            if progress.message:
                say(f"{name}: {progress.message}")
    except BaseException as error:
        try:
            run.throw(error)  # raises it again; no effect if the job itself has raised it
        finally:
            for note in getattr(error, "__notes__", []):
                say(note)
