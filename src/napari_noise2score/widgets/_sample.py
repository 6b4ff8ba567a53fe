"""The sample in napari's File menu."""

from __future__ import annotations

from typing import Any

from ..sample import NOISE, OFFSET, SCALE, UNITS, simulate_cells


def open_cells() -> list[tuple[Any, dict[str, Any], str]]:
    """Give the simulated cells as layers: the truth, hidden, and the noisy image over it."""
    noisy, truth = simulate_cells()
    axes = "TZYX"
    place = {
        "scale": [SCALE[a] for a in axes],
        "units": [UNITS[a] for a in axes],
        "axis_labels": list(axes.lower()),
    }
    brightest = float(truth.max())
    return [
        (
            truth,
            {"name": "cells truth", "visible": False, "contrast_limits": [0, brightest], **place},
            "image",
        ),
        (
            noisy,
            {
                "name": "cells",
                "contrast_limits": [OFFSET, OFFSET + brightest],
                "metadata": {"noise2score": {"noise": NOISE}},
                **place,
            },
            "image",
        ),
    ]
