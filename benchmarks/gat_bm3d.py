"""Denoise the frames of ``fmd.py`` by BM3D between Anscombe transforms, with the noise given.

    python -m venv ELSEWHERE; ELSEWHERE/bin/pip install bm3d "numpy<2" pillow
    ELSEWHERE/bin/python benchmarks/gat_bm3d.py DATA [--fields NAME ...]

BM3D needs no training, but the noise. It is given the best line: variance against mean of the
differences of the frames from the 50-frame average, after a fit of scale and offset: so this is
what BM3D reaches where the noise is known. If neighbouring pixels of these differences are
correlated, BM3D is also given their power spectrum, from correlations up to 3 pixels. The
generalized Anscombe transform turns it into noise of variance 1, and its exact unbiased inverse
(Mäkitalo & Foi, IEEE Trans. Image Process. 22, 2013, doi:10.1109/TIP.2012.2202675) turns the result
back. PSNR as in ``noise2void.py``.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path

import bm3d
import numpy as np
from fmd import FIELDS
from PIL import Image
from psnr import fit_to, psnr
from table import table

REACH = 3  # pixels
MIN_CORRELATION = 0.2  # of neighbours; below it the noise is white for BM3D


def noise_line(frames: np.ndarray, clean: np.ndarray) -> tuple[float, float]:
    """Return gain and variance at 0 of ``variance = gain · mean + constant``, from the truth."""
    truth = np.stack([fit_to(clean, frame) for frame in frames])
    square = (frames - truth) ** 2
    keep = frames < 255
    edges = np.quantile(truth[keep], np.linspace(0, 1, 21))
    bins = [keep & (truth >= low) & (truth < high) for low, high in pairwise(edges)]
    bins = [in_bin for in_bin in bins if in_bin.sum() > 200]
    m = np.array([truth[in_bin].mean() for in_bin in bins])
    v = np.array([square[in_bin].mean() for in_bin in bins])
    design = np.stack([m, np.ones_like(m)], axis=1) / v[:, None]
    gain, constant = np.linalg.lstsq(design, np.ones_like(v), rcond=None)[0]
    return float(gain), float(constant)


def stabilized(frames: np.ndarray, gain: float, constant: float) -> np.ndarray:
    """Return grey levels after the transform, with noise of variance 1."""
    # counts y = frame / gain of variance y + offset: the offset of the line plays the read noise
    return np.asarray(2 * np.sqrt(np.maximum(frames / gain + 3 / 8 + constant / gain**2, 0)))


def correlations(noise: np.ndarray) -> np.ndarray:
    """Return the correlations of noise, shape (frames, Y, X), up to `REACH` pixels along Y and X.

    The first is that of a pixel with itself, as `numpy.fft` arranges them.
    """
    noise = noise - noise.mean(axis=(1, 2), keepdims=True)
    found = np.zeros(noise.shape[1:])
    for y in range(-REACH, REACH + 1):
        for x in range(-REACH, REACH + 1):
            found[y, x] = np.mean(noise * np.roll(noise, (y, x), (1, 2)))
    return found / found[0, 0]


def denoised(
    frame: np.ndarray, gain: float, constant: float, spectrum: np.ndarray | None
) -> np.ndarray:
    """Return a frame after transform, BM3D and exact unbiased inverse."""
    square = constant / gain**2
    z = stabilized(frame, gain, constant)
    low, span = z.min(), z.max() - z.min()
    known = 1 / span if spectrum is None else spectrum / span**2
    d = bm3d.bm3d((z - low) / span, known) * span + low
    d = np.maximum(d, 2 * np.sqrt(3 / 8))
    root = np.sqrt(3 / 2)
    counts = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8 - square
    return np.asarray(gain * np.clip(counts, 0, None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--fields", nargs="*", default=FIELDS)
    options = parser.parse_args()
    figures = ("raw", "GAT + BM3D", "raw, affine", "GAT + BM3D, affine")
    add = table("gat_bm3d", "field", "variance", "correlation", *figures, "seconds a frame")
    for field in options.fields:
        paths = sorted((options.data / "fmd" / "raw").glob(f"{field}_*.png"))
        frames = np.stack([np.array(Image.open(p), dtype=np.float64) for p in paths])
        clean = np.array(Image.open(options.data / "fmd" / "gt" / f"{field}.png"), dtype=np.float64)
        gain, constant = noise_line(frames, clean)
        truth = np.stack([fit_to(clean, frame) for frame in frames])
        noise = stabilized(frames, gain, constant) - stabilized(truth, gain, constant)
        correlation = correlations(noise)
        neighbour = max(correlation[0, 1], correlation[1, 0])
        spectrum = None
        if neighbour > MIN_CORRELATION:
            spectrum = np.fft.fft2(correlation).real.clip(1e-3) * correlation.size
        start = time.perf_counter()
        found = np.stack([denoised(frame, gain, constant, spectrum) for frame in frames])
        seconds = (time.perf_counter() - start) / len(frames)
        raw_psnr, denoised_psnr = psnr(frames, clean), psnr(found, clean)
        affine_psnr = psnr(frames, clean, affine=True), psnr(found, clean, affine=True)
        add(
            field, f"{gain:.2f} m {constant:+.2f}", f"{neighbour:.2f}",
            f"{raw_psnr:.2f}", f"{denoised_psnr:.2f}",
            f"{affine_psnr[0]:.2f}", f"{affine_psnr[1]:.2f}", f"{seconds:.0f}",
        )  # fmt: skip


if __name__ == "__main__":
    main()
