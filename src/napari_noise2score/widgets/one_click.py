"""Denoise a layer with one click: train with the defaults, then add the result."""

from __future__ import annotations

from typing import Any

import napari
from napari.layers import Image

from ..errors import UserError
from ._file_facts import when_known
from ._guess import is_known, noise_of
from ._layers import check_layer
from ._work import report

PLUGIN = "napari-noise2score"


def denoise_layer(viewer: napari.Viewer) -> None:
    """Train on the selected layer with the settings of the Train dock, then denoise it.

    Both docks are opened, so that their progress is seen and can be stopped. Stopping the
    training denoises with the model trained so far.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer whose selected layer is denoised.
    """
    active = viewer.layers.selection.active
    # a viewer that napari passes to a command may wrap its layers
    layer = next((x for x in viewer.layers if isinstance(x, Image) and x == active), None)
    _, train = viewer.window.add_plugin_dock_widget(PLUGIN, "Train", tabify=True)
    try:
        check_layer(layer)
        if train.busy:
            raise UserError("training is running: wait for it to end, or stop it, and try again")
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
        else:  # a trained score gives a better estimate than the image alone
            denoise.estimate(then=denoise.denoise)

    def begin() -> None:
        train.train()
        if train.busy:  # otherwise a message said what is missing
            train.trained.connect(finish)

    known = is_known(layer)
    train.choose(layer)
    when_known(viewer, layer, begin)
