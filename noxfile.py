#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.2.9"]
# ///
"""Run what a change must pass: `nox -s lint`, `nox -s tests`, `nox -s docs`, `nox -s build`."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
CONSTRAINTS = ("-c", "constraints.txt")


@nox.session(default=True)
def lint(session: nox.Session) -> None:
    """Check style, types and the plugin manifest."""
    session.install(*CONSTRAINTS, "-e", ".[gui,test]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("npe2", "validate", "napari-noise2score")


@nox.session(default=True)
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after -- go to pytest."""
    session.install(*CONSTRAINTS, "-e", ".[gui,test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the site, where warnings are errors, and run the code of the tutorials."""
    session.install(*CONSTRAINTS, "-e", ".[cluster,docs]")
    session.run("mkdocs", "build", "-d", "site")
    session.run("python", "docs/run_tutorials.py", "--steps", "8", "--jobs", "2")


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build sdist and wheel, and check what PyPI would show of them."""
    session.install("build", "twine")
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", "dist/*")


if __name__ == "__main__":
    nox.main()
