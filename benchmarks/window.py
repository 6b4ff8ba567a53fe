"""Measure how long the plugin blocks the window, from its opening to a result.

xvfb-run -a python benchmarks/window.py [--seconds 10] [--repeats 3]

A stall is the time between two iterations of the event loop, measured by a timer of zero delay.
What napari takes to add any dock or any layer is measured apart. Each repeat is a new process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from table import table

PLUGIN = "napari-noise2score"


class Stalls:
    """Record the longest iteration of the event loop in each phase, in milliseconds."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.found: dict[str, float] = {}
        self._phase = ""
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)

    def start(self, phase: str) -> None:
        """Measure a phase from now on."""
        self._phase, self._last = phase, time.perf_counter()
        self.found[phase] = 0.0
        self._timer.start(0)

    def stop(self) -> None:
        """Measure nothing until the next phase."""
        self._timer.stop()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.found[self._phase] = max(self.found[self._phase], 1e3 * (now - self._last))
        self._last = now


def process_events(seconds: float, until=lambda: False) -> None:
    """Process the window's events until a condition holds, or for some seconds."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        QApplication.processEvents()


def milliseconds(work) -> float:
    """Return how long a function takes."""
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def once(seconds: float) -> dict[str, float]:
    """Go from an open image to a result, and return times in milliseconds by phase."""
    import napari
    import numpy as np
    from qtpy.QtWidgets import QWidget

    viewer = napari.Viewer()
    viewer.open_sample(PLUGIN, "cells")
    process_events(2)
    stalls = Stalls()
    stalls.start("napari alone, idle")
    process_events(2)
    stalls.stop()
    empty = milliseconds(lambda: viewer.window.add_dock_widget(QWidget(), name="empty"))
    process_events(1)
    opened = milliseconds(lambda: viewer.window.add_plugin_dock_widget(PLUGIN, "Noise2Score"))
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Noise2Score")
    times = {"opening the dock, above an empty one": opened - empty}
    stalls.start("while torch is imported")
    process_events(20, lambda: "torch" in sys.modules and dock._model.device.count() > 2)
    process_events(5)
    stalls.stop()
    source = viewer.layers[0]
    times["napari adds any layer"] = milliseconds(
        lambda: viewer.add_image(np.zeros((64, 64), np.float32))
    )
    viewer.layers.selection.active = source
    process_events(1)
    dock._model.settings._minutes.setValue(10)
    dock._row.live.setChecked(False)
    stalls.start("from the press to the first step")
    dock._denoise.click()
    process_events(60, lambda: dock._model.begun is not None and dock._model.begun.last is not None)
    process_events(2)
    stalls.start("learning, no preview")
    process_events(seconds)
    stalls.stop()
    dock._row.live.setChecked(True)
    process_events(60, lambda: dock._preview.layer is not None)  # napari adds a layer
    process_events(2)
    stalls.start("learning, with preview")
    process_events(seconds)
    stalls.start("Stop")
    dock._job._stop.click()
    process_events(20, lambda: not dock.busy)
    process_events(2)
    stalls.start("noise check")
    dock.check()
    process_events(60, lambda: not dock.busy)
    process_events(2)
    stalls.stop()
    viewer.close()
    return times | stalls.found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", action="store_true", help="what each repeat runs")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(options.seconds)))
        return
    command = [sys.executable, __file__, "--once", "--seconds", str(options.seconds)]
    runs = []
    # compiled modules are kept from the first run on, as on a user's machine
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(options.repeats):
        out = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment
        ).stdout
        runs.append(json.loads(out.splitlines()[-1]))
    add = table("window", "longest stall (ms)", "best run", "median run")
    for phase in runs[0]:
        found = [run[phase] for run in runs]
        add(phase, f"{min(found):.0f}", f"{statistics.median(found):.0f}")


if __name__ == "__main__":
    main()
