"""Draw the plots of docs/results.md from its own tables.

Run ``python docs/result_plots.py`` after a table has changed; it needs matplotlib.
"""

from __future__ import annotations

import re
from pathlib import Path

from concept_plots import BLUE, GREEN, GREY, ORANGE, STYLE, plt

DOCS = Path(__file__).parent
IMAGES = DOCS / "images" / "results"


def table_below(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading, without its header."""
    lines = page[page.index(heading) :].splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[begin:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[2:]


def number(cell: str) -> float:
    """Return the first number of a cell."""
    return float(re.findall(r"\d+\.\d+", cell)[0])


def plot(
    name: str, heading: str, label: int, columns: dict[int, tuple[str, str, str]], height: float
) -> None:
    """Draw a row of marks for every row of a table.

    Columns are given by number, with the name, the mark and the colour of each; `label` is the
    number of the column that names the rows.
    """
    rows = table_below((DOCS / "results.md").read_text("utf-8"), heading)
    figure, axis = plt.subplots(figsize=(7, height))
    for at, row in enumerate(rows):
        found = [number(row[column]) for column in columns]
        axis.plot([min(found), max(found)], [at, at], color=GREY, lw=0.8, alpha=0.6, zorder=0)
    for column, (text, mark, colour) in columns.items():
        found = [number(row[column]) for row in rows]
        axis.plot(found, range(len(rows)), mark, color=colour, label=text)
    names = [re.sub(r"[`*]", "", row[label]) for row in rows]
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
            1: ("raw", "o", GREY),
            2: ("Noise2Void", "s", ORANGE),
            3: ("BM3D, given the noise", "D", GREEN),
            4: ("this program", "^", BLUE),
        }
        plot("fmd", "### Compared with Noise2Void and BM3D", 0, columns, 3)
        columns = {
            2: ("noisy", "o", GREY),
            4: ("this program", "^", BLUE),
            5: ("supervised", "s", ORANGE),
        }
        plot("sixteen", "## The sixteen noise models", 1, columns, 4.6)
