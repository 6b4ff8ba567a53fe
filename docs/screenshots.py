"""Take the screenshots of this documentation from a real viewer.

Run it where there is a screen, or under ``xvfb-run -a -s "-screen 0 1280x800x24"``::

    python docs/screenshots.py

It opens the sample, trains for some minutes, tunes, denoises, and writes PNG files to
``docs/images``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import napari
from napari.settings import get_settings
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QLineEdit, QPushButton

IMAGES = Path(__file__).parent / "images"
PLUGIN = "napari-noise2score"


def wait(until, seconds: float) -> None:
    """Let the window work until something is so."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def shoot(viewer: napari.Viewer, name: str) -> None:
    """Save a picture of the whole window."""
    wait(lambda: False, 1)
    viewer.window.screenshot(str(IMAGES / f"{name}.png"), canvas_only=False, flash=False)


def paste_name(path: Path) -> None:
    """Paste a name into the file dialog that opens next, and press Save."""

    def enter() -> None:
        dialog = QApplication.activeModalWidget()
        if isinstance(dialog, QFileDialog):
            line = dialog.findChild(QLineEdit, "fileNameEdit")
            if line.text() == str(path):
                next(b for b in dialog.findChildren(QPushButton) if b.isDefault()).click()
                return
            line.setText(str(path))
        QTimer.singleShot(100, enter)

    QTimer.singleShot(100, enter)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=250, help="how long to train")
    steps = parser.parse_args().steps
    IMAGES.mkdir(exist_ok=True)
    get_settings().appearance.theme = "dark"
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1280, 800)
    viewer.open_sample(PLUGIN, "cells")
    _, train = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")
    train._minutes.setValue(5)
    train.train()
    # steps rather than minutes, so that a slow machine gives the same pictures
    wait(lambda: getattr(train._last, "step", 0) >= 0.6 * steps, 900)
    shoot(viewer, "train")
    train._row.before.click()
    shoot(viewer, "before")
    train._row.before.click()
    wait(lambda: getattr(train._last, "step", 0) >= steps or not train.busy, 900)
    train._job._stop.click()
    wait(lambda: not train.busy, 60)
    _, denoise = viewer.window.add_plugin_dock_widget(PLUGIN, "Denoise", tabify=True)
    preview = denoise._preview
    wait(lambda: preview.layer is not None and not preview.busy, 60)
    shoot(viewer, "tune")
    denoise._noise._boxes[0, "gain"].setValue(8)
    wait(lambda: not preview.busy, 60)
    shoot(viewer, "too-much")
    _, check = viewer.window.add_plugin_dock_widget(PLUGIN, "Noise check", tabify=True)
    check.check()
    wait(lambda: not check.busy, 120)
    shoot(viewer, "check")
    check._which.setCurrentText("chosen for the layer")
    check.check()
    wait(lambda: not check.busy, 120)
    viewer.theme = "light"
    shoot(viewer, "check-wrong-light")
    viewer.theme = "dark"
    denoise.parent().raise_()
    denoise._noise._boxes[0, "gain"].setValue(2)
    denoise.denoise()
    wait(lambda: not denoise.busy, 120)
    shoot(viewer, "denoised")
    viewer.theme = "light"
    shoot(viewer, "denoised-light")
    train.parent().raise_()
    shoot(viewer, "train-light")
    viewer.theme = "dark"
    denoise.parent().raise_()
    viewer.layers.remove("cells denoised")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells denoised.ome.zarr"
        paste_name(path)
        denoise._store.click()
        wait(lambda: denoise._job._status.text().startswith("Tile"), 60)
        shoot(viewer, "writing")
        wait(lambda: not denoise.busy, 120)
        viewer.layers.remove("cells denoised")
        viewer.open(path, plugin="napari-ome-zarr")
        shoot(viewer, "reopened")
    viewer.close()


if __name__ == "__main__":
    main()
