"""The sample image in napari's File menu."""

from __future__ import annotations

from typing import Any

from ..sample import NOISE, OFFSET, SCALE, UNITS, simulate_cells


def open_cells() -> list[tuple[Any, dict[str, Any], str]]:
    """Return the simulated cells as layers: the noise-free image, hidden, and the noisy one.

    Returns
    -------
    list of tuple
        Data, settings and type of each layer, as npe2 takes them; axes TZYX, in grey levels.
    """
    noisy, truth = simulate_cells()
    axes = "TZYX"
    place: dict[str, Any] = {
        "scale": [SCALE[a] for a in axes],
        "units": [UNITS[a] for a in axes],
        "axis_labels": list(axes.lower()),
    }
    truth += OFFSET  # to the camera's grey levels, so that both layers compare by eye
    place["contrast_limits"] = [OFFSET, float(truth.max())]
    known = {"noise2score": {"noise": NOISE}}
    return [
        (truth, {"name": "cells truth", "visible": False, **place}, "image"),
        (noisy, {"name": "cells", "metadata": known, **place}, "image"),
    ]
