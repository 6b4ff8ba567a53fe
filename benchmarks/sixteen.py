"""The sixteen noise models of Xie et al. and four more: noisy, closed form, table, supervised.

    python benchmarks/sixteen.py DATA OUT.csv [--colour] [--steps 500] [--models 1 2 ...]
                                 [--learn whole] [--keep FOLDER]

One training per model on CBSD432 made noisy by it, one supervised training of the same network,
steps and seed; PSNR (range 255, estimates clipped) and its mean over Set12 (gray) or over the
first 12 Kodak images (colour). Models with A are learned of K⁻¹ y, K the correlation of the whole
noise, which is A where there is no read noise; ``--learn own`` takes A, ``--learn white`` y itself.
Of gray images also the share of pixels of the first 4 that lie within 1 and 2 posterior standard
deviations of the truth (of a Gaussian: 68 % and 95 %).
Rows are appended to OUT.csv as they come; models are kept in FOLDER and taken from there.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from keep import kept
from scipy.signal import correlate2d
from supervised import apply_supervised, train_supervised

from napari_noise2score import ScoreModel, denoise, parse_noise, train, uncertainty
from napari_noise2score.denoising.evaluate import compare
from napari_noise2score.noise.kernel import Kernel, kernel_from_autocorrelation

MODELS = [
    "gaussian(sigma=25)", "gaussian(sigma=25) @ A",
    "gaussian(a=0.098, b=25)", "gaussian(a=0.098, b=25) @ A",
    "gamma(alpha=26)", "gamma(alpha=26) @ A",
    "poisson(gain=5)", "poisson(gain=5) @ A",
    "rayleigh(sigma=0.3)", "rayleigh(sigma=0.3) @ A",
    "gamma(alpha=26) + gaussian(sigma=10)", "gamma(alpha=26) @ A + gaussian(sigma=10)",
    "poisson(gain=5) + gaussian(sigma=10)", "poisson(gain=5) @ A + gaussian(sigma=10)",
    "rayleigh(sigma=0.3) + gaussian(sigma=10)", "rayleigh(sigma=0.3) @ A + gaussian(sigma=10)",
    # magnetic resonance, ultrasound, photomultipliers, EMCCDs
    "rician(sigma=20)", "nakagami(m=4)", "tweedie(power=1.5, dispersion=1)",
    "emccd(gain=2) + gaussian(sigma=5)",
]  # fmt: skip
COLUMNS = [
    "no", "noise", "noisy", "closed form", "table", "supervised", "gap", "in 1 std", "in 2 std",
    "steps", "learned",
]  # fmt: skip


def load(folder: Path, colour: bool, count: int | None = None) -> list[np.ndarray]:
    images = [iio.imread(p).astype(np.float64) for p in sorted(folder.iterdir())[:count]]
    if not colour:
        images = [a if a.ndim == 2 else a @ np.array([0.299, 0.587, 0.114]) for a in images]
    return images


def photographs() -> list[np.ndarray]:
    """Give the gray images that the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", default="Kodak24")
    parser.add_argument("--images", type=int, default=12)
    given = parser.parse_args()
    return load(given.data / "natural" / given.set, False, given.images)


def add_noise(noise, images: list[np.ndarray], seed: int) -> list[np.ndarray]:
    chance = np.random.default_rng(seed)
    planes = [np.moveaxis(np.atleast_3d(a), -1, 0) for a in images]
    noisy = [np.moveaxis(noise.sample(a, chance), 0, -1).astype(np.float32) for a in planes]
    return [y.reshape(a.shape) for y, a in zip(noisy, images, strict=True)]


def kernel_to_learn(noise, noisy: list[np.ndarray], how: str = "whole") -> Kernel | None:
    """Give the correlation to undo before learning."""
    base, kernel, read = noise.components
    if kernel is None or how == "white":
        return None
    if how == "own" or not read:
        return kernel
    levels = torch.from_numpy(np.concatenate([y.ravel() for y in noisy]).clip(min=0))
    variance = float(base.variance(levels.double()).mean())
    # the correlations that A and the two variances make
    spread = variance * correlate2d(kernel.taps, kernel.taps)
    middle = tuple(n // 2 for n in spread.shape)
    spread[middle] += read**2
    return kernel_from_autocorrelation(spread / spread[middle], 3)


def learn(
    number: int, noise, noisy: list[np.ndarray], axes: str, steps: int, how: str = "whole",
    keep: Path | None = None,
) -> ScoreModel:  # fmt: skip
    """Give the score of noisy images, kept or trained."""

    def make() -> ScoreModel:
        return train(noisy, axes=axes, steps=steps, correlation=kernel_to_learn(noise, noisy, how))

    return kept(keep, f"{number}_{axes}_{steps}_{how}", make)


def learn_supervised(
    number: int, noise, noisy: list[np.ndarray], clean: list[np.ndarray], axes: str, steps: int,
    keep: Path | None = None,
) -> ScoreModel:  # fmt: skip
    """Give the network that learns from clean images, kept or trained."""

    def make() -> ScoreModel:
        return train_supervised(noisy, clean, axes, noise, steps)

    return kept(keep, f"{number}_{axes}_{steps}_supervised", make)


def mean_psnr(results: list[np.ndarray], clean: list[np.ndarray], axes: str) -> float:
    pairs = zip(results, clean, strict=True)
    return float(np.mean([compare(r.astype(np.float64), c, axes, 255)["psnr"] for r, c in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--colour", action="store_true")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--models", type=int, nargs="*", default=range(1, len(MODELS) + 1))
    parser.add_argument("--learn", choices=["whole", "own", "white"], default="whole")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    axes = "YXC" if given.colour else "YX"
    natural = given.data / "natural"
    clean = load(natural / "CBSD432", given.colour)
    truth = load(natural / ("Kodak24" if given.colour else "Set12"), given.colour, 12)

    for number in given.models:
        noise = parse_noise(MODELS[number - 1])
        noisy, tests = add_noise(noise, clean, 0), add_noise(noise, truth, 1)
        model = learn(number, noise, noisy, axes, given.steps, given.learn, given.keep)
        row = {"no": number, "noise": str(noise), "noisy": mean_psnr(tests, truth, axes)}
        for name, exact in (("closed form", False), ("table", True)):
            found = [denoise(y, model, noise, axes=axes, exact=exact).compute() for y in tests]
            row[name] = mean_psnr(found, truth, axes)
        if not given.colour:
            away = [
                (np.abs(x - c) / uncertainty(y, model, noise, axes=axes).compute()).ravel()
                for x, y, c in zip(found[:4], tests, truth, strict=False)
            ]
            for n in (1, 2):
                row[f"in {n} std"] = float(np.mean(np.concatenate(away) < n))
        ceiling = learn_supervised(number, noise, noisy, clean, axes, given.steps, given.keep)
        found = [apply_supervised(ceiling, noise, y) for y in tests]
        row["supervised"] = mean_psnr(found, truth, axes)
        row["gap"] = row["supervised"] - row["table"]
        row |= {"steps": given.steps, "learned": given.learn if model.kernel else "y"}
        row = {k: f"{v:.2f}" if isinstance(v, float) else v for k, v in row.items()}
        print(row, flush=True)
        fresh = not given.out.exists()
        with given.out.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if fresh:
                writer.writeheader()
            writer.writerow(row)


if __name__ == "__main__":
    main()
