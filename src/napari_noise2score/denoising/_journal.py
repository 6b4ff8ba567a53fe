"""The journal of a job that may be cut off: what the job is, and which blocks are finished."""

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

# how each fact about a job is called; those that a person can set back to what they were are told
# with their value
NAMES = {
    "model": "model", "noise": "noise", "noise content": "content of the noise file",
    "sigma_a": "sigma_a", "what": "kind of result", "files": "input", "shape": "size of the image",
    "pixels": "content of the image", "axes": "axes", "type": "type of the input's pixels",
    "dtype": "type of pixels", "tile": "tile", "ome_zarr": "version of OME-Zarr",
    "version": "version of napari-noise2score",
}  # fmt: skip
TOLD = ("noise", "sigma_a", "what", "axes", "dtype", "tile", "ome_zarr", "version")


@dataclass
class Journal:
    """What is known of a job: one line of JSON for the job, one for each finished block.

    Attributes
    ----------
    path : Path
        The file.
    facts : mapping
        What the job is.
    tile : tuple of int
        Size of a tile, as it is now: it shrinks where memory runs out.
    block : tuple of int
        Size of a block.
    done : set of int
        Numbers of the finished blocks.
    complete : bool
        Whether all are, and the result only needs its name.
    """

    path: Path
    facts: Mapping[str, Any]
    tile: tuple[int, ...]
    block: tuple[int, ...]
    done: set[int] = field(default_factory=set)
    complete: bool = False

    def begin(self) -> None:
        """Write the first line; the file that the result grows in has been made by then."""
        part = self.path.with_name(f"{self.path.name}.new")
        first = {"job": dict(self.facts), "tile": self.tile, "block": self.block}
        try:
            with open(part, "w", encoding="utf-8") as file:
                _write_line(file, first)
            os.replace(part, self.path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def finish(self, number: int, tile: tuple[int, ...]) -> None:
        """Note that a block is on the disk, and the size of tile that it was computed in."""
        line: dict[str, Any] = {"done": number}
        if tile != self.tile:
            line["tile"] = self.tile = tile
        self._append(line)
        self.done.add(number)

    def close(self) -> None:
        """Note that all blocks are written."""
        self._append({"complete": True})
        self.complete = True

    def _append(self, line: Mapping[str, Any]) -> None:
        # never made anew: where it is gone, so is the disk it was on
        with open(os.open(self.path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8") as file:
            _write_line(file, line)


def _write_line(file: Any, line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()
    os.fsync(file.fileno())


def read_journal(path: Path) -> Journal | None:
    """Read what a job that was cut off has left; None if it left nothing.

    Raises
    ------
    UserError
        If it is damaged.
    """
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    # the last line may have been cut off with the job
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
            f"{path}: this journal is damaged: begin the job again with --overwrite"
        ) from None
    whole = sum(len(line.encode()) + 1 for line in lines)
    if whole < path.stat().st_size:
        os.truncate(path, whole)
    return journal


def _sizes(values: Any) -> tuple[int, ...]:
    sizes = tuple(int(n) for n in values)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"not the size of a tile: {values}")
    return sizes


def check_same(journal: Journal, facts: Mapping[str, Any]) -> None:
    """Raise a `UserError` that names what differs, if the journal is of another job."""
    facts = json.loads(json.dumps(facts))
    different = [key for key in facts if journal.facts.get(key) != facts[key]]
    if different:
        names = [
            NAMES[key] + (f" ({journal.facts.get(key)})" if key in TOLD else "")
            for key in different
        ]
        raise UserError(
            f"{journal.path}: this job was begun with another {', '.join(names)}; "
            "finish it with the same, or begin again with --overwrite"
        )
