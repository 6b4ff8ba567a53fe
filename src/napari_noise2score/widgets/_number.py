"""A slider and a spin box for one number; each follows the other."""

from __future__ import annotations

import math
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QWidget
from superqt import QDoubleSlider

# a slider spans so many times the value to both sides, and is set anew near its ends
SPAN = 8.0
NEAR = 0.02


class Number(QWidget):
    """A number with a slider for the hand and a spin box for the keyboard.

    The slider spans what is near the value, so that it can be set finely: a few times more and
    less, in equal ratios, or for a number that may be 0 or below a distance to both sides.

    Parameters
    ----------
    start, lowest, highest : float
        Value to begin with, and its limits.
    tip : str
        What the number means, with its unit.
    reach : float, optional
        For a number that may be 0 or below: how far the slider goes, at least, to both sides.
    """

    valueChanged = Signal(float)

    def __init__(
        self, start: float, lowest: float, highest: float, tip: str, reach: float | None = None
    ):
        super().__init__()
        self._limits, self._reach = (lowest, highest), reach
        self.slider = _Slider()
        self.box = _SpinBox()
        self.box.setDecimals(5)
        self.box.setRange(lowest, highest)
        self.box.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.box.setKeyboardTracking(False)
        self.box.setFixedWidth(92)
        self.box.setToolTip(tip)
        self.slider.setOrientation(Qt.Orientation.Horizontal)
        self.slider.setMinimumWidth(60)
        self.slider.setToolTip(f"{tip} Drag: what is on view follows at once.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, stretch=1)
        row.addWidget(self.box)
        self.setFocusProxy(self.box)
        self.box.setValue(start)
        self._span()
        self.slider.valueChanged.connect(self._slid)
        self.slider.sliderReleased.connect(self._released)
        self.box.valueChanged.connect(self._typed)

    def value(self) -> float:
        """Give the number."""
        return self.box.value()

    def setValue(self, value: float) -> None:
        """Set the number."""
        self.box.setValue(value)

    def _slid(self, position: float) -> None:
        value = position if self._reach else math.exp(position)
        with QSignalBlocker(self.box):
            # digits that the hand cannot set are not shown
            self.box.setValue(float(f"{value:.3g}"))
        self.valueChanged.emit(self.value())

    def _typed(self, value: float) -> None:
        self._span()
        self.valueChanged.emit(value)

    def _released(self) -> None:
        """Make room where a drag went to the end of the slider."""
        low, high = self.slider.minimum(), self.slider.maximum()
        share = (self.slider.value() - low) / (high - low)
        if not NEAR < share < 1 - NEAR:
            self._span()

    def _span(self) -> None:
        """Let the slider span what is near the value."""
        value, (lowest, highest) = self.value(), self._limits
        if self._reach:
            far = max(self._reach, abs(value))
            ends = max(lowest, value - far), min(highest, value + far)
        else:
            ends = (
                math.log(max(lowest, value / SPAN)),
                math.log(min(highest, value * SPAN)),
            )
        with QSignalBlocker(self.slider):
            self.slider.setRange(*ends)
            self.slider.setSingleStep((ends[1] - ends[0]) / 200)
            self.slider.setPageStep((ends[1] - ends[0]) / 20)
            self.slider.setValue(value if self._reach else math.log(value))


class _Slider(QDoubleSlider):
    def keyPressEvent(self, event: Any) -> None:
        """Follow the arrow and page keys, which Qt gives to sliders of whole numbers only."""
        small, large = self.singleStep(), self.pageStep()
        key = Qt.Key
        steps = {
            key.Key_Left: -small,
            key.Key_Down: -small,
            key.Key_Right: small,
            key.Key_Up: small,
            key.Key_PageDown: -large,
            key.Key_PageUp: large,
        }
        if event.key() in steps:
            self.setValue(self.value() + steps[event.key()])
        else:
            super().keyPressEvent(event)


class _SpinBox(QDoubleSpinBox):
    def textFromValue(self, value: float) -> str:
        """Spell a number without the zeros that say nothing."""
        return f"{value:.10g}"
