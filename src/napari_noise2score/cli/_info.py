"""The command ``info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from ._options import Axes, Json, Series

if TYPE_CHECKING:
    from ..noise import NoiseModel
    from ..score.model import ScoreModel


def info(
    file: Annotated[
        str, typer.Argument(help="An image, a model file (.n2s), or a polish (.polish).")
    ],
    noise: Annotated[
        str | None,
        typer.Option(help="Check whether a model's training images hold more than such noise can."),
    ] = None,
    axes: Axes = None,
    series: Series = None,
    as_json: Json = False,
) -> None:
    """Print what was understood of an image, or what a model file or a polish contains."""
    from ..score.model import ScoreModel
    from ..score.polish import SUFFIX, Polish

    if _is_image(file):
        if noise is not None:
            raise UserError("--noise is for a model file; estimate finds the noise of an image")
        _print_images(file, axes, series, as_json)
        return
    path = Path(file)
    load = Polish.load if path.suffix == SUFFIX else ScoreModel.load
    loaded = load(path)
    facts = loaded.describe()
    if noise is not None:
        if not isinstance(loaded, ScoreModel):
            raise UserError("--noise is for a model file: a polish is bound to one noise model")
        facts["noise check"] = _check(loaded, noise)
    _print(facts, as_json)


def _is_image(file: str) -> bool:
    """Return whether an argument names images rather than a model file."""
    from ..image.formats import format_of
    from ..image.paths import local_path

    path = local_path(file)
    return path is None or not path.is_file() or format_of(path) is not None


def _print_images(file: str, axes: str | None, series: str | None, as_json: bool) -> None:
    from ..estimation.image_facts import image_facts
    from ..image.files import find_images, read_image, series_numbers
    from ..image.formats import format_of
    from ..image.paths import local_path

    found = []
    for path in find_images(file):
        count, local = len(series_numbers(path, "all")), local_path(path)
        kind = format_of(local) if local is not None else None
        for number in series_numbers(path, series):
            facts: dict[str, Any] = {"file": str(path), "format": kind.name if kind else "zarr"}
            facts["series"] = [number or 1, count]
            found.append(facts | image_facts(read_image(path, axes, number)))
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for i, facts in enumerate(found):
        if i:
            print()
        _print(_in_words(facts), as_json)


def _in_words(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of an image as lines of text."""
    sizes = zip(facts["axes"], facts["shape"], strict=True)
    scale, units = facts["scale"], facts["units"]
    space = [f"{a} {scale[a]:.6g} {units.get(a, 'of an unknown unit')}" for a in scale if a != "T"]
    lines = {
        "file": facts["file"],
        "format": facts["format"],
        "series": "{} of {}".format(*facts["series"]),
        "name": facts["name"],
        "axes": " · ".join(f"{a} {n}" for a, n in sizes),
        "type": facts["type"] + (", colours" if facts["rgb"] else ""),
        "pixel size": ", ".join(space) or "unknown",
    }
    if "T" in facts["axes"]:
        known = f"{scale['T']:.6g} {units.get('T', '')}".strip() if "T" in scale else "unknown"
        lines["time step"] = known
    if facts["channels"]:
        lines["channels"] = ", ".join(name or "unnamed" for name in facts["channels"])
    lines["valid"] = f"{facts['valid share']:.1%} of the pixels that were read"
    if "grey levels" in facts:
        low, high = facts["grey levels"]
        step, top = facts["grey-level step"], facts["saturation"]
        lines["grey levels"] = f"{low:.6g} to {high:.6g}"
        lines["grey-level step"] = f"{step:.6g}" if step else "none: not rounded"
        share = facts["saturated share"]
        lines["saturation"] = (
            f"at {top:.6g}: {share:.2%} of the pixels" if top is not None else "none"
        )
    return lines


def _print(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    wide = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:<{wide}}  {value}")


def _check(model: ScoreModel, noise: str) -> str:
    """Return whether the training images of a model hold more than noise can."""
    from ..noise import parse_noise

    parsed, count = parse_noise(noise), len(model.channel_coordinates)
    if not count:
        (own,) = set(parsed.for_channels(model.channels))
        return _check_one(model, own)
    return " ".join(
        f"Channel {c}: {_check_one(model.of_channel(c - 1), own)}"
        for c, own in enumerate(parsed.for_channels(count), 1)
    )


def _check_one(model: ScoreModel, noise: NoiseModel) -> str:
    """Return whether the training images of a channel hold more than noise can."""
    from ..estimation.information import check_information, compare_information

    if not compare_information(model, noise):
        return (
            "not possible: no information was measured, or such noise cannot belong to the images"
        )
    found = check_information(model, noise)
    return found or "The training images hold no more information than such noise can have."
