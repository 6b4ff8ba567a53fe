"""The noise check: compare the noise of a layer with a noise model."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QPushButton, QVBoxLayout, QWidget

from ..errors import UserError
from ..image.channel import channel_of, count_channels
from ..noise.parse import parse_noise
from ..progress import Progress
from ._channel_choice import ChannelChoice
from ._fold import Fold
from ._guess import noise_of
from ._message import Message, WrappedLabel
from ._session import session

if TYPE_CHECKING:
    import napari.viewer

    from ..estimation.goodness_of_fit import NoiseCheck
    from ..image.image import Image as VolumeImage
    from ._check_plots import CheckPlots
    from ._job_bar import JobBar
    from ._source import Source


class CheckSection(Fold):
    """Check whether a noise model explains the noise of an image layer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose theme gives the colours.
    job : JobBar
        Where checks run.

    Attributes
    ----------
    start_button : QPushButton
        Starts a check, once the dock connects it.
    """

    used = Signal(str, object)  # a noise model that a person takes over, and its channel or None

    def __init__(self, viewer: napari.viewer.Viewer, job: JobBar):
        super().__init__(
            "Noise check",
            "Measure the noise of the layer, and see how well a noise model explains it.",
        )
        self._viewer, self._job = viewer, job
        self._layer: Any = None  # the one that is shown in the dock
        # the layer, check and channel that are shown
        self._checked: tuple[Any, NoiseCheck, int | None] | None = None
        self.channel = ChannelChoice()
        self._which = QComboBox()
        self._which.addItems(["found in the layer", "chosen for the layer"])
        self._which.setToolTip(
            "Which noise model to check: the one that fits the layer best, or the one that was "
            "chosen for it above."
        )
        self._residual = QComboBox()
        self._residual.setToolTip(
            "What is searched for structure that noise does not have: the image itself (the "
            "difference of successive frames, or its flat areas), or the residual of denoising "
            "with a trained model."
        )
        self.start_button = QPushButton("Check")
        self.start_button.setToolTip(
            "Measure the noise of the layer and compare it with the model. This takes some "
            "seconds; the layer is not changed."
        )
        self._verdict, self._numbers, self._model = WrappedLabel(), WrappedLabel(), WrappedLabel()
        for label in (self._model, self._verdict, self._numbers):
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._verdict.setStyleSheet("font-weight: bold")
        self._model.setToolTip("The noise model that was checked, and its uncertainty.")
        self._numbers.setToolTip(
            "The part of the noise that the model explains: 1 if its variance is right at every "
            "intensity. Then the strongest correlation between neighbouring pixels that the "
            "model does not include: 0 if there is none. Both are without unit."
        )
        self._plots: CheckPlots | None = None  # as long as there is nothing to be plotted
        self._use = QPushButton("Use this model")
        self._use.setToolTip("Make the noise model that was checked the one of the layer.")
        self._arrange()
        self._use.clicked.connect(self._emit_used)
        session.models_changed.connect(self._offer_models)
        self._offer_models()

    def _arrange(self) -> None:
        self._form = form = QFormLayout()
        form.addRow("Channel", self.channel)
        form.setRowVisible(self.channel, False)
        form.addRow("Noise model", self._which)
        form.addRow("Residual of", self._residual)
        self.rows.addLayout(form)
        self.rows.addWidget(self.start_button)
        self._message = Message(self._viewer, "Why the noise was not checked.")
        self.rows.addWidget(self._message)
        self._results = QWidget()
        results = QVBoxLayout(self._results)
        results.setContentsMargins(0, 0, 0, 0)
        for label in (self._model, self._verdict, self._numbers):
            results.addWidget(label)
        self._plot_row = QVBoxLayout()
        results.addLayout(self._plot_row, stretch=1)
        results.addWidget(self._use)
        self._results.hide()
        self.rows.addWidget(self._results, stretch=1)

    def check(self, source: Source) -> None:
        """Check the noise of a layer in the background."""
        self._message.say("")
        noise = None
        if self._which.currentIndex() and not (noise := noise_of(source.layer)):
            self._message.fail(UserError(f"no noise was chosen for '{source.layer.name}' yet"))
            return
        model = session.models.get(self._residual.currentData())
        found: list[NoiseCheck] = []
        channel = self.channel.channel

        def take(batch: Sequence[Any]) -> None:
            found.extend(progress.result for progress in batch if progress.result is not None)
            self._job.show_progress(batch[-1].fraction)

        def end(outcome: str) -> None:
            if outcome != "done" or not found:
                self._job.say("The noise was not checked.")
                self._message.say(self._job.problem, "error")
                return
            session.checks.setdefault(source.layer, {})[channel] = found[-1]
            self._job.say("The noise was checked.")
            if source.layer is self._layer:
                self._show(found[-1], channel)

        self._job.say("Measuring the noise…")
        steps = _steps(source.image(), noise, model, channel)
        self._job.run(steps, f"Noise check of {source.layer.name}", take, end)

    def show_layer(self, layer: Any) -> None:
        """Show the last check of a layer, if there is one."""
        self._layer = layer
        if self._checked is None or self._checked[0] is not layer:
            self._checked = None
            self._results.hide()
            self.summarize("")

    def set_channels(self, names: Sequence[str]) -> None:
        """Offer the channels of an image, if there are several."""
        self.channel.set_names(names)
        self._form.setRowVisible(self.channel, len(names) > 1)

    def _show(self, check: NoiseCheck, channel: int | None) -> None:
        self._checked = self._layer, check, channel
        self._model.setText(_described(check))
        self._verdict.setText(check.verdict)
        self._numbers.setText(check.summary[0].upper() + check.summary[1:])
        self.summarize(check.summary)
        if self._plots is None:
            from ._check_plots import CheckPlots

            self._plots = CheckPlots(self._viewer)
            self._plot_row.addWidget(self._plots)
        self._plots.show_check(check)
        self._results.show()

    def _emit_used(self) -> None:
        if self._checked is not None:
            _, check, channel = self._checked
            self.used.emit(str(check.image_noise), channel)

    def _offer_models(self, _name: str = "", _layer: Any = None) -> None:
        chosen = self._residual.currentData()
        self._residual.clear()
        self._residual.addItem("the image itself", "")
        for name in session.models:
            self._residual.addItem(f"denoising with '{name}'", name)
        self._residual.setCurrentIndex(max(0, self._residual.findData(chosen)))


def _described(check: NoiseCheck) -> str:
    """Return which model was checked, and the confidence intervals of its parameters."""
    # a kernel that was measured has more digits than anyone reads
    noise = re.sub(r"\d+\.\d+(e-\d+)?", lambda number: f"{float(number[0]):.4g}", str(check.noise))
    text = f"Checked {noise}."
    if check.noise == check.found:
        ends = check.intervals.items()
        text += " 95 % intervals: " + ", ".join(f"{k} {a:.3g} to {b:.3g}" for k, (a, b) in ends)
    return text


def _steps(
    image: VolumeImage, noise: str | None, model: Any, channel: int | None
) -> Generator[Progress[NoiseCheck], None, None]:
    """Check a noise model, or the one that is estimated if there is none."""
    # imported here, on the background thread, as torch takes seconds
    from ..estimation.estimate import estimate_steps
    from ..estimation.noise_check import check_steps
    from . import _check_plots  # noqa: F401

    known = parse_noise(noise) if noise is not None else None
    if channel is not None:
        if model is not None and not model.channel_coordinates:
            raise UserError("the model sees all channels together: choose all channels")
        known = known and known.for_channels(count_channels(image))[channel]
        model = model and model.of_channel(channel)
        image = channel_of(image, channel)
    if known is not None:
        yield from check_steps(image, known, model=model)
        return
    for progress in estimate_steps(image, model=model, method="images"):
        check = None
        if (report := progress.result) is not None and (check := report.check) is None:
            raise UserError(report.check_error)
        yield Progress(progress.done, progress.total, result=check)
