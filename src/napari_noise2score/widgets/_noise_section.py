"""The noise of a layer: in words, how much it explains, a slider, and what an expert wants."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import QSignalBlocker, QTimer, Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from ..errors import UserError
from ..noise.base import NoiseModel
from ..noise.parse import parse_noise
from ._fold import Fold
from ._guess import Found, find_noise, noise_of
from ._history import History
from ._message import Message, WrappedLabel, colour_of
from ._noise_form import NoiseForm
from ._noise_words import in_words
from ._number import Slider
from ._session import session

if TYPE_CHECKING:
    import napari.viewer

    from ._job_bar import JobBar
    from ._source import Source

STRONGEST = 3.0  # the slider multiplies the standard deviation by this at its end
SETTLED = 400  # milliseconds after which a change of the noise can be undone
SOON = 30  # milliseconds until the share that the noise explains follows a slider
DEFAULT = "poisson(gain=1)"  # what the controls show while nothing is known
UNKNOWN = "not known yet: Denoise estimates it"
MISSING = (
    "The noise of this layer could not be estimated: choose it under Family and numbers, then "
    "press Denoise."
)
TYPICAL = (
    "These numbers are not measured, as another job is running: press Refine when it has ended."
)
GOOD, POOR = 0.9, 0.7  # the share of the noise that a model explains


class NoiseSection(QWidget):
    """The noise model of the layer that is shown.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose theme gives the colours.
    job : JobBar
        Where estimates run.

    Attributes
    ----------
    estimate_button, refine_button : QPushButton
        They start an estimate, once the dock connects them.
    form : NoiseForm
        Family and numbers.
    """

    changed = Signal(str)  # the noise model that the layer has now

    def __init__(self, viewer: napari.viewer.Viewer, job: JobBar):
        super().__init__()
        self._viewer, self._job = viewer, job
        self._layer: Any = None
        self._history = History()
        self._base: NoiseModel | None = None  # what the slider makes weaker or stronger
        self._polish: Callable[[bool, str], str] = lambda _pays, sentence: sentence
        self._found: dict[str, Found] = {}  # how each noise model was found
        self._words = WrappedLabel(UNKNOWN)
        self._words.setToolTip("The noise model that is removed, with its numbers in grey levels.")
        self._explains = QLabel()
        self._explains.setToolTip(
            "The part of the noise's variance that the model explains, at all intensities, in "
            "percent: 100 % if it is right. It follows the sliders. Estimate measures it, and so "
            "does Check under Noise check."
        )
        self.estimate_button = QPushButton("Estimate")
        self.estimate_button.setToolTip(
            "Find the noise family and its parameters in the layer itself: from a time series "
            "if there is one, otherwise from the flat areas of its planes. With a trained model, "
            "the noise level is the one whose result comes closest to the other time points. "
            "Takes a few seconds."
        )
        self.refine_button = QPushButton("Refine")
        self.refine_button.setToolTip(
            "Keep the noise family, with its offset and correlation, and estimate only its gain "
            "(or strength) and read noise from the layer: use this if you know the kind of noise "
            "but not its size. Takes a few seconds."
        )
        self._undo, self._redo = QPushButton("Undo"), QPushButton("Redo")
        self._undo.setToolTip("Return to the noise model before the last change.")
        self._redo.setToolTip("Take back the last Undo.")
        self._strength = Slider()
        self._strength.setRange(-1, 1)
        self._strength.setSingleStep(0.02)
        self._strength.setPageStep(0.2)
        self._strength.setAccessibleName("Strength")
        self._strength.setToolTip(
            "Remove less noise (left) or more (right): the standard deviation of the noise, from "
            f"a third to {STRONGEST:g} times that in the middle. Drag to see the effect at once."
        )
        self._message = Message(viewer, "What you should know about the noise model.")
        self.numbers = Fold("Family and numbers", "Choose the kind of noise and set its numbers.")
        form = QFormLayout()
        self.numbers.rows.addLayout(form)
        self.form = NoiseForm(form)
        self._arrange()
        self._settled = _timer(self, SETTLED, self._record)
        self._soon = _timer(self, SOON, self._show_explained)
        self._undo.clicked.connect(lambda: self._step(-1))
        self._redo.clicked.connect(lambda: self._step(1))
        self._strength.valueChanged.connect(self._set_strength)
        self.form.changed.connect(self._take)
        self.form.channel_changed.connect(lambda: self._show(self.text))
        viewer.events.theme.connect(self._follow_theme)
        self.show_layer(None)

    def _arrange(self) -> None:
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        words = QHBoxLayout()
        words.addWidget(self._words, stretch=1)
        words.addWidget(self._explains)
        strength = QHBoxLayout()
        strength.addWidget(QLabel("weaker"))
        strength.addWidget(self._strength, stretch=1)
        strength.addWidget(QLabel("stronger"))
        buttons = QHBoxLayout()
        for button in (self.estimate_button, self.refine_button, self._undo, self._redo):
            buttons.addWidget(button)
        rows.addLayout(words)
        rows.addLayout(strength)
        rows.addLayout(buttons)
        rows.addWidget(self._message)
        rows.addWidget(self.numbers)

    @property
    def text(self) -> str:
        """The noise model of the layer as text, empty if it is not known."""
        return noise_of(self._layer) if self._layer is not None else ""

    def on_polish(self, tell: Callable[[bool, str], str]) -> None:
        """Set what is called after an estimate with whether a polish pays, and a sentence.

        It returns the sentence to be shown.
        """
        self._polish = tell

    def notes(self, noise: str) -> dict[str, Any]:
        """Return how a noise model was found, to be written with a result; empty if chosen."""
        found = self._found.get(noise)
        return dict(found.notes) if found is not None else {}

    def set_text(self, text: str) -> None:
        """Set the noise model of the layer; the controls follow."""
        if text == self.form.text:
            self._take(text)
        self.form.set_text(text)

    def use(self, noise: str, channel: int | None) -> None:
        """Take over a noise model that was found for a channel, or for all (None)."""
        if channel is not None:
            self.form.channel.choose(channel)
            noise = self.form.channel.with_part(self.text or noise, noise)
        self.set_text(noise)

    def show_layer(self, layer: Any) -> None:
        """Show the noise model of a layer."""
        self._record_now()
        self._layer = layer
        self._message.say("")
        text = self.text
        with QSignalBlocker(self.form):
            self.form.set_text(text or DEFAULT)
        if text:
            self._history.add(layer, text)
        self._show(text)

    def fail(self, error: UserError) -> None:
        """Show what is wrong with the noise model."""
        self._message.fail(error)

    def say_missing(self) -> None:
        """Ask the person to choose the noise."""
        self._message.say(MISSING, "error")

    def say_typical(self) -> None:
        """Warn that the numbers of a family are not those of the layer, as a job is running."""
        self._message.say(TYPICAL, "warning")

    def estimate(self, source: Source, then: Callable[[str], None] | None, **how: Any) -> None:
        """Estimate the noise model of a layer in the background, and choose it.

        Parameters
        ----------
        source : Source
            The layer.
        then : callable, optional
            Called with how the job ended.
        **how
            As for `find_noise`.
        """
        found: list[Found] = []

        def take(batch: list[Any]) -> None:
            last = batch[-1]
            found.extend(progress.result for progress in batch if progress.result is not None)
            self._job.show_progress(last.fraction)
            self._job.say("Estimating the noise")

        def end(outcome: str) -> None:
            if outcome == "done" and found:
                self._take_found(source.layer, found[-1])
            else:
                self._job.say(f"{outcome.capitalize()}; the noise model was not changed.")
                if source.layer is self._layer:
                    self._message.say(self._job.problem, "error")
            if then is not None:
                then(outcome)

        self._message.say("")
        self._job.say("Estimating the noise…")
        title = f"Noise of {source.layer.name}"
        self._job.run(find_noise(source.data, source.axes, **how), title, take, end)

    def _take_found(self, layer: Any, found: Found) -> None:
        """Make what was estimated the noise model of a layer, shown or not."""
        self._found[found.noise] = found
        if found.check is not None:
            session.checks[layer] = {None: found.check}
        if layer is self._layer:
            self.set_text(found.noise)
            self._record_now()
        else:
            session.noises[layer] = found.noise
            self._history.add(layer, found.noise)
        said = [f"Found {found.noise}"]
        check = found.check
        if check is not None and not check.explains and layer is self._layer:
            self._message.say(check.verdict, "warning")
        if (need := found.polish) is not None:
            said.append(self._polish(need.pays, need.sentence))
        self._job.say(" ".join(f"{text[:1].upper()}{text[1:]}".rstrip(".") + "." for text in said))

    def _take(self, text: str) -> None:
        """Make a text the noise model of the layer."""
        if self._layer is not None:
            session.noises[self._layer] = text
            self._settled.start()
        self._message.say("")
        self._show(text)
        self.changed.emit(text)

    def _show(self, text: str) -> None:
        self._words.setText(in_words(text) if text else UNKNOWN)
        self._base = None
        if text:
            try:
                noise = parse_noise(text)
            except UserError as error:
                self._message.say(str(error), "error")
            else:
                with contextlib.suppress(UserError):  # it has no strength, as a measured one
                    noise.scaled(1.0)
                    self._base = noise
        with QSignalBlocker(self._strength):
            self._strength.setValue(0)
        self._strength.setEnabled(self._base is not None)
        self._soon.start()
        self._offer_steps()

    def _set_strength(self, position: float) -> None:
        base = self._base
        if base is None:
            return
        with contextlib.suppress(UserError):  # the end of what the parameter may be
            part = parse_noise(self.form.channel.part_of(str(base)))
            scaled = str(part.scaled(STRONGEST ** (2 * position)))
            self.set_text(self.form.channel.with_part(str(base), scaled))
        self._base = base
        with QSignalBlocker(self._strength):
            self._strength.setValue(position)

    def _follow_theme(self, _event: Any = None) -> None:
        if isalive(self):
            self._soon.start()

    def _show_explained(self) -> None:
        """Show the part of the noise that the model explains, if the noise was measured."""
        share = self._explained()
        kind = "" if share is None or share >= GOOD else "warning" if share >= POOR else "error"
        colour = colour_of(self._viewer, kind)
        self._explains.setStyleSheet(f"color: {colour}" if colour else "")
        unknown = "not checked" if self.text else ""
        self._explains.setText(unknown if share is None else f"explains {share:.0%}")

    def _explained(self) -> float | None:
        """Return the part of the noise that the model of the shown channel explains, if known."""
        channel = self.form.channel.channel
        known = session.checks.get(self._layer, {}) if self._layer is not None else {}
        check = known.get(channel) or known.get(None)
        if check is None:
            return None
        # of several channels, the check is that of the worst one
        of = channel if check is known.get(channel) and channel is not None else check.channel
        if channel is not None and of not in (None, channel):
            return None
        with contextlib.suppress(UserError):
            count = max(check.channels, self.form.channel.count_channels)
            noise = parse_noise(self.text).for_channels(count)[of or 0]
            if noise == check.noise:
                return float(check.curve.explained)
            if noise.components.kernel == check.noise.components.kernel:
                return float(check.curve.with_noise(noise).explained)
        return None

    def _record(self) -> None:
        """Make the noise model one that Undo returns to."""
        if self._layer is not None and self.text:
            self._history.add(self._layer, self.text)
        self._offer_steps()

    def _record_now(self) -> None:
        if self._settled.isActive():
            self._settled.stop()
            self._record()

    def _step(self, by: int) -> None:
        self._record_now()
        if self._history.can_step(self._layer, by):
            text = self._history.step(self._layer, by)
            self.set_text(text)
            self._settled.stop()
        self._offer_steps()

    def _offer_steps(self) -> None:
        known = self._layer is not None
        unsettled = self._settled.isActive()
        self._undo.setEnabled(known and (unsettled or self._history.can_step(self._layer, -1)))
        self._redo.setEnabled(known and self._history.can_step(self._layer, 1))


def _timer(parent: QWidget, milliseconds: int, then: Callable[[], None]) -> QTimer:
    """Return a timer that calls a function once, a while after it was started last."""
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(then)
    return timer
