"""Denoise OCT B-scans, simulated and real, beside non-local means and BM3D given the noise.

    python -m pip install bm3d dipy scikit-image
    python benchmarks/oct.py DATA [--steps 300] [--models FOLDER] [--images sample scan]

The sample is that of ``napari_noise2score.sample``; DATA contains ``oct/1``, one real B-scan and
the average of registered ones. The others are given the standard deviation of the difference to the
truth; non-local means of scikit-image take patches of 5×5 within 13×13, and of four strengths the
one that is best against the truth. Ours finds the noise in the one image, also if the row says the
noise is given: then with those parameters instead. PSNR is over the 0.1 to 99.9 % range of the
truth, in brackets after a fit of scale and offset; bias is that of all pixels and of the brightest
tenth, in % of that range.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polish as benchmark
from bm3d import bm3d
from dipy.denoise.nlmeans import nlmeans
from keep import load_or_train
from skimage.restoration import denoise_nl_means
from table import table

from napari_noise2score import denoise, estimate_noise, polish, train
from napari_noise2score.sample import SAMPLES, read_sample

# what describes the sample, and what fits the scan if clipping is left out of account
GIVEN = {"sample": SAMPLES["oct"].noise, "scan": "log_gamma(scale=25.56, looks=1.372)"}
STRENGTHS = 0.6, 0.8, 1.0, 1.2  # of non-local means, in units of sigma


def read(data: Path, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Return a B-scan, its truth, and the range of the truth."""
    if name == "scan":
        noisy, _, truth, width = benchmark.read(data, "oct")
        return noisy[0], truth[0], width
    noisy = np.asarray(read_sample("oct").data)
    truth = np.asarray(read_sample("oct", clean=True).data, np.float64)
    low, high = np.quantile(truth, [0.001, 0.999])
    return noisy, truth, float(high - low)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--images", nargs="*", default=["sample", "scan"])
    options = parser.parse_args()
    add = table("oct", "image", "method", "noise", "PSNR", "bias (%)")

    for name in options.images:
        noisy, truth, width = read(options.data, name)

        def report(
            method: str, noise: object, x: np.ndarray, name: str = name,
            truth: np.ndarray = truth, width: float = width,
        ) -> float:  # fmt: skip
            add(name, method, noise, *benchmark.quality(x, truth, width))
            return float(np.mean((x - truth) ** 2))

        report("noisy", "", noisy)
        y = noisy.astype(np.float64)
        sigma = float(np.std(y - truth))
        given = f"sigma {sigma:.1f} given"
        results = [
            denoise_nl_means(y, 5, 6, h=h * sigma, sigma=sigma, fast_mode=True) for h in STRENGTHS
        ]
        best = min(results, key=lambda x: float(np.mean((x - truth) ** 2)))
        report("non-local means (scikit-image)", given, best)
        # dipy takes volumes only; a plane is one that is as thick as its patches
        volume = np.repeat(y[..., None], 3, axis=-1)
        plain = nlmeans(volume, sigma, patch_radius=1, block_radius=6, rician=False)[..., 1]
        report("non-local means (dipy)", given, plain)
        report("BM3D", given, bm3d(y, sigma))

        model = load_or_train(
            options.models,
            f"oct_{name}",
            lambda noisy=noisy: train(noisy, axes="YX", steps=options.steps),
        )
        noise = estimate_noise(noisy, axes="YX", model=model).noise
        for suffix, model_of_noise in (("", noise), (" given", GIVEN[name])):
            text = f"`{model_of_noise}`{suffix}"
            live = np.asarray(denoise(noisy, model, model_of_noise, axes="YX"))
            report("solution alone", text, live)
            taught = polish(noisy, model, model_of_noise, axes="YX")
            print(f"gain {taught.gain}", flush=True)
            x = np.asarray(denoise(noisy, model, model_of_noise, axes="YX", polish=taught))
            report("polished", text, x)


if __name__ == "__main__":
    main()
