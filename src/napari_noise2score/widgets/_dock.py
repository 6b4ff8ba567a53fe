"""Base class of all docks: a layer, settings, and one job at a time."""

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
    QLabel,
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
    """A dock that works on one layer, and stops when that layer or the dock is closed.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose layers are offered.
    """

    def __init__(self, viewer: napari.viewer.Viewer):
        super().__init__()
        self._viewer = viewer
        self._source: Any = None  # the layer that the job works on
        # two docks above each other are taller than a small screen: let them scroll
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
        """Name the controls when the dock is opened, and stop the job when it is closed.

        napari sets the parent of the widget when it opens the dock, and removes it when it closes
        it.
        """
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.stop()
        if event.type() == QEvent.Type.ParentChange and self.parent() is not None:
            name_controls(self)
        super().changeEvent(event)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Make the dock wide enough for all controls, as it does not scroll sideways.

        The controls grow when napari applies its style, which is after the dock is first shown.
        """
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.Show):
            width = self._content.minimumSizeHint().width() + self._bar.sizeHint().width()
            self._area.setMinimumWidth(width + 2 * self._area.frameWidth())
        return super().eventFilter(watched, event)


def name_controls(dock: QWidget) -> None:
    """Name each control that shares a row of the form after the label of that row.

    Qt passes the label to a screen reader only for a control that fills its row.
    """
    for form in dock.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            label = form.itemAt(row, QFormLayout.ItemRole.LabelRole)
            field = form.itemAt(row, QFormLayout.ItemRole.FieldRole)
            if label is None or field is None:
                continue
            title = label.widget()
            if not isinstance(title, QLabel):
                continue
            for control in _controls(field):
                named = isinstance(control, QAbstractButton) and control.text()
                if not named and not control.accessibleName():
                    control.setAccessibleName(title.text())


def _controls(item: QLayoutItem | None) -> Iterator[QWidget]:
    """Yield the controls of a layout item, however deeply they are nested."""
    if item is None:
        return
    widget = item.widget()
    if isinstance(widget, CONTROLS):
        yield widget
        return
    layout = item.layout() if widget is None else widget.layout()
    if layout is not None:
        for i in range(layout.count()):
            yield from _controls(layout.itemAt(i))
