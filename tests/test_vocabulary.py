"""Names in the source, the tests and the benchmarks use the standard terms of the field."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import napari_noise2score

SOURCE = Path(napari_noise2score.__file__).parent
TESTS = Path(__file__).parent
BENCHMARKS = TESTS.parent / "benchmarks"
#: Words that must not be used in names; the comment names the standard term.
BANNED = {
    "wave",  # basis function, or power of a frequency band
    "waves",
    "told",  # reported, or the name of what is passed on
    "telling",
    "spell",  # format, or text
    "spelling",
    "shots",  # frames, or repeats
    "light",  # intensity
    "lie",
    "room",  # space, or margin
    "chance",  # rng
    "parts",
    "unsure",
}
#: Each package and top-level module of the source, and the other folders with Python files.
PLACES = [
    *sorted({*SOURCE.glob("*.py"), *(p.parent for p in SOURCE.glob("*/*.py"))}),
    TESTS,
    BENCHMARKS,
]


def names_in(source: str) -> Iterator[tuple[str, int]]:
    """Yield each name that a module defines, and its line; not those of others that it uses."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno
            case ast.alias(asname=str()):
                yield node.asname, node.lineno
            case ast.ExceptHandler(name=str()) | ast.MatchAs(name=str()):
                yield node.name, node.lineno


def words_of(name: str) -> list[str]:
    """Return the words of a name, between underscores and where the case changes."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def banned_names(place: Path) -> list[str]:
    """Return the banned names in a file, or in all files of a folder, with their lines."""
    found = []
    for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
        if BANNED & {*words_of(path.stem)}:
            found.append(path.name)
        for name, line in names_in(path.read_text("utf-8")):
            if BANNED & {*words_of(name)}:
                found.append(f"{path.name}:{line} {name}")
    return found


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.stem)
def test_no_name_contains_a_banned_word(place):
    assert not banned_names(place)


def test_all_python_files_are_checked():
    checked = {path for place in PLACES for path in (place, *place.rglob("*.py"))}
    assert {*SOURCE.rglob("*.py"), *TESTS.rglob("*.py"), *BENCHMARKS.rglob("*.py")} <= checked


def test_a_banned_name_is_found_in_files_and_folders(tmp_path):
    (tmp_path / "light.py").write_text("def level(room):\n    shots = 1\n")
    expected = ["light.py", "light.py:1 room", "light.py:2 shots"]
    assert sorted(banned_names(tmp_path)) == sorted(banned_names(tmp_path / "light.py")) == expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("light_level", ["light", "level"]),
        ("highlight", ["highlight"]),
        ("LightLevel", ["light", "level"]),
        ("N_WAVES", ["n", "waves"]),
        ("readOMEParts2", ["read", "ome", "parts"]),
        ("_told_apart", ["told", "apart"]),
    ],
)
def test_a_name_is_split_into_its_words(name, words):
    assert words_of(name) == words


def test_names_are_found_wherever_they_are_defined():
    source = "import os as room\nclass Lie:\n  def shots(self, light=1):\n    self.told = light"
    assert {name for name, _ in names_in(source)} == {
        "room", "Lie", "shots", "self", "light", "told",
    }  # fmt: skip
