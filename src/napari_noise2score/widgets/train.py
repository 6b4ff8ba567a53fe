"""The Train dock: train the score of an image once, without a noise model."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from ..errors import DataWarning, UserError
from ..progress import Progress
from ._choosers import DeviceChooser, ModelChooser
from ._dock import Dock
from ._guess import Found, find_noise, is_known, noise_of
from ._layers import describe_repeats, layer_data
from ._noise_form import correlation, correlation_box
from ._preview import Preview, PreviewRow, Wish
from ._session import session
from ._work import message_of, report

if TYPE_CHECKING:
    import napari.viewer

    from ..score.training import Training
    from ._loss_plot import LossPlot

PREVIEW_EVERY = 4.0  # seconds
CONTEXTS = {
    "none: each plane by itself": "none",
    "automatic: if it helps": "auto",
    "neighbouring time points (T)": "T",
    "neighbouring planes (Z)": "Z",
    "both (T and Z)": "TZ",
}


@dataclass
class Begun:
    """A training run that was started, and its state at the end."""

    layer: Any
    axes: str
    settings: dict[str, Any]
    last: Training | None = None  # its last state, once it ended: it can write a checkpoint


class State(NamedTuple):
    """The state of a job of this dock: the noise for the preview, or a step of training."""

    found: Found | None = None
    training: Training | None = None


class TrainWidget(Dock):
    """Train a model on an image layer.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are offered.
    """

    trained = Signal(object, str)  # the layer, and the name of the model, empty if there is none

    def __init__(self, napari_viewer: napari.viewer.Viewer):
        super().__init__(napari_viewer)
        self._last: Training | None = None  # the last state: it can give the model so far
        self._begun: Begun | None = None  # what runs, or ran last and can be gone on with
        self._ndim = QComboBox()
        self._ndim.addItem("2-D: each plane by itself", 2)
        self._ndim.addItem("3-D: volumes along Z", 3)
        self._ndim.setToolTip(
            "What the network processes at once. 3-D also uses the planes above and below, and "
            "takes longer: choose it if neighbouring planes show the same structures."
        )
        self._context = QComboBox()
        for text, choice in CONTEXTS.items():
            self._context.addItem(text, choice)
        self._context.setToolTip(
            "What the network sees beside each plane. Neighbouring time points and planes show the "
            "same structures with other noise. Automatic: they are tried first, and used if they "
            "help. None if the noise of neighbours is not independent."
        )
        self._minutes = QDoubleSpinBox()
        self._minutes.setRange(0.01, 100_000)
        self._minutes.setValue(1)
        self._minutes.setSuffix(" min")
        self._minutes.setToolTip(
            "How long to train, in minutes. One or two give a first impression; a longer "
            "training gives a better result."
        )
        self._device = DeviceChooser()
        self._seed = QSpinBox()
        self._seed.setRange(0, 2**31 - 1)
        self._seed.setToolTip(
            "Start of the random numbers: the same seed, image and steps give the same model."
        )
        self._correlation = correlation_box()
        self._train = QPushButton("Train")
        self._train.setToolTip("Train a model on the chosen layer. The layer does not change.")
        self._resume = QPushButton("Resume")
        self._resume.setToolTip(
            "Continue the last training for another period of the length set in Time. The result "
            "is a new model; the previous one is kept."
        )
        self._resume.setEnabled(False)
        self._job.set_stop_tip("Stop training and keep the model trained so far.")
        self._job.say("Choose a layer and how long to train.")
        self._job.allow_pause()
        self._job.offer_cpu(self._train_on_cpu)
        self._repeats = QLabel()
        self._repeats.setToolTip("What the network is trained on, given the axes.")
        self._preview = Preview(napari_viewer, self)
        self._row = PreviewRow(
            self._preview,
            "While training, denoise the current plane every few seconds with the model trained "
            "so far and the noise model of the Denoise dock, and show it.",
        )
        self._trained_axes = ""
        self._preview_began = self._next_preview = 0.0  # on the clock of time.monotonic
        self._plot: LossPlot | None = None  # created with the first loss
        self._models = ModelChooser()
        self._arrange()
        self._train.clicked.connect(self.train)
        self._resume.clicked.connect(self.resume)
        self._job.progressed.connect(self._show_progress)
        self._job.ended.connect(self._keep)
        self._job.busy_changed.connect(self._train.setDisabled)
        self._layer.removed.connect(self._offer_resume)
        self._row.live.toggled.connect(self._toggle_preview)
        self._layer.changed.connect(self._show_repeats)
        self._layer.axes_changed.connect(self._show_repeats)
        self._ndim.currentIndexChanged.connect(self._show_repeats)
        self._show_repeats()

    def _arrange(self) -> None:
        self._settings.addRow("", self._repeats)
        self._settings.addRow("Learn in", self._ndim)
        self._settings.addRow("Context", self._context)
        self._settings.addRow("Time", self._minutes)
        self._settings.addRow("Preview", self._row)
        self._settings.addRow("Device", self._device)
        inner = QWidget()
        seldom = QFormLayout(inner)
        seldom.addRow("Seed", self._seed)
        seldom.addRow("Correlation", self._correlation)
        advanced = QCollapsible("Advanced", expandedIcon="▾", collapsedIcon="▸")
        advanced.toggleButton().setToolTip("Settings that are rarely needed.")
        if (frame := advanced.layout()) is not None:
            frame.setContentsMargins(0, 0, 0, 0)
        advanced.addWidget(inner)
        model = QFormLayout()
        model.addRow("Model", self._models)
        self._rows.addWidget(advanced)
        buttons = QHBoxLayout()
        buttons.addWidget(self._train, stretch=2)
        buttons.addWidget(self._resume, stretch=1)
        self._rows.addLayout(buttons)
        self._rows.addWidget(self._job)
        plot_area = QWidget()  # keeps its space before there is a plot
        plot_area.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._plot_row = QVBoxLayout(plot_area)
        self._plot_row.setContentsMargins(0, 0, 0, 0)
        self._rows.addWidget(plot_area, stretch=1)
        self._rows.addLayout(model)

    def train(self) -> None:
        """Train on the chosen layer for the chosen time."""
        if self._job.busy:
            return
        try:
            data, axes = self._layer.image()
        except UserError as error:
            report(error)
            return
        layer = self._layer.layer
        assert layer is not None  # or it had no image
        settings = {
            "ndim": self._ndim.currentData(),
            "context": self._context.currentData(),
            "correlation": correlation(self._correlation) or None,
            "device": self._device.currentText(),
            "seed": self._seed.value(),
            "name": layer.name,
        }
        self._begun = Begun(layer, axes, settings)
        if self._plot is not None:
            self._plot.clear_losses()
        self._job.say("Preparing…")
        self._run(_steps([data], axes, not is_known(layer), self._minutes.value(), settings))

    def resume(self) -> None:
        """Continue the last training for the chosen time."""
        if self._job.busy or not self._resume.isEnabled():
            return
        begun = self._begun
        assert begun is not None
        self._job.say("Continuing…")
        images = [layer_data(begun.layer)]
        self._run(_further_steps(images, begun, self._minutes.value()))

    def _run(self, steps: Any) -> None:
        begun = self._begun
        assert begun is not None
        self._resume.setEnabled(False)
        self._last, self._source = None, begun.layer
        self._trained_axes, self._next_preview = begun.axes, time.monotonic()
        self._job.run(steps, f"Training on {begun.layer.name}")

    def _train_on_cpu(self) -> None:
        self._device.setCurrentText("cpu")
        self.train()

    def _show_progress(self, batch: Sequence[Progress[State]]) -> None:
        states = [progress.result for progress in batch if progress.result is not None]
        for state in states:
            if state.found is not None:
                session.noises[self._source] = state.found.noise
        steps = [state.training for state in states if state.training is not None]
        if not steps:
            return
        self._last = last = steps[-1]
        self._job.show_progress(batch[-1].fraction, last.seconds_left)
        trying = f", trying {last.trying}" if last.trying else ""
        self._job.say(f"Step {last.step}, loss {last.loss:.4g}{trying}")
        self._show_losses(steps)
        now = time.monotonic()
        if self._preview.busy:  # on a large plane, leave most of the time to training
            self._next_preview = max(self._next_preview, now + 3 * (now - self._preview_began))
        elif now >= self._next_preview:
            self._show_preview(self._source, last.snapshot)

    def _show_losses(self, batch: Sequence[Training]) -> None:
        if self._plot is None:
            from ._loss_plot import LossPlot

            self._plot = LossPlot(self._viewer)
            self._plot_row.addWidget(self._plot)
        self._plot.add(batch)

    def stop(self) -> None:
        """Stop the job, if there is one, and remove the preview."""
        super().stop()
        self._preview.hide()

    def _show_preview(self, layer: Any, model: Any) -> None:
        """Show a preview with the model trained so far, and set the time of the next."""
        if self._row.live.isChecked() and self.parent() is not None:
            device = self._device.currentText()
            noise = noise_of(layer)
            self._preview.show(Wish(layer, self._trained_axes, model, layer.name, noise, device))
            self._preview_began = time.monotonic()
            self._next_preview = self._preview_began + PREVIEW_EVERY

    def _offer_resume(self, _removed: Any = None) -> None:
        """Enable Resume if the last training can be continued: its layer must still exist."""
        if self._job.busy:
            return
        if self._begun is not None and self._begun.layer not in self._viewer.layers:
            self._begun = None
        self._resume.setEnabled(self._begun is not None and self._begun.last is not None)

    def _toggle_preview(self, live: bool) -> None:
        if not live:
            self._preview.hide()
        self._next_preview = time.monotonic()

    def _show_repeats(self, _changed: Any = None) -> None:
        layer, axes = self._layer.layer, self._layer.axes
        text = describe_repeats(layer, axes, self._ndim.currentData()) if layer else ""
        self._repeats.setText(text)

    def _keep(self, outcome: str) -> None:
        """Add the trained model to the session, however the training ended."""
        last, self._last = self._last, None
        layer, self._source = self._source, None
        if self._begun is not None and last is not None and outcome != "failed":
            self._begun.last = last
        self._offer_resume()
        if last is None:
            self._job.say(f"{outcome.capitalize()} before the first step; there is no model.")
            self.trained.emit(layer, "")
            return
        # not at the top, as it imports torch
        from ..score.training import describe_context, describe_kept

        model = last.snapshot()
        if layer in self._viewer.layers:
            self._show_preview(layer, model)
        name = session.add_model(model, layer.name)
        how = {"done": "Trained for", "stopped": "Stopped after", "failed": "Failed after"}
        sentences = [
            f"{how[outcome]} {last.step} steps. The model is '{name}'.",
            describe_context(model),
            describe_kept(model),
        ]
        self._job.say(" ".join(filter(None, sentences)))
        self.trained.emit(layer, name)


def _steps(
    images: list[Any], axes: str, estimate: bool, minutes: float, settings: dict[str, Any]
) -> Iterator[Progress[State]]:
    # imported here, on the background thread, as torch takes seconds
    from ..score.training import train_steps
    from . import _loss_plot  # noqa: F401

    if estimate and not settings["correlation"]:
        # only the preview needs it: if it fails, the training goes on
        try:
            for look in find_noise(images[0], axes):
                yield Progress(look.done, look.total, result=State(found=look.result))
        except Exception as error:
            reason = message_of(error)
            warnings.warn(f"no noise was estimated for the preview: {reason}", DataWarning, 2)
    for step in train_steps(images, axes=axes, minutes=minutes, **settings):
        yield Progress(step.done, step.total, result=State(training=step.result))


def _further_steps(images: list[Any], begun: Begun, minutes: float) -> Iterator[Progress[State]]:
    from ..score.training import train_steps

    assert begun.last is not None  # or it could not be resumed
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        begun.last.checkpoint(path)
        minutes += begun.last.seconds / 60
        steps = train_steps(images, axes=begun.axes, minutes=minutes, resume=path, **begun.settings)
        for step in steps:
            yield Progress(step.done, step.total, result=State(training=step.result))
