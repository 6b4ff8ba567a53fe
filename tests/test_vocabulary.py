"""Names in the source keep to the glossary."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import napari_noise2score

ROOT = Path(napari_noise2score.__file__).parent
#: Words with a standard term in their place, which the comment names.
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
PACKAGES = sorted({path.relative_to(ROOT).parts[0] for path in ROOT.rglob("*.py")})


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


def banned_names(package: str) -> list[str]:
    files = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] == package]
    found = [str(path.relative_to(ROOT)) for path in files if BANNED & {*words_of(path.stem)}]
    for path in files:
        for name, line in names_in(path.read_text()):
            if BANNED & {*words_of(name)}:
                found.append(f"{path.relative_to(ROOT)}:{line} {name}")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_is_made_of_a_banned_word(package):
    assert not banned_names(package)


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
