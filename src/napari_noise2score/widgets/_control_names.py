"""Name the controls of a dock for screen readers."""

from __future__ import annotations

from collections.abc import Iterator

from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QFormLayout,
    QLabel,
    QLayoutItem,
    QLineEdit,
    QWidget,
)

CONTROLS = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit)


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
