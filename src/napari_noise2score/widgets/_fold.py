"""A section that is folded until its title is pressed."""

from __future__ import annotations

from qtpy.compat import isalive
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

SHOWN = 50  # milliseconds, after which the content is laid out


class Fold(QWidget):
    """A title with a summary of the section beside it, and what is shown when it is pressed.

    Parameters
    ----------
    title : str
        The title.
    tip : str
        Tooltip of the title: what the section is for.

    Attributes
    ----------
    rows : QVBoxLayout
        Where the content is added.
    always : QVBoxLayout
        Between the title and the content: shown even when the section is folded.
    """

    def __init__(self, title: str, tip: str):
        super().__init__()
        self.title = QToolButton()
        self.title.setText(title)
        self.title.setCheckable(True)
        self.title.setAutoRaise(True)
        self.title.setToolTip(tip)
        self.title.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.title.setArrowType(Qt.ArrowType.RightArrow)
        self._summary = QElidingLabel()
        self._summary.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        head = QHBoxLayout()
        head.addWidget(self.title)
        head.addWidget(self._summary, stretch=1)
        self._content = QFrame()
        self._content.hide()
        self.rows = QVBoxLayout(self._content)
        self.rows.setContentsMargins(12, 0, 0, 4)
        self.always = QVBoxLayout()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(2)
        outer.addLayout(head)
        outer.addLayout(self.always)
        outer.addWidget(self._content)
        self.title.toggled.connect(self._unfold)

    def summarize(self, text: str) -> None:
        """Set the text beside the title, which is elided if it is too long."""
        self._summary.setText(text)
        self._summary.setToolTip(text)

    @property
    def summary(self) -> str:
        """The text beside the title, in full."""
        return self._summary.text()

    def _unfold(self, opened: bool) -> None:
        self.title.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        self._content.setVisible(opened)
        if opened:
            QTimer.singleShot(SHOWN, self._scroll_to)

    def _scroll_to(self) -> None:
        """Bring what was unfolded into view, from its title on."""
        area = self.parent() if isalive(self) else None
        while area is not None and not isinstance(area, QScrollArea):
            area = area.parent()
        if area is not None and self.isVisible():
            area.ensureWidgetVisible(self, 0, 0)
            area.ensureWidgetVisible(self.title, 0, 0)
