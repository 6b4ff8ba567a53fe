"""What a person does and sees in a napari window: controls are found by what they say."""

from __future__ import annotations

import re

import numpy as np

from napari_noise2score.sample import SCALE

PLUGIN = "napari-noise2score"
LONG = 120_000  # milliseconds


def dock(viewer, name):
    """Open a dock of the plugin."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    return widget


def add_cells(viewer, noisy, **settings):
    return viewer.add_image(
        noisy,
        name="cells",
        scale=[SCALE[a] for a in "TZYX"],
        translate=(0, 1, 2, 3),
        units=("s", "um", "um", "um"),
        axis_labels=("t", "z", "y", "x"),
        colormap="green",
        contrast_limits=(100, 180),
        **settings,
    )


def button(widget, text):
    """Return the button or tick box with this text."""
    from qtpy.QtWidgets import QAbstractButton

    buttons = widget.findChildren(QAbstractButton)
    return next(b for b in buttons if b.text().replace("&", "") == text)


def field(widget, label, kind=None):
    """Return the control in the visible form row of this label, where there are several by kind."""
    from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QFormLayout, QLineEdit

    role = QFormLayout.ItemRole
    kinds = [kind] if kind else [QAbstractSpinBox, QComboBox, QLineEdit, QAbstractButton]
    for form in widget.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            title = form.itemAt(row, role.LabelRole)
            if title is None or title.widget().text() != label or not form.isRowVisible(row):
                continue
            inside = list(_widgets(form.itemAt(row, role.FieldRole)))
            return next(x for kind in kinds for x in inside if isinstance(x, kind))
    raise LookupError(f"no row '{label}'")


def _widgets(item):
    """Yield the widgets of a layout item, those within others too."""
    layout = item.layout()
    if (widget := item.widget()) is not None:
        yield widget
        layout = widget.layout()
    for i in range(layout.count() if layout is not None else 0):
        yield from _widgets(layout.itemAt(i))


def texts(widget):
    """Return every text on a dock that belongs to no control, as far as it is shown."""
    from qtpy.QtWidgets import QLabel

    return [label.text() for label in widget.findChildren(QLabel) if label.isVisibleTo(widget)]


def beneath(widget, label):
    """Return the text of the line beneath the form row of this label, nothing if there is none."""
    from qtpy.QtWidgets import QFormLayout

    role = QFormLayout.ItemRole
    for form in widget.findChildren(QFormLayout):
        for row in range(form.rowCount() - 1):
            title, below = form.itemAt(row, role.LabelRole), form.itemAt(row + 1, role.SpanningRole)
            if title is not None and title.widget().text() == label and below is not None:
                return below.widget().text() if form.isRowVisible(row + 1) else ""
    raise LookupError(f"no line beneath '{label}'")


def explained_by(widget, tip):
    """Return the label whose tooltip begins like this."""
    from qtpy.QtWidgets import QLabel

    return next(x for x in widget.findChildren(QLabel) if x.toolTip().startswith(tip))


def status(widget):
    """Return the line beneath the progress bar: what the job does, or how it ended."""
    return explained_by(widget, "What the job is doing").text()


def notice(widget):
    """Return the label for what a person should know of the data, or of how the job ended."""
    return explained_by(widget, "What you should know")


def noise(widget):
    """Return the noise model of the Denoise dock, as text."""
    return field(widget, "As text").text()


def set_noise(widget, text):
    """Replace the text of the noise model in the Denoise dock."""
    field(widget, "As text").setText(text)


def step(widget):
    """Return the training step that the Train dock names, 0 if it names none."""
    found = re.match(r"Step (\d+)", status(widget))
    return int(found[1]) if found else 0


def line(widget, name):
    """Return the item of a plot that the legend calls so."""
    from pyqtgraph import PlotWidget

    plots = widget.findChildren(PlotWidget)
    return next(x for plot in plots for x in plot.listDataItems() if x.name() == name)


def preview(widget):
    """Return what keeps the preview layer of a dock up to date."""
    from napari_noise2score.widgets._preview import Preview

    return widget.findChild(Preview)


def jobs():
    """Return the jobs in the background, of whichever dock."""
    from superqt.utils import WorkerBase

    # private, as superqt has no other way to ask than one that stops the window meanwhile
    return WorkerBase._worker_set


def run_command(name):
    """Run a command of the plugin, as its menu entry does."""
    from napari._app_model import get_app_model

    get_app_model().commands.execute_command(f"{PLUGIN}.{name}").result()


def click(qtbot, button):
    from qtpy.QtCore import Qt

    # as a person does, who sees that a button is not to be pressed yet
    qtbot.waitUntil(button.isEnabled, timeout=LONG)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def wait_until_idle(qtbot, widget):
    """Wait until there is nothing to stop."""
    stop = button(widget, "Stop")
    qtbot.waitUntil(lambda: not stop.isEnabled() and status(widget) != "Stopping…", timeout=LONG)


def wait_for_step(qtbot, widget, number=1):
    """Wait until the Train dock names this training step, or a later one."""
    qtbot.waitUntil(lambda: step(widget) >= number, timeout=LONG)


def wait_for_preview(qtbot, widget):
    """Wait until the preview of a dock shows what it is to show."""
    shown = preview(widget)
    qtbot.waitUntil(lambda: not shown.busy and shown.layer is not None, timeout=LONG)


def wait_for_form(qtbot, widget, title):
    """Wait until the controls follow the text of the noise, to a family of this title."""
    family = field(widget, "Noise")
    qtbot.waitUntil(lambda: family.currentText().startswith(title), timeout=LONG)


def answer(text):
    """Press the button of this text in the question that is asked next."""
    from qtpy.QtCore import Qt, QTimer
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication, QMessageBox

    def press():
        box = QApplication.activeModalWidget()
        if not isinstance(box, QMessageBox):
            QTimer.singleShot(20, press)
            return
        QTest.mouseClick(button(box, text), Qt.MouseButton.LeftButton)

    QTimer.singleShot(20, press)


def paste_name(path):
    """Paste the name of a file where it is asked for next, and press Save."""
    from qtpy.QtCore import Qt, QTimer
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication, QFileDialog, QLineEdit, QPushButton

    # a dialog of the system would not hear what is typed here
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_DontUseNativeDialogs)

    def enter():
        box = QApplication.activeModalWidget()
        if isinstance(box, QFileDialog):
            name = box.findChild(QLineEdit, "fileNameEdit")
            if name.text() != str(path):
                name.setText(str(path))  # as pasted: what is typed is completed meanwhile
            else:
                save = next(b for b in box.findChildren(QPushButton) if b.isDefault())
                QTest.mouseClick(save, Qt.MouseButton.LeftButton)
                return
        QTimer.singleShot(100, enter)

    QTimer.singleShot(20, enter)


def mean_square_error(values, truth):
    return float(np.mean((np.asarray(values, float) - truth) ** 2))


def drag(qtbot, slider, share):
    """Drag a slider by its handle, to so much of its length."""
    from qtpy.QtCore import QPoint, Qt

    def at(share):
        return QPoint(round(8 + share * (slider.width() - 16)), slider.height() // 2)

    low, high = slider.minimum(), slider.maximum()
    now = (slider.value() - low) / (high - low)
    qtbot.mousePress(slider, Qt.MouseButton.LeftButton, pos=at(now))
    for position in np.linspace(now, share, 6)[1:]:
        qtbot.mouseMove(slider, at(position))
    qtbot.mouseRelease(slider, Qt.MouseButton.LeftButton, pos=at(share))
