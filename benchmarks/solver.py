"""How long it takes to change the noise model: build the table, and solve one megapixel.

python benchmarks/solver.py
"""

from __future__ import annotations

import time

import torch

from napari_noise2score.noise import Transform, parse_noise
from napari_noise2score.noise.table import make_table

CASES = [
    ("gaussian(sigma=25)", Transform(c0=625), 0.2, (-100, 355)),
    ("gaussian(a=0.098, b=25)", Transform(0, 625, 4.9, 0.0096), 0.2, (-100, 400)),
    ("poisson(gain=5)", Transform(0, 25, 5), 0.7, (0, 400)),
    ("poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)", Transform(100, 10, 2), 0.3, (80, 500)),
    ("gamma(alpha=26)", Transform(0, 6, 0.6, 0.04), 0.2, (0, 700)),
    ("rayleigh(sigma=0.3)", Transform(0, 6, 0.5, 0.04), 0.2, (0, 700)),
]


def best(call) -> float:
    """Give the shortest of five runs, in milliseconds."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return min(times)


def main() -> None:
    print(f"{torch.get_num_threads()} threads")
    print("noise | build (ms) | solve 1024 x 1024 (ms)")
    for text, transform, sigma_a, (low, high) in CASES:
        noise = parse_noise(text)
        build = best(lambda: make_table.__wrapped__(noise, transform, sigma_a, low, high))  # noqa: B023
        solve = make_table(noise, transform, sigma_a, low, high)
        y = low + (high - low) * torch.rand(1024, 1024)
        s = torch.randn(1024, 1024)
        print(f"{text} | {build:.0f} | {best(lambda: solve(y, s)):.0f}")  # noqa: B023


if __name__ == "__main__":
    main()
