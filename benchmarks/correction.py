"""Measure what undoing row offsets and calibration maps gains, on simulated cells.

    python benchmarks/correction.py [--steps 150]

The sample of moving cells, 2×8×256×256, gain 2, offset 100, read noise 3: with random offsets of
rows of σ = 4; and as a camera records it whose pixels differ (offset ± 2, gain ± 5 %, read noise
3 ± 40 %, 1 % hot pixels of read noise 30), with maps that are measured from 200 dark frames and
three times 300 flat ones. The noise is estimated, with `estimate_noise`, unless maps give it. PSNR
is over the range of the truth.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from table import table

from napari_noise2score import calibrate_camera, denoise, estimate_noise, train
from napari_noise2score.noise import CalibrationMap, Correction, parse_noise, with_correction
from napari_noise2score.sample import NOISE, OFFSET, simulate_cells

SHAPE = (2, 8, 256, 256)
ROW_OFFSET = 4.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=150)
    steps = parser.parse_args().steps
    noisy, signal = simulate_cells(SHAPE)
    truth = signal + OFFSET
    span = float(truth.max() - truth.min())
    add = table("correction", "images", "correction", "noise", "PSNR")

    def psnr(image: Any) -> str:
        return f"{10 * np.log10(span**2 / np.mean((np.asarray(image) - truth) ** 2)):.2f}"

    def denoised(name: str, images: np.ndarray, correction: Any, noise: Any) -> None:
        model = train(images, axes="TZYX", steps=steps, correction=correction, context="none")
        result = denoise(images, model, noise, axes="TZYX")
        add(name, str(correction or "none"), f"`{noise}`", psnr(result))

    rng = np.random.default_rng(1)
    flickering = noisy + rng.normal(0, ROW_OFFSET, (*SHAPE[:-1], 1))
    found = estimate_noise(flickering, axes="TZYX").noise
    add("row offsets", "–", "–", psnr(flickering))
    denoised("no row offsets", noisy, None, parse_noise(NOISE))
    denoised("row offsets", flickering, None, found.plain)
    denoised("row offsets", flickering, found.corrections[0], found)

    rng = np.random.default_rng(3)
    plane = SHAPE[-2:]
    offset = OFFSET + 2 * rng.standard_normal(plane)
    gain = 2 * (1 + 0.05 * rng.standard_normal(plane))
    read = 3 * np.exp(0.4 * rng.standard_normal(plane) - 0.08)
    read[rng.random(plane) < 0.01] = 30

    def record(electrons: Any) -> np.ndarray:
        counts = rng.poisson(electrons, plane)
        y = gain * counts + offset + read * rng.standard_normal(plane)
        return np.clip(np.rint(y), 0, 65535).astype(np.uint16)

    dark = np.stack([record(0) for _ in range(200)])
    flat = [np.stack([record(level) for _ in range(300)]) for level in (50, 150, 400)]
    images = np.stack([[record(p / 2) for p in stack] for stack in signal])
    maps = calibrate_camera(dark, flat)
    correction = Correction(
        offset=CalibrationMap(maps.offset),
        gain=CalibrationMap(maps.gain),
        read_noise=CalibrationMap(maps.read_noise),
    )
    own = estimate_noise(images, axes="TZYX", correction=[correction]).noise.plain
    add("camera", "–", "–", psnr(images))
    denoised("camera", images, None, parse_noise(NOISE))
    denoised("camera", images, correction, with_correction(own, correction))


if __name__ == "__main__":
    main()
