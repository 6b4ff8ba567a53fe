"""The Denoise dock: choose a trained model and a noise model, and denoise a layer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari.settings import get_settings
from qtpy.QtCore import QEvent

from ..errors import UserError
from ..noise.parse import parse_noise
from ._choosers import DeviceChooser, ModelChooser
from ._denoise_controls import DenoiseControls
from ._denoise_jobs import POLISHING, denoise_all, denoise_lazily, with_polish
from ._dock import Dock
from ._guess import Found, find_noise
from ._layers import (
    display_type,
    is_result,
    known_noise,
    layer_axes,
    layer_image,
    result_settings,
    spread_settings,
    store_settings,
)
from ._noise_form import NoiseForm
from ._preview import Preview, PreviewRow, Wish
from ._session import session
from ._work import report
from ._write import Result, Target, ask_where, suggestion, write

if TYPE_CHECKING:
    import napari.layers
    import napari.viewer

    from ..image.image import Image
    from ..noise import NoiseModel
    from ..score.model import ScoreModel

ESTIMATION = "Estimation step"  # what the progress of an estimate counts


class DenoiseWidget(Dock):
    """Denoise an image layer with a trained model.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are offered, and that shows the result.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer):
        super().__init__(napari_viewer)
        self._result: Result | None = None
        self._found: Found | None = None  # by the last estimation
        self._after_estimate: Callable[[], None] | None = None  # called after an estimation
        self._unit = "Tile"  # what the progress counts
        self._target: Target | None = None  # the file that is written, if any
        self._folder = Path.home()
        # the last file that each layer was written to
        self._stores: WeakKeyDictionary[Any, Path] = WeakKeyDictionary()
        self._note = ""  # the last message of the job
        # time of the first progress, in seconds, and how much was done by then
        self._started: tuple[float, int] | None = None
        self._layer_settings: dict[str, Any] = {}  # of the result, for add_image
        self._models = ModelChooser()
        self._settings.addRow("Model", self._models)
        self._noise = NoiseForm(self._settings)
        self._controls = DenoiseControls()
        self._settings.addRow("", self._controls.estimation_row())
        self._preview = Preview(napari_viewer, self)
        self._row = PreviewRow(
            self._preview,
            "Show the current plane denoised, as a separate layer, while you choose the noise. "
            "Each new plane takes a moment; after that every change of the noise shows at once.",
        )
        self._device = DeviceChooser()
        self._spread = self._controls.uncertainty
        self._job.offer_cpu(self._run_on_cpu)
        self._job.set_stop_tip(
            "Stop denoising. No layer is added; an unfinished OME-Zarr can be finished later."
        )
        self._job.say("Choose a trained model and the noise model of the image.")
        self._settings.addRow("Preview", self._row)
        self._settings.addRow("Polish", self._controls.polish)
        self._settings.addRow("Uncertainty", self._spread)
        self._settings.addRow("Device", self._device)
        self._rows.addLayout(self._controls.denoising_row())
        self._rows.addWidget(self._job)
        self._rows.addStretch()
        self._controls.estimate.clicked.connect(self.estimate)
        self._controls.refine.clicked.connect(self.refine)
        self._controls.denoise.clicked.connect(self.denoise)
        self._controls.add_lazy.clicked.connect(self.add_lazy)
        self._controls.write.clicked.connect(self.write)
        for button in self._controls.buttons:
            self._job.busy_changed.connect(button.setDisabled)
        self._job.progressed.connect(self._show_progress)
        self._job.ended.connect(self._add)
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
        """Choose the layer to work on, and the model and the noise model if they are given."""
        super().choose(layer)
        if model:
            self._models.choose(model)
        if noise:
            self._noise.set_text(noise)

    def estimate(self, _pressed: bool = False, then: Callable[[], None] | None = None) -> None:
        """Estimate the noise model of the chosen layer in the background, and choose it.

        Parameters
        ----------
        then : callable, optional
            Called afterwards, even if no noise model can be estimated, but not if the job is
            stopped.
        """
        model = None
        with contextlib.suppress(UserError):  # a model is optional
            model = self._models.model()
        self._find(then, model=model, device=self._device.currentText())

    def refine(self) -> None:
        """Estimate the parameters of the chosen noise family in the background, and choose them."""
        self._find(None, keep=self._noise.text)

    def _find(self, then: Callable[[], None] | None, **how: Any) -> None:
        if self._job.busy:
            return
        try:
            data, axes = self._layer.image()
        except UserError as error:
            report(error)
            return
        self._result, self._source, self._target = None, self._layer.layer, None
        self._begin("Estimating the noise…", ESTIMATION)
        self._after_estimate = then
        self._job.run(find_noise(data, axes, **how), f"Noise of {self._source.name}")

    def denoise(self) -> None:
        """Denoise the whole chosen layer in the background and add the result."""
        self._run(denoise_all)

    def add_lazy(self) -> None:
        """Add a layer that denoises each plane when it is shown, in the background."""
        self._run(denoise_lazily)

    def write(self) -> None:
        """Ask for a name, and denoise the whole chosen layer into an OME-Zarr in the background."""
        if self._job.busy:
            return
        try:
            layer = self._checked()[0]
            begun = self._stores.get(layer)
            if begun is None or begun.exists():
                begun = suggestion(layer.name, self._folder)
            target = ask_where(self, begun, self._spread.isChecked())
        except UserError as error:
            report(error)
            return
        if target is not None:
            self._folder, self._stores[layer] = target.path.parent, target.path
            self._run(write, target)

    def stop(self) -> None:
        """Stop the job, if there is one, and remove the preview."""
        super().stop()
        self._preview.hide()

    def changeEvent(self, event: Any) -> None:
        """Begin the preview when the dock is opened, which is when napari sets the parent."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is not None:
            self._show_preview()

    def _show_preview(self, _changed: Any = None) -> None:
        """Show the preview for the current settings, or hide it if they are incomplete."""
        if not self._row.live.isChecked() or self.parent() is None:
            self._preview.hide()
            return
        try:
            _, axes = self._layer.image()
            model = self._models.model()
        except UserError:
            self._preview.hide()  # pressing a button says what is missing
            return
        if is_result(self._layer.layer):
            self._preview.hide()  # not chosen by a person: it took the place of a removed layer
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

    def _checked(self) -> tuple[napari.layers.Image, Image, ScoreModel, NoiseModel]:
        """Return what a job needs, or raise a `UserError` that says what is missing."""
        _, axes = self._layer.image()
        # by the name that the window shows, as the provenance states it
        model = replace(self._models.model(), name=self._models.name)
        noise = parse_noise(self._noise.text)
        return self._layer.layer, layer_image(self._layer.layer, axes), model, noise

    def _run(self, steps: Any, target: Target | None = None) -> None:
        if self._job.busy:
            return
        try:
            layer, image, model, noise = self._checked()
        except UserError as error:
            report(error)
            return
        # a model is at hand, so torch is imported
        from ..denoising.provenance import result_notes

        self._result, self._source, self._target = None, layer, target
        found = self._found if self._found and self._found.noise == str(noise) else None
        noise_notes = dict(found.notes) if found else {}
        notes = result_notes(model, noise, noise_notes=noise_notes)
        self._layer_settings = result_settings(layer, notes)
        if not layer_axes(layer):  # as typed
            world = image.axes[:-1] if layer.rgb else image.axes
            self._layer_settings["axis_labels"] = tuple(world.lower())
        self._begin("Preparing…", "Tile")
        self._steps = steps  # to run again on the processor if memory is short
        device, dtype = self._device.currentText(), display_type(layer)
        more = self._spread.isChecked() if target is None else target
        arguments = image, model, noise, device, dtype, noise_notes, more
        if self._controls.polish.isChecked():
            job = with_polish(steps, *arguments)
        else:
            job = steps(*arguments, None)
        self._job.run(job, f"Denoising {self._source.name}")

    def _begin(self, words: str, what: str) -> None:
        self._job.say(words)
        self._started, self._note, self._unit, self._after_estimate = None, "", what, None

    def _run_on_cpu(self) -> None:
        self._device.setCurrentText("cpu")
        target = self._target
        # keep the blocks that were written before memory ran out
        self._run(self._steps, target and target._replace(resume=True))

    def _show_progress(self, batch: Sequence[Any]) -> None:
        last = batch[-1]
        if last.result is not None:
            if self._unit == ESTIMATION:
                self._found = last.result
            else:
                self._result = last.result
            return
        now = time.monotonic()
        # the count starts again with the result after a polish, and with the uncertainty
        if self._started is None or last.done < self._started[1]:
            self._started = now, last.done
        since, before = self._started
        left = None
        if last.done > before:
            left = (now - since) * (last.total - last.done) / (last.done - before)
        self._job.show_progress(last.fraction, left)
        unit = "Polishing: step" if last.message == POLISHING else self._unit
        for step in batch:
            if step.message != POLISHING:
                self._note = step.message or self._note
        note = f" ({self._note})" if self._note else ""
        self._job.say(f"{unit} {last.done} of {last.total}{note}")

    def _add(self, outcome: str) -> None:
        result, source = self._result, self._source
        self._result = self._source = None
        if self._unit == ESTIMATION:
            self._take_found(outcome, source)
            return
        self._preview.hide()  # until the noise changes again, so that the result is seen
        if outcome != "done" or result is None:
            self._job.say(f"{outcome.capitalize()}; {self._describe_remains()}")
            return
        if result.polish:
            self._layer_settings["metadata"]["noise2score"]["polish"] = result.polish
        if result.target is not None:
            name = self._add_stored(result, result.target)
        else:
            settings = spread_settings(self._layer_settings)
            if hasattr(result.data, "dask"):
                get_settings().experimental.async_ = True
                if "contrast_limits" in self._layer_settings:
                    # a guess, as napari would compute planes for them on the window's thread
                    low, high = self._layer_settings["contrast_limits"]
                    settings["contrast_limits"] = 0, (high - low) / 4
            if result.spread is not None:
                self._viewer.add_image(result.spread, **settings)
            name = self._viewer.add_image(result.data, **self._layer_settings).name
        check = self._layer_settings["metadata"]["noise2score"].get("noise check", "")
        self._job.say(f"Added '{name}'. {_sentence(check)}".rstrip())

    def _take_found(self, outcome: str, source: Any) -> None:
        if outcome == "done" and self._found is not None:
            if source is self._layer.layer:
                self._noise.set_text(self._found.noise)
            check = self._found.notes.get("noise check", "")
            said = [f"Found {self._found.noise}", check]
            if (need := self._found.polish) is not None:
                self._controls.polish.setChecked(need.pays)
                said.append(need.sentence)
            self._job.say(" ".join(f"{_sentence(text).rstrip('.')}." for text in said if text))
        else:
            self._job.say(f"{outcome.capitalize()}; the noise model was not changed.")
        follow = self._after_estimate
        if follow is not None and outcome != "stopped" and source is self._layer.layer:
            follow()

    def _add_stored(self, stored: Result, target: Target) -> str:
        """Add what was written as multiscale layers, and return the name of the result layer."""
        if target.spread is not None:
            settings = spread_settings(store_settings(self._layer_settings, target.spread))
            # napari would read the file for them, on the window's thread
            settings["contrast_limits"] = 0, stored.widest or 1
            self._viewer.add_image(stored.spread, **settings)
        settings = store_settings(self._layer_settings, target.path)
        name: str = self._viewer.add_image(stored.data, **settings).name
        return name

    def _describe_remains(self) -> str:
        """Return a sentence on what remains of a job that did not finish."""
        if self._target is None:
            return "nothing was added."
        from ..denoising.jobs import left_of

        path = self._target.path
        if not any(left_of(store) for store in (path, self._target.spread) if store):
            return "nothing was written."
        return f"what is done is kept. Write '{path.name}' again to finish it."

    def _take_known_noise(self, layer: napari.layers.Image | None) -> None:
        """Choose the noise model last chosen for a layer, or the one in its metadata."""
        if known := (layer and session.noises.get(layer)) or known_noise(layer):
            self._noise.set_text(known)

    def _remember_noise(self, text: str) -> None:
        if self._layer.layer is not None:
            session.noises[self._layer.layer] = text


def _sentence(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]
