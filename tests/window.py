"""Operate a napari window as a user does: find controls by their labels, click, and wait."""

from __future__ import annotations

import re

import numpy as np

from napari_noise2score.sample import SCALE

PLUGIN = "napari-noise2score"
TIMEOUT = 120_000  # milliseconds


def dock(viewer):
    """Open the dock of the plugin, or return it if it is open."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Noise2Score")
    return widget


def add_cells(viewer, noisy, **settings):
    """Add an image layer named "cells", with every property of a layer set."""
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
    """Return the control in the visible form row with this label, the first of ``kind``."""
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
    """Yield the widgets of a layout item, including nested ones."""
    layout = item.layout()
    if (widget := item.widget()) is not None:
        yield widget
        layout = widget.layout()
    for i in range(layout.count() if layout is not None else 0):
        yield from _widgets(layout.itemAt(i))


def visible_texts(widget):
    """Return the text of every visible label of a dock."""
    from qtpy.QtWidgets import QLabel

    return [label.text() for label in widget.findChildren(QLabel) if label.isVisibleTo(widget)]


def text_below(widget, label):
    """Return the text below the form row with this label, empty if it is hidden."""
    from qtpy.QtWidgets import QFormLayout

    role = QFormLayout.ItemRole
    for form in widget.findChildren(QFormLayout):
        for row in range(form.rowCount() - 1):
            title, below = form.itemAt(row, role.LabelRole), form.itemAt(row + 1, role.SpanningRole)
            if title is not None and title.widget().text() == label and below is not None:
                return below.widget().text() if form.isRowVisible(row + 1) else ""
    raise LookupError(f"no text below '{label}'")


def label_with_tooltip(widget, tip):
    """Return the label whose tooltip begins with this text."""
    from qtpy.QtWidgets import QLabel

    return next(x for x in widget.findChildren(QLabel) if x.toolTip().startswith(tip))


def status(widget):
    """Return the text below the progress bar: what the job is doing, or how it ended."""
    return label_with_tooltip(widget, "What the job is doing").text()


def notice(widget):
    """Return the label for warnings about the data and for errors of the job."""
    return label_with_tooltip(widget, "What you should know")


def noise_text(widget):
    """Return the noise model that the controls show, as text."""
    return field(widget, "As text").text()


def set_noise(widget, text):
    """Replace the text of the noise model."""
    field(widget, "As text").setText(text)


def training_step(widget):
    """Return the training step that the dock shows, 0 if it shows none."""
    found = re.match(r"Learning: step (\d+)", status(widget))
    return int(found[1]) if found else 0


def plot_curve(widget, name):
    """Return the curve of a plot that has this name in the legend."""
    from pyqtgraph import PlotWidget

    plots = widget.findChildren(PlotWidget)
    return next(x for plot in plots for x in plot.listDataItems() if x.name() == name)


def preview(widget):
    """Return the object that updates the preview layer of a dock."""
    from napari_noise2score.widgets._preview import Preview

    return widget.findChild(Preview)


def running_jobs():
    """Return the background jobs of all docks."""
    from superqt.utils import WorkerBase

    # the only public way in superqt blocks the window
    return WorkerBase._worker_set


def run_command(name):
    """Run a command of the plugin, as its menu entry does."""
    from napari._app_model import get_app_model

    get_app_model().commands.execute_command(f"{PLUGIN}.{name}").result()


def click(qtbot, button):
    """Click a button as soon as it is enabled."""
    from qtpy.QtCore import Qt

    qtbot.waitUntil(button.isEnabled, timeout=TIMEOUT)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def wait_until_idle(qtbot, widget):
    """Wait until the job of a dock has ended."""
    stop = button(widget, "Stop")
    qtbot.waitUntil(lambda: not stop.isEnabled() and status(widget) != "Stopping…", timeout=TIMEOUT)


def wait_for_step(qtbot, widget, number=1):
    """Wait until the dock shows this training step or a later one."""
    qtbot.waitUntil(lambda: training_step(widget) >= number, timeout=TIMEOUT)


def wait_for_preview(qtbot, widget):
    """Wait until the preview of a dock is up to date."""
    shown = preview(widget)
    qtbot.waitUntil(lambda: not shown.busy and shown.layer is not None, timeout=TIMEOUT)


def wait_for_form(qtbot, widget, title):
    """Wait until the controls follow the noise text and show a family whose title begins so."""
    family = field(widget, "Family")
    qtbot.waitUntil(lambda: family.currentText().startswith(title), timeout=TIMEOUT)


def answer_dialog(text):
    """Press the button with this text in the next message box; its text is added to the list."""
    from qtpy.QtCore import Qt, QTimer
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication, QMessageBox

    asked = []

    def press():
        box = QApplication.activeModalWidget()
        if not isinstance(box, QMessageBox):
            QTimer.singleShot(20, press)
            return
        asked.append(box.text())
        QTest.mouseClick(button(box, text), Qt.MouseButton.LeftButton)

    QTimer.singleShot(20, press)
    return asked


def enter_file_name(path):
    """Enter a path in the next file dialog, and press Save."""
    from qtpy.QtCore import Qt, QTimer
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication, QFileDialog, QLineEdit, QPushButton

    # Qt cannot control native dialogs
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_DontUseNativeDialogs)

    def enter():
        box = QApplication.activeModalWidget()
        if isinstance(box, QFileDialog):
            name = box.findChild(QLineEdit, "fileNameEdit")
            if name.text() != str(path):
                name.setText(str(path))  # set at once, because the dialog completes what is typed
            else:
                save = next(b for b in box.findChildren(QPushButton) if b.isDefault())
                QTest.mouseClick(save, Qt.MouseButton.LeftButton)
                return
        QTimer.singleShot(100, enter)

    QTimer.singleShot(20, enter)


def learn(qtbot, widget, steps=1):
    """Train for at least so many steps, then stop, and wait until the model is there."""
    field(widget, "Time").setValue(60)  # longer than any machine needs
    click(qtbot, button(widget, "Train"))
    wait_for_step(qtbot, widget, steps)
    click(qtbot, button(widget, "Stop"))
    wait_until_idle(qtbot, widget)


def denoise(qtbot, widget, kind="layer"):
    """Denoise with the model and the noise model that are chosen, and wait for the result."""
    button(widget, kind).setChecked(True)
    click(qtbot, button(widget, "Denoise"))
    wait_until_idle(qtbot, widget)


def messages(widget):
    """Return every message that the dock shows beside its controls."""
    from napari_noise2score.widgets._message import Message

    return [x.text() for x in widget.findChildren(Message) if x.isVisibleTo(widget) and x.text()]


def mean_square_error(values, truth):
    """Return the mean squared difference of two arrays."""
    return float(np.mean((np.asarray(values, float) - truth) ** 2))


def drag(qtbot, slider, fraction):
    """Drag the handle of a slider to a fraction of its length."""
    from qtpy.QtCore import QPoint, Qt

    def at(fraction):
        return QPoint(round(8 + fraction * (slider.width() - 16)), slider.height() // 2)

    low, high = slider.minimum(), slider.maximum()
    now = (slider.value() - low) / (high - low)
    qtbot.mousePress(slider, Qt.MouseButton.LeftButton, pos=at(now))
    for position in np.linspace(now, fraction, 6)[1:]:
        qtbot.mouseMove(slider, at(position))
    qtbot.mouseRelease(slider, Qt.MouseButton.LeftButton, pos=at(fraction))


def close_by_hand(window):
    """Close a window as a person does, with the button of its frame; on Linux."""
    import ctypes

    class Message(ctypes.Structure):
        _fields_ = [
            ("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("sent", ctypes.c_int),
            ("display", ctypes.c_void_p), ("window", ctypes.c_ulong), ("atom", ctypes.c_ulong),
            ("format", ctypes.c_int), ("data", ctypes.c_long * 5), ("rest", ctypes.c_long * 24),
        ]  # fmt: skip

    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x11.XOpenDisplay(None))
    number = int(window.winId())
    protocols, delete = (
        x11.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")
    )
    client_message = 33
    message = Message(client_message, window=number, atom=protocols, format=32)
    message.data[0] = delete
    x11.XSendEvent(display, ctypes.c_ulong(number), 0, ctypes.c_long(0), ctypes.byref(message))
    x11.XCloseDisplay(display)
