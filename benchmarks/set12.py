"""Measure PSNR and SSIM on Set12 at gaussian(sigma=25), using the command line as a user does.

For comparison, the same network is trained on clean targets for the same number of steps, which
gives an upper bound.

    python benchmarks/set12.py DATA [--minutes 10] [--noise "gaussian(sigma=25)"]

DATA contains ``natural/CBSD432`` and ``natural/Set12``. Training images are converted to gray with
the usual weights (0.299, 0.587, 0.114).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from supervised import apply_supervised, train_supervised
from table import table

from napari_noise2score import parse_noise
from napari_noise2score.denoising.evaluate import compare
from napari_noise2score.image.files import find_images, read_images


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--noise", default="gaussian(sigma=25)")
    options = parser.parse_args()

    work = Path(tempfile.mkdtemp())
    gray = work / "gray"
    gray.mkdir()
    for path in find_images(options.data / "natural" / "CBSD432"):
        plane = iio.imread(path) @ np.array([0.299, 0.587, 0.114])
        iio.imwrite(gray / f"{path.stem}.png", np.rint(plane).astype(np.uint8))

    def run(*command: object) -> str:
        words = ["noise2score", *map(str, command)]
        print("$", *words, flush=True)
        return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout

    set12 = options.data / "natural" / "Set12"
    run("simulate", gray, work / "train", "--noise", options.noise)
    run("simulate", set12, work / "noisy", "--noise", options.noise, "--seed", 1)
    run("train", work / "train", "--model", work / "m.n2s", "--minutes", options.minutes)
    facts = json.loads(run("info", work / "m.n2s", "--json"))
    print(f"{facts['steps']} steps in {facts['seconds']} s")
    arguments = ("--model", work / "m.n2s", "--noise", options.noise)
    run("denoise", work / "noisy", work / "denoised", *arguments)
    add = table("set12", "images", "PSNR", "SSIM")
    for name in ("noisy", "denoised"):
        mean = json.loads(run("evaluate", work / name, set12, "--json"))["mean"]
        add(name, f"{mean['psnr']:.2f}", f"{mean['ssim']:.4f}")

    clean = [np.asarray(image.data[:], dtype=np.float64) for image in read_images(str(gray))]
    noisy = [np.asarray(image.data[:]) for image in read_images(str(work / "train"))]
    noise = parse_noise(options.noise)
    supervised = train_supervised(noisy, clean, "YX", noise, facts["steps"])
    scores = []
    pairs = zip(read_images(str(work / "noisy")), read_images(str(set12)), strict=True)
    for image, reference in pairs:
        truth = np.asarray(reference.data[:], dtype=np.float64)
        estimate = apply_supervised(supervised, noise, np.asarray(image.data[:]))
        scores.append(compare(estimate.astype(np.float64), truth, "YX", 255)["psnr"])
    add("supervised, same steps", f"{np.mean(scores):.2f}", "")


if __name__ == "__main__":
    main()
