"""Estimate and denoise simulated MRI of eight coils, beside dipy's NLMeans, MPPCA and PIESNO.

    python -m pip install dipy
    python benchmarks/coils.py DATA {volume,series} [--steps 100] [--series-steps 120]
                               [--context auto] [--reach 1]

DATA contains the brain template ``mri/truth.tif``. Each of the coils sees the object through a
smooth complex sensitivity; the magnitude is the root of the sum of squares. Two noise levels: at
the higher one the tissue has a signal of about three times the noise. The series is diffusion-like:
32 volumes of a tensor that varies with the tissue. NLMeans and MPPCA are told sigma or find it, and
the mean of the noise is undone exactly in what they find, for which they are told the coils;
PIESNO is told the coils. Ours finds family, sigma and coils. PSNR is over the range of the truth;
bias is the error of the mean signal of the voxels that have 2.5 to 3.5 times sigma.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from dipy.denoise.localpca import mppca
from dipy.denoise.nlmeans import nlmeans
from dipy.denoise.noise_estimate import piesno
from scipy import ndimage
from table import table
from tifffile import imread

from napari_noise2score import denoise, estimate_noise, polish, train
from napari_noise2score.noise import NoncentralChi

COILS = 8
SIGMAS = 60.0, 200.0
PLANES = slice(12, 20)
DIRECTIONS, SERIES_SIGMA = 32, 60.0
B_VALUE, DIFFUSION = 1.0, (1.7, 0.5)  # ms/µm² and µm²/ms, along and across fibres


def magnitude(signal: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return the root of the sum of squares over coils, shape ``(..., Y, X)``."""
    height, width = signal.shape[-2:]
    y, x = np.mgrid[:height, :width]
    angles = 2 * np.pi * np.arange(COILS) / COILS
    at = [(height * (0.5 + 0.6 * np.sin(a)), width * (0.5 + 0.6 * np.cos(a))) for a in angles]
    seen = np.stack(
        [np.exp(-((y - a) ** 2 + (x - b) ** 2) / height**2 + 1j * y / 40) for a, b in at]
    )
    seen /= np.sqrt((np.abs(seen) ** 2).sum(0))
    total = np.zeros(signal.shape)
    for coil in seen:
        noise = rng.standard_normal((2, *signal.shape)) * sigma
        total += np.abs(coil * signal + noise[0] + 1j * noise[1]) ** 2
    return np.asarray(np.sqrt(total))


def series(volume: np.ndarray) -> np.ndarray:
    """Return diffusion-like volumes, shape ``(directions, Z, Y, X)``."""
    rng = np.random.default_rng(5)
    fibre = ndimage.gaussian_filter(rng.standard_normal((3, *volume.shape)), (0, 2, 12, 12))
    fibre /= np.linalg.norm(fibre, axis=0)
    directions = rng.standard_normal((DIRECTIONS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    along, across = DIFFUSION
    cosine = np.einsum("dc,czyx->dzyx", directions, fibre)
    return np.asarray(volume * np.exp(-B_VALUE * (across + (along - across) * cosine**2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("images", choices=["volume", "series"])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--series-steps", type=int, default=120)
    parser.add_argument("--context", default="auto")
    parser.add_argument("--reach", type=int)
    options = parser.parse_args()
    volume = imread(options.data / "mri" / "truth.tif")[PLANES].astype(np.float64)
    add = table(
        f"coils_{options.images}", "images", "sigma", "method", "noise", "PSNR", "bias at SNR 3"
    )

    def report(name: str, sigma: float, method: str, noise: object, found: object) -> None:
        truth, found = truths[name], np.asarray(found)
        error = np.mean((found - truth) ** 2)
        at = (truth > 2.5 * sigma) & (truth < 3.5 * sigma)
        bias = found[at].mean() / truth[at].mean() - 1
        psnr = 10 * np.log10(np.ptp(truth) ** 2 / error)
        add(name, f"{sigma:g}", method, noise, f"{psnr:.2f}", f"{100 * bias:+.1f} %")

    def unbiased(image: np.ndarray, sigma: float) -> np.ndarray:
        family = NoncentralChi(sigma=sigma, coils=COILS)
        return np.asarray(family.clean_from_mean(torch.from_numpy(np.asarray(image, np.float64))))

    truths = {"volume": volume, "series": series(volume[:, ::2, ::2])}
    name = options.images
    for sigma in SIGMAS if name == "volume" else (SERIES_SIGMA,):
        rng = np.random.default_rng(3)
        noisy = magnitude(truths[name], sigma, rng).astype(np.float32)
        report(name, sigma, "noisy", "", noisy)
        last = np.moveaxis(noisy, 0, -1)
        add(name, f"{sigma:g}", "PIESNO", f"sigma {np.median(piesno(last, N=COILS)):.2f}", "", "")
        axes = "ZYX" if name == "volume" else "TZYX"
        if name == "volume":
            plain = nlmeans(noisy.astype(np.float64), sigma, rician=False)
            report(name, sigma, "NLMeans", f"sigma {sigma:g} told", unbiased(plain, sigma))
        else:
            plain = np.moveaxis(mppca(last, patch_radius=2), -1, 0)
            report(name, sigma, "MPPCA", "found", unbiased(plain, sigma))
        steps = options.steps if name == "volume" else options.series_steps
        model = train(noisy, axes=axes, steps=steps, context=options.context, reach=options.reach)
        noise = estimate_noise(noisy, axes=axes, model=model).noise
        report(name, sigma, "ours", f"`{noise}`", denoise(noisy, model, noise, axes=axes))
        taught = polish(noisy, model, noise, axes=axes, steps=steps)
        polished = denoise(noisy, model, noise, axes=axes, polish=taught)
        report(name, sigma, "ours, polished", f"`{noise}`", polished)


if __name__ == "__main__":
    main()
