"""Measure what a polish gains where a pixel says little about x, and where it must not lose.

    python benchmarks/polish.py DATA NAME ... [--steps 300] [--models FOLDER]

NAME is oct, sar, mri, lowlight, or a field of FMD such as Confocal_FISH. A model is trained on the
noisy images, the noise is found by ``--noise auto``, and the images are polished. PSNR: over the
0.1 to 99.9 % range of the reference, or 255 for FMD; in brackets after a fit of scale and offset.
Bias: mean error of the whole image and of the brightest tenth, in % of that range. Gain: by how
much the polish lowers the squared error, in units of the variance of the noise, as it is estimated
without a clean image; a polish of negative gain is not used. The reference is used for nothing
else. Models are saved in FOLDER and loaded later.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tifffile
from keep import load_or_train
from real import read_field
from table import table

from napari_noise2score import Image, denoise, estimate_noise, polish, train, uncertainty

# reference, noisy images, and the planes that are compared (single planes: others are far longer)
FILES = {
    "oct": ("oct/1/average.tif", "oct/1/test.tif", slice(None)),
    "sar": ("sar/truth.tif", "sar/noisy.tif", slice(None)),
    "mri": ("mri/truth.tif", "mri/rician60.tif", [12, 16]),
    "lowlight": ("lowlight/truth.tif", "lowlight/noisy.tif", slice(None, None, 16)),
}


def read(data: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return noisy images (T, Y, X), those compared, their references, and the range of PSNR."""
    if name not in FILES:
        noisy, truth = read_field(data, name)
        return noisy, noisy, np.broadcast_to(truth, noisy.shape), 255.0
    reference, file, compared = FILES[name]
    images = tifffile.imread(data / file), tifffile.imread(data / reference).astype(float)
    noisy, truth = (a.reshape(-1, *a.shape[-2:]) for a in images)
    low, high = np.quantile(truth[compared], [0.001, 0.999])
    return noisy, noisy[compared], truth[compared], float(high - low)


def quality(x: np.ndarray, truth: np.ndarray, width: float) -> tuple[str, str]:
    """Return PSNR with affine PSNR, and the bias of all and of the brightest pixels, as text."""
    x = x.astype(float)
    if width == 255:
        x = x.clip(0, 255)
    fitted = np.polyval(np.polyfit(x.ravel(), truth.ravel(), 1), x)
    psnr, affine = (10 * np.log10(width**2 / np.mean((a - truth) ** 2)) for a in (x, fitted))
    error, bright = (x - truth) / width, truth >= np.quantile(truth, 0.9)
    biases = f"{100 * error.mean():+.2f}, {100 * error[bright].mean():+.2f}"
    return f"{psnr:.2f} ({affine:.2f})", biases.replace("-", "−")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--models", type=Path)
    options = parser.parse_args()
    add = table(
        "polish", "data", "noise found", "noisy", "s = f", "bias of s = f (%)", "polished",
        "bias, polished (%)", "estimated gain (%)", "predicted rms error", "rms error",
    )  # fmt: skip
    for name in options.names:
        noisy, compared, truth, width = read(options.data, name)
        image, planes = Image(noisy, "TYX"), Image(compared, "TYX")
        # planes that are no repeats of a scene are not compared with each other
        axes = "TYX" if name not in FILES or name == "lowlight" else "ZYX"
        model = load_or_train(
            options.models,
            name,
            lambda image=image: train(image, steps=options.steps, context="none"),
        )
        report = estimate_noise(noisy, axes=axes, model=model)
        print(f"{name}: {report.polish.sentence}", flush=True)
        target = np.empty(compared.shape, np.float32)
        solved = quality(denoise(planes, model, report.noise, target), truth, width)
        polished = polish(image, model, report.noise)
        x = denoise(planes, model, report.noise, target, polish=polished)
        deviation = uncertainty(planes, model, report.noise, np.empty_like(target), polish=polished)
        add(
            name,
            report.noise,
            quality(compared, truth, width)[0].split()[0],
            *solved,
            *quality(x, truth, width),
            f"{100 * polished.gain:+.1f}".replace("-", "−"),
            f"{np.sqrt(np.mean(deviation**2)):.1f}",
            f"{np.sqrt(np.mean((x - truth) ** 2)):.1f}",
        )


if __name__ == "__main__":
    main()
