"""The model: choose, learn, resume, load or save one, and whether it fits the layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
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

from ..errors import DataWarning, UserError, one_line
from ._fold import Fold
from ._guess import correction_in, correlation_in, noise_of
from ._layers import describe_repeats
from ._message import Message
from ._model_chooser import DeviceChooser, ModelChooser
from ._noise_form import NO_CORRELATION, correlation, correlation_box
from ._session import session
from ._training import Begun, further_steps, training_steps
from ._work import Failure, message_of, start

if TYPE_CHECKING:
    import napari.viewer

    from ..denoising.settings import TrainSettings
    from ..score.model import ScoreModel
    from ._job_bar import JobBar
    from ._loss_plot import LossPlot
    from ._source import Source

PREVIEW_EVERY = 4.0  # seconds
MINUTES = 3.0
BUDGET = "steps", "minutes"
CONTEXTS = {
    "none: each plane by itself": "none",
    "automatic: if it helps": "auto",
    "neighbouring time points (T)": "T",
    "neighbouring planes (Z)": "Z",
    "both (T and Z)": "TZ",
}


class ModelSection(Fold):
    """The model of the layer that is shown, and how one is learned.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose theme gives the colours.
    job : JobBar
        Where training runs.
    noise : callable
        Returns the noise model that is saved with a model.

    Attributes
    ----------
    chooser : ModelChooser
        The model.
    device : DeviceChooser
        What the network runs on.
    begun : Begun or None
        The training that runs or ran last.
    learning : bool
        Whether it runs.
    """

    refreshed = Signal()  # the preview may show what the network has learned by now
    remarked = Signal(str)  # a training was too short

    def __init__(self, viewer: napari.viewer.Viewer, job: JobBar, noise: Callable[[], str]):
        super().__init__("Model", "The network that denoises, and how it learns.")
        self._viewer, self._job = viewer, job
        self.begun: Begun | None = None
        self.learning = False
        self._finishing = False  # a person wants the result with what is learned
        self._snapshot: Callable[[], ScoreModel] | None = None  # what the preview shows
        self._next_preview = 0.0  # on the clock of time.monotonic
        self._fitting: Any = None  # compares the model with the layer
        self.chooser = ModelChooser(noise)
        self.device = DeviceChooser()
        self._message = Message(viewer, "Whether the model fits the layer, and what to do if not.")
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
            "same structures with other noise. Automatic: they are used if they "
            "look alike. None if the noise of neighbours is not independent."
        )
        self._minutes = QDoubleSpinBox()
        self._minutes.setRange(0.01, 100_000)
        self._minutes.setValue(MINUTES)
        self._minutes.setSuffix(" min")
        self._minutes.setToolTip(
            "How long to learn, in minutes. One or two give a first impression; longer gives a "
            "better result, until the line below the progress bar says that it is good enough."
        )
        self._seed = QSpinBox()
        self._seed.setRange(0, 2**31 - 1)
        self._seed.setToolTip(
            "Start of the random numbers: the same seed, image and steps give the same model."
        )
        self._steps = QSpinBox()
        self._steps.setRange(0, 10_000_000)
        self._steps.setSpecialValueText("by time")
        self._steps.setToolTip(
            "How many training steps to take instead of a time, so that a training can be repeated "
            "exactly; 0 to go by the time in minutes."
        )
        self._correlation = correlation_box()
        self.train_button = QPushButton("Train")
        self.train_button.setToolTip(
            "Learn a model from the layer, without denoising it yet. The layer does not change."
        )
        self.resume_button = QPushButton("Resume")
        self.resume_button.setToolTip(
            "Continue the last training for another period of the length set in Time. The result "
            "is a new model; the previous one is kept."
        )
        self.resume_button.setEnabled(False)
        self._repeats = QLabel()
        self._repeats.setWordWrap(True)
        self._repeats.setToolTip("What the network is trained on, given the axes.")
        self._plot: LossPlot | None = None  # created with the first loss
        self._arrange()
        self.chooser.failed.connect(self._message.fail)

    def _arrange(self) -> None:
        self.always.addWidget(self._message)
        form = QFormLayout()
        form.addRow("Use", self.chooser)
        form.addRow("Learn in", self._ndim)
        form.addRow("", self._repeats)
        form.addRow("Context", self._context)
        form.addRow("Time", self._minutes)
        form.addRow("Device", self.device)
        self.rows.addLayout(form)
        advanced = Fold("Advanced", "Settings that are rarely needed.")
        seldom = QFormLayout()
        seldom.addRow("Seed", self._seed)
        seldom.addRow("Steps", self._steps)
        seldom.addRow("Correlation", self._correlation)
        advanced.rows.addLayout(seldom)
        self.rows.addWidget(advanced)
        buttons = QHBoxLayout()
        buttons.addWidget(self.train_button, stretch=2)
        buttons.addWidget(self.resume_button, stretch=1)
        self.rows.addLayout(buttons)
        self._plot_area = QWidget()
        self._plot_area.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._plot_row = QVBoxLayout(self._plot_area)
        self._plot_row.setContentsMargins(0, 0, 0, 0)
        self.rows.addWidget(self._plot_area, stretch=1)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a training, as `train_steps` and a file of settings name them."""
        budget = {"steps": n} if (n := self._steps.value()) else {"minutes": self._minutes.value()}
        return {
            "ndim": self._ndim.currentData(),
            "context": self._context.currentData(),
            "correlation": correlation(self._correlation) or None,
            "device": self.device.currentText(),
            "seed": self._seed.value(),
            **budget,
        }

    def set_settings(self, settings: TrainSettings) -> None:
        """Set the controls to the settings of a file."""
        self._ndim.setCurrentIndex(max(0, self._ndim.findData(settings.ndim)))
        self._context.setCurrentIndex(max(0, self._context.findData(settings.context)))
        self._correlation.setCurrentText(settings.correlation or NO_CORRELATION)
        self._steps.setValue(settings.steps or 0)
        if settings.minutes is not None:
            self._minutes.setValue(settings.minutes)
        self._seed.setValue(settings.seed)
        if self.device.findText(settings.device) >= 0:
            self.device.setCurrentText(settings.device)

    def model_for(self, layer: Any) -> tuple[Any, str] | None:
        """Return the model that a preview of a layer shows, and its name; None if there is none.

        While the network learns from the layer, it is a function that returns the model so far.
        """
        if self.learning and self.begun is not None and self.begun.source.layer is layer:
            return (self._snapshot, layer.name) if self._snapshot is not None else None
        model = self.chooser.model
        return (model, self.chooser.name) if model is not None else None

    def train(self, source: Source, then: Callable[[str], None] | None = None) -> None:
        """Learn from a layer in the background.

        Parameters
        ----------
        source : Source
            The layer.
        then : callable, optional
            Called with how the training ended; with ``"done"`` too after `finish`.
        """
        settings = self.settings | {"name": source.layer.name}
        # what the noise model undoes is undone before the network learns
        noise = noise_of(source.layer)
        settings["correction"] = correction_in(noise)
        settings["correlation"] = settings["correlation"] or correlation_in(noise)
        budget: dict[str, Any] = {k: settings.pop(k) for k in BUDGET if k in settings}
        self.begun = Begun(source, settings, budget)
        if self._plot is not None:
            self._plot.clear_losses()
        self._run(training_steps(self.begun), then)

    def resume(self, then: Callable[[str], None] | None = None) -> None:
        """Continue the last training for the chosen time."""
        begun = self.begun
        if self._job.busy or begun is None or begun.last is None:
            return
        budget = {k: v for k, v in self.settings.items() if k in BUDGET}
        self._run(further_steps(begun, budget), then)

    def finish(self) -> None:
        """End the training, so that the job goes on with what was learned."""
        self._finishing = True
        self._job.finish()

    def use_processor(self) -> None:
        """Choose the processor instead of a graphics card."""
        self.device.setCurrentText("cpu")

    def _run(self, steps: Any, then: Callable[[str], None] | None) -> None:
        begun = self.begun
        assert begun is not None
        self.resume_button.setEnabled(False)
        self._snapshot, self._next_preview = None, time.monotonic()
        self._finishing, self.learning = False, True
        before = begun.last
        self.summarize(f"learning from '{begun.source.layer.name}'")
        self._job.say("Learning…")
        title = f"Training on {begun.source.layer.name}"

        def end(outcome: str) -> None:
            self.learning = False
            self._snapshot = None
            learned = self._keep(begun, outcome, before)
            if not learned:
                self.chooser.changed.emit(self.chooser.name)  # the summary says what there is
            finished = self._finishing and outcome == "stopped" and learned
            if then is not None:
                then("done" if finished else outcome)

        self._job.run(steps, title, self._show_progress, end)

    def _show_progress(self, batch: list[Any]) -> None:
        begun = self.begun
        assert begun is not None
        states = [progress.result for progress in batch if progress.result is not None]
        begun.add(states)
        if not states:
            return
        self._job.show_progress(batch[-1].fraction, states[-1].seconds_left)
        self._job.say(begun.describe())
        if self._plot is None:
            from ._loss_plot import LossPlot

            self._plot = LossPlot(self._viewer)
            self._plot_row.addWidget(self._plot)
        self._plot.add(states)
        if time.monotonic() >= self._next_preview:
            self._snapshot = states[-1].snapshot
            self._next_preview = time.monotonic() + PREVIEW_EVERY
            self.refreshed.emit()

    def delay_preview(self, seconds: float) -> None:
        """Leave a time to training before the preview is refreshed."""
        self._next_preview = max(self._next_preview, time.monotonic() + seconds)

    def _keep(self, begun: Begun, outcome: str, before: Any) -> bool:
        """Add the trained model to the session, however the training ended; return whether."""
        last = begun.last
        self.offer_resume()
        if last is None or last is before:
            self._job.say(f"{outcome.capitalize()} before the first step; there is no model.")
            return False
        # not at the top, as it imports torch
        from ..score.training import describe_context, describe_kept

        model, layer = last.snapshot(), begun.source.layer
        name = session.add_model(model, layer.name, layer)
        recipe = {key: value for key, value in begun.settings.items() if key != "name"}
        session.recipes[name] = recipe | begun.budget
        how = {"done": "Trained for", "stopped": "Stopped after", "failed": "Failed after"}
        sentences = [
            f"{how[outcome]} {last.step} steps. The model is '{name}'.",
            describe_context(model),
            describe_kept(model),
        ]
        self._job.say(" ".join(filter(None, sentences)))
        if remark := begun.remark():
            self.remarked.emit(remark)
        return True

    def offer_resume(self) -> None:
        """Enable Resume if the last training can be continued: its layer must still exist."""
        if self._job.busy:
            return
        begun = self.begun
        if begun is not None and begun.source.layer not in self._viewer.layers:
            self.begun = begun = None
        self.resume_button.setEnabled(begun is not None and begun.last is not None)

    def show_repeats(self, layer: Any, axes: str) -> None:
        """Show what a network is trained on."""
        text = describe_repeats(layer, axes, self._ndim.currentData()) if layer else ""
        self._repeats.setText(text)

    def compare(self, source: Source | None) -> None:
        """Show beside the model whether it fits a layer, after a look at its grey levels."""
        if self._fitting is not None:
            self._fitting.quit()
        self._message.say("")
        name, model = self.chooser.name, self.chooser.model
        begun = self.begun
        if self.learning and begun is not None and source and begun.source.layer is source.layer:
            self.summarize("learning from this layer")
        else:
            self.summarize(f"{name or 'none yet'}{_range_of(model)}")
        if source is None or model is None:
            return

        def say(text: str) -> None:
            if isalive(self) and self._fitting is worker:
                self._message.say(text, "warning")

        def fail(failure: Failure | None) -> None:
            if failure is not None and isinstance(failure.error, UserError):
                say(message_of(failure.error))

        def warn(warning: tuple[Any, ...]) -> None:
            if isinstance(warning[0], DataWarning):
                say(one_line(warning[0]))

        def finish() -> None:
            if isalive(self):
                self.destroyed.disconnect(worker.quit)
                self._fitting = None if self._fitting is worker else self._fitting

        self._fitting = worker = start(
            _compare(source, model),
            yielded=lambda _: None,
            returned=fail,
            warned=warn,
            finished=finish,
        )
        self.destroyed.connect(worker.quit)


def _range_of(model: ScoreModel | None) -> str:
    return "" if model is None else f", trained on grey levels {model.low:.4g}–{model.high:.4g}"


def _compare(source: Source, model: ScoreModel) -> Generator[None, None, None]:
    """Compare a layer with the images that a model was trained on: axes, channels, grey levels."""
    from ..denoising.grey_level_range import check_range
    from ..denoising.job import fit_layout, in_channel
    from ..image.axes import layout
    from ..score.correction import corrected_image, learned_corrections

    where = fit_layout(layout(source.axes, source.data.shape, model.ndim), model)
    data = corrected_image(source.image(), learned_corrections(model), fills=True).data
    yield None
    count = len(model.channel_coordinates)
    if not count:
        check_range(data, where, model)
    for channel in range(count):
        with in_channel(channel, count):
            check_range(data, where, model.of_channel(channel), None, channel)
        yield None
