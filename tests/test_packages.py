"""Packages import from lower packages only, without cycles or unneeded libraries."""

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
#: From the lowest up: a package may import from itself and from those before it.
PACKAGES = (
    "image",
    "sample",
    "noise",
    "solve",
    "score",
    "denoising",
    "estimation",
    "widgets",
    "cli",
)
MODULES = {
    ".".join((NAME, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def imports_of(module: str, *, when_imported: bool = False) -> Iterator[str]:
    """Yield the modules of napari_noise2score that a module imports, anywhere or at import time."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for_type_checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if when_imported and (lazy or for_type_checking):
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            base = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                full_name = f"{base}.{alias.name}"
                yield full_name if full_name in MODULES else base
        nodes.extend(ast.iter_child_nodes(node))


def package_of(module: str) -> str:
    return module.removeprefix(NAME).removeprefix(".").partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_from_those_below_it(package):
    higher = PACKAGES[PACKAGES.index(package) + 1 :]
    upwards = [
        f"{module} imports {other}"
        for module in MODULES
        if package_of(module) == package
        for other in imports_of(module)
        if package_of(other) in higher
    ]
    assert not upwards


def test_there_are_no_import_cycles():
    graph = {module: set(imports_of(module, when_imported=True)) - {module} for module in MODULES}
    # a package's __init__ runs before its modules, so importing it makes no cycle
    graph = {k: {m for m in v if not k.startswith(f"{m}.")} for k, v in graph.items()}
    TopologicalSorter(graph).prepare()


def test_a_private_module_is_imported_by_its_own_package_only():
    violations = [
        f"{module} imports {other}"
        for module in MODULES
        for other in imports_of(module)
        if other.rpartition(".")[2].startswith("_") and package_of(other) != package_of(module)
    ]
    assert not violations


def test_the_library_is_imported_without_torch_qt_and_napari():
    heavy = "{'torch', 'qtpy', 'PyQt6', 'PySide6', 'napari'} & set(sys.modules)"
    code = f"import sys, {NAME}, {NAME}.image.files; print({heavy} or '')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
