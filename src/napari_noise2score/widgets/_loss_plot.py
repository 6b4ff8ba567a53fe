"""A live plot of the training loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from napari.utils.theme import get_theme
from qtpy.compat import isalive
from qtpy.QtCore import QSize


class LossPlot(pg.PlotWidget):
    """The training loss of each step, and that of patches that are held out."""

    def __init__(self, viewer: Any):
        super().__init__()
        self._viewer = viewer
        self._steps: list[int] = []
        self._loss: list[float] = []
        self._held: list[tuple[int, float]] = []
        self.setToolTip(
            "How well the network knows the image (the loss, without unit), against the "
            "training step: lower is better. If the held-out curve rises while the other "
            "falls, the image is too small to train for longer."
        )
        self.setMinimumHeight(120)
        self.setMenuEnabled(False)
        self.setMouseEnabled(x=False, y=False)
        self.hideButtons()
        self.getAxis("left").enableAutoSIPrefix(False)
        self.plotItem.setContentsMargins(0, 6, 0, 6)  # else the outermost letters are cut
        self.setLabel("bottom", "step")
        self.setLabel("left", "loss")
        self._legend = self.addLegend(offset=(-5, 5))
        self._seen = self.plot(name="training")
        self._unseen = self.plot(name="held out", symbol="o", symbolSize=4)
        viewer.events.theme.connect(self._paint)
        self._paint()

    def sizeHint(self) -> QSize:
        """Ask for little room: by default a plot makes the dock as wide as half the window."""
        return QSize(260, 160)

    def clear_losses(self) -> None:
        """Forget what was plotted."""
        self._steps, self._loss, self._held = [], [], []
        self._seen.setData([], [])
        self._unseen.setData([], [])

    def add(self, batch: Sequence[Any]) -> None:
        """Plot further training progress: objects with step, loss and val_loss."""
        for progress in batch:
            self._steps.append(progress.step)
            self._loss.append(progress.loss)
            known = not math.isnan(progress.val_loss)
            if known and (not self._held or progress.val_loss != self._held[-1][1]):
                self._held.append((progress.step, progress.val_loss))
        self._seen.setData(self._steps, self._loss)
        if self._held:
            self._unseen.setData(*np.transpose(self._held))

    def _paint(self, _event: Any = None) -> None:
        """Take the colours of napari's theme."""
        if not isalive(self):
            return
        theme = get_theme(self._viewer.theme)
        text = theme.text.as_hex()
        self.setBackground(theme.background.as_hex())
        for side in ("bottom", "left"):
            self.getAxis(side).setPen(text)
            self.getAxis(side).setTextPen(text)
        self._legend.setLabelTextColor(text)
        for _, label in self._legend.items:  # those there are keep their colour else
            label.setText(label.text, color=text)
        self._seen.setPen(pg.mkPen(text, width=1))
        self._unseen.setPen(pg.mkPen(theme.current.as_hex(), width=2))
        self._unseen.setSymbolBrush(theme.current.as_hex())
        self._unseen.setSymbolPen(None)
