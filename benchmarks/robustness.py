"""Robustness to wrong parameters, as in Xie et al., Figure 2: models 14 and 15.

    python benchmarks/robustness.py DATA PLOT.png [--steps 500] [--models FOLDER]

Each parameter of the noise model is multiplied by 1 + N(0, r²), drawn for each image, and the
same score, computed once, is solved again: PSNR on Set12 against r, mean over 5 draws; with the
wrong parameters taken at their word, and after they were estimated again in the noisy image.
Models are kept in FOLDER and taken from there. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
from sixteen import MODELS, add_noise, learn, load, mean_psnr

from napari_noise2score import estimate_noise, parse_noise
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.noise import Gaussian

matplotlib.use("agg")
from matplotlib import pyplot

LEVELS = [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]


def disturbed(noise, r: float, chance: np.random.Generator):
    """Give the model with each of its parameters multiplied by 1 + N(0, r²)."""
    base, kernel, read = noise.components

    def other(value: float) -> float:
        return value * max(0.05, 1 + r * chance.standard_normal())

    values = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    base = type(base)(**{k: v and other(v) for k, v in values.items()})
    return (base @ kernel if kernel else base) + Gaussian(other(read))


def solved(planes: list[LivePlanes], noises: list, truth: list[np.ndarray]) -> float:
    """Give the mean PSNR of planes, each solved with its own noise model."""
    found = [plane.solve((0, 0), noise) for plane, noise in zip(planes, noises, strict=True)]
    return mean_psnr(found, truth, "YX")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("plot", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--models", type=Path)
    given = parser.parse_args()
    natural = given.data / "natural"
    clean, truth = load(natural / "CBSD432", False), load(natural / "Set12", False)
    figure, axis = pyplot.subplots(figsize=(5, 4), layout="constrained")
    for number in (14, 15):
        noise = parse_noise(MODELS[number - 1])
        noisy, tests = add_noise(noise, clean, 0), add_noise(noise, truth, 1)
        model = learn(number, noise, noisy, "YX", given.steps, keep=given.models)
        planes = [LivePlanes(y, model, "YX") for y in tests]
        for plane in planes:
            for _ in plane.prepare((0, 0), noise):
                pass
        chance = np.random.default_rng(0)
        kinds = {"taken at its word": [], "refined": []}
        for r in LEVELS:
            draws = []
            for _ in range(5 if r else 1):
                said = [disturbed(noise, r, chance) for _ in tests]
                found = [
                    estimate_noise(y, noise=one).noise for y, one in zip(tests, said, strict=True)
                ]
                draws.append([solved(planes, noises, truth) for noises in (said, found)])
            for kind, values in zip(kinds.values(), zip(*draws, strict=True), strict=True):
                kind.append((np.mean(values), np.std(values)))
            means = "  ".join(f"{name} {kind[-1][0]:.2f} dB" for name, kind in kinds.items())
            print(f"no. {number}  r = {r:.2f}  {means}", flush=True)
        colour = f"C{number - 14}"
        for (name, kind), line in zip(kinds.items(), ("-", "--"), strict=True):
            means, spreads = np.transpose(kind)
            label = f"no. {number}: {noise}, {name}"
            axis.errorbar(LEVELS, means, spreads, None, line, color=colour, capsize=3, label=label)
    axis.set_xlabel("relative error r of the parameters")
    axis.set_ylabel("PSNR on Set12 (dB)")
    axis.legend(fontsize=6)
    axis.grid(alpha=0.3)
    figure.savefig(given.plot, dpi=150)


if __name__ == "__main__":
    main()
