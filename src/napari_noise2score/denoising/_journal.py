"""Read and write the journal of a job: what the job is, and which blocks are finished."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..image.output import sync_folder
from ..image.system import replace

# names of the facts about a job, for messages
FACT_NAMES = {
    "model": "model", "noise": "noise", "noise content": "content of the noise file",
    "sigma_a": "sigma_a", "polish": "polish", "what": "kind of result", "files": "input",
    "shape": "size of the image", "pixels": "content of the image", "axes": "axes",
    "type": "type of the input's pixels",
    "dtype": "type of pixels", "tile": "tile", "ome_zarr": "version of OME-Zarr",
    "version": "version of napari-noise2score",
}  # fmt: skip
# a message contains the values of these facts, because the user can set them again
FACTS_TO_QUOTE = ("noise", "sigma_a", "what", "axes", "dtype", "tile", "ome_zarr", "version")


@dataclass
class Journal:
    """The journal of a job: one line of JSON for the job, and one for each finished block.

    Attributes
    ----------
    path : Path
        The file.
    facts : mapping
        What identifies the job: input, model, noise and options. Values are JSON.
    tile : tuple of int
        Current size of a tile in pixels; it is reduced when memory runs out.
    block : tuple of int
        Size of a block in pixels.
    done : set of int
        Numbers of the finished blocks.
    complete : bool
        Whether all blocks are finished, so that the result only has to be renamed.
    """

    path: Path
    facts: Mapping[str, Any]
    tile: tuple[int, ...]
    block: tuple[int, ...]
    done: set[int] = field(default_factory=set)
    complete: bool = False

    def begin(self) -> None:
        """Write the first line, once the file of the result has been created."""
        temporary = self.path.with_name(f"{self.path.name}.new")
        first = {"job": dict(self.facts), "tile": self.tile, "block": self.block}
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                _write_line(file, first)
            replace(temporary, self.path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def finish(self, number: int, tile: tuple[int, ...]) -> None:
        """Record that a block has been written, and the size of the tiles it was computed in."""
        line: dict[str, Any] = {"done": number}
        if tile != self.tile:
            line["tile"] = self.tile = tile
        # first, as an interrupt may arrive when the line is on the disk already
        self.done.add(number)
        self._append(line)

    def close(self) -> None:
        """Record that all blocks have been written."""
        self._append({"complete": True})
        self.complete = True

    def _append(self, line: Mapping[str, Any]) -> None:
        """Append a line to the existing file."""
        # the file is never created here: if it is missing, its disk was disconnected
        with open(os.open(self.path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8") as file:
            _write_line(file, line)


def _write_line(file: Any, line: Mapping[str, Any]) -> None:
    """Write a line, and wait until it is on the disk."""
    file.write(json.dumps(line) + "\n")
    file.flush()
    os.fsync(file.fileno())


def read_journal(path: Path) -> Journal | None:
    """Return the journal of an interrupted job; None if there is none.

    A last line that is incomplete is removed from the file.

    Raises
    ------
    UserError
        If the journal is damaged.
    """
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    # the last line may be incomplete
    lines = text.split("\n")[:-1]
    try:
        first, *rest = map(json.loads, lines)
        journal = Journal(path, dict(first["job"]), _sizes(first["tile"]), _sizes(first["block"]))
        for line in rest:
            if line.get("complete"):
                journal.complete = True
                continue
            journal.done.add(int(line["done"]))
            journal.tile = _sizes(line.get("tile", journal.tile))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise UserError(
            f"{path}: this journal is damaged: start the job again with --overwrite"
        ) from None
    complete_bytes = sum(len(line.encode()) + 1 for line in lines)
    if complete_bytes < path.stat().st_size:
        os.truncate(path, complete_bytes)
    return journal


def _sizes(values: Any) -> tuple[int, ...]:
    """Return a tuple of sizes; a `ValueError` unless they are positive."""
    sizes = tuple(int(n) for n in values)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"not the size of a tile: {values}")
    return sizes


def check_same(journal: Journal, facts: Mapping[str, Any]) -> None:
    """Raise a `UserError` that names what differs, if the journal belongs to another job."""
    facts = json.loads(json.dumps(facts))
    different = [key for key in facts if journal.facts.get(key) != facts[key]]
    if different:
        names = [
            FACT_NAMES[key] + (f" ({journal.facts.get(key)})" if key in FACTS_TO_QUOTE else "")
            for key in different
        ]
        raise UserError(
            f"{journal.path}: this job was begun with another {', '.join(names)}; "
            "finish it with the same one, or start again with --overwrite"
        )
