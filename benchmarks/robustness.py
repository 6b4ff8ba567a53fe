"""Measure robustness to wrong noise parameters, as in Xie et al., Figure 2, for models 14 and 15.

    python benchmarks/robustness.py DATA PLOT.png [--steps 500] [--models FOLDER]

Each parameter of the noise model is multiplied by 1 + N(0, r²), drawn for each image. The score of
each image is computed once and solved with these wrong parameters as they are, and with parameters
refined from the noisy image. The plot shows the PSNR on Set12 against r, averaged over 5 draws.
Trained models are saved in FOLDER and loaded from there in later runs. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
from sixteen import MODELS, add_noise, learn, load, mean_psnr
from table import table

from napari_noise2score import estimate_noise, parse_noise
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.noise import Gaussian

matplotlib.use("agg")
from matplotlib import pyplot

LEVELS = [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]


def disturbed(noise, r: float, rng: np.random.Generator):
    """Return the noise model with each of its parameters multiplied by 1 + N(0, r²)."""
    base, kernel, read = noise.components

    def disturb(value: float) -> float:
        return value * max(0.05, 1 + r * rng.standard_normal())

    values = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    base = type(base)(**{k: v and disturb(v) for k, v in values.items()})
    return (base @ kernel if kernel else base) + Gaussian(disturb(read))


def psnr_of_planes(planes: list[LivePlanes], models: list, truth: list[np.ndarray]) -> float:
    """Return the mean PSNR of planes, each solved with its own noise model."""
    found = [plane.solve((0, 0), noise) for plane, noise in zip(planes, models, strict=True)]
    return mean_psnr(found, truth, "YX")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("plot", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--models", type=Path)
    options = parser.parse_args()
    natural = options.data / "natural"
    clean, truth = load(natural / "CBSD432", False), load(natural / "Set12", False)
    add = table("robustness", "r", *(f"{r:g}" for r in LEVELS))
    figure, axis = pyplot.subplots(figsize=(5, 4), layout="constrained")
    for number in (14, 15):
        noise = parse_noise(MODELS[number - 1])
        noisy, tests = add_noise(noise, clean, 0), add_noise(noise, truth, 1)
        model = learn(number, noise, noisy, "YX", options.steps, keep=options.models)
        planes = [LivePlanes(y, model, "YX") for y in tests]
        for plane in planes:
            for _ in plane.prepare((0, 0), noise):
                pass
        rng = np.random.default_rng(0)
        curves = {"not refined": [], "refined": []}
        for r in LEVELS:
            draws = []
            for _ in range(5 if r else 1):
                wrong = [disturbed(noise, r, rng) for _ in tests]
                found = [
                    estimate_noise(y, noise=noise_model).noise
                    for y, noise_model in zip(tests, wrong, strict=True)
                ]
                draws.append([psnr_of_planes(planes, models, truth) for models in (wrong, found)])
            for curve, values in zip(curves.values(), zip(*draws, strict=True), strict=True):
                curve.append((np.mean(values), np.std(values)))
            means = "  ".join(f"{name} {curve[-1][0]:.2f} dB" for name, curve in curves.items())
            print(f"no. {number}  r = {r:.2f}  {means}", flush=True)
        for name, curve in curves.items():
            row = f"No. {number}" + (", refined" if name == "refined" else "")
            add(row, *(f"{mean:.2f}" for mean, _ in curve))
        colour = f"C{number - 14}"
        for (name, curve), line in zip(curves.items(), ("-", "--"), strict=True):
            means, spreads = np.transpose(curve)
            label = f"no. {number}: {noise}, {name}"
            axis.errorbar(LEVELS, means, spreads, None, line, color=colour, capsize=3, label=label)
    axis.set_xlabel("relative error r of the parameters")
    axis.set_ylabel("PSNR on Set12 (dB)")
    axis.legend(fontsize=6)
    axis.grid(alpha=0.3)
    figure.savefig(options.plot, dpi=150)


if __name__ == "__main__":
    main()
