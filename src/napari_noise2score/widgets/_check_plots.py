"""Plots of a noise check: the variance curve, the histogram and the correlation of the residual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QRectF
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from ._plot import Plot

if TYPE_CHECKING:
    from ..estimation.goodness_of_fit import NoiseCheck, Residual, VarianceCurve

# The correlation from which a neighbour has the full colour.
STRONG = 0.2
# Heights in pixels with which the dock fits on a small screen; the square map needs the largest.
LOW, HIGH = 110, 150


class CheckPlots(QWidget):
    """The plots of a noise check: the variance curve above, histogram and correlation below."""

    def __init__(self, viewer: Any):
        super().__init__()
        self.curve = CurvePlot(viewer)
        self.histogram = HistogramPlot(viewer)
        self.map = CorrelationPlot(viewer)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self.curve, stretch=2)
        row = QHBoxLayout()
        row.addWidget(self.histogram)
        row.addWidget(self.map)
        rows.addLayout(row, stretch=3)

    def show_check(self, check: NoiseCheck) -> None:
        """Plot a check instead of the previous one."""
        self.curve.show_curve(check.curve)
        self.histogram.show_residual(check.residual)
        self.map.show_residual(check.residual)


class CurvePlot(Plot):
    """Variance against mean: measured, and the curve of the noise model."""

    def __init__(self, viewer: Any):
        super().__init__(
            viewer,
            "variance",
            "mean (grey levels)",
            "How the noise grows with the signal: its variance, in squared grey levels, against "
            "the mean, in grey levels. Dots are measured in the layer, with their standard "
            "error; the line is the noise model, and should go through them.",
            LOW,
        )
        self.addLegend(offset=(5, 1), colCount=2)
        self._line = self.plot(name="model")
        self._bars = pg.ErrorBarItem(x=np.zeros(1), y=np.zeros(1), height=np.zeros(1))
        self.addItem(self._bars)
        self._dots = self.plot(name="measured", pen=None, symbol="o", symbolSize=6)
        self._repaint()

    def show_curve(self, curve: VarianceCurve) -> None:
        """Plot a curve instead of the previous one."""
        self._line.setData(curve.line_mean, curve.line_variance)
        self._dots.setData(curve.mean, curve.variance)
        self._bars.setData(x=curve.mean, y=curve.variance, height=2 * curve.error)

    def colour(self, text: QColor, strong: QColor) -> None:
        """Take the colours of napari's theme."""
        super().colour(text, strong)
        self._line.setPen(pg.mkPen(text, width=2))
        self._bars.setData(pen=pg.mkPen(strong))
        self._dots.setSymbolBrush(strong)
        self._dots.setSymbolPen(None)


class HistogramPlot(Plot):
    """The histogram of the residual, and that of noise drawn from the model."""

    def __init__(self, viewer: Any):
        super().__init__(
            viewer,
            "",
            "residual (σ)",
            "The residual of flat areas of the layer, without their picture, in standard "
            "deviations of the noise model. Filled: how often each value occurs. Line: how "
            "often it would occur if the model were right.",
            HIGH,
        )
        self.hideAxis("left")
        flat = np.zeros(2), np.zeros(1)
        self._found = self.plot(*flat, stepMode="center", fillLevel=0)
        self._expected = self.plot(*flat, stepMode="center")
        self._repaint()

    def show_residual(self, residual: Residual) -> None:
        """Plot a histogram instead of the previous one."""
        self._found.setData(residual.edges, residual.measured)
        self._expected.setData(residual.edges, residual.expected)

    def colour(self, text: QColor, strong: QColor) -> None:
        """Take the colours of napari's theme."""
        super().colour(text, strong)
        self._found.setPen(None)
        self._found.setBrush(strong)
        self._expected.setPen(pg.mkPen(text, width=2))


class CorrelationPlot(Plot):
    """A map of the correlation of the residual of a pixel with those of its neighbours."""

    def __init__(self, viewer: Any):
        super().__init__(
            viewer,
            "",
            "neighbour (pixels)",
            "Correlation of the residual of a pixel (in the middle) with its neighbours, less that "
            "of the noise model: red if positive, blue if negative, in full "
            f"colour at a correlation of {STRONG:g} or more. White everywhere is right.",
            HIGH,
        )
        self.setAspectLocked(True)
        self.hideAxis("left")  # the same as below
        self._map = pg.ImageItem(axisOrder="row-major")
        self._map.setColorMap(pg.colormap.get("CET-D1A"))
        self.addItem(self._map)
        self._repaint()

    def show_residual(self, residual: Residual) -> None:
        """Show a map instead of the previous one."""
        most = max(STRONG, abs(residual.correlation))
        self._map.setImage(residual.correlations, levels=(-most, most))
        size = len(residual.correlations)
        self._map.setRect(QRectF(-size / 2, -size / 2, size, size))
