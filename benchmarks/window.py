"""What the plugin costs the window: at napari's start, when a dock opens, and while it trains.

xvfb-run -a python benchmarks/window.py [--seconds 20]

A stall is the time between two rounds of the event loop, seen by a timer that is due at once.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import napari
import npe2
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

PLUGIN = "napari-noise2score"


class Stalls:
    """The rounds of the event loop, each with the time it took in milliseconds."""

    def __init__(self) -> None:
        self.timer = QTimer()
        self.timer.timeout.connect(self._tick)
        self.start()

    def start(self) -> None:
        """Forget what was, and measure from now."""
        self.took: list[float] = []
        self._last = time.perf_counter()
        self.timer.start(0)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.took.append(1e3 * (now - self._last))
        self._last = now

    def __str__(self) -> str:
        ranked = sorted(self.took)
        return f"longest {ranked[-1]:.0f} ms, {sum(t > 100 for t in ranked)} above 100 ms"


def manifest_cost() -> float:
    """Give the time, in milliseconds, that reading and registering the manifest takes."""
    took = []
    for _ in range(20):
        began = time.perf_counter()
        manifest = npe2.PluginManifest.from_distribution(PLUGIN)
        npe2.PluginManager().register(manifest)
        took.append(1e3 * (time.perf_counter() - began))
    return statistics.median(took)


def run_for(seconds: float, until=lambda: False) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        QApplication.processEvents()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    seconds = parser.parse_args().seconds
    viewer = napari.Viewer()
    ours = [name for name in sys.modules if name.startswith("napari_noise2score.")]
    print(f"napari's start: manifest {manifest_cost():.1f} ms, modules imported: {ours or 'none'}")
    stalls = Stalls()
    run_for(2)
    print(f"idle: {stalls}")
    viewer.open_sample(PLUGIN, "cells")
    run_for(1)
    stalls.start()
    began = time.perf_counter()
    _, train = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")
    print(f"opening the first dock: {1e3 * (time.perf_counter() - began):.0f} ms")
    stalls.start()
    run_for(10, lambda: "torch" in sys.modules and train._device.count() > 1)
    run_for(5)
    print(f"while torch is imported: {stalls}")
    train._minutes.setValue(10)
    train._train.click()
    run_for(60, lambda: train._last is not None)
    for live in (False, True):
        train._row.live.setChecked(live)
        run_for(2)
        stalls.start()
        run_for(seconds)
        print(f"training, preview {'on' if live else 'off'}: {stalls}")
    train._job._stop.click()
    run_for(20, lambda: not train.busy)
    stalls.timer.stop()
    viewer.close()


if __name__ == "__main__":
    main()
