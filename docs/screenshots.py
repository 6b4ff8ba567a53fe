"""Take the screenshots of this documentation from a real viewer.

Run it where there is a screen, or under ``xvfb-run -a -s "-screen 0 1280x800x24"``::

    python docs/screenshots.py

It opens the sample, trains for some minutes, tunes, denoises, and writes PNG files to
``docs/images``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import napari
from napari.settings import get_settings
from qtpy.QtWidgets import QApplication

# the tests find controls by their labels, too
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from window import PLUGIN, button, enter_file_name, field, preview, status, training_step

IMAGES = Path(__file__).parent / "images"


def wait(until, seconds: float) -> None:
    """Process the window's events until a condition holds, or the time in seconds is over."""
    end = time.monotonic() + seconds
    while not until() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def shoot(viewer: napari.Viewer, path: Path) -> None:
    """Save a picture of the whole window."""
    wait(lambda: False, 1)
    viewer.window.screenshot(str(path), canvas_only=False, flash=False)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=250, help="how long to train")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder for the pictures")
    args = parser.parse_args()
    steps, images = args.steps, args.out
    images.mkdir(exist_ok=True)
    get_settings().appearance.theme = "dark"
    viewer = napari.Viewer()
    viewer.open_sample(PLUGIN, "cells")
    _, train = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")
    train.window().resize(1280, 800)
    field(train, "Time").setValue(5)
    train.train()
    # steps rather than minutes, so that a slow machine gives the same pictures
    wait(lambda: training_step(train) >= 0.6 * steps, 900)
    shoot(viewer, images / "train.png")
    button(train, "Before").click()
    shoot(viewer, images / "before.png")
    button(train, "Before").click()
    wait(lambda: training_step(train) >= steps or not train.busy, 900)
    button(train, "Stop").click()
    wait(lambda: not train.busy, 60)
    _, denoise = viewer.window.add_plugin_dock_widget(PLUGIN, "Denoise", tabify=True)
    shown = preview(denoise)
    wait(lambda: shown.layer is not None and not shown.busy, 60)
    shoot(viewer, images / "tune.png")
    field(denoise, "Gain").setValue(8)
    wait(lambda: not shown.busy, 60)
    shoot(viewer, images / "too-much.png")
    _, check = viewer.window.add_plugin_dock_widget(PLUGIN, "Noise check", tabify=True)
    check.check()
    wait(lambda: not check.busy, 120)
    shoot(viewer, images / "check.png")
    field(check, "Noise").setCurrentText("chosen for the layer")
    check.check()
    wait(lambda: not check.busy, 120)
    viewer.theme = "light"
    shoot(viewer, images / "check-wrong-light.png")
    viewer.theme = "dark"
    denoise.parent().raise_()
    field(denoise, "Gain").setValue(2)
    denoise.denoise()
    wait(lambda: not denoise.busy, 120)
    shoot(viewer, images / "denoised.png")
    viewer.theme = "light"
    shoot(viewer, images / "denoised-light.png")
    train.parent().raise_()
    shoot(viewer, images / "train-light.png")
    viewer.theme = "dark"
    denoise.parent().raise_()
    viewer.layers.remove("cells denoised")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells denoised.ome.zarr"
        enter_file_name(path)
        button(denoise, "Write OME-Zarr…").click()
        wait(lambda: status(denoise).startswith("Tile"), 60)
        shoot(viewer, images / "writing.png")
        wait(lambda: not denoise.busy, 120)
        viewer.layers.remove("cells denoised")
        viewer.open(path, plugin="napari-ome-zarr")
        shoot(viewer, images / "reopened.png")
    viewer.close()


if __name__ == "__main__":
    main()
