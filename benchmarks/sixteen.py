"""Measure the PSNR for the sixteen noise models of Xie et al. and four more.

    python benchmarks/sixteen.py DATA OUT.csv [--colour] [--steps 500] [--models 1 2 ...]
                                 [--learn whole] [--keep FOLDER]

For each noise model, one score model is trained on CBSD432 with that noise, and the same network is
trained on clean targets with the same steps and seed ("supervised"). PSNR (range 255, estimates
clipped) is averaged over Set12 (gray) or over the first 12 Kodak images (colour), for the noisy
images, the closed form, the table and supervised learning. For gray images, the share of pixels in
the first four images within 1 and 2 posterior standard deviations of the clean image is added (for
a Gaussian: 68 % and 95 %).

With correlation A, the score is learned of K⁻¹ y. K is the correlation of the whole noise, which
differs from A if there is read noise; ``--learn own`` uses A instead, and ``--learn white`` learns
the score of y itself.

Each row is appended to OUT.csv as soon as it is complete. Trained models are saved in FOLDER and
loaded from there in later runs.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from keep import load_or_train
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


def load_photographs() -> list[np.ndarray]:
    """Return the gray images that are named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", default="Kodak24")
    parser.add_argument("--images", type=int, default=12)
    options = parser.parse_args()
    return load(options.data / "natural" / options.set, False, options.images)


def add_noise(noise, images: list[np.ndarray], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    planes = [np.moveaxis(np.atleast_3d(a), -1, 0) for a in images]
    noisy = [np.moveaxis(noise.sample(a, rng), 0, -1).astype(np.float32) for a in planes]
    return [y.reshape(a.shape) for y, a in zip(noisy, images, strict=True)]


def kernel_to_learn(noise, noisy: list[np.ndarray], how: str = "whole") -> Kernel | None:
    """Return the correlation to undo before learning, None if there is none."""
    base, kernel, read = noise.components
    if kernel is None or how == "white":
        return None
    if how == "own" or not read:
        return kernel
    levels = torch.from_numpy(np.concatenate([y.ravel() for y in noisy]).clip(min=0))
    variance = float(base.variance(levels.double()).mean())
    # the autocorrelation of the whole noise
    autocorrelation = variance * correlate2d(kernel.taps, kernel.taps)
    center = tuple(n // 2 for n in autocorrelation.shape)
    autocorrelation[center] += read**2
    return kernel_from_autocorrelation(autocorrelation / autocorrelation[center], 3)


def learn(
    number: int, noise, noisy: list[np.ndarray], axes: str, steps: int, how: str = "whole",
    keep: Path | None = None,
) -> ScoreModel:  # fmt: skip
    """Return the score model of noisy images, loaded or trained."""

    def train_model() -> ScoreModel:
        return train(noisy, axes=axes, steps=steps, correlation=kernel_to_learn(noise, noisy, how))

    return load_or_train(keep, f"{number}_{axes}_{steps}_{how}", train_model)


def learn_supervised(
    number: int, noise, noisy: list[np.ndarray], clean: list[np.ndarray], axes: str, steps: int,
    keep: Path | None = None,
) -> ScoreModel:  # fmt: skip
    """Return the model that is trained on clean images, loaded or trained."""

    def train_model() -> ScoreModel:
        return train_supervised(noisy, clean, axes, noise, steps)

    return load_or_train(keep, f"{number}_{axes}_{steps}_supervised", train_model)


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
    options = parser.parse_args()
    axes = "YXC" if options.colour else "YX"
    natural = options.data / "natural"
    clean = load(natural / "CBSD432", options.colour)
    truth = load(natural / ("Kodak24" if options.colour else "Set12"), options.colour, 12)

    for number in options.models:
        noise = parse_noise(MODELS[number - 1])
        noisy, tests = add_noise(noise, clean, 0), add_noise(noise, truth, 1)
        model = learn(number, noise, noisy, axes, options.steps, options.learn, options.keep)
        row = {"no": number, "noise": str(noise), "noisy": mean_psnr(tests, truth, axes)}
        for name, exact in (("closed form", False), ("table", True)):
            denoised = [denoise(y, model, noise, axes=axes, exact=exact).compute() for y in tests]
            row[name] = mean_psnr(denoised, truth, axes)
        if not options.colour:
            errors_in_std = [
                (np.abs(x - c) / uncertainty(y, model, noise, axes=axes).compute()).ravel()
                for x, y, c in zip(denoised[:4], tests, truth, strict=False)
            ]
            for n in (1, 2):
                row[f"in {n} std"] = float(np.mean(np.concatenate(errors_in_std) < n))
        supervised = learn_supervised(
            number, noise, noisy, clean, axes, options.steps, options.keep
        )
        denoised = [apply_supervised(supervised, noise, y) for y in tests]
        row["supervised"] = mean_psnr(denoised, truth, axes)
        row["gap"] = row["supervised"] - row["table"]
        row |= {"steps": options.steps, "learned": options.learn if model.kernel else "y"}
        row = {k: f"{v:.2f}" if isinstance(v, float) else v for k, v in row.items()}
        print(row, flush=True)
        is_new = not options.out.exists()
        with options.out.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if is_new:
                writer.writeheader()
            writer.writerow(row)


if __name__ == "__main__":
    main()
