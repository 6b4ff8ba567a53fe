"""Progress of a long job on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ._terminal import say


def track(
    run: Iterator[Any], name: str, describe: Callable[[Any], tuple[float, str]]
) -> Iterator[Any]:
    """Pass a job's progress on, with a bar on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=1.0, note="starting")
        for progress in run:
            done, note = describe(progress)
            bar.update(task, completed=done, note=note)
            yield progress


def follow(run: Iterator[Any], name: str) -> None:
    """Work through a job's tiles, with a bar on the terminal and a line for what happens."""
    for progress in track(run, name, lambda p: (p.done / p.total, f"tile {p.done} of {p.total}")):
        if progress.note:
            say(f"{name}: {progress.note}")
