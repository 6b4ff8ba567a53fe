"""Denoise the frames of ``fmd.py`` by BM3D between Anscombe transforms, with the noise given.

    python -m venv ELSEWHERE; ELSEWHERE/bin/pip install bm3d imageio pillow
    ELSEWHERE/bin/python benchmarks/gat_bm3d.py DATA [--fields NAME ...]

BM3D needs no training, but the noise. It is given the best line: variance against mean of the
differences of the frames from the 50-frame average, after a fit of scale and offset: so this is
what BM3D reaches where the noise is known. The generalized Anscombe transform turns it into noise
of variance 1, and its exact unbiased inverse (Mäkitalo & Foi, IEEE Trans. Image Process. 22, 2013,
doi:10.1109/TIP.2012.2202675) turns the result back. PSNR as in ``noise2void.py``.
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


def denoised(frame: np.ndarray, gain: float, constant: float) -> np.ndarray:
    """Return a frame after transform, BM3D and exact unbiased inverse."""
    # counts y = frame / gain of variance y + offset: the offset of the line plays the read noise
    square = constant / gain**2
    z = 2 * np.sqrt(np.maximum(frame / gain + 3 / 8 + square, 0))
    low, span = z.min(), z.max() - z.min()
    d = bm3d.bm3d((z - low) / span, 1 / span) * span + low
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
    add = table("gat_bm3d", "field", "variance", *figures, "seconds a frame")
    for field in options.fields:
        paths = sorted((options.data / "fmd" / "raw").glob(f"{field}_*.png"))
        frames = np.stack([np.array(Image.open(p), dtype=np.float64) for p in paths])
        clean = np.array(Image.open(options.data / "fmd" / "gt" / f"{field}.png"), dtype=np.float64)
        gain, constant = noise_line(frames, clean)
        start = time.perf_counter()
        found = np.stack([denoised(frame, gain, constant) for frame in frames])
        seconds = (time.perf_counter() - start) / len(frames)
        raw_psnr, denoised_psnr = psnr(frames, clean), psnr(found, clean)
        affine_psnr = psnr(frames, clean, affine=True), psnr(found, clean, affine=True)
        add(
            field, f"{gain:.2f} m {constant:+.2f}", f"{raw_psnr:.2f}", f"{denoised_psnr:.2f}",
            f"{affine_psnr[0]:.2f}", f"{affine_psnr[1]:.2f}", f"{seconds:.0f}",
        )  # fmt: skip


if __name__ == "__main__":
    main()
