"""Take the screenshots of this documentation from a real viewer.

Run it where there is a screen, or under ``xvfb-run -a -s "-screen 0 1280x800x24"``::

    python docs/screenshots.py

It opens the sample, trains for some minutes, denoises, and writes PNG files to ``docs/images``.
"""

from __future__ import annotations

import time
from pathlib import Path

import napari
from napari.settings import get_settings
from qtpy.QtWidgets import QApplication

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


def main() -> None:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    get_settings().appearance.theme = "dark"
    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1280, 800)
    viewer.open_sample(PLUGIN, "cells")
    _, train = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")
    train._minutes.setValue(5)
    train.train()
    # steps rather than minutes, so that a slow machine gives the same pictures
    wait(lambda: getattr(train._last, "step", 0) >= 150, 900)
    shoot(viewer, "train")
    wait(lambda: getattr(train._last, "step", 0) >= 250 or not train._job.busy, 900)
    train.stop()
    wait(lambda: not train._job.busy, 60)
    _, denoise = viewer.window.add_plugin_dock_widget(PLUGIN, "Denoise", tabify=True)
    denoise.denoise()
    wait(lambda: not denoise._job.busy, 120)
    shoot(viewer, "denoised")
    viewer.theme = "light"
    shoot(viewer, "denoised-light")
    train.parent().raise_()
    shoot(viewer, "train-light")
    viewer.close()


if __name__ == "__main__":
    main()
