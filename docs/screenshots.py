"""Take the screenshots of this documentation from a real viewer.

Run it where there is a screen, or under ``xvfb-run -a -s "-screen 0 1280x800x24"``::

    python docs/screenshots.py

It opens the sample, trains for some minutes, denoises, tunes, and writes PNG files to
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
from window import dock as open_dock

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
    dock = open_dock(viewer)
    dock.window().resize(1280, 800)
    field(dock, "Time").setValue(5)
    # found, and not the noise that the sample brings, so that its check is shown
    dock.estimate()
    wait(lambda: not dock.busy, 600)
    dock.denoise()
    # steps rather than minutes, so that a slow machine gives the same pictures
    wait(lambda: training_step(dock) >= 0.6 * steps, 900)
    shoot(viewer, images / "learning.png")
    button(dock, "Before").click()
    shoot(viewer, images / "before.png")
    button(dock, "Before").click()
    wait(lambda: training_step(dock) >= steps or not dock.busy, 900)
    if dock.busy:
        dock.denoise()  # with what is learned
    wait(lambda: not dock.busy, 120)
    shoot(viewer, images / "denoised.png")
    button(dock, "Split").click()
    shoot(viewer, images / "split.png")
    button(dock, "Split").click()
    viewer.theme = "light"
    shoot(viewer, images / "denoised-light.png")
    viewer.theme = "dark"
    viewer.layers.remove("cells denoised")
    button(dock, "Family and numbers").click()
    shown, gain = preview(dock), field(dock, "Gain")
    right = gain.value()
    gain.setValue(round(right + 0.02, 2))  # the preview returns
    wait(lambda: shown.layer is not None and not shown.busy, 60)
    shoot(viewer, images / "tune.png")
    gain.setValue(4 * right)
    wait(lambda: not shown.busy, 60)
    shoot(viewer, images / "too-much.png")
    button(dock, "Family and numbers").click()
    button(dock, "Noise check").click()
    field(dock, "Noise model").setCurrentText("chosen for the layer")
    for name, theme, value in (
        ("check.png", "dark", right),
        ("check-wrong-light.png", "light", 4 * right),
    ):
        gain.setValue(value)
        wait(lambda: not shown.busy, 60)
        dock.check()
        wait(lambda: not dock.busy, 120)
        viewer.theme = theme
        shoot(viewer, images / name)
    viewer.theme = "dark"
    button(dock, "Noise check").click()
    gain.setValue(right)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells denoised.ome.zarr"
        enter_file_name(path)
        button(dock, "Result").click()
        button(dock, "OME-Zarr file").click()
        button(dock, "Denoise").click()
        wait(lambda: status(dock).startswith("Denoising: tile"), 60)
        shoot(viewer, images / "writing.png")
        wait(lambda: not dock.busy, 120)
        viewer.layers.remove("cells denoised")
        viewer.open(path, plugin="napari-ome-zarr")
        shoot(viewer, images / "reopened.png")
    viewer.close()


if __name__ == "__main__":
    main()
