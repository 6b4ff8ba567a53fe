"""The Denoise dock: choose a trained model and a noise model, and denoise a layer."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from napari.settings import get_settings
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton

from ..errors import UserError
from ._choosers import DeviceChooser, ModelChooser
from ._dock import Dock
from ._guess import Found, find_noise
from ._layers import (
    display_type,
    is_result,
    known_noise,
    layer_image,
    result_settings,
    spread_settings,
    store_settings,
)
from ._noise_form import NoiseForm, parse
from ._preview import Preview, PreviewRow, Wish
from ._session import session
from ._work import report
from ._write import Stored, Target, ask_where, suggestion, write

if TYPE_CHECKING:
    import napari.layers
    import napari.viewer

    from ..image.image import Image
    from ..noise import NoiseModel
    from ..score.model import ScoreModel


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
        self._result: Result | Stored | None = None
        self._found: Found | None = None  # the last
        self._then: Callable[[], None] | None = None  # what follows on the estimate
        self._what = "Tile"  # of which the job tells the number
        self._target: Target | None = None  # the store that is written, if one is
        self._folder = Path.home()
        self._stores: WeakKeyDictionary[Any, Path] = WeakKeyDictionary()  # of layers, the last
        self._note = ""  # what is to be known of the job
        self._began: tuple[float, int] | None = None  # when, and with how much done before
        self._looks: dict[str, Any] = {}  # of the layer it will be
        self._models = ModelChooser()
        self._settings.addRow("Model", self._models)
        self._noise = NoiseForm(self._settings)
        self._estimate = QPushButton("Estimate from the layer")
        self._estimate.setToolTip(
            "Find the kind of noise and its parameters in the layer itself: best from a time "
            "series, else from flat parts of its planes. With a trained model, the level is the "
            "one at which its result is nearest to the other shots. It takes a few seconds."
        )
        self._refine = QPushButton("Refine")
        self._refine.setToolTip(
            "Keep the kind of noise that is chosen above, with its offset and correlation, and "
            "find only its level and its read noise in the layer: for when you know what noise it "
            "is and not how much. It takes a few seconds."
        )
        finders = QHBoxLayout()
        finders.addWidget(self._estimate, stretch=1)
        finders.addWidget(self._refine)
        self._settings.addRow("", finders)
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
            "takes some 30 times as long as denoising."
        )
        self._all = QPushButton("Denoise")
        self._all.setToolTip(
            "Denoise the whole layer in the background and add the result as a new layer. "
            "The layer is not changed."
        )
        self._lazy = QPushButton("Add lazy layer")
        self._lazy.setToolTip(
            "Add the result at once as a layer that denoises what is looked at, when it is "
            "looked at, and remembers it: for images that are too large to denoise as a whole. So "
            "that the window does not wait for it, napari's asynchronous rendering is turned on "
            "(Preferences, Experimental)."
        )
        self._store = QPushButton("Write OME-Zarr…")
        self._store.setToolTip(
            "Denoise the whole layer into a file of any size, block by block in the background, "
            "and add it as a new layer. What is stopped, or cut off by a crash, can be finished "
            "later: choose the same name again."
        )
        self._job.offer_cpu(self._run_on_cpu)
        self._job.set_stop_tip(
            "Stop denoising. Nothing is added; an OME-Zarr that was begun can be finished later."
        )
        self._job.say("Choose a trained model, and the noise that the image has.")
        self._settings.addRow("Preview", self._row)
        self._settings.addRow("Uncertainty", self._spread)
        self._settings.addRow("Device", self._device)
        buttons = QHBoxLayout()
        buttons.addWidget(self._all)
        buttons.addWidget(self._lazy)
        buttons.addWidget(self._store)
        self._rows.addLayout(buttons)
        self._rows.addWidget(self._job)
        self._rows.addStretch()
        self._estimate.clicked.connect(self.estimate)
        self._refine.clicked.connect(self.refine)
        self._all.clicked.connect(self.denoise)
        self._lazy.clicked.connect(self.add_lazy)
        self._store.clicked.connect(self.write)
        self._job.progressed.connect(self._show_progress)
        self._job.ended.connect(self._add)
        self._job.busy_changed.connect(self._estimate.setDisabled)
        self._job.busy_changed.connect(self._refine.setDisabled)
        self._job.busy_changed.connect(self._all.setDisabled)
        self._job.busy_changed.connect(self._lazy.setDisabled)
        self._job.busy_changed.connect(self._store.setDisabled)
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

    def estimate(self, _pressed: bool = False, then: Callable[[], None] | None = None) -> None:
        """Find the noise of the chosen layer in the background and take it over.

        What is to follow does so even if the layer cannot tell its noise, but not if it is
        stopped.
        """
        model = None
        with contextlib.suppress(UserError):  # none is needed
            model = self._models.model()
        self._find(then, model=model, device=self._device.currentText())

    def refine(self) -> None:
        """Find the level of the chosen noise in the background and take it over."""
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
        self._begin("Looking at the noise…", "Look")
        self._then = then
        self._job.run(find_noise(data, axes, **how), f"Noise of {self._source.name}")

    def denoise(self) -> None:
        """Denoise the whole chosen layer in the background and add the result."""
        self._run(_denoise_all)

    def add_lazy(self) -> None:
        """Add a layer that denoises what is looked at, off the window's thread."""
        self._run(_denoise_lazily)

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

    def _checked(self) -> tuple[napari.layers.Image, Image, ScoreModel, NoiseModel]:
        """Give what a job needs, or raise a `UserError` that says what is missing."""
        _, axes = self._layer.image()
        model = self._models.model()
        noise = parse(self._noise.text)  # quick: a model is at hand, so torch is loaded
        return self._layer.layer, layer_image(self._layer.layer, axes), model, noise

    def _run(self, steps: Any, target: Target | None = None) -> None:
        if self._job.busy:
            return
        try:
            layer, image, model, noise = self._checked()
        except UserError as error:
            report(error)
            return
        self._result, self._source, self._target = None, layer, target
        self._looks = result_settings(layer, self._models.name, noise)
        if self._found is not None and self._found.noise == str(noise):
            self._looks["metadata"]["noise2score"] |= self._found.notes
        self._begin("Preparing…", "Tile")
        self._steps = steps  # to be run again, if the device does not suffice
        device, dtype = self._device.currentText(), display_type(layer)
        more = self._spread.isChecked() if target is None else target
        self._job.run(
            steps(image, model, noise, device, dtype, more), f"Denoising {self._source.name}"
        )

    def _begin(self, words: str, what: str) -> None:
        self._job.say(words)
        self._began, self._note, self._what, self._then = None, "", what, None

    def _run_on_cpu(self) -> None:
        self._device.setCurrentText("cpu")
        target = self._target
        # what was written before memory ran out is kept
        self._run(self._steps, target and target._replace(resume=True))

    def _show_progress(self, batch: Sequence[Any]) -> None:
        last = batch[-1]
        if isinstance(last, Found):
            self._found = last
            return
        if isinstance(last, Result | Stored):
            self._result = last
            return
        now = time.monotonic()
        if self._began is None or last.done < self._began[1]:  # of the uncertainty, which is next
            self._began = now, last.done
        since, before = self._began
        left = None
        if last.done > before:
            left = (now - since) * (last.total - last.done) / (last.done - before)
        self._job.show_progress(last.done / last.total, left)
        for step in batch:
            self._note = getattr(step, "note", "") or self._note
        note = f" ({self._note})" if self._note else ""
        self._job.say(f"{self._what} {last.done} of {last.total}{note}")

    def _add(self, outcome: str) -> None:
        result, source = self._result, self._source
        self._result = self._source = None
        if self._what == "Look":
            self._take_found(outcome, source)
            return
        self._preview.hide()  # until the noise is changed again: the result is to be seen
        if outcome != "done" or result is None:
            self._job.say(f"{outcome.capitalize()}; {self._what_is_left()}")
            return
        if isinstance(result, Stored):
            name = self._add_stored(result)
        else:
            looks = spread_settings(self._looks)
            if hasattr(result.data, "dask"):
                get_settings().experimental.async_ = True
                if "contrast_limits" in self._looks:
                    # a guess: napari would compute planes for them, on the window's thread
                    low, high = self._looks["contrast_limits"]
                    looks["contrast_limits"] = 0, (high - low) / 4
            if result.spread is not None:
                self._viewer.add_image(result.spread, **looks)
            name = self._viewer.add_image(result.data, **self._looks).name
        check = self._looks["metadata"]["noise2score"].get("noise check", "")
        self._job.say(f"Added '{name}'. {_sentence(check)}".rstrip())

    def _take_found(self, outcome: str, source: Any) -> None:
        if outcome == "done" and self._found is not None:
            if source is self._layer.layer:
                self._noise.set_text(self._found.noise)
            check = self._found.notes.get("noise check", "")
            self._job.say(f"Found {self._found.noise}. {_sentence(check)}".rstrip())
        else:
            self._job.say(f"{outcome.capitalize()}; the noise stays as it was.")
        if self._then is not None and outcome != "stopped" and source is self._layer.layer:
            self._then()

    def _add_stored(self, stored: Stored) -> str:
        """Add what was written as layers of all its levels, and give the name of the result's."""
        if stored.target.spread is not None:
            looks = spread_settings(store_settings(self._looks, stored.target.spread))
            # napari would read the file for them, on the window's thread
            looks["contrast_limits"] = 0, stored.widest or 1
            self._viewer.add_image(stored.spread, **looks)
        looks = store_settings(self._looks, stored.target.path)
        return self._viewer.add_image(stored.levels, **looks).name

    def _what_is_left(self) -> str:
        """Say what came of a job that did not end."""
        if self._target is None:
            return "nothing was added."
        from ..denoising.jobs import left_of

        path = self._target.path
        if not any(left_of(store) for store in (path, self._target.spread) if store):
            return "nothing was written."
        return f"what is done is kept. Write '{path.name}' again to finish it."

    def _take_known_noise(self, layer: napari.layers.Image | None) -> None:
        """Take the noise that was chosen for a layer before, or that its metadata state."""
        if known := (layer and session.noises.get(layer)) or known_noise(layer):
            self._noise.set_text(known)

    def _remember_noise(self, text: str) -> None:
        if self._layer.layer is not None:
            session.noises[self._layer.layer] = text


def _sentence(text: str) -> str:
    """Return a text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def _denoise_all(image: Image, model: Any, noise: Any, device: str, dtype: np.dtype, spread: bool):
    from ..denoising.denoise import denoise_into, uncertainty_into

    shape = image.data.shape
    try:
        target = np.empty(shape, dtype)
        deviation = np.empty(shape, dtype) if spread else None
    except MemoryError:
        raise UserError(
            f"the result of {dtype.itemsize * math.prod(shape) / 2**30:.1f} GiB does not fit in "
            "memory: use 'Add lazy layer', or 'Write OME-Zarr…'"
        ) from None
    yield from denoise_into(target, image, model, noise, device=device)
    if spread:
        yield from uncertainty_into(deviation, image, model, noise, device=device)
    yield Result(target, deviation)


def _denoise_lazily(
    image: Image, model: Any, noise: Any, device: str, dtype: np.dtype, spread: bool
):
    import dask.array as da

    from ..denoising.denoise import denoise, uncertainty
    from ..denoising.tiles import as_type

    makers = (denoise, uncertainty) if spread else (denoise,)
    lazy = [make(image, model, noise, device=device) for make in makers]
    # what napari remembers of each step counts, so there is none that does nothing
    yield Result(
        *(
            each if each.dtype == dtype else da.map_blocks(as_type, each, dtype, dtype=dtype)
            for each in lazy
        )
    )
