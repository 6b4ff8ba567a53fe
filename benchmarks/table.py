"""Print a table row by row, and write it as CSV, from which pages are made."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).with_name("results")


def table(name: str, *columns: str) -> Callable[..., None]:
    """Begin ``results/NAME.csv``, print the header, and return a function that adds a row."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    path.write_text("", encoding="utf-8")

    def add(*cells: object) -> None:
        print(" | ".join(map(str, cells)), flush=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(cells)

    add(*columns)
    return add
