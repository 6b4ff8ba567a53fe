"""Denoise real fluorescence micrographs (FMD) after training on four raw frames of each field.

    python benchmarks/fmd.py DATA [--minutes 3] [--fields NAME ...]

DATA contains ``fmd/raw`` and ``fmd/gt``. One gain and offset per field is measured by photon
transfer: the variance of the differences of successive frames, against the mean. The differences
are high-pass filtered, so that drift and bleaching between frames do not count as noise. PSNR is
that of each frame against the 50-frame average, with a range of 255; for ``affine``, scale and
offset of each result are fitted first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from table import table

FIELDS = [
    "Confocal_BPAE_G", "Confocal_BPAE_R", "Confocal_MICE", "TwoPhoton_BPAE_G", "TwoPhoton_BPAE_R",
]  # fmt: skip


def photon_transfer(frames: np.ndarray) -> tuple[float, float]:
    """Return gain and offset, measured on frames of one field, shape (frames, Y, X)."""
    frames = frames.astype(np.float64)
    difference = np.diff(frames, axis=0) / np.sqrt(2)
    noise = np.diff(difference, axis=2) / np.sqrt(2)
    mean = frames.mean(axis=0)
    mean = (mean[:, 1:] + mean[:, :-1]) / 2
    clipped = (frames.max(axis=0) == 255)[:, 1:]
    edges = np.quantile(mean, np.linspace(0, 1, 21))
    bins = [(mean >= low) & (mean < high) & ~clipped for low, high in pairwise(edges)]
    bins = [in_bin for in_bin in bins if in_bin.sum() > 200]
    m = np.array([mean[in_bin].mean() for in_bin in bins])
    v = np.array([(noise[:, in_bin] ** 2).mean() for in_bin in bins])
    # the error of a variance is proportional to it; the constant limits the weight of the darkest
    # pixels, which deviate from the straight line
    weight = 1 / (v + np.median(v))
    design = np.stack([m, np.ones_like(m)], axis=1) * weight[:, None]
    gain, intercept = np.linalg.lstsq(design, v * weight, rcond=None)[0]
    return float(gain), float(-intercept / gain)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--fields", nargs="*", default=FIELDS)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp())

    def run(*command: object) -> str:
        line = ["noise2score", *map(str, command)]
        return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout

    def psnr(folder: object, clean: Path, *flags: str) -> float:
        return json.loads(run("evaluate", folder, clean, "--json", *flags))["mean"]["psnr"]

    figures = ("raw", "denoised", "gain", "raw, affine", "denoised, affine", "steps")
    add = table("fmd", "field", "noise", *figures)
    for field in options.fields:
        frames = f"{options.data}/fmd/raw/{field}_*.png"
        clean = options.data / "fmd" / "gt" / f"{field}.png"
        stack = np.stack([iio.imread(p) for p in sorted(Path("/").glob(frames.lstrip("/")))])
        gain, offset = photon_transfer(stack)
        noise = f"poisson(gain={gain:.2f}, offset={offset:.2f})"
        model = work / f"{field}.n2s"
        run("train", frames, "--model", model, "--minutes", options.minutes)
        run("denoise", frames, work / field, "--model", model, "--noise", noise)
        raw, denoised = psnr(frames, clean), psnr(work / field, clean)
        affine = [psnr(x, clean, "--affine") for x in (frames, work / field)]
        steps = json.loads(run("info", model, "--json"))["steps"]
        add(
            field, noise, f"{raw:.2f}", f"{denoised:.2f}", f"{denoised - raw:+.2f}",
            f"{affine[0]:.2f}", f"{affine[1]:.2f}", steps,
        )  # fmt: skip


if __name__ == "__main__":
    main()
