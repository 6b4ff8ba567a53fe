"""Do what people do to a window, at random: no crash, and no exception.

xvfb-run -a python benchmarks/monkey.py [--seconds 120] [--seed 0]
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import time
import traceback
from pathlib import Path

import napari
import numpy as np
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from window import button, field, set_noise
from window import dock as open_dock

from napari_noise2score.sample import simulate_cells

FOLDS = "Family and numbers", "Noise check", "Model", "Result", "Folder"
NOISES = "gaussian(sigma=7)", "poisson(gain=2, offset=100) + gaussian(sigma=3)", "gaussian(sigma="


class Monkey:
    """A person without a plan."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.viewer = napari.Viewer()
        self.count = 0
        self.dock = open_dock(self.viewer)

    def press(self, text: str) -> None:
        """Press a button, if it is enabled."""
        found = button(self.dock, text)
        if found.isEnabled():
            found.click()

    def add(self) -> None:
        """Add an image."""
        self.count += 1
        data = simulate_cells((2, 2, 48, 48), seed=self.count)[0]
        self.viewer.add_image(data, name=f"cells {self.count}", axis_labels="tzyx")

    def remove(self) -> None:
        """Remove a layer."""
        if self.viewer.layers:
            self.viewer.layers.remove(self.rng.choice(list(self.viewer.layers)))

    def rename(self) -> None:
        """Rename a layer."""
        if self.viewer.layers:
            self.rng.choice(list(self.viewer.layers)).name = f"renamed {self.rng.random():.3f}"

    def crop(self) -> None:
        """Crop a layer."""
        layers = [x for x in self.viewer.layers if "renamed" in x.name or "cells" in x.name]
        if layers and (layer := self.rng.choice(layers)).data.shape[-1] > 40:
            layer.data = np.asarray(layer.data)[..., :40]

    def select(self) -> None:
        """Select a layer."""
        if self.viewer.layers:
            self.viewer.layers.selection.active = self.rng.choice(list(self.viewer.layers))

    def turn(self) -> None:
        """Go to another plane."""
        self.viewer.dims.set_current_step(0, self.rng.randrange(2))

    def choose_noise(self) -> None:
        """Type a noise model, complete or not."""
        set_noise(self.dock, self.rng.choice(NOISES))

    def reopen(self) -> None:
        """Close the dock and open it."""
        self.viewer.window.remove_dock_widget(self.dock)
        self.dock = open_dock(self.viewer)
        field(self.dock, "Time").setValue(0.1)

    def act(self) -> str:
        """Do something, and return what."""
        buttons = [
            "Denoise", "Stop", "Pause", "Estimate", "Refine", "Undo", "Redo", "Check", "Train",
            "Resume", "Split", "Before", "Live preview", "layer", "lazy layer",
            "Uncertainty as a separate layer", *FOLDS,
        ]  # fmt: skip
        acts = [self.add, self.remove, self.rename, self.crop, self.select, self.turn]
        acts += [self.choose_noise, self.reopen]
        if self.rng.random() < 0.5:
            text = self.rng.choice(buttons)
            label = {"Pause": "Continue"}.get(text, "")
            try:
                self.press(text)
            except StopIteration:  # the button has another text now
                if label:
                    self.press(label)
            return text
        act = self.rng.choice(acts)
        act()
        return act.__name__


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faulthandler.enable()
    failures: list[str] = []

    def fail(kind, error, trace) -> None:
        failures.append("".join(traceback.format_exception(kind, error, trace)))
        print(f"after {last[-5:]}:\n{failures[-1]}", flush=True)

    # the dock asks before it denoises a result
    from napari_noise2score.widgets import _flow

    _flow._ask_again = lambda *_: False
    monkey = Monkey(options.seed)
    last: list[str] = []
    sys.excepthook = fail
    notification_manager.receive_error = fail
    field(monkey.dock, "Time").setValue(0.1)
    monkey.add()
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        try:
            last.append(monkey.act())
        except Exception:
            fail(*sys.exc_info())
        pause = time.monotonic() + monkey.rng.choice([0.01, 0.1, 0.5, 2])
        while time.monotonic() < pause:
            QApplication.processEvents()
            time.sleep(0.002)
    monkey.viewer.close()
    print(f"{len(last)} acts, {len(failures)} exceptions")


if __name__ == "__main__":
    main()
