"""The model: choose, learn, resume, load or save one, and whether it fits the layer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from ._fold import Fold
from ._guess import correction_in, correlation_in, noise_of
from ._learning_settings import LearningSettings
from ._model_chooser import ModelChooser
from ._model_fit import ModelFit
from ._session import session
from ._training import Begun, further_steps, training_steps

if TYPE_CHECKING:
    import napari.viewer

    from ..score.model import ScoreModel
    from ._job_bar import JobBar
    from ._loss_plot import LossPlot
    from ._source import Source

PREVIEW_EVERY = 4.0  # seconds
BUDGET = "steps", "minutes"


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
    settings : LearningSettings
        How one is learned.
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
        self.chooser = ModelChooser(noise)
        self._fit = ModelFit(viewer)
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
        self._plot: LossPlot | None = None  # created with the first loss
        self._arrange()
        self.chooser.failed.connect(self._fit.fail)

    def _arrange(self) -> None:
        self.always.addWidget(self._fit)
        form = QFormLayout()
        form.addRow("Use", self.chooser)
        self.settings = LearningSettings(self.rows, form)
        self.device = self.settings.device
        buttons = QHBoxLayout()
        buttons.addWidget(self.train_button, stretch=2)
        buttons.addWidget(self.resume_button, stretch=1)
        self.rows.addLayout(buttons)
        self._plot_area = QWidget()
        self._plot_area.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._plot_row = QVBoxLayout(self._plot_area)
        self._plot_row.setContentsMargins(0, 0, 0, 0)
        self.rows.addWidget(self._plot_area, stretch=1)

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
        settings = self.settings.values | {"name": source.layer.name}
        # what the noise model undoes is undone before the network learns
        noise = noise_of(source.layer)
        settings["correction"] = correction_in(noise)
        settings["correlation"] = settings["correlation"] or correlation_in(noise)
        budget: dict[str, Any] = {k: settings.pop(k) for k in BUDGET if k in settings}
        self.begun = Begun(source, settings, budget, noise)
        if self._plot is not None:
            self._plot.clear_losses()
        self._run(training_steps(self.begun), then)

    def resume(self, then: Callable[[str], None] | None = None) -> None:
        """Continue the last training for the chosen time."""
        begun = self.begun
        if self._job.busy or begun is None or begun.last is None:
            return
        budget = {k: v for k, v in self.settings.values.items() if k in BUDGET}
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
        self.summarize(f"learning from '{begun.source.layer.name}'")
        self._job.say("Learning…")
        title = f"Training on {begun.source.layer.name}"

        def end(outcome: str) -> None:
            self.learning = False
            self._snapshot = None
            learned = self._keep(begun, outcome)
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

    def _keep(self, begun: Begun, outcome: str) -> bool:
        """Add the trained model to the session, however the training ended; return whether."""
        model = begun.learned
        self.offer_resume()
        if model is None:
            self._job.say(f"{outcome.capitalize()} before the first step; there is no model.")
            return False
        # not at the top, as it imports torch
        from ..score.training import describe_context, describe_kept

        layer = begun.source.layer
        name = session.add_model(model, layer.name, layer)
        recipe = {key: value for key, value in begun.settings.items() if key != "name"}
        session.recipes[name] = recipe | begun.budget
        how = {"done": "Trained for", "stopped": "Stopped after", "failed": "Failed after"}
        sentences = [
            f"{how[outcome]} {model.provenance['steps']} steps. The model is '{name}'.",
            describe_context(model),
            describe_kept(model),
        ]
        self._job.say(" ".join(filter(None, sentences)))
        if begun.is_hasty:
            session.hasty.add(model.fingerprint)
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

    def compare(self, source: Source | None) -> None:
        """Show beside the model whether it fits a layer, after a look at its grey levels."""
        name, model, begun = self.chooser.name, self.chooser.model, self.begun
        if self.learning and begun is not None and source and begun.source.layer is source.layer:
            self.summarize("learning from this layer")
        else:
            self.summarize(f"{name or 'none yet'}{_range_of(model)}")
        self._fit.compare(source, model)


def _range_of(model: ScoreModel | None) -> str:
    return "" if model is None else f", trained on grey levels {model.low:.4g}–{model.high:.4g}"
