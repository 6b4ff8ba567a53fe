"""Compare ``--noise auto`` on real micrographs with the best noise level that an oracle can choose.

    python benchmarks/real.py DATA [--minutes 3 | --steps N] [--models FOLDER] [--fields NAME ...]

DATA contains ``fmd`` and ``w2s``. For each field a model is trained on its own frames (FMD: four;
W2S: one), which are then denoised with the noise that ``--noise auto`` finds. The oracle multiplies
the variance of the noise estimated from the images by factors from 1/4 to 4, and chooses the best
by comparison with the reference image, which is used for nothing else. PSNR has a range of 255; for
W2S and in the column "affine" it follows a fit of scale and offset. Trained models are saved in
FOLDER and loaded from there in later runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from fmd import FIELDS
from keep import load_or_train
from table import table

from napari_noise2score import UserError, estimate_noise, train
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.noise import NoiseModel

W2S = [f"w2s_{field:03d}_{channel}" for field in range(1, 9) for channel in range(3)]
FACTORS = 2 ** np.arange(-2, 2.01, 0.25)


def read_field(data: Path, field: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames of a field, shape (T, Y, X), and its reference image."""
    if not field.startswith("w2s"):
        frames = [iio.imread(p) for p in sorted((data / "fmd" / "raw").glob(f"{field}_?.png"))]
        return np.stack(frames), iio.imread(data / "fmd" / "gt" / f"{field}.png").astype(float)
    noisy, reference = (
        iio.imread(next((data / "w2s" / folder).glob(f"*{field[3:]}.*")))
        for folder in ("avg1", "avg400")
    )
    return noisy.squeeze()[None], reference.squeeze().astype(float)


def mean_psnr(frames: np.ndarray, truth: np.ndarray, affine: bool) -> float:
    psnrs = []
    for x in frames.astype(float):
        if affine:
            x = np.polyval(np.polyfit(x.ravel(), truth.ravel(), 1), x)
        psnrs.append(10 * np.log10(255**2 / np.mean((np.clip(x, 0, 255) - truth) ** 2)))
    return float(np.mean(psnrs))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--fields", nargs="*", default=FIELDS + W2S)
    options = parser.parse_args()
    add = table(
        "auto", "field", "noise by auto", "method", "variance factor: auto, oracle", "noisy",
        "estimate from images", "auto", "oracle", "loss (dB)", "correlation", "auto, affine",
    )  # fmt: skip
    losses = []
    for field in options.fields:
        frames, truth = read_field(options.data, field)
        affine = field.startswith("w2s")
        model = load_or_train(
            options.models,
            field,
            lambda frames=frames: train(
                frames, axes="TYX", steps=options.steps, minutes=options.minutes, context="none"
            ),
        )
        image_estimate = estimate_noise(frames, axes="TYX", model=model, method="images")
        auto_estimate = estimate_noise(frames, axes="TYX", model=model)

        planes = LivePlanes(frames, model, "TYX")
        places = [planes.place((t, 0, 0)) for t in range(len(frames))]
        for place in places:
            for _ in planes.prepare(place):
                pass

        def psnr(noise: NoiseModel, affine: bool = affine) -> float:
            denoised = np.concatenate([planes.solve(place, noise) for place in places])  # noqa: B023
            return mean_psnr(denoised, truth, affine)  # noqa: B023

        oracle_psnr = {}
        for factor in FACTORS:
            try:
                oracle_psnr[factor] = psnr(image_estimate.noise.scaled(factor))
            except UserError:
                continue
        best = max(oracle_psnr, key=oracle_psnr.__getitem__)
        auto_psnr = psnr(auto_estimate.noise)
        losses.append(oracle_psnr[best] - auto_psnr)
        psnrs = [
            mean_psnr(frames, truth, affine),
            oracle_psnr[1.0],
            auto_psnr,
            oracle_psnr[best],
            losses[-1],
        ]
        add(
            field, auto_estimate.noise, auto_estimate.method,
            f"{auto_estimate.notes.get('variance factor', 1):.2f}, {best:.2f}",
            *(f"{value:.2f}" for value in psnrs), f"{image_estimate.correlation:.2f}",
            f"{psnr(auto_estimate.noise, True):.2f}",
        )  # fmt: skip
    print(f"mean loss {np.mean(losses):.3f} dB, largest {np.max(losses):.3f} dB")


if __name__ == "__main__":
    main()
