"""A napari window that the command line opens."""

from __future__ import annotations

from collections.abc import Iterable

import napari
import numpy as np

from ..image.image import Image


def show(images: Iterable[Image]) -> None:
    """Show images side by side in a new viewer, and return when it is closed.

    Parameters
    ----------
    images : iterable of Image
        Images on the same scale of grey levels. The last one, which should be the cleanest,
        sets the contrast limits of all.
    """
    images = list(images)
    viewer = napari.Viewer(title="noise2score demo")
    limits = [float(v) for v in np.quantile(np.asarray(images[-1].data), [0.01, 0.999])]
    for image in images:
        viewer.add_image(
            image.data,
            name=image.name,
            scale=[image.scale.get(a, 1.0) for a in image.axes],
            units=[image.units.get(a, "pixel") for a in image.axes],
            axis_labels=tuple(image.axes.lower()),
            contrast_limits=limits,
            metadata={"noise2score": dict(image.notes)},
        )
    # napari 0.9 moved the grid to the canvas
    grid = viewer.canvas.grid if hasattr(viewer, "canvas") else viewer.grid
    grid.enabled = True
    viewer.reset_view()
    napari.run()
