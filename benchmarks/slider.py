"""Measure the time from a slider move to new pixels, for one plane whose score is known.

python benchmarks/slider.py [--size 1024] [--window]

Each figure is the median over several moves. Every move changes the noise model, so that a new
table has to be built. ``--window`` measures the same in the window, until the layer has its
new pixels; it needs a screen (``xvfb-run -a``).
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from table import table

from napari_noise2score import train
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.sample import NOISE, simulate_cells

CASES = [
    "gaussian(sigma={:g})",
    "gaussian(a=0.1, b={:g})",
    "poisson(gain={:g}, offset=100)",
    "poisson(gain={:g}, offset=100) + gaussian(sigma=3)",
    "gamma(alpha={:g})",
    "rician(sigma={:g})",
    "tweedie(power=1.5, dispersion={:g}, offset=100)",
]
N_MOVES = 15


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--window", action="store_true")
    options = parser.parse_args()
    import torch  # after the package, which sets how its threads wait

    small = simulate_cells((1, 1, 128, 128))[0][0, 0]
    model = train(small, steps=20)
    repeats = -(-options.size // 128)
    image = np.tile(small, (repeats, repeats))[: options.size, : options.size]
    print(
        f"{options.size} x {options.size} pixels, {torch.get_num_threads()} threads, {model.device}"
    )
    if options.window:
        measure_in_window(image, model)
        return
    planes = LivePlanes(image, model, "YX")
    start = time.perf_counter()
    for _ in planes.prepare((0, 0)):
        pass
    print(f"computing the score once: {time.perf_counter() - start:.2f} s")
    add = table("slider_moves", "noise", "time (ms)")
    for text in CASES:
        planes.solve((0, 0), text.format(1.9))
        times = []
        for value in np.linspace(2, 3, N_MOVES):
            start = time.perf_counter()
            planes.solve((0, 0), text.format(value))
            times.append(1e3 * (time.perf_counter() - start))
        add(text.format(2), f"{statistics.median(times):.0f}")


def measure_in_window(image: np.ndarray, model) -> None:
    """Print the time that a slider move takes in the window."""
    import napari
    from qtpy.QtCore import QEventLoop
    from qtpy.QtWidgets import QApplication

    from napari_noise2score.widgets._session import session

    viewer = napari.Viewer()
    viewer.add_image(image, name="cells")
    session.add_model(model, "cells")
    _, dock = viewer.window.add_plugin_dock_widget("napari-noise2score", "Noise2Score")
    dock._noise.set_text(NOISE)

    def wait_until(condition) -> None:
        # sleep between events as napari does, because the solver needs both cores
        while not condition():
            QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)

    preview, gain = dock._preview, dock._noise.form._boxes[0, "gain"]
    wait_until(lambda: preview.layer is not None and preview._worker is None)
    times = []
    for position in np.linspace(0.7, 1.1, N_MOVES):
        before = preview.layer.data.copy()
        start = time.perf_counter()
        gain.slider.setValue(position)
        wait_until(lambda: preview.layer.data[0, 0] != before[0, 0])  # noqa: B023
        times.append(1e3 * (time.perf_counter() - start))
        wait_until(lambda: preview._worker is None)
    add = table("slider_window", "noise", "time in the window (ms)")
    add(dock._noise.text, f"{statistics.median(times):.0f}")
    viewer.close()


if __name__ == "__main__":
    main()
