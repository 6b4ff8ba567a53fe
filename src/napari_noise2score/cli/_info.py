"""The command ``info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ._options import Json


def info(model: Annotated[Path, typer.Argument(help="Model file.")], as_json: Json = False) -> None:
    """Print what a model file contains."""
    from ..score.model import ScoreModel

    facts = ScoreModel.load(model).describe()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    wide = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:<{wide}}  {value}")
