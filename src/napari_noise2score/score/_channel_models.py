"""Make the model of each channel of a model that learned each channel by itself."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import ScoreModel


def channel_models(model: ScoreModel) -> tuple[ScoreModel, ...]:
    """Return the model of each channel, see `ScoreModel.of_channel`."""
    models = []
    count = len(model.channel_coordinates)
    each = len(model.patches.y) // count if model.patches else 0
    for number, own in enumerate(model.channel_coordinates):
        values = {f.name: getattr(own, f.name) for f in fields(own)}
        found = values.pop("information")
        notes = {k: v for k, v in model.provenance.items() if k != "information"}
        if found is not None:
            notes["information"] = found.as_json()
        if len(known := notes.get("correction", ())) > 1:
            notes["correction"] = known[number : number + 1]
        axes = model.axes.replace("C", "")
        values |= {"axes": axes, "provenance": notes, "channel_coordinates": ()}
        if model.patches is not None:
            values["patches"] = model.patches.part(slice(number * each, (number + 1) * each))
        models.append(replace(model, **values))
    return tuple(models)
