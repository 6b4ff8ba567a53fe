"""A small plot in the colours of napari's theme."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from napari.utils.theme import get_theme
from qtpy.compat import isalive
from qtpy.QtCore import QSize
from qtpy.QtGui import QColor


class Plot(pg.PlotWidget):
    """A plot of fixed view, which the mouse neither moves nor zooms.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose theme gives the colours.
    left, bottom : str
        Labels of the axes.
    tip : str
        Tooltip: what the plot shows, with units.
    height : int
        Minimum height, in pixels.
    """

    def __init__(self, viewer: Any, left: str, bottom: str, tip: str, height: int = 120):
        super().__init__()
        self._viewer = viewer
        self.setToolTip(tip)
        self.setAccessibleName(f"{left} against {bottom}" if left else bottom)
        self.setMinimumHeight(height)
        self.setMenuEnabled(False)
        self.setMouseEnabled(x=False, y=False)
        self.hideButtons()
        for side in ("left", "bottom"):
            self.getAxis(side).enableAutoSIPrefix(False)
        self.plotItem.setContentsMargins(0, 6, 0, 6)  # otherwise the outermost letters are cut off
        self.setLabel("bottom", bottom)
        self.setLabel("left", left)
        viewer.events.theme.connect(self._repaint)

    def sizeHint(self) -> QSize:
        """Return a small size: by default a plot makes the dock as wide as half the window."""
        return QSize(260, self.minimumHeight())

    def colour(self, text: QColor, strong: QColor) -> None:
        """Draw the axes and the legend in the theme's colours; each plot adds its own items.

        Parameters
        ----------
        text : QColor
            Colour of text and axes.
        strong : QColor
            Colour of the data.
        """
        for side in ("bottom", "left"):
            self.getAxis(side).setPen(text)
            self.getAxis(side).setTextPen(text)
        if (legend := self.plotItem.legend) is not None:
            legend.setLabelTextColor(text)
            for _, label in legend.items:  # labels that exist keep their colour otherwise
                label.setText(label.text, color=text)

    def _repaint(self, _event: Any = None) -> None:
        if not isalive(self):
            return
        theme = get_theme(self._viewer.theme)
        background, strong = QColor(theme.background.as_hex()), QColor(theme.current.as_hex())
        self.setBackground(background)
        if (
            background.lightness() > 128
        ):  # the theme's own colour is too pale on a bright background
            strong = strong.darker(160)
        self.colour(QColor(theme.text.as_hex()), strong)
