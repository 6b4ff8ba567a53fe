"""Measure how much PSNR blind Noise2Score loses because it has to estimate the noise parameter.

    python benchmarks/blind.py DATA [--steps 500] [--models FOLDER] [--noise SPEC ...]

DATA contains the folder ``natural``. For each noise model, one score model is trained on CBSD432
with that noise. Each method then estimates the noise from the noisy test images (gray; Set12 and 12
images of CBSD68) as one data set, and the PSNR (range 255) is compared with that of the true
parameter. Trained models are saved in FOLDER and loaded from there in later runs.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from keep import load_or_train
from sixteen import add_noise, load
from table import table

from napari_noise2score import Image, UserError, estimate_noise, parse_noise, train
from napari_noise2score.denoising.live import LivePlanes

# Gaussian σ in [5, 55], Poisson ζ in [0.005, 0.1] of 255, Gamma k in [40, 120]
NOISES = [
    *(f"gaussian(sigma={s})" for s in (5, 15, 25, 40, 55)),
    *(f"poisson(gain={255 * z:g})" for z in (0.005, 0.01, 0.05, 0.1)),
    *(f"gamma(alpha={k})" for k in (40, 80, 120)),
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--noise", nargs="*", default=NOISES)
    options = parser.parse_args()
    natural = options.data / "natural"
    add = table(
        "blind_methods", "noise", "images", "method", "estimated noise", "PSNR (dB), true noise",
        "estimated noise", "loss",
    )  # fmt: skip
    for text in options.noise:
        noise = parse_noise(text)
        model = load_or_train(
            options.models,
            re.sub("[^a-z0-9.]+", "_", text),
            lambda noise=noise: train(
                add_noise(noise, load(natural / "CBSD432", False), 0),
                axes="YX",
                steps=options.steps,
            ),
        )
        quality_method = "quality-" + text.split("(")[0]
        for name in ("Set12", "CBSD68"):
            truth = load(natural / name, False, 12)
            noisy = add_noise(noise, truth, 1)
            planes = [LivePlanes(y, model, "YX") for y in noisy]
            for plane in planes:
                for _ in plane.prepare((0, 0)):
                    pass

            def psnr(by, planes=planes, truth=truth) -> float:
                pairs = zip(planes, truth, strict=True)
                errors = [
                    np.mean((np.clip(p.solve((0, 0), by), 0, 255) - x) ** 2) for p, x in pairs
                ]
                return float(np.mean(10 * np.log10(255**2 / np.array(errors))))

            known = psnr(noise)
            for method in ("auto", "curve", "perturbation", quality_method):
                images = [Image(y, "YX") for y in noisy]
                try:
                    estimated = estimate_noise(images, model=model, method=method).noise
                    blind = psnr(estimated)
                except UserError as error:
                    add(text, name, method, error, f"{known:.2f}", "", "")
                    continue
                figures = f"{known:.2f}", f"{blind:.2f}", f"{known - blind:.3f}"
                add(text, name, method, estimated, *figures)


if __name__ == "__main__":
    main()
