"""Real fluorescence microscopy (FMD): train on four raw shots of one field, nothing else.

    python benchmarks/fmd.py DATA [--minutes 3] [--fields NAME ...]

DATA holds ``fmd/raw`` and ``fmd/gt``. One gain and offset per field is measured from the
differences of successive frames (photon transfer): their spatial high-pass, so that drift and
bleaching between frames do not count as noise, against the mean. PSNR is of each frame against the
50-frame average, range 255; ``affine`` fits scale and offset of each result first.
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

FIELDS = [
    "Confocal_BPAE_G", "Confocal_BPAE_R", "Confocal_MICE", "TwoPhoton_BPAE_G", "TwoPhoton_BPAE_R",
]  # fmt: skip


def photon_transfer(shots: np.ndarray) -> tuple[float, float]:
    """Gain and offset, from shots of one field, shape (shots, Y, X)."""
    shots = shots.astype(np.float64)
    difference = np.diff(shots, axis=0) / np.sqrt(2)
    noise = np.diff(difference, axis=2) / np.sqrt(2)
    mean = shots.mean(axis=0)
    mean = (mean[:, 1:] + mean[:, :-1]) / 2
    clipped = (shots.max(axis=0) == 255)[:, 1:]
    edges = np.quantile(mean, np.linspace(0, 1, 21))
    bins = [(mean >= low) & (mean < high) & ~clipped for low, high in pairwise(edges)]
    bins = [inside for inside in bins if inside.sum() > 200]
    m = np.array([mean[inside].mean() for inside in bins])
    v = np.array([(noise[:, inside] ** 2).mean() for inside in bins])
    # errors of a variance are relative to it, but near zero light no straight line fits
    weight = 1 / (v + np.median(v))
    rows = np.stack([m, np.ones_like(m)], axis=1) * weight[:, None]
    gain, rest = np.linalg.lstsq(rows, v * weight, rcond=None)[0]
    return float(gain), float(-rest / gain)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--fields", nargs="*", default=FIELDS)
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp())

    def run(*command: object) -> str:
        line = ["noise2score", *map(str, command)]
        return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout

    def psnr(folder: object, clean: Path, *options: str) -> float:
        return json.loads(run("evaluate", folder, clean, "--json", *options))["mean"]["psnr"]

    print("field | noise | raw | denoised | gain | raw, affine | denoised, affine | steps")
    for field in given.fields:
        shots = f"{given.data}/fmd/raw/{field}_*.png"
        clean = given.data / "fmd" / "gt" / f"{field}.png"
        stack = np.stack([iio.imread(p) for p in sorted(Path("/").glob(shots.lstrip("/")))])
        gain, offset = photon_transfer(stack)
        noise = f"poisson(gain={gain:.2f}, offset={offset:.2f})"
        model = work / f"{field}.n2s"
        run("train", shots, "--model", model, "--minutes", given.minutes)
        run("denoise", shots, work / field, "--model", model, "--noise", noise)
        raw, done = psnr(shots, clean), psnr(work / field, clean)
        fitted = [psnr(x, clean, "--affine") for x in (shots, work / field)]
        steps = json.loads(run("info", model, "--json"))["steps"]
        print(
            f"{field} | {noise} | {raw:.2f} | {done:.2f} | {done - raw:+.2f} "
            f"| {fitted[0]:.2f} | {fitted[1]:.2f} | {steps}",
            flush=True,
        )


if __name__ == "__main__":
    main()
