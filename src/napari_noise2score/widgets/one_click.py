"""Denoise a layer with one click: train with the defaults, then add the result."""

from __future__ import annotations

from typing import Any

import napari
from napari.layers import Image

from ..errors import UserError
from ._guess import is_known, noise_of
from ._layers import check_layer
from ._work import report

PLUGIN = "napari-noise2score"


def denoise_layer(viewer: napari.Viewer) -> None:
    """Train on the selected layer with the settings of the Train dock, then denoise it.

    Both docks are opened, so that one sees how it goes and can stop. Stopping the training
    denoises with what was learned by then.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer; its selected layer is denoised.
    """
    active = viewer.layers.selection.active
    # the viewer that napari gives may wrap what it gives
    layer = next((x for x in viewer.layers if isinstance(x, Image) and x == active), None)
    _, train = viewer.window.add_plugin_dock_widget(PLUGIN, "Train", tabify=True)
    try:
        check_layer(layer)
        if train.busy:
            raise UserError("a training is running: wait for it, or stop it, and try again")
    except UserError as error:
        report(error)
        return

    def finish(trained: Any, name: str) -> None:
        train.trained.disconnect(finish)
        if trained is not layer or layer not in viewer.layers or not name:
            return
        _, denoise = viewer.window.add_plugin_dock_widget(PLUGIN, "Denoise", tabify=True)
        denoise.choose(layer, name, noise_of(layer))
        if known:
            denoise.denoise()
        else:  # with what the score has learned, more can be told than without
            denoise.estimate(then=denoise.denoise)

    known = is_known(layer)
    train.choose(layer)
    train.train()
    if train.busy:  # else what is missing was told
        train.trained.connect(finish)
