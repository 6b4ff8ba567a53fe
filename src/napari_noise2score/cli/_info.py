"""The command ``info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from ._options import Json

if TYPE_CHECKING:
    from ..score.model import ScoreModel


def info(
    file: Annotated[Path, typer.Argument(help="Model file (.n2s) or polish (.polish).")],
    noise: Annotated[
        str | None,
        typer.Option(help="Check whether a model's training images hold more than such noise can."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what a model file or a polish contains."""
    from ..score.model import ScoreModel
    from ..score.polish import SUFFIX, Polish

    load = Polish.load if file.suffix == SUFFIX else ScoreModel.load
    loaded = load(file)
    facts = loaded.describe()
    if noise is not None:
        if not isinstance(loaded, ScoreModel):
            raise UserError("--noise is for a model file: a polish is bound to one noise model")
        facts["noise check"] = _check(loaded, noise)
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    wide = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:<{wide}}  {value}")


def _check(model: ScoreModel, noise: str) -> str:
    """Return whether the training images of a model hold more than noise can."""
    from ..estimation.information import check_information, compare_information
    from ..noise import parse_noise

    parsed = parse_noise(noise)
    if not compare_information(model, parsed):
        return (
            "not possible: no information was measured, or such noise cannot belong to the images"
        )
    found = check_information(model, parsed)
    return found or "The training images hold no more information than such noise can have."
