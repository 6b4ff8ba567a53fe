"""How a network learns: the controls of its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QSpinBox, QVBoxLayout

from ._fold import Fold
from ._layers import describe_repeats
from ._message import WrappedLabel
from ._model_chooser import DeviceChooser
from ._noise_form import NO_CORRELATION, correlation, correlation_box

if TYPE_CHECKING:
    from ..denoising.settings import TrainSettings

MINUTES = 3.0
CONTEXTS = {
    "automatic: if neighbours look alike": "auto",
    "none: each plane by itself": "none",
    "neighbouring time points (T)": "T",
    "neighbouring planes (Z)": "Z",
    "both (T and Z)": "TZ",
}


class LearningSettings:
    """Controls for the settings of a training.

    Parameters
    ----------
    rows : QVBoxLayout
        Where those that are rarely needed are added, folded.
    form : QFormLayout
        Where the others are added.

    Attributes
    ----------
    device : DeviceChooser
        What the network runs on.
    """

    def __init__(self, rows: QVBoxLayout, form: QFormLayout):
        self.device = DeviceChooser()
        self._ndim = QComboBox()
        self._ndim.addItem("2-D: planes", 2)
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
        self._repeats = WrappedLabel()
        self._repeats.setToolTip("What the network is trained on, given the axes.")
        form.addRow("Learn in", self._ndim)
        form.addRow("", self._repeats)
        form.addRow("Context", self._context)
        form.addRow("Time", self._minutes)
        form.addRow("Device", self.device)
        rows.addLayout(form)
        advanced = Fold("Advanced", "Settings that are rarely needed.")
        seldom = QFormLayout()
        seldom.addRow("Seed", self._seed)
        seldom.addRow("Steps", self._steps)
        seldom.addRow("Correlation", self._correlation)
        advanced.rows.addLayout(seldom)
        rows.addWidget(advanced)

    @property
    def values(self) -> dict[str, Any]:
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

    def set(self, settings: TrainSettings) -> None:
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

    def show_repeats(self, layer: Any, axes: str) -> None:
        """Show what a network is trained on."""
        text = describe_repeats(layer, axes, self._ndim.currentData()) if layer else ""
        self._repeats.setText(text)
