"""A slider and a spin box for one number; each follows the other."""

from __future__ import annotations

import math
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QWidget
from superqt import QDoubleSlider

#: A slider goes from the value divided by this to the value times this.
SLIDER_RATIO = 8.0
#: Share of the slider at either end within which a drag that ends there moves its range.
END_MARGIN = 0.02


class Number(QWidget):
    """A number with a slider for the mouse and a spin box for the keyboard.

    The slider covers a range around the value, so that it can be set finely: equal ratios, or
    equal distances for a number that may be zero or negative.

    Parameters
    ----------
    start, lowest, highest : float
        First value, and the limits of the number.
    tip : str
        Tooltip: what the number means, with its unit.
    reach : float, optional
        For a number that may be zero or negative: the smallest distance from the value to either
        end of the slider.
    """

    valueChanged = Signal(float)

    def __init__(
        self, start: float, lowest: float, highest: float, tip: str, reach: float | None = None
    ):
        super().__init__()
        self._limits, self._reach = (lowest, highest), reach
        self.slider = Slider()
        self.box = _SpinBox()
        self.box.setDecimals(5)
        self.box.setRange(lowest, highest)
        self.box.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        self.box.setKeyboardTracking(False)
        self.box.setFixedWidth(122)
        self.box.setToolTip(tip)
        self.slider.setMinimumWidth(60)
        self.slider.setToolTip(f"{tip} Drag to see the effect at once.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, stretch=1)
        row.addWidget(self.box)
        self.setFocusProxy(self.box)
        self.box.setValue(start)
        self._set_range()
        self.slider.valueChanged.connect(self._take_position)
        self.slider.sliderReleased.connect(self._move_range)
        self.box.valueChanged.connect(self._take_typed)

    def value(self) -> float:
        """Return the number."""
        return self.box.value()

    def setValue(self, value: float) -> None:
        """Set the number."""
        self.box.setValue(value)

    def _take_position(self, position: float) -> None:
        value = position if self._reach else math.exp(position)
        with QSignalBlocker(self.box):
            # a mouse cannot set more digits than these
            self.box.setValue(float(f"{value:.3g}"))
        self.valueChanged.emit(self.value())

    def _take_typed(self, value: float) -> None:
        self._set_range()
        self.valueChanged.emit(value)

    def _move_range(self) -> None:
        """Move the range of the slider after a drag to one of its ends."""
        low, high = self.slider.minimum(), self.slider.maximum()
        share = (self.slider.value() - low) / (high - low)
        if not END_MARGIN < share < 1 - END_MARGIN:
            self._set_range()

    def _set_range(self) -> None:
        """Set the range of the slider around the value."""
        value, (lowest, highest) = self.value(), self._limits
        if self._reach:
            distance = max(self._reach, abs(value))
            ends = max(lowest, value - distance), min(highest, value + distance)
        else:
            ends = (
                math.log(max(lowest, value / SLIDER_RATIO)),
                math.log(min(highest, value * SLIDER_RATIO)),
            )
        with QSignalBlocker(self.slider):
            self.slider.setRange(*ends)
            self.slider.setSingleStep((ends[1] - ends[0]) / 200)
            self.slider.setPageStep((ends[1] - ends[0]) / 20)
            self.slider.setValue(value if self._reach else math.log(value))


class Slider(QDoubleSlider):
    """A horizontal slider of real numbers."""

    def __init__(self) -> None:
        QDoubleSlider.__init__(self, Qt.Orientation.Horizontal)

    def keyPressEvent(self, event: Any) -> None:
        """Follow the arrow and page keys, as Qt does for sliders of integers only."""
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
        """Return a number as text, without trailing zeros."""
        return f"{value:.10g}"
