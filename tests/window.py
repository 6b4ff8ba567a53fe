"""What tests do in a napari window, as a person would."""

from __future__ import annotations

import numpy as np

from napari_noise2score.sample import SCALE

PLUGIN = "napari-noise2score"
LONG = 120_000  # milliseconds


def dock(viewer, name):
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


def click(qtbot, button):
    from qtpy.QtCore import Qt

    # as a person does, who sees that a button is not to be pressed yet
    qtbot.waitUntil(button.isEnabled, timeout=LONG)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def wait_until_idle(qtbot, widget):
    qtbot.waitUntil(lambda: not widget._job.busy, timeout=LONG)


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
        button = next(b for b in box.buttons() if b.text().replace("&", "") == text)
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    QTimer.singleShot(20, press)


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
    for step in np.linspace(now, share, 6)[1:]:
        qtbot.mouseMove(slider, at(step))
    qtbot.mouseRelease(slider, Qt.MouseButton.LeftButton, pos=at(share))


def wait_for_preview(qtbot, widget):
    """Wait until the preview of a dock shows what it is to show."""
    preview = widget._preview

    def ready():
        return (
            not preview._soon.isActive() and preview._worker is None and preview.layer is not None
        )

    qtbot.waitUntil(ready, timeout=LONG)
