"""What the docks have in common: a layer, settings, and one job at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QFormLayout,
    QFrame,
    QLayoutItem,
    QLineEdit,
    QScrollArea,
    QScrollBar,
    QVBoxLayout,
    QWidget,
)

from ._choosers import LayerChooser
from ._job_bar import JobBar

if TYPE_CHECKING:
    import napari.viewer

CONTROLS = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit)


class Dock(QWidget):
    """A dock that works on one layer, and stops when that layer or the dock goes.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose layers are offered.
    """

    def __init__(self, viewer: napari.viewer.Viewer):
        super().__init__()
        self._viewer = viewer
        self._source: Any = None  # the layer that is worked on
        # two docks one above the other are higher than a small screen: let them scroll
        self._content = content = QWidget()
        self._area = QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setMinimumHeight(240)
        self._bar = QScrollBar()
        self._area.setVerticalScrollBar(self._bar)
        self._area.setWidget(content)
        content.installEventFilter(self)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._area)
        self._rows = QVBoxLayout(content)
        self._settings = QFormLayout()
        self._rows.addLayout(self._settings)
        self._layer = LayerChooser(viewer, self._settings)
        self._layer.removed.connect(self._stop_if_removed)
        self._job = JobBar()

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._job.busy

    def choose(self, layer: Any) -> None:
        """Choose the layer to work on."""
        self._layer.set_layer(layer)

    def stop(self) -> None:
        """Ask the job to stop, if there is one."""
        self._job.stop()

    def _stop_if_removed(self, layer: Any) -> None:
        if layer is self._source:
            self.stop()

    def changeEvent(self, event: Any) -> None:
        """Stop when the dock is closed: napari then takes the widget out of it."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.stop()
        if event.type() == QEvent.Type.ParentChange and self.parent() is not None:
            name_controls(self)
        super().changeEvent(event)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Be wide enough for all controls, as there is no scrolling sideways.

        They grow when napari's style is applied, after the dock was shown first.
        """
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.Show):
            width = self._content.minimumSizeHint().width() + self._bar.sizeHint().width()
            self._area.setMinimumWidth(width + 2 * self._area.frameWidth())
        return super().eventFilter(watched, event)


def name_controls(dock: QWidget) -> None:
    """Give each control that shares a form row with others the name of that row.

    Qt tells a screen reader the label of a row only for a control that fills the row.
    """
    for form in dock.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            label = form.itemAt(row, QFormLayout.ItemRole.LabelRole)
            field = form.itemAt(row, QFormLayout.ItemRole.FieldRole)
            if label is None or field is None:
                continue
            for control in _controls(field):
                named = isinstance(control, QAbstractButton) and control.text()
                if not named and not control.accessibleName():
                    control.setAccessibleName(label.widget().text())


def _controls(item: QLayoutItem) -> Iterator[QWidget]:
    """Yield the controls of a layout item, those within others too."""
    widget = item.widget()
    if isinstance(widget, CONTROLS):
        yield widget
        return
    layout = item.layout() if widget is None else widget.layout()
    if layout is not None:
        for i in range(layout.count()):
            yield from _controls(layout.itemAt(i))
