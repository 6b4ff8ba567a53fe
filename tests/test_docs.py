"""The pages of the documentation are consistent: tables, links, decisions, code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from napari_noise2score import Image, parse_noise, read_image, write_image
from napari_noise2score.noise.registry import families
from napari_noise2score.noise.tables import equation_table, parameter_table, summary_table
from napari_noise2score.sample import simulate_cells

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
MAX_LINES_PER_DECISION = 25


def page_name(page: Path) -> str:
    """Return the path of a page below the repository's root."""
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_row_of_a_table_has_as_many_cells_as_its_header(page):
    header = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("|"):
            header = None
            continue
        cells = len(re.sub(r"`[^`]*`|\\\|", "", line).strip().strip("|").split("|"))
        header = header or cells
        assert cells == header, f"{page.name}, line {number}: {cells} cells under {header}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_link_to_a_file_has_a_target(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", DECISIONS, ids=page_name)
def test_a_decision_is_short_dated_and_listed(page):
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES_PER_DECISION
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Context",
        "Decision",
        "Evidence",
        "What would change it",
    ]
    assert re.search(r"^20\d\d-\d\d-\d\d$", text, re.MULTILINE)
    assert page.name in (page.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "table"),
    [
        ("README.md", summary_table),
        ("docs/noise-models.md", summary_table),
        ("docs/noise-models.md", parameter_table),
        ("docs/method.md", equation_table),
    ],
)
def test_pages_contain_the_tables_of_the_registry(page, table):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert table() in text, f"put the output of {table.__name__}() into {page}"


def test_every_leaf_of_the_decision_tree_is_a_noise_model():
    page = (ROOT / "docs" / "noise-models.md").read_text("utf-8")
    trees = re.findall(r'<div class="tree" markdown>(.*?)</div>', page, re.DOTALL)
    texts = [text for tree in trees for text in re.findall(r"`([^`]*)`", tree)]
    leaves = [text for text in texts if "(" in text]
    assert len(trees) == 2
    assert [str(parse_noise(text)) for text in leaves] == leaves
    named = {name for text in leaves for name in re.findall(r"\w+(?=\()", text)}
    assert named >= {family.name for family in families()} - {"empirical"}


def first_python_block(page: str) -> str:
    """Return the code of the first Python block of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return text.split("```python\n")[1].split("```")[0]


@pytest.mark.slow
def test_the_python_examples_run(tmp_path, monkeypatch, capsys):
    noisy, _ = simulate_cells((4, 2, 64, 64))
    monkeypatch.chdir(tmp_path)
    write_image("stack.tif", Image(noisy, "TZYX"))
    names: dict[str, Any] = {}
    exec(first_python_block("README.md").replace("minutes=5", "steps=10"), names)
    assert "explains the noise" in capsys.readouterr().out
    assert names["clean"].data.shape == names["std"].data.shape == noisy.shape
    names["model"].save("cells.n2s")
    write_image("big.ome.zarr", names["image"])
    exec(first_python_block("docs/volumes.md"), names)
    assert read_image("clean.ome.zarr").data.shape == noisy.shape
