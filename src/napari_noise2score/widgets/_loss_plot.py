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
    """Plot the training loss of each step, and the loss of held-out patches.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose theme gives the colours.
    """

    def __init__(self, viewer: Any):
        super().__init__(
            viewer,
            "loss",
            "step",
            "Training loss (no unit) against training step: lower is better. If the held-out "
            "loss rises while the training loss falls, the network is overfitting: the image is "
            "too small to train for longer.",
        )
        self._steps: list[int] = []
        self._loss: list[float] = []
        self._held_loss: list[tuple[int, float]] = []
        self.addLegend(offset=(-5, 5))
        self._training = self.plot(name="training")
        self._held_out = self.plot(name="held out", symbol="o", symbolSize=4)
        self._repaint()

    def clear_losses(self) -> None:
        """Remove both curves."""
        self._steps, self._loss, self._held_loss = [], [], []
        self._training.setData([], [])
        self._held_out.setData([], [])

    def add(self, batch: Sequence[Any]) -> None:
        """Add the losses of further training steps to the curves."""
        for progress in batch:
            self._steps.append(progress.step)
            self._loss.append(progress.loss)
            known = not math.isnan(progress.val_loss)
            if known and (not self._held_loss or progress.val_loss != self._held_loss[-1][1]):
                self._held_loss.append((progress.step, progress.val_loss))
        self._training.setData(self._steps, self._loss)
        if self._held_loss:
            self._held_out.setData(*np.transpose(self._held_loss))

    def colour(self, text: QColor, strong: QColor) -> None:
        """Draw the curves in two colours of napari's theme."""
        super().colour(text, strong)
        self._training.setPen(pg.mkPen(text, width=1))
        self._held_out.setPen(pg.mkPen(strong, width=2))
        self._held_out.setSymbolBrush(strong)
        self._held_out.setSymbolPen(None)
