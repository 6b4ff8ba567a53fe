"""A divider on the canvas: the image on its left, what is denoised on its right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QPointF, QRectF, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QWidget
from vispy.visuals.filters.clipping_planes import PlanesClipper

WIDTH = 15  # pixels that the mouse can grasp
STEP = 0.02  # of the canvas, for an arrow key
RIGHT_OF = (1.0, 0.0, 0.0)  # normal of the plane that clips


class Handle(QWidget):
    """The line that is dragged, over the whole height of the canvas.

    Parameters
    ----------
    canvas : QWidget
        The canvas.
    """

    moved = Signal(float)  # the share of the canvas that is on the left

    def __init__(self, canvas: QWidget):
        super().__init__(canvas)
        self._canvas = canvas
        self.share = 0.5
        self.setCursor(Qt.CursorShape.SplitHCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Divider between before and after")
        self.setToolTip("Before on the left, after on the right: drag, or use the arrow keys.")
        canvas.installEventFilter(self)
        self.place(self.share)

    def place(self, share: float) -> None:
        """Put the line at a share of the width of the canvas."""
        self.share = min(max(share, 0.0), 1.0)
        width = self._canvas.width()
        self.setGeometry(round(self.share * width) - WIDTH // 2, 0, WIDTH, self._canvas.height())
        self.moved.emit(self.share)

    def mouseMoveEvent(self, event: Any) -> None:
        """Follow the mouse while it drags."""
        x = self.mapTo(self._canvas, event.position().toPoint()).x()
        self.place(x / max(1, self._canvas.width()))

    def mousePressEvent(self, event: Any) -> None:
        """Keep the event from the canvas, which would pan."""
        event.accept()

    def keyPressEvent(self, event: Any) -> None:
        """Move by a step with the arrow keys."""
        steps = {Qt.Key.Key_Left: -STEP, Qt.Key.Key_Right: STEP}
        if event.key() in steps:
            self.place(self.share + steps[event.key()])
        else:
            super().keyPressEvent(event)

    def paintEvent(self, _event: Any) -> None:
        """Draw a line that is seen on every image, and a grip in its middle."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle, height = WIDTH / 2, self.height()
        for colour, thick in ((QColor(0, 0, 0, 160), 4.0), (QColor(255, 255, 255), 1.6)):
            painter.setPen(QPen(colour, thick))
            painter.drawLine(QPointF(middle, 0), QPointF(middle, height))
        painter.setPen(QPen(QColor(0, 0, 0, 160), 1.0))
        painter.setBrush(QColor(255, 255, 255))
        painter.drawRoundedRect(QRectF(1.5, height / 2 - 16, WIDTH - 3, 32), 5, 5)
        painter.setPen(QPen(QColor(60, 60, 60), 1.2))
        for x in (middle - 2, middle + 2):
            painter.drawLine(QPointF(x, height / 2 - 7), QPointF(x, height / 2 + 7))
        painter.end()

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Keep the share when the canvas changes its size."""
        if event.type() == QEvent.Type.Resize:
            self.place(self.share)
        return False


class Divider(QObject):
    """Hide what is denoised on the left of a line that can be dragged.

    The graphics card leaves out these pixels of the layers, whose data and settings do not change.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer.
    parent : QWidget
        The divider is destroyed with it.
    after : callable
        Returns the layers that show the image denoised.
    """

    def __init__(self, viewer: Any, parent: QWidget, after: Callable[[], list[Any]]):
        super().__init__(parent)
        self._viewer = getattr(viewer, "__wrapped__", viewer)
        self._after = after
        self._on = False
        self._handle: Handle | None = None
        self._clipped: list[tuple[Any, PlanesClipper]] = []  # visuals of the canvas
        self._watched: list[Any] = []  # layers
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._apply)
        viewer.dims.events.ndisplay.connect(self.update)
        viewer.layers.events.removing.connect(self._let_go)

    def show(self, on: bool) -> None:
        """Show the divider, or remove it."""
        self._on = on
        self._apply()

    def update(self, _event: Any = None) -> None:
        """Divide the layers that there are now, once napari has drawn them."""
        if isalive(self) and self._on:
            self._soon.start()

    def close(self) -> None:
        """Remove the divider, as the dock is closed."""
        self.show(False)
        if self._handle is not None and isalive(self._handle):
            self._handle.deleteLater()
        self._handle = None

    def _apply(self) -> None:
        """Clip the visuals of the layers, and no others."""
        layers = self._after() if self._on else []
        self._watch(layers)
        visuals = [visual for layer in layers for visual in self._visuals(layer)]
        self._detach([v for v, _ in self._clipped if not any(v is x for x in visuals)])
        for visual in visuals:
            if not any(visual is v for v, _ in self._clipped):
                clipper = PlanesClipper(coord_system="render")
                visual.attach(clipper)
                self._clipped.append((visual, clipper))
        if self._handle is None and visuals:
            self._handle = Handle(self._canvas.native)
            self._handle.moved.connect(self._clip)
        if self._handle is not None:
            self._handle.setVisible(bool(visuals))
            self._handle.raise_()
            self._clip(self._handle.share)

    def _detach(self, visuals: list[Any]) -> None:
        """Draw these visuals as a whole again."""
        for visual, clipper in self._clipped:
            if any(visual is x for x in visuals):
                visual.detach(clipper)
                visual.update()
        self._clipped = [(v, c) for v, c in self._clipped if not any(v is x for x in visuals)]

    def _let_go(self, event: Any) -> None:
        """Draw a layer as a whole before it is removed: else Mesa's software renderer crashes."""
        if isalive(self) and self._clipped:
            self._detach(self._visuals(self._viewer.layers[event.index]))

    def _clip(self, share: float) -> None:
        plane = [[(2 * share - 1, 0.0, 0.0), RIGHT_OF]]  # the canvas reaches from −1 to 1
        for visual, clipper in self._clipped:
            clipper.clipping_planes = plane
            visual.update()

    def _watch(self, layers: list[Any]) -> None:
        """Follow the data of layers: a large image becomes other tiles."""
        for layer in self._watched:
            layer.events.set_data.disconnect(self.update)
        for layer in layers:
            layer.events.set_data.connect(self.update)
        self._watched = list(layers)

    @property
    def _canvas(self) -> Any:
        # napari has no public way to the visuals of a layer
        return self._viewer.window._qt_viewer.canvas  # noqa: SLF001

    def _visuals(self, layer: Any) -> list[Any]:
        """Return what draws a layer; empty if it is not drawn yet."""
        drawn = self._canvas.layer_to_visual.get(getattr(layer, "__wrapped__", layer))
        if drawn is None:
            return []
        return list(getattr(drawn.node, "adopted_children", None) or [drawn.node])
