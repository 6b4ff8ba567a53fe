"""The record of a job that may be cut off: what it is, and which of its blocks are finished."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError

WORDS = {
    "model": "model", "noise": "noise", "sigma_a": "sigma_a", "what": "kind of result",
    "source": "input", "shape": "size of the image", "pixels": "content of the image",
    "axes": "axes", "dtype": "type of pixels",
    "ome_zarr": "version of OME-Zarr", "version": "version of napari-noise2score",
}  # fmt: skip


# what a person can set back to what it was
LEGIBLE = ("noise", "sigma_a", "what", "axes", "dtype", "ome_zarr", "version")


@dataclass
class Record:
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
        Whether all are, and the store only needs its name.
    """

    path: Path
    facts: Mapping[str, Any]
    tile: tuple[int, ...]
    block: tuple[int, ...]
    done: set[int] = field(default_factory=set)
    complete: bool = False

    def begin(self) -> None:
        """Write the first line; the store has been made by then."""
        part = self.path.with_name(f"{self.path.name}.new")
        first = {"job": dict(self.facts), "tile": self.tile, "block": self.block}
        part.write_text(json.dumps(first) + "\n")
        os.replace(part, self.path)

    def finish(self, number: int, tile: tuple[int, ...]) -> None:
        """Note that a block is written, and the size of tile that it was computed in."""
        line: dict[str, Any] = {"done": number}
        if tile != self.tile:
            line["tile"] = self.tile = tile
        self.done.add(number)
        self._append(line)

    def close(self) -> None:
        """Note that all blocks are written."""
        self.complete = True
        self._append({"complete": True})

    def _append(self, line: Mapping[str, Any]) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")


def read_record(path: Path) -> Record | None:
    """Read what a job that was cut off has left; None if it left nothing."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    # the last line may have been cut off with the job
    lines = text.split("\n")[:-1]
    whole = sum(len(line) + 1 for line in lines)
    if whole < len(text):
        os.truncate(path, whole)
    try:
        first, *rest = map(json.loads, lines)
        record = Record(path, first["job"], tuple(first["tile"]), tuple(first["block"]))
        for line in rest:
            if line.get("complete"):
                record.complete = True
                continue
            record.done.add(int(line["done"]))
            record.tile = tuple(line.get("tile", record.tile))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: damaged; begin anew without resuming it") from None
    return record


def check_same(record: Record, facts: Mapping[str, Any]) -> None:
    """Raise a `UserError` that names what differs, if the record is of another job."""
    facts = json.loads(json.dumps(facts))
    different = [key for key in facts if record.facts.get(key) != facts[key]]
    if different:
        said = [
            WORDS[key] + (f" ({record.facts.get(key)})" if key in LEGIBLE else "")
            for key in different
        ]
        raise UserError(
            f"{record.path}: this job was begun with another {', '.join(said)}; "
            "finish it with the same, or begin anew without resuming it"
        )
