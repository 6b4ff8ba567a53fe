"""The Denoise dock: choose a trained model and a noise model, and denoise a layer."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton

from ..errors import UserError
from ._choosers import DeviceChooser, ModelChooser
from ._dock import Dock
from ._guess import Found, find_noise
from ._layers import display_type, is_result, known_noise, result_settings, spread_settings
from ._noise_form import NoiseForm, parse
from ._preview import Preview, PreviewRow, Wish
from ._session import session
from ._work import report

if TYPE_CHECKING:
    import napari.layers
    import napari.viewer


class Result(NamedTuple):
    """What a job ends with: the denoised array, numpy or lazy, and its uncertainty if asked for."""

    data: Any
    spread: Any = None


class DenoiseWidget(Dock):
    """Denoise an image layer with a trained model.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are offered, and that shows the result.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer):
        super().__init__(napari_viewer)
        self._result: Result | Found | None = None
        self._looks: dict[str, Any] = {}  # of the layer it will be
        self._models = ModelChooser()
        self._settings.addRow("Model", self._models)
        self._noise = NoiseForm(self._settings)
        self._estimate = QPushButton("Estimate from the layer")
        self._estimate.setToolTip(
            "Find the kind of noise and its parameters in the layer itself: best from a time "
            "series, else from flat parts of its planes. It takes a few seconds."
        )
        self._settings.addRow("", self._estimate)
        self._preview = Preview(napari_viewer, self)
        self._row = PreviewRow(
            self._preview,
            "Show the plane on view denoised, as a layer of its own, while the noise is chosen. "
            "Each plane takes a moment once; then every change of the noise is seen at once.",
        )
        self._device = DeviceChooser()
        self._spread = QCheckBox("layer of its own")
        self._spread.setToolTip(
            "Also add the standard deviation of every denoised pixel, in grey levels: about two "
            "thirds of the pixels lie within it of the truth, if the noise model is right. It "
            "takes some 40 times as long as denoising."
        )
        self._all = QPushButton("Denoise")
        self._all.setToolTip(
            "Denoise the whole layer in the background and add the result as a new layer. "
            "The layer is not changed."
        )
        self._lazy = QPushButton("Add lazy layer")
        self._lazy.setToolTip(
            "Add the result at once as a layer that denoises what is looked at, when it is "
            "looked at: for images that are too large to denoise as a whole. The window waits "
            "for each plane, unless asynchronous rendering is on in napari's preferences, under "
            "Experimental."
        )
        self._job.offer_cpu(self._run_on_cpu)
        self._job.set_stop_tip("Stop denoising. Nothing is added.")
        self._job.say("Choose a trained model, and the noise that the image has.")
        self._settings.addRow("Preview", self._row)
        self._settings.addRow("Uncertainty", self._spread)
        self._settings.addRow("Device", self._device)
        buttons = QHBoxLayout()
        buttons.addWidget(self._all)
        buttons.addWidget(self._lazy)
        self._rows.addLayout(buttons)
        self._rows.addWidget(self._job)
        self._rows.addStretch()
        self._estimate.clicked.connect(self.estimate)
        self._all.clicked.connect(self.denoise)
        self._lazy.clicked.connect(self.add_lazy)
        self._job.told.connect(self._show_progress)
        self._job.ended.connect(self._add)
        self._job.busy_changed.connect(self._estimate.setDisabled)
        self._job.busy_changed.connect(self._all.setDisabled)
        self._job.busy_changed.connect(self._lazy.setDisabled)
        self._layer.changed.connect(self._take_known_noise)
        self._layer.axes_changed.connect(self._show_preview)
        self._layer.changed.connect(self._show_preview)
        self._models.changed.connect(self._show_preview)
        self._noise.changed.connect(self._remember_noise)
        self._noise.changed.connect(self._show_preview)
        self._device.currentTextChanged.connect(self._show_preview)
        self._row.live.toggled.connect(self._show_preview)
        self._take_known_noise(self._layer.layer)

    def choose(self, layer: Any, model: str = "", noise: str = "") -> None:
        """Choose the layer to work on, and the model and the noise where they are given."""
        super().choose(layer)
        if model:
            self._models.choose(model)
        if noise:
            self._noise.set_text(noise)

    def estimate(self) -> None:
        """Find the noise of the chosen layer in the background and take it over."""
        if self._job.busy:
            return
        try:
            data, axes = self._layer.image()
        except UserError as error:
            report(error)
            return
        model = None
        with contextlib.suppress(UserError):  # none is needed
            model = self._models.model()
        self._result, self._source = None, self._layer.layer
        self._job.say("Looking at the noise…")
        self._job.run(find_noise(data, axes, model), f"Noise of {self._source.name}")

    def denoise(self) -> None:
        """Denoise the whole chosen layer in the background and add the result."""
        self._run(_denoise_all)

    def add_lazy(self) -> None:
        """Add a layer that denoises what is looked at."""
        self._run(_denoise_lazily)

    def stop(self) -> None:
        """Ask the job to stop, if there is one, and take the preview away."""
        super().stop()
        self._preview.hide()

    def changeEvent(self, event: Any) -> None:
        """Begin the preview when the dock is opened: napari then puts the widget in it."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is not None:
            self._show_preview()

    def _show_preview(self, _changed: Any = None) -> None:
        """Let the preview follow the settings, if they are complete."""
        if not self._row.live.isChecked() or self.parent() is None:
            self._preview.hide()
            return
        try:
            _, axes = self._layer.image()
            model = self._models.model()
        except UserError:
            self._preview.hide()  # what is missing is told when a button is pressed
            return
        if is_result(self._layer.layer):
            self._preview.hide()  # nobody chose it: the layer that was chosen is gone
            return
        self._preview.show(
            Wish(
                self._layer.layer,
                axes,
                model,
                self._models.name,
                self._noise.text,
                self._device.currentText(),
            )
        )

    def _run(self, steps: Any) -> None:
        if self._job.busy:
            return
        try:
            data, axes = self._layer.image()
            model = self._models.model()
            noise = parse(self._noise.text)  # quick: a model is at hand, so torch is loaded
        except UserError as error:
            report(error)
            return
        self._result, self._source = None, self._layer.layer
        self._looks = result_settings(self._source, self._models.name, noise)
        self._job.say("Preparing…")
        dtype = display_type(self._source)
        device, spread = self._device.currentText(), self._spread.isChecked()
        self._steps = steps  # to be run again, if the device does not suffice
        self._job.run(
            steps(data, model, noise, axes, device, dtype, spread),
            f"Denoising {self._source.name}",
        )

    def _run_on_cpu(self) -> None:
        self._device.setCurrentText("cpu")
        self._run(self._steps)

    def _show_progress(self, batch: Sequence[Any]) -> None:
        last = batch[-1]
        if isinstance(last, Result | Found):
            self._result = last
            return
        self._job.show_progress(last.done / last.total)
        self._job.say(f"Tile {last.done} of {last.total}")

    def _add(self, outcome: str) -> None:
        result, source = self._result, self._source
        self._result = self._source = None
        if isinstance(result, Found):
            if source is self._layer.layer:
                self._noise.set_text(result.noise)
            self._job.say(f"Found {result.noise}.")
            return
        self._preview.hide()  # until the noise is changed again: the result is to be seen
        if outcome == "done" and result is not None:
            if result.spread is not None:
                self._viewer.add_image(result.spread, **spread_settings(self._looks))
            layer = self._viewer.add_image(result.data, **self._looks)
            self._job.say(f"Added '{layer.name}'.")
        else:
            self._job.say(f"{outcome.capitalize()}; nothing was added.")

    def _take_known_noise(self, layer: napari.layers.Image | None) -> None:
        """Take the noise that was chosen for a layer before, or that its metadata state."""
        if known := (layer and session.noises.get(layer)) or known_noise(layer):
            self._noise.set_text(known)

    def _remember_noise(self, text: str) -> None:
        if self._layer.layer is not None:
            session.noises[self._layer.layer] = text


def _denoise_all(
    data: Any, model: Any, noise: Any, axes: str, device: str, dtype: Any, spread: bool
):
    from ..volume.denoise import denoise_into, uncertainty_into

    try:
        target = np.empty(data.shape, dtype)
        deviation = np.empty(data.shape, dtype) if spread else None
    except MemoryError:
        raise UserError(
            f"the result of {dtype.itemsize * data.size / 2**30:.1f} GiB does not fit in memory: "
            "use 'Add lazy layer', or 'noise2score denoise' in a terminal, which writes a file"
        ) from None
    yield from denoise_into(target, data, model, noise, axes=axes, device=device)
    if spread:
        yield from uncertainty_into(deviation, data, model, noise, axes=axes, device=device)
    yield Result(target, deviation)


def _denoise_lazily(
    data: Any, model: Any, noise: Any, axes: str, device: str, dtype: Any, spread: bool
):
    import dask.array as da

    from ..volume.denoise import denoise, uncertainty
    from ..volume.tiles import as_type

    makers = (denoise, uncertainty) if spread else (denoise,)
    lazy = [make(data, model, noise, axes=axes, device=device) for make in makers]
    yield Result(*(da.map_blocks(as_type, each, dtype, dtype=dtype) for each in lazy))
