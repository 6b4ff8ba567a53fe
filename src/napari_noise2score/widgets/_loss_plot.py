"""A live plot of the training loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtGui import QColor

from ._plot import Plot


class LossPlot(Plot):
    """The training loss of each step, and that of patches that are held out."""

    def __init__(self, viewer: Any):
        super().__init__(
            viewer,
            "loss",
            "step",
            "How well the network knows the image (the loss, without unit), against the "
            "training step: lower is better. If the held-out curve rises while the other "
            "falls, the image is too small to train for longer.",
        )
        self._steps: list[int] = []
        self._loss: list[float] = []
        self._held: list[tuple[int, float]] = []
        self.addLegend(offset=(-5, 5))
        self._seen = self.plot(name="training")
        self._unseen = self.plot(name="held out", symbol="o", symbolSize=4)
        self._repaint()

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

    def colour(self, text: QColor, strong: QColor) -> None:
        """Take the colours of napari's theme."""
        super().colour(text, strong)
        self._seen.setPen(pg.mkPen(text, width=1))
        self._unseen.setPen(pg.mkPen(strong, width=2))
        self._unseen.setSymbolBrush(strong)
        self._unseen.setSymbolPen(None)
