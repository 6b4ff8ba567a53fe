"""Draw the plots of docs/results.md from the CSV files of its tables.

Run ``python docs/result_plots.py`` after a CSV file has changed; it needs matplotlib.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from concept_plots import BLUE, GREEN, GREY, ORANGE, STYLE, plt
from result_tables import DOCS, Rows, fmd, read_csv

IMAGES = DOCS / "images" / "results"


def number(cell: str) -> float:
    """Return the first number of a cell."""
    return float(re.findall(r"\d+\.\d+", cell)[0])


def plot(
    name: str, table: Rows, label: str, columns: dict[str, tuple[str, str, str]], height: float
) -> None:
    """Draw a row of marks for every row of a table.

    Columns are given by their header, with the name, the mark and the colour of each; `label` is
    the column that names the rows.
    """
    header, *rows = table

    def values(column: str) -> Sequence[float]:
        return [number(row[header.index(column)]) for row in rows]

    figure, axis = plt.subplots(figsize=(7, height))
    for at, found in enumerate(zip(*map(values, columns), strict=True)):
        axis.plot([min(found), max(found)], [at, at], color=GREY, lw=0.8, alpha=0.6, zorder=0)
    for column, (text, mark, colour) in columns.items():
        axis.plot(values(column), range(len(rows)), mark, color=colour, label=text)
    names = [re.sub(r"[`*]", "", row[header.index(label)]) for row in rows]
    axis.set_yticks(range(len(rows)), names)
    axis.invert_yaxis()
    axis.set_xlabel("PSNR (dB), more is better")
    axis.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=len(columns), fontsize=9)
    figure.tight_layout()
    figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    IMAGES.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        columns = {
            "raw": ("raw", "o", GREY),
            "GAT + BM3D, given the noise": ("BM3D, given the noise", "D", GREEN),
            "this program": ("this program", "^", BLUE),
        }
        plot("fmd", fmd(), "field", columns, 4.6)
        columns = {
            "raw": ("raw", "o", GREY),
            "Noise2Void": ("Noise2Void", "s", ORANGE),
            "GAT + BM3D, given the noise": ("BM3D, given the noise", "D", GREEN),
            "this program, `--noise auto`": ("this program", "^", BLUE),
        }
        plot("noise2void", read_csv("fmd_noise2void"), "field", columns, 3)
        columns = {
            "noisy": ("noisy", "o", GREY),
            "table": ("this program", "^", BLUE),
            "supervised": ("supervised", "s", ORANGE),
        }
        plot("sixteen", read_csv("sixteen"), "noise", columns, 4.6)
