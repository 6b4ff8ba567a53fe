"""What a noise check shows: the noise curve, and the residual's histogram and correlation."""

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

# correlations weaker than this are shown weaker than full colour
STRONG = 0.2
# heights with which all fits on a small screen; the map is a square, so it needs the most
LOW, HIGH = 110, 150


class CheckPlots(QWidget):
    """The plots of a noise check: the curve, and below it the histogram and the correlation."""

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
        """Plot another check."""
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
        """Plot another curve."""
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
            "What is left of flat parts of the layer without their picture, in standard "
            "deviations of the noise model: filled, how often each value is there; the line, how "
            "often it would be if the model were right.",
            HIGH,
        )
        self.hideAxis("left")
        flat = np.zeros(2), np.zeros(1)
        self._found = self.plot(*flat, stepMode="center", fillLevel=0)
        self._expected = self.plot(*flat, stepMode="center")
        self._repaint()

    def show_residual(self, residual: Residual) -> None:
        """Plot another residual."""
        self._found.setData(residual.edges, residual.measured)
        self._expected.setData(residual.edges, residual.expected)

    def colour(self, text: QColor, strong: QColor) -> None:
        """Take the colours of napari's theme."""
        super().colour(text, strong)
        self._found.setPen(None)
        self._found.setBrush(strong)
        self._expected.setPen(pg.mkPen(text, width=2))


class CorrelationPlot(Plot):
    """A map of how the residual of a pixel goes with that of its neighbours."""

    def __init__(self, viewer: Any):
        super().__init__(
            viewer,
            "",
            "neighbour (pixels)",
            "How the residual of a pixel (in the middle) goes with that of its neighbours, "
            "beyond what the noise model says: red together, blue against each other, full "
            f"colour at a correlation of {STRONG:g} or more. White all over is right.",
            HIGH,
        )
        self.setAspectLocked(True)
        self.hideAxis("left")  # the same as below
        self._map = pg.ImageItem(axisOrder="row-major")
        self._map.setColorMap(pg.colormap.get("CET-D1A"))
        self.addItem(self._map)
        self._repaint()

    def show_residual(self, residual: Residual) -> None:
        """Show another residual."""
        most = max(STRONG, abs(residual.correlation))
        self._map.setImage(residual.correlations, levels=(-most, most))
        size = len(residual.correlations)
        self._map.setRect(QRectF(-size / 2, -size / 2, size, size))
