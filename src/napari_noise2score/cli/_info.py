"""The command ``info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ._options import Json


def info(
    file: Annotated[Path, typer.Argument(help="Model file (.n2s) or polish (.polish).")],
    as_json: Json = False,
) -> None:
    """Print what a model file or a polish contains."""
    from ..score.model import ScoreModel
    from ..score.polish import SUFFIX, Polish

    load = Polish.load if file.suffix == SUFFIX else ScoreModel.load
    facts = load(file).describe()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    wide = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:<{wide}}  {value}")
