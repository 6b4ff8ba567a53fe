"""A small plot in the colours of napari's theme."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from napari.utils.theme import get_theme
from qtpy.compat import isalive
from qtpy.QtCore import QSize
from qtpy.QtGui import QColor


class Plot(pg.PlotWidget):
    """A plot that is looked at, not moved about.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Whose theme is followed.
    left, bottom : str
        What stands at the axes.
    tip : str
        What the plot shows, with units.
    height : int
        The least height, in pixels.
    """

    def __init__(self, viewer: Any, left: str, bottom: str, tip: str, height: int = 120):
        super().__init__()
        self._viewer = viewer
        self.setToolTip(tip)
        self.setMinimumHeight(height)
        self.setMenuEnabled(False)
        self.setMouseEnabled(x=False, y=False)
        self.hideButtons()
        for side in ("left", "bottom"):
            self.getAxis(side).enableAutoSIPrefix(False)
        self.plotItem.setContentsMargins(0, 6, 0, 6)  # else the outermost letters are cut
        self.setLabel("bottom", bottom)
        self.setLabel("left", left)
        viewer.events.theme.connect(self._repaint)

    def sizeHint(self) -> QSize:
        """Ask for little room: by default a plot makes the dock as wide as half the window."""
        return QSize(260, self.minimumHeight())

    def colour(self, text: QColor, strong: QColor) -> None:
        """Take two colours of the theme for what is drawn; to be extended by each plot."""
        for side in ("bottom", "left"):
            self.getAxis(side).setPen(text)
            self.getAxis(side).setTextPen(text)
        if (legend := self.plotItem.legend) is not None:
            legend.setLabelTextColor(text)
            for _, label in legend.items:  # those there are keep their colour else
                label.setText(label.text, color=text)

    def _repaint(self, _event: Any = None) -> None:
        if not isalive(self):
            return
        theme = get_theme(self._viewer.theme)
        background, strong = QColor(theme.background.as_hex()), QColor(theme.current.as_hex())
        self.setBackground(background)
        if background.lightness() > 128:  # on which the theme's own is too pale for a dot or line
            strong = strong.darker(160)
        self.colour(QColor(theme.text.as_hex()), strong)
