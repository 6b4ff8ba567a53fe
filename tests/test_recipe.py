"""The conda recipe says what pyproject.toml says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch", "dask": "dask-core"}


def bounds(requirements):
    """Return the lower bound of each package by its name on conda-forge."""
    found = {}
    for text in requirements:
        name, _, bound = re.sub(r"\[.*\]", "", text).replace(" ", "").partition(">=")
        found[CONDA_NAMES.get(name, name)] = bound
    return found


def test_the_recipe_has_the_version_and_the_requirements_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    recipe = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text(encoding="utf-8"))
    about, metadata = recipe["about"], project["project"]
    assert recipe["context"]["version"] == project["tool"]["hatch"]["version"]["fallback-version"]
    assert recipe["package"]["name"] == metadata["name"]
    run = bounds(recipe["requirements"]["run"])
    assert run.pop("python") == metadata["requires-python"].removeprefix(">=")
    assert run == bounds(metadata["dependencies"])
    gui = metadata["optional-dependencies"]["gui"]
    assert bounds(recipe["requirements"]["run_constraints"]) == bounds(gui)
    assert set(project["build-system"]["requires"]) <= {*recipe["requirements"]["host"]}
    entry_points = [f"{name} = {where}" for name, where in metadata["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == entry_points
    assert about["license"] == metadata["license"]
    assert (ROOT / about["license_file"]).exists()
    assert about["summary"] == metadata["description"]
    assert about["homepage"] == metadata["urls"]["Homepage"]
    assert about["documentation"] == metadata["urls"]["Documentation"]
