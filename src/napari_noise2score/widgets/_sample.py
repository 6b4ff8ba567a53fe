"""The sample in napari's File menu."""

from __future__ import annotations

from typing import Any

from ..sample import NOISE, OFFSET, SCALE, UNITS, simulate_cells


def open_cells() -> list[tuple[Any, dict[str, Any], str]]:
    """Give the simulated cells as layers: the truth, hidden, and the noisy image over it."""
    noisy, truth = simulate_cells()
    axes = "TZYX"
    place: dict[str, Any] = {
        "scale": [SCALE[a] for a in axes],
        "units": [UNITS[a] for a in axes],
        "axis_labels": list(axes.lower()),
    }
    truth += OFFSET  # in the grey levels of the camera, to be compared by eye
    place["contrast_limits"] = [OFFSET, float(truth.max())]
    known = {"noise2score": {"noise": NOISE}}
    return [
        (truth, {"name": "cells truth", "visible": False, **place}, "image"),
        (noisy, {"name": "cells", "metadata": known, **place}, "image"),
    ]
