"""Measure the time to build the table of a noise model, and to solve 1 and 16 megapixels.

python benchmarks/solver.py [--device auto]
"""

from __future__ import annotations

import argparse
import time

import torch
from table import table

from napari_noise2score.noise import parse_noise
from napari_noise2score.score.device import choose_device
from napari_noise2score.solve.table import make_table
from napari_noise2score.solve.transform import Transform

CASES = [
    ("gaussian(sigma=25)", Transform(c0=625), 0.2, (-100, 355)),
    ("gaussian(a=0.098, b=25)", Transform(0, 625, 4.9, 0.0096), 0.2, (-100, 400)),
    ("poisson(gain=5)", Transform(0, 25, 5), 0.7, (0, 400)),
    ("poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)", Transform(100, 10, 2), 0.3, (80, 500)),
    ("gamma(alpha=26)", Transform(0, 6, 0.6, 0.04), 0.2, (0, 700)),
    ("rayleigh(sigma=0.3)", Transform(0, 6, 0.5, 0.04), 0.2, (0, 700)),
]


def shortest_time(call, device: torch.device) -> float:
    """Return the shortest time of five calls, in milliseconds."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - start))
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="auto")
    device = choose_device(parser.parse_args().device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, {torch.get_num_threads()} threads")
    times = ("solve 1024×1024 (ms)", "solve 4096×4096 (ms)")
    where = "solver_gpu" if device.type == "cuda" else "solver"
    add = table(where, "noise", "build the table (ms)", *times)
    for text, transform, sigma_a, (low, high) in CASES:
        noise = parse_noise(text)
        build = shortest_time(
            lambda: make_table.__wrapped__(noise, transform, sigma_a, low, high),  # noqa: B023
            device,
        )
        solve = make_table(noise, transform, sigma_a, low, high)
        times = []
        for size in (1024, 4096):
            y = low + (high - low) * torch.rand(size, size, device=device)
            s = torch.randn(size, size, device=device)
            times.append(shortest_time(lambda: solve(y, s), device))  # noqa: B023
        add(text, f"{build:.0f}", *(f"{t:.1f}" for t in times))


if __name__ == "__main__":
    main()
