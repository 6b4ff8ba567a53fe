"""Packages import downwards only, without a circle, and without what they do not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

import napari_noise2score

ROOT = Path(napari_noise2score.__file__).parent
NAME = napari_noise2score.__name__
#: From the bottom up; a package imports from itself and from what is above it in this list.
PACKAGES = ("image", "noise", "solve", "score", "denoising", "estimation", "widgets", "cli")
MODULES = {
    ".".join((NAME, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def imports_of(module: str, *, when_imported: bool = False) -> Iterator[str]:
    """Yield the modules of this package that a module imports, anywhere or as it is imported."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        only_typed = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if when_imported and (lazy or only_typed):
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            base = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in MODULES else base
        todo.extend(ast.iter_child_nodes(node))


def package_of(module: str) -> str:
    return module.removeprefix(NAME).removeprefix(".").partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_from_those_below_it(package):
    above = PACKAGES[PACKAGES.index(package) + 1 :]
    upwards = [
        f"{module} imports {other}"
        for module in MODULES
        if package_of(module) == package
        for other in imports_of(module)
        if package_of(other) in above
    ]
    assert not upwards


def test_no_module_imports_itself_in_a_circle():
    graph = {module: set(imports_of(module, when_imported=True)) - {module} for module in MODULES}
    # a package's __init__ runs before its modules do, and is no circle of its own
    graph = {k: {m for m in v if not k.startswith(f"{m}.")} for k, v in graph.items()}
    TopologicalSorter(graph).prepare()


def test_a_private_module_is_imported_by_its_own_package_only():
    strangers = [
        f"{module} imports {other}"
        for module in MODULES
        for other in imports_of(module)
        if other.rpartition(".")[2].startswith("_") and package_of(other) != package_of(module)
    ]
    assert not strangers


def test_the_library_is_imported_without_torch_qt_and_napari():
    heavy = "{'torch', 'qtpy', 'PyQt6', 'PySide6', 'napari'} & set(sys.modules)"
    code = f"import sys, {NAME}, {NAME}.image.files; print({heavy} or '')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
