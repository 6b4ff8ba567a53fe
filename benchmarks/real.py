"""Real microscopy with nothing set by hand, against the best level that an oracle can choose.

    python benchmarks/real.py DATA [--minutes 3 | --steps N] [--models FOLDER] [--fields NAME ...]

DATA holds ``fmd`` and ``w2s``. Each field is trained on its own shots (FMD: four; W2S: one) and
denoised by what ``--noise auto`` finds. The oracle multiplies the variance of the noise found in
the images by factors from 1/4 to 4 and takes the best by the reference image, which nothing else
sees. PSNR, range 255; W2S and the column "affine" after a fit of scale and offset. Models are kept
in FOLDER and taken from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from fmd import FIELDS
from keep import kept

from napari_noise2score import UserError, estimate_noise, train
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.noise import NoiseModel

FMD = [*FIELDS, "WideField_BPAE_R"]
W2S = [f"w2s_{field:03d}_{channel}" for field in range(1, 9) for channel in range(3)]
FACTORS = 2 ** np.arange(-2, 2.01, 0.25)


def read_field(data: Path, field: str) -> tuple[np.ndarray, np.ndarray]:
    """Give the shots, (T, Y, X), and the reference."""
    if not field.startswith("w2s"):
        shots = [iio.imread(p) for p in sorted((data / "fmd" / "raw").glob(f"{field}_?.png"))]
        return np.stack(shots), iio.imread(data / "fmd" / "gt" / f"{field}.png").astype(float)
    one, reference = (
        iio.imread(next((data / "w2s" / folder).glob(f"*{field[3:]}.*")))
        for folder in ("avg1", "avg400")
    )
    return one.squeeze()[None], reference.squeeze().astype(float)


def mean_psnr(shots: np.ndarray, truth: np.ndarray, affine: bool) -> float:
    rows = []
    for x in shots.astype(float):
        if affine:
            x = np.polyval(np.polyfit(x.ravel(), truth.ravel(), 1), x)
        rows.append(10 * np.log10(255**2 / np.mean((np.clip(x, 0, 255) - truth) ** 2)))
    return float(np.mean(rows))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--fields", nargs="*", default=FMD + W2S)
    given = parser.parse_args()
    print(
        "field | noise, auto | by | level: auto, oracle | PSNR: noisy, images, auto, oracle, loss"
    )
    losses = []
    for field in given.fields:
        shots, truth = read_field(given.data, field)
        affine = field.startswith("w2s")
        model = kept(
            given.models,
            field,
            lambda shots=shots: train(shots, axes="TYX", steps=given.steps, minutes=given.minutes),
        )
        images = estimate_noise(shots, axes="TYX", model=model, method="images")
        found = estimate_noise(shots, axes="TYX", model=model)

        planes = LivePlanes(shots, model, "TYX")
        places = [planes.place((shot, 0, 0)) for shot in range(len(shots))]
        for place in places:
            for _ in planes.prepare(place):
                pass

        def psnr(noise: NoiseModel, affine: bool = affine) -> float:
            done = np.concatenate([planes.solve(place, noise) for place in places])  # noqa: B023
            return mean_psnr(done, truth, affine)  # noqa: B023

        sweep = {}
        for factor in FACTORS:
            try:
                sweep[factor] = psnr(images.noise.scaled(factor))
            except UserError:
                continue
        best = max(sweep, key=sweep.__getitem__)
        auto = psnr(found.noise)
        losses.append(sweep[best] - auto)
        rows = [mean_psnr(shots, truth, affine), sweep[1.0], auto, sweep[best], losses[-1]]
        print(
            f"{field} | {found.noise} | {found.method}",
            f"{found.notes.get('level', 1):.2f} {best:.2f}",
            " ".join(f"{value:.2f}" for value in rows),
            f"correlation {images.correlation:.2f}",
            f"affine {psnr(found.noise, True):.2f}",
            sep=" | ", flush=True,
        )  # fmt: skip
    print(f"mean loss {np.mean(losses):.3f} dB, largest {np.max(losses):.3f} dB")


if __name__ == "__main__":
    main()
