"""Walk through the window as its users do, by mouse and keyboard, with a picture of each step.

python benchmarks/walk.py OUT [--theme dark] [--size 1024 700] [--only a b]

It needs a screen of this size (``xvfb-run -a -s "-screen 0 1024x700x24"``), and for HiDPI
``QT_SCALE_FACTOR=2``. What is asked for in a step is asserted; clicks and letters are counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
import tifffile
from napari.settings import get_settings
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QCheckBox

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from superqt.utils import WorkerBase
from window import button, enter_file_name, field, messages, status
from window import dock as open_dock

from napari_noise2score.sample import simulate_cells
from napari_noise2score.widgets._session import session

MINUTES = 0.3  # of learning
PATIENCE = 600  # seconds


def wait(until=lambda: False, seconds: float = PATIENCE) -> None:
    """Process the window's events until a condition holds."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError("a step of the walk took too long")
        QApplication.processEvents()
        time.sleep(0.005)


def pause(seconds: float) -> None:
    """Process the window's events for some seconds."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


class Person:
    """A person at a window, who clicks and types, and takes pictures."""

    def __init__(self, out: Path, name: str, size: tuple[int, int]):
        self.out, self.name, self.steps, self.clicks, self.letters = out, name, 0, 0, 0
        self.viewer = napari.Viewer()
        self.window = self.viewer.window._qt_window
        self.window.resize(*size)

    def open_dock(self):
        """Open the dock as the menu does: a click on Plugins, and one on Noise2Score."""
        self.dock = open_dock(self.viewer)
        self.clicks += 1
        pause(0.5)
        wait(lambda: field(self.dock, "Device").count() > 1)
        self.look("dock")

    def look(self, what: str) -> None:
        """Take a picture of the window."""
        pause(0.6)
        self.steps += 1
        self.window.grab().save(str(self.out / f"{self.name}{self.steps}-{what}.png"))

    def click(self, text: str) -> None:
        """Click a button of the dock, as soon as it is enabled."""
        found = button(self.dock, text)
        wait(found.isEnabled)
        if not found.isVisible():
            raise LookupError(f"'{text}' cannot be seen")
        place = found.rect().center()
        if isinstance(found, QCheckBox):
            place.setX(8)
        QTest.mouseClick(found, Qt.MouseButton.LeftButton, pos=place)
        self.clicks += 1

    def type(self, label: str, text: str) -> None:
        """Type into a field of the dock."""
        box = field(self.dock, label)
        box.setFocus()
        box.selectAll()
        QTest.keyClicks(box, text)
        self.letters += len(text)

    def end(self) -> None:
        """Wait until the job has ended, and look."""
        wait(lambda: not self.dock.busy and not status(self.dock).startswith("Stopping"))
        pause(0.3)

    def close(self) -> None:
        """Close the window, and say what the person did."""
        print(f"{self.name}: {self.clicks} clicks, {self.letters} letters; messages now: ", end="")
        print(messages(self.dock) or "none", flush=True)
        self.viewer.close()
        WorkerBase.await_workers(60_000)


def quick(person: Person) -> None:
    """Let the network learn briefly, which a person would not need to do."""
    field(person.dock, "Time").setValue(MINUTES)


def plane(person: Person, _folder: Path) -> None:
    """Denoise one 2-D frame with two clicks and no typing (a)."""
    person.viewer.add_image(simulate_cells((1, 1, 256, 256))[0][0, 0], name="frame")
    person.open_dock()
    quick(person)
    person.click("Denoise")
    wait(lambda: "frame preview" in person.viewer.layers)
    person.look("learning")
    person.end()
    assert person.viewer.layers[-1].name == "frame denoised", status(person.dock)
    assert (person.clicks, person.letters) == (2, 0)
    person.look("result")
    person.click("Split")
    person.look("split")


def series(person: Person, folder: Path) -> None:
    """Denoise a TZYX TIFF with its scale to OME-Zarr, and open that (b)."""
    path = folder / "series.ome.tif"
    noisy = simulate_cells((4, 3, 96, 96))[0].astype(np.uint16)
    tifffile.imwrite(
        path,
        noisy,
        metadata={"axes": "TZYX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2, "PhysicalSizeZ": 1},
        ome=True,
    )
    person.viewer.open(path, plugin="napari")
    person.open_dock()
    wait(lambda: field(person.dock, "Axes").text() == "TZYX")
    quick(person)
    person.click("Result")
    person.click("OME-Zarr file")
    person.look("choice")
    target = folder / "series denoised.ome.zarr"
    enter_file_name(target)
    person.click("Denoise")
    pause(3)
    person.look("writing")
    person.end()
    layer = person.viewer.layers[-1]
    assert layer.name == "series.ome denoised" or layer.name.endswith("denoised"), layer.name
    assert np.allclose(layer.scale[-3:], (1, 0.2, 0.2)), layer.scale
    person.look("written")
    person.viewer.layers.clear()
    person.viewer.open(target, plugin="napari-ome-zarr")
    pause(1)
    back = person.viewer.layers[-1]
    assert np.allclose(back.scale[-3:], (1, 0.2, 0.2)), back.scale
    person.look("back")


def channels(person: Person, _folder: Path) -> None:
    """Denoise two channels of unlike gain (c)."""
    one = simulate_cells((4, 1, 160, 160))[0][:, 0]
    other = 4 * (simulate_cells((4, 1, 160, 160), seed=7)[0][:, 0] - 100) + 200
    stack = np.stack([one, other], axis=1)
    person.viewer.add_image(stack, name="two channels", axis_labels="tcyx")
    person.open_dock()
    quick(person)
    person.click("Denoise")
    person.end()
    assert person.viewer.layers[-1].name.endswith("denoised"), status(person.dock)
    person.look("result")
    person.click("Family and numbers")
    field(person.dock, "Channel").setCurrentIndex(2)
    pause(1)
    person.look("channel 2")
    person.click("Noise check")
    person.look("check")


def volume(person: Person, _folder: Path, path: Path) -> None:
    """Denoise an MRI volume (d)."""
    data = tifffile.imread(path)
    person.viewer.add_image(data[:8] if data.ndim == 3 else data, name="MRI")
    person.open_dock()
    if data.ndim == 3:
        person.type("Axes", "ZYX")
    quick(person)
    person.click("Denoise")
    person.end()
    person.look("result")
    print(status(person.dock))


def files(person: Person, folder: Path, count: int, side: int) -> None:
    """Denoise files of a folder, one of them broken, or many, stopped and resumed (e, g)."""
    inputs, outputs = folder / f"in{count}", folder / f"out{count}"
    inputs.mkdir()
    for number in range(count):
        rng_image = simulate_cells((1, 1, side, side), seed=number)[0][0, 0].astype(np.uint16)
        tifffile.imwrite(inputs / f"file {number:03}.tif", rng_image)
    broken = inputs / "file 003.tif"
    if count < 100:
        broken.write_bytes(b"no image")
    first = tifffile.imread(inputs / "file 000.tif")
    person.viewer.add_image(np.tile(first, (2, 2)), name="one of them")
    person.open_dock()
    quick(person)
    person.click("Denoise")
    person.end()
    person.click("Folder")
    person.look("folder")
    for label, where in (("Images in", inputs), ("Results in", outputs)):
        person.type(label, str(where))
    person.look("chosen")
    person.click("Denoise the folder")
    if count >= 100:
        wait(lambda: len(list(outputs.glob("*"))) > 5)
        person.click("Stop")
        person.end()
        person.look("stopped")
        done = len(list(outputs.glob("*")))
        assert done < count
        person.click("Denoise the folder")
    person.end()
    written = len([p for p in outputs.glob("*") if "part" not in p.name])
    print(f"{written} files of {count}; {status(person.dock)}")
    person.look("done")


def next_day(person: Person, folder: Path) -> None:
    """Load the model for a new file of another range, as the next day (f)."""
    person.viewer.add_image(simulate_cells((2, 1, 96, 96))[0], name="first", axis_labels="tzyx")
    person.open_dock()
    quick(person)
    person.click("Denoise")
    person.end()
    person.click("Model")
    enter_file_name(folder / "first.n2s")
    person.click("Save…")
    wait((folder / "first.n2s").exists)
    person.click("Model")
    person.viewer.layers.clear()
    other = simulate_cells((2, 1, 96, 96), seed=5)[0] / 65535
    person.viewer.add_image(other, name="another day", axis_labels="tzyx")
    person.click("Model")
    enter_file_name(folder / "first.n2s")
    person.click("Load…")
    wait(lambda: bool(messages(person.dock)))
    person.look("loaded")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--theme", default="dark")
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 700))
    parser.add_argument("--only", nargs="*", default=list("abcdefg"))
    parser.add_argument("--mri", type=Path, help="a TIFF with a magnitude MRI volume, for d")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    get_settings().appearance.theme = options.theme
    walks = {
        "a": plane,
        "b": series,
        "c": channels,
        "d": lambda person, folder: volume(person, folder, options.mri),
        "e": lambda person, folder: files(person, folder, 12, 96),
        "f": next_day,
        "g": lambda person, folder: files(person, folder, 300, 64),
    }
    for name in options.only:
        if name == "d" and options.mri is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            session.models.clear()
            person = Person(options.out, name, tuple(options.size))
            try:
                walks[name](person, Path(folder))
            finally:
                person.close()


if __name__ == "__main__":
    main()
