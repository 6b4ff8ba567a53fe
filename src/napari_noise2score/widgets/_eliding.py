"""A menu whose text is shortened in the middle where it is too long."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
)

MARGIN = 8  # pixels between the text and the arrow


class ElidingComboBox(QComboBox):
    """A combo box that is never wider than its layout allows, as names of files may be long."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setMinimumContentsLength(8)

    def paintEvent(self, _event: Any) -> None:
        """Draw the box with as much of the text as there is space for."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        style = self.style()
        assert style is not None
        field = style.subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, self
        )
        text = option.currentText or self.placeholderText()
        option.currentText = self.fontMetrics().elidedText(
            text, Qt.TextElideMode.ElideMiddle, field.width() - MARGIN
        )
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
