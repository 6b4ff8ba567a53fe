"""What one press of Denoise does: estimate the noise, learn, estimate again, denoise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QMessageBox, QWidget

from ..errors import UserError
from ..noise.parse import parse_noise
from ._guess import noise_of
from ._layers import is_result
from ._session import session

if TYPE_CHECKING:
    from ._job_bar import JobBar
    from ._model_section import ModelSection
    from ._noise_section import NoiseSection
    from ._result_section import Order, ResultSection
    from ._source import Source


@dataclass
class Press:
    """What a press of a button is to lead to, and what was done for it.

    Attributes
    ----------
    source : Source
        The layer that was chosen then, and its axes.
    order : Order or None
        What kind of result is wanted; None if the press is to learn only.
    guess : str
        The noise that was estimated from the images alone, to be estimated again with the model.
    estimated : bool
        Whether an estimate was tried.
    remark : str
        A sentence on the training, to be shown with the result.
    like : napari.layers.Image or None
        A layer whose model is used if this one has none.
    """

    source: Source
    order: Order | None
    guess: str = ""
    estimated: bool = False
    remark: str = ""
    like: Any = None


class Flow(QObject):
    """Do what is missing for a result, one job after the other.

    Parameters
    ----------
    parent : QWidget
        The dock.
    job : JobBar
        Where the jobs run.
    noise, model, result
        The sections of the dock.
    """

    def __init__(
        self,
        parent: QWidget,
        job: JobBar,
        noise: NoiseSection,
        model: ModelSection,
        result: ResultSection,
    ):
        super().__init__(parent)
        self._job, self._noise, self._model, self._result = job, noise, model, result
        self._press: Press | None = None
        self._queue: list[Press] = []  # of the other layers that were selected
        self._failed: list[str] = []  # the layers that could not be denoised, and why
        self._retry: Callable[[], None] | None = None  # repeats the last job
        model.remarked.connect(self._take_remark)
        job.offer_cpu(self._again_on_cpu)

    def denoise(self, source: Source, others: Sequence[Source] = ()) -> None:
        """Do everything that a result of a layer needs, and then that of other layers.

        Parameters
        ----------
        source : Source
            The layer.
        others : sequence of Source
            Further layers; those without a model of their own take that of the first.
        """
        layer = source.layer
        if is_result(layer) and not _ask_again(self.parent(), layer.name):
            return
        if noise := noise_of(layer):
            try:
                parse_noise(noise)
            except UserError as error:
                self._noise.fail(error)
                return
        order = self._result.ask(layer, len(others))
        if order is not None:
            self._press, self._failed = Press(source, order), []
            self._queue = [Press(other, order, like=layer) for other in others]
            self._go_on("done")

    def train(self, source: Source) -> None:
        """Learn from a layer; estimate its noise before, for the preview."""
        self._press = Press(source, None)
        self._go_on("done")

    def resume(self) -> None:
        """Continue the last training."""
        self._press = None
        self._model.resume(self._after_training)

    def finish(self) -> None:
        """End the training that runs, and denoise with what was learned."""
        begun = self._model.begun
        if begun is None:
            return
        press = self._press or Press(begun.source, None)
        if press.order is None:
            press.order = self._result.ask(press.source.layer)
        if press.order is not None:
            self._press = press
            self._model.finish()

    def _go_on(self, outcome: str) -> None:
        """Start the next job, unless the last one was stopped or failed."""
        press = self._press
        if press is None:
            return
        layer, learns = press.source.layer, press.order is None
        if press.like is not None and layer not in session.model_of:
            session.model_of[layer] = session.model_of.get(press.like, "")
        own = session.model_of.get(layer)
        if outcome == "stopped" or layer not in self._result.viewer.layers:
            self._end(press, outcome)
        elif not noise_of(layer) and not press.estimated:
            press.estimated = True
            self._noise.estimate(press.source, self._take_guess)
        elif learns or own not in session.models:
            self._learn(press)
        elif self._is_to_be_refined(press, own):
            press.guess = ""
            model, device = session.models[own], self._model.device.currentText()
            self._noise.estimate(press.source, self._after_job, model=model, device=device)
        else:
            self._finish(press, own)

    @staticmethod
    def _is_to_be_refined(press: Press, name: str) -> bool:
        """Return whether the noise is estimated again with the network: if that learned enough."""
        if not press.guess or noise_of(press.source.layer) != press.guess:
            return False
        return session.models[name].fingerprint not in session.hasty

    def _learn(self, press: Press) -> None:
        self._press, self._retry = press, lambda: self._learn(press)
        self._model.train(press.source, self._after_training)

    def _take_guess(self, outcome: str) -> None:
        press = self._press
        if press is not None:
            press.guess = noise_of(press.source.layer)
        # without an estimate, a person can choose the noise while the network learns
        self._after_job(outcome)

    def _after_job(self, outcome: str) -> None:
        # a job may end by itself between the click on Stop and its next step
        self._go_on("stopped" if self._job.stop_requested else outcome)

    def _after_training(self, outcome: str) -> None:
        press = self._press
        if press is not None and press.order is not None and outcome == "done":
            self._after_job(outcome)
        elif press is not None:
            self._end(press, outcome)

    def _end(self, press: Press, outcome: str, why: str = "") -> None:
        """Take the next layer, unless the job was stopped; at last, name those that failed."""
        self._press = None
        why = why or (self._job.problem if outcome == "failed" else "")
        if why:
            self._failed.append(f"{press.source.layer.name}: {why}")
        if outcome == "stopped" or self._job.stop_requested:
            self._queue = []
        if self._queue:
            self._press = self._queue.pop(0)
            self._go_on("done")
        elif press.like is not None:
            for text in self._failed:
                self._job.note(text)

    def _finish(self, press: Press, name: str) -> None:
        """Denoise, as noise and model are there."""
        text = noise_of(press.source.layer)
        if not text:
            self._noise.say_missing()
            self._end(press, "failed", "its noise could not be estimated")
            return
        order = press.order
        assert order is not None
        try:
            noise = parse_noise(text)
        except UserError as error:
            self._job.note(str(error))
            self._end(press, "failed", str(error))
            return
        target = order.target
        # keep the blocks that were written before memory ran out
        kept = target and target._replace(resume=True)
        again = replace(press, order=order._replace(target=kept))
        self._retry = lambda: self._finish(again, name)
        self._result.run(
            order,
            press.source,
            replace(session.models[name], name=name),
            noise,
            self._noise.notes(text),
            self._model.device.currentText(),
            press.remark,
            lambda outcome: self._end(press, outcome),
        )

    def _take_remark(self, remark: str) -> None:
        if self._press is not None:
            self._press.remark = remark

    def _again_on_cpu(self) -> None:
        """Repeat the job that ran out of memory on the processor."""
        self._model.use_processor()
        if self._retry is not None and not self._job.busy:
            self._retry()


def _ask_again(parent: Any, name: str) -> bool:
    """Ask whether to denoise a result."""
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("Denoise")
    box.setText(f"'{name}' is a result: it was denoised already.")
    box.setInformativeText("Denoising it again removes parts of the picture.")
    again = box.addButton("Denoise it again", QMessageBox.ButtonRole.DestructiveRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.exec()
    return box.clickedButton() is again
