"""The pages of the documentation hold together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_row_of_a_table_has_the_cells_of_its_head(page):
    head = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("|"):
            head = None
            continue
        cells = len(re.sub(r"`[^`]*`|\\\|", "", line).strip().strip("|").split("|"))
        head = head or cells
        assert cells == head, f"{page.name}, line {number}: {cells} cells under {head}"
