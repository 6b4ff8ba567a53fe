"""Denoise simulated CT, PET and demosaiced green, beside BM3D with the noise spectrum given.

    python -m pip install bm3d scikit-image
    python benchmarks/reconstructed.py DATA {CT,PET,demosaiced} [--steps 150] [--polish-steps 120]

DATA contains the brain template ``mri/truth.tif`` and ``natural/Kodak24``. BM3D is given the
variance of the noise by intensity, which stabilizes it, and the mean power spectrum of the
stabilized noise, all measured with the truth; or the variance alone, and then takes the noise for
white. Ours estimates the noise from the noisy planes, or is given the best family and the
correlation, measured with the truth as well. PSNR is over the range of the truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import bm3d
import numpy as np
from reconstructions import SIMULATIONS
from table import table

from napari_noise2score import denoise, estimate_noise, polish, train
from napari_noise2score.noise import NoiseModel, parse_noise
from napari_noise2score.noise.kernel import autocorrelation, noise_kernel_from_autocorrelation

REACH = 6  # pixels, of the correlation that is given
BINS = 24
setattr(np, "trapz", np.trapezoid)  # noqa: B010  # bm3d calls it by its old name
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(15)


class Stabilized:
    """Coordinates in which noise whose variance depends on the mean has variance 1."""

    def __init__(self, noisy: np.ndarray, truth: np.ndarray) -> None:
        edges = np.quantile(truth, np.linspace(0, 1, BINS + 1))
        number = np.searchsorted(np.unique(edges)[1:-1], truth.ravel())
        count = np.bincount(number)
        self.mean = np.bincount(number, truth.ravel()) / count
        self.variance = np.bincount(number, (noisy - truth).ravel() ** 2) / count
        # a square root of few counts would follow the noise where there is hardly any
        floor = 0.02 * self.variance.max()
        margin = np.ptp(truth)
        self.levels = np.linspace(truth.min() - margin, truth.max() + margin, 20_000)
        v = np.interp(self.levels, self.mean, self.variance).clip(floor)
        slope = v**-0.5
        self.z = np.concatenate([[0], np.cumsum((slope[1:] + slope[:-1]) / 2)])
        self.z *= self.levels[1] - self.levels[0]
        # the mean of z where the mean of y is a level, for normal noise
        spread = self.levels[:, None] + v[:, None] ** 0.5 * NODES
        self.mean_of_z = self.forward(spread) @ WEIGHTS / WEIGHTS.sum()

    def forward(self, y: np.ndarray) -> np.ndarray:
        """Return z."""
        return np.interp(y, self.levels, self.z)

    def unbiased_inverse(self, z: np.ndarray) -> np.ndarray:
        """Return the grey level whose noise has this mean of z."""
        return np.interp(z, self.mean_of_z, self.levels)


def by_bm3d(noisy: np.ndarray, truth: np.ndarray, white: bool) -> np.ndarray:
    """Return planes denoised by BM3D."""
    with_z = Stabilized(noisy, truth)
    z, clean = with_z.forward(noisy), with_z.forward(truth)
    noise = z - clean
    low, span = z.min(), np.ptp(z)
    noise, z = noise / span, (z - low) / span
    spectrum = np.mean(np.abs(np.fft.fft2(noise, axes=(1, 2))) ** 2, axis=0)
    known = noise.std() if white else spectrum
    found = np.stack([bm3d.bm3d(plane, known) for plane in z])
    return with_z.unbiased_inverse(found * span + low)


def given_noise(noisy: np.ndarray, truth: np.ndarray) -> NoiseModel:
    """Return the noise model that is closest to the noise."""
    with_z = Stabilized(noisy, truth)
    residual = with_z.forward(noisy) - with_z.forward(truth)
    correlation = autocorrelation([residual - residual.mean()], reach=REACH)
    kernel = noise_kernel_from_autocorrelation(correlation, REACH + 1)
    weight = 1 / with_z.variance.clip(0.05 * with_z.variance.max())
    slope, constant = np.polyfit(with_z.mean, with_z.variance, 1, w=weight)
    if slope * np.ptp(with_z.mean) > 0.05 * with_z.variance.max():
        return parse_noise(f"poisson(gain={slope:.4g}, offset={-constant / slope:.4g}) @ {kernel}")
    return parse_noise(f"gaussian(sigma={(noisy - truth).std():.4g}) @ {kernel}")


def ours(noisy: np.ndarray, noise: NoiseModel, steps: int, polish_steps: int) -> list[np.ndarray]:
    """Return planes denoised by the solution alone, and polished, as ``--noise auto`` does."""
    model = train(
        noisy, axes="ZYX", steps=steps, correlation=noise.components.kernel, context="none"
    )
    taught = polish(noisy, model, noise, axes="ZYX", steps=polish_steps)
    return [denoise(noisy, model, noise, axes="ZYX", polish=p) for p in (None, taught)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("images", choices=list(SIMULATIONS))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--polish-steps", type=int, default=120)
    options = parser.parse_args()
    noisy, truth = SIMULATIONS[options.images](options.data)
    single = noisy.astype(np.float32)
    add = table(f"reconstructed_{options.images}", "method", "noise", "PSNR")

    def report(method: str, noise: str, image: np.ndarray) -> None:
        error = np.mean((np.asarray(image) - truth) ** 2)
        add(method, noise, f"{10 * np.log10(np.ptp(truth) ** 2 / error):.2f}")

    report("raw", "", noisy)
    report("BM3D", "given, taken for white", by_bm3d(noisy, truth, white=True))
    report("BM3D", "given, with its spectrum", by_bm3d(noisy, truth, white=False))
    found = estimate_noise(single, axes="ZYX").noise
    for name, noise in (("found", found), ("given", given_noise(noisy, truth))):
        text = f"{name}: {noise.components.base}"
        print(noise, flush=True)
        plain, polished = ours(single, noise, options.steps, options.polish_steps)
        report("solution alone", text, plain)
        report("polished", text, polished)


if __name__ == "__main__":
    main()
