"""Measure what a polish gains where a pixel says little about x, and where it must not lose.

    python benchmarks/polish.py DATA NAME ... [--minutes 1.5] [--models FOLDER]

NAME is oct, sar, mri, lowlight, or a field of FMD such as Confocal_FISH. A model is trained on the
noisy images for the given time, the noise is found by ``--noise auto``, and the images are polished
if that pays. PSNR: over the 0.1 to 99.9 % range of the reference, or 255 for FMD; affine: after a
fit of scale and offset. Bias: mean error of the whole image and of the brightest tenth, in % of
that range. The reference is used for nothing else. Models are saved in FOLDER and loaded later.
"""

from __future__ import annotations

import argparse
import time
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


def quality(x: np.ndarray, truth: np.ndarray, width: float) -> list[str]:
    """Return PSNR, affine PSNR and the bias of all and of the brightest pixels as text."""
    x = x.astype(float)
    if width == 255:
        x = x.clip(0, 255)
    fitted = np.polyval(np.polyfit(x.ravel(), truth.ravel(), 1), x)
    psnr, affine = (10 * np.log10(width**2 / np.mean((a - truth) ** 2)) for a in (x, fitted))
    error, bright = (x - truth) / width, truth >= np.quantile(truth, 0.9)
    biases = f"{error.mean():+.2%}", f"{error[bright].mean():+.2%}"
    return [f"{psnr:.2f}", f"{affine:.2f}", *biases]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--models", type=Path)
    options = parser.parse_args()
    add = table("polish_steps", "data", "image", "PSNR", "affine", "bias", "brightest tenth")
    for name in options.names:
        noisy, compared, truth, width = read(options.data, name)
        image, planes = Image(noisy, "TYX"), Image(compared, "TYX")
        # planes that are no repeats of a scene are not compared with each other
        axes = "TYX" if name not in FILES or name == "lowlight" else "ZYX"
        model = load_or_train(
            options.models, name, lambda image=image: train(image, minutes=options.minutes)
        )
        report = estimate_noise(noisy, axes=axes, model=model)
        need = report.polish
        print(f"{name}: {report.noise}, {need.sentence}", flush=True)
        add(name, "noisy", *quality(compared, truth, width))
        target = np.empty(compared.shape, np.float32)
        solved = denoise(planes, model, report.noise, target)
        add(name, "s = f", *quality(solved, truth, width))
        began = time.monotonic()
        polished = polish(image, model, report.noise)
        seconds = time.monotonic() - began
        x = denoise(planes, model, report.noise, target, polish=polished)
        add(name, f"polished in {seconds:.0f} s", *quality(x, truth, width))
        deviation = uncertainty(planes, model, report.noise, np.empty_like(target), polish=polished)
        error = float(np.sqrt(np.mean((x - truth) ** 2)))
        print(
            f"  range {x.min():.1f} to {x.max():.1f}, rms error {error:.2f}, "
            f"predicted {np.sqrt(np.mean(deviation**2)):.2f}, "
            f"within one deviation {np.mean(np.abs(x - truth) < deviation):.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
