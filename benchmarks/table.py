"""Print a table row by row, and write it as CSV.

``python docs/result_tables.py`` makes the tables of docs/results.md from these files.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def table(name: str, *columns: str) -> Callable[..., None]:
    """Begin ``docs/results/NAME.csv``, print the header, and return a function that adds a row."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    path.write_text("", encoding="utf-8")

    def add(*cells: object) -> None:
        print(" | ".join(map(str, cells)), flush=True)
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(cells)

    add(*columns)
    return add
