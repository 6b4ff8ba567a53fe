"""The pages of the documentation are consistent: tables, links, decisions, code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

import napari_noise2score
from napari_noise2score import Image, parse_noise, read_image, write_image
from napari_noise2score.noise.registry import families
from napari_noise2score.sample import simulate_cells

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = [p for p in PAGES if p.parent.name == "tutorials" and p.stem != "index"]
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


def test_the_tables_of_the_results_are_those_of_their_csv_files(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    script = importlib.import_module("result_tables")
    text = script.PAGE.read_text(encoding="utf-8")
    tables = script.tables_of(text)
    renewed = script.with_tables(text, tables, "result_tables")
    assert renewed == text, "run python docs/result_tables.py"
    assert text.count("\n|---|") == len(tables), "a table has no CSV file"


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


def test_every_leaf_of_the_decision_tree_is_a_noise_model():
    page = (ROOT / "docs" / "noise-models.md").read_text("utf-8")
    trees = re.findall(r'<div class="tree" markdown>(.*?)</div>', page, re.DOTALL)
    texts = [text for tree in trees for text in re.findall(r"`([^`]*)`", tree)]
    leaves = [text for text in texts if "(" in text]
    assert len(trees) == 2
    assert [str(parse_noise(text)) for text in leaves] == leaves
    named = {name for text in leaves for name in re.findall(r"\w+(?=\()", text)}
    assert named >= {family.name for family in families()} - {"empirical"}


def test_the_python_page_lists_every_public_name():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    listed = set(re.findall(r"^::: napari_noise2score\.(\w+)$", page, re.MULTILINE))
    assert listed == {name for name in napari_noise2score.__all__ if not name.startswith("_")}


@pytest.fixture(scope="module")
def tutorials():
    spec = importlib.util.spec_from_file_location("run_tutorials", ROOT / "docs/run_tutorials.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.parametrize("page", TUTORIALS, ids=page_name)
def test_a_tutorial_has_code_that_runs_pictures_and_limits(page, tutorials):
    text = page.read_text("utf-8")
    kinds = [block.kind for block in tutorials.blocks_of(text)]
    assert {"python", "picture"} <= {*kinds}
    assert "## What to check\n" in text
    assert "## When not to trust it\n" in text
    assert page.name in (ROOT / "mkdocs.yml").read_text("utf-8")
    # nothing else may take minutes when the pages are run for a check
    code = "".join(b.text for b in tutorials.blocks_of(text) if b.kind in {"python", "bash"})
    assert "minutes" not in tutorials.shortened(code, 8)


def test_the_gallery_shows_the_pictures_of_all_tutorials(tutorials):
    assert (ROOT / "docs" / "gallery.md").read_text("utf-8") == tutorials.gallery()
    pictures = [*tutorials.IMAGES.glob("*.jpg")]
    assert len(pictures) == 2 * len(TUTORIALS)
    assert sum(picture.stat().st_size for picture in pictures) < 1.5e6


def test_the_code_of_a_page_runs_in_order_and_a_failure_ends_it(tutorials, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = 6\n```\n<!-- not run: it would fail -->\n```python\nx = 1 / 0\n```\n"
        "```python\nprint(7 * x)\n```\n\n```text\n```\n"
    )
    tutorials.run_page(page, steps=None, write=True)
    assert page.read_text().endswith("```text\n42\n```\n")
    page.write_text("```bash\necho all right\nls missing\n```\n")
    with pytest.raises(SystemExit, match=r"page.md, line 2: .*missing"):
        tutorials.run_page(page, steps=None, write=False)


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
