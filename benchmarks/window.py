"""Measure how long the plugin blocks the window: at start, when a dock opens, and in training.

xvfb-run -a python benchmarks/window.py [--seconds 20]

A stall is the time between two iterations of the event loop, measured by a timer of zero delay.
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
from table import table

PLUGIN = "napari-noise2score"


class Stalls:
    """Record the time of each iteration of the event loop, in milliseconds."""

    def __init__(self) -> None:
        self.timer = QTimer()
        self.timer.timeout.connect(self._tick)
        self.start()

    def start(self) -> None:
        """Discard all times so far, and start to measure."""
        self.times: list[float] = []
        self._last = time.perf_counter()
        self.timer.start(0)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.times.append(1e3 * (now - self._last))
        self._last = now

    def __str__(self) -> str:
        ranked = sorted(self.times)
        return f"longest {ranked[-1]:.0f} ms, {sum(t > 100 for t in ranked)} above 100 ms"


def manifest_cost() -> float:
    """Return the time of reading and registering the manifest, in milliseconds."""
    times = []
    for _ in range(20):
        start = time.perf_counter()
        manifest = npe2.PluginManifest.from_distribution(PLUGIN)
        npe2.PluginManager().register(manifest)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def process_events(seconds: float, until=lambda: False) -> None:
    """Process the window's events until a condition holds, or for some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        QApplication.processEvents()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    seconds = parser.parse_args().seconds
    viewer = napari.Viewer()
    imported = [name for name in sys.modules if name.startswith("napari_noise2score.")]
    add = table("window_stalls", "measured", "time")
    add("added to napari's start by the manifest", f"{manifest_cost():.1f} ms")
    add("modules imported at the start", imported or "none")
    stalls = Stalls()
    process_events(2)
    add("idle", stalls)
    viewer.open_sample(PLUGIN, "cells")
    process_events(1)
    stalls.start()
    start = time.perf_counter()
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Noise2Score")
    add("opening the dock", f"{1e3 * (time.perf_counter() - start):.0f} ms")
    stalls.start()
    process_events(10, lambda: "torch" in sys.modules and dock._model.device.count() > 2)
    process_events(5)
    add("while torch is imported", stalls)
    dock._model._minutes.setValue(10)
    stalls.start()
    dock._denoise.click()
    process_events(60, lambda: dock._model.begun is not None and dock._model.begun.last is not None)
    add("until the first step", stalls)
    for live in (False, True):
        dock._row.live.setChecked(live)
        process_events(2)
        stalls.start()
        process_events(seconds)
        add(f"training, preview {'on' if live else 'off'}", stalls)
    dock._job._stop.click()
    process_events(20, lambda: not dock.busy)
    stalls.timer.stop()
    viewer.close()


if __name__ == "__main__":
    main()
