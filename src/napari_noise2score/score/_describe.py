"""Describe a score model for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model import ScoreModel


def describe_model(model: ScoreModel) -> dict[str, Any]:
    """Return a description of a model; values are JSON."""
    facts = {
        "name": model.name,
        "network": f"{model.ndim}-D U-Net, {model.channels} channel(s), "
        f"{sum(p.numel() for p in model.network.parameters()):,} weights",
        "trained on axes": model.axes,
        **({"context": str(model.context)} if model.context.offsets else {}),
    }
    count = len(model.channel_coordinates)
    if not count:
        facts |= _facts_of_grey_levels(model)
    else:
        facts["channels"] = f"{count}, each learned by itself"
        for number in range(count):
            found = _facts_of_grey_levels(model.of_channel(number))
            facts |= {f"channel {number + 1}: {key}": value for key, value in found.items()}
    facts["correlation"] = str(model.kernel) if model.kernel else "none"
    if undone := model.provenance.get("correction"):
        facts["correction"] = " ; ".join(own["text"] for own in undone)
    facts |= {k: v for k, v in model.provenance.items() if k not in (*facts, "information")}
    for number in range(count or 1):
        information = model.of_channel(number).information
        if information is not None:
            which = f"channel {number + 1}: " if count else ""
            facts[f"{which}information"] = information.describe()
    return facts


def _facts_of_grey_levels(model: ScoreModel) -> dict[str, str]:
    """Return the grey levels of a model, their noise and the perturbation."""
    t = model.transform
    facts = {
        "grey levels": f"{model.low:g} to {model.high:g}, step {model.quantization.step:g}",
        "noise curve": f"variance {t.c0:.4g} + {t.c1:.4g} t + {t.c2:.4g} t², "
        f"t = grey level above {t.start:.4g}",
        "sigma_a": f"{model.sigma_a:.3g} (trained for {model.sigma_a_range[0]:.3g} to "
        f"{model.sigma_a_range[1]:.3g}), in units of the noise",
    }
    if model.score_errors:
        error = model.score_error(model.sigma_a)
        facts["error of the score"] = f"{error:.2g}, in units of the noise"
    return facts
