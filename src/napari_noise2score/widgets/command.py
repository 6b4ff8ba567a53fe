"""The command of the Layers menu: denoise the selected layer with one click."""

from __future__ import annotations

import napari
from napari.layers import Image

from ..errors import UserError
from ._work import report

PLUGIN, DOCK = "napari-noise2score", "Noise2Score"


def denoise_layer(viewer: napari.Viewer) -> None:
    """Open the dock for the selected layer, and press its button.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer whose selected layer is denoised.
    """
    active = viewer.layers.selection.active
    # a viewer that napari passes to a command may wrap its layers
    layer = next((x for x in viewer.layers if isinstance(x, Image) and x == active), None)
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK, tabify=True)
    if dock.busy:
        report(UserError("a job is running: wait for it to end, or stop it, and try again"))
        return
    if layer is not None:
        dock.choose(layer)
    dock.denoise()
