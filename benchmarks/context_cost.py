"""Measure how much longer denoising takes with context.

    python benchmarks/context_cost.py [--frames 12] [--side 512] [--repeats 3]

A movie of the sample is denoised with single planes and with the two neighbouring time points, in
turn; the shortest time of each counts.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from table import table

from napari_noise2score import denoise, sample, train


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    noisy = sample.simulate_cells((arguments.frames, 1, arguments.side, arguments.side))[0][:, 0]
    models = {
        context: train(noisy, axes="TYX", steps=2, context=context) for context in ("none", "T")
    }
    seconds: dict[str, list[float]] = {context: [] for context in models}
    for _ in range(arguments.repeats):
        for context, model in models.items():
            began = time.perf_counter()
            denoise(noisy, model, sample.NOISE, np.empty(noisy.shape, np.float32), axes="TYX")
            seconds[context].append(time.perf_counter() - began)
    add = table("context_cost", "movie", "single planes (s)", "with two neighbours (s)", "ratio")
    alone, beside = (min(seconds[context]) for context in models)
    shape = "×".join(map(str, noisy.shape))
    add(shape, f"{alone:.1f}", f"{beside:.1f}", f"{beside / alone:.2f}")


if __name__ == "__main__":
    main()
