"""Set12 at gaussian(sigma=25), by the command line as a user runs it.

Beside it, the same network trained on clean targets for the same steps, which is the ceiling.

    python benchmarks/set12.py DATA [--minutes 10] [--noise "gaussian(sigma=25)"]

DATA holds ``natural/CBSD432`` and ``natural/Set12``. Training images are turned gray by the
usual weights (0.299, 0.587, 0.114).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch

from napari_noise2score.score.axes import layout
from napari_noise2score.score.model import ScoreModel, perturbed_score
from napari_noise2score.score.patches import Patches
from napari_noise2score.score.trainer import Trainer
from napari_noise2score.volume.evaluate import compare
from napari_noise2score.volume.files import find_images, read_images


class Supervised(Trainer):
    """The same network, patches, batch, schedule and average, with clean targets."""

    def __init__(self, noisy, clean, layouts, seed):
        super().__init__(noisy, layouts, "auto", seed, "supervised")
        pairs = [np.stack(pair).astype(np.float32) for pair in zip(noisy, clean, strict=True)]
        both = [layout("CYX", pair.shape) for pair in pairs]
        self.patches = Patches(pairs, both, self.patches.size, np.random.default_rng(seed))

    def _loss(self, network, y, u, sigma_a):
        z, target = self.facts["transform"].forward(y).split(1, dim=1)
        with torch.autocast("cpu", torch.bfloat16):
            fixed = torch.full_like(sigma_a, self.facts["sigma_a"])
            s = perturbed_score(network, z, fixed, self.facts["mean"], self.facts["scale"])
        return ((z + s - target) ** 2).mean()


def supervised(noisy_folder: Path, clean_folder: Path, steps: int) -> ScoreModel:
    noisy, clean = read_images(str(noisy_folder)), read_images(str(clean_folder))
    arrays = [np.asarray(image.data[:]) for image in noisy]
    targets = [np.asarray(image.data[:]) for image in clean]
    trainer = Supervised(arrays, targets, [layout("YX", a.shape) for a in arrays], 0)
    for step in range(steps):
        trainer.step(step / steps)
    return trainer.model()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--noise", default="gaussian(sigma=25)")
    given = parser.parse_args()

    work = Path(tempfile.mkdtemp())
    gray = work / "gray"
    gray.mkdir()
    for path in find_images(given.data / "natural" / "CBSD432"):
        plane = iio.imread(path) @ np.array([0.299, 0.587, 0.114])
        iio.imwrite(gray / f"{path.stem}.png", np.rint(plane).astype(np.uint8))

    def run(*command: object) -> str:
        line = ["noise2score", *map(str, command)]
        print("$", *line, flush=True)
        return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout

    set12 = given.data / "natural" / "Set12"
    run("simulate", gray, work / "train", "--noise", given.noise)
    run("simulate", set12, work / "noisy", "--noise", given.noise, "--seed", 1)
    run("train", work / "train", "--model", work / "m.n2s", "--minutes", given.minutes)
    facts = json.loads(run("info", work / "m.n2s", "--json"))
    print(f"{facts['steps']} steps in {facts['seconds']} s")
    options = ("--model", work / "m.n2s", "--noise", given.noise)
    run("denoise", work / "noisy", work / "denoised", *options)
    for name in ("noisy", "denoised"):
        mean = json.loads(run("evaluate", work / name, set12, "--json"))["mean"]
        print(f"{name}: {mean['psnr']:.2f} dB, SSIM {mean['ssim']:.4f}", flush=True)

    model = supervised(work / "train", gray, facts["steps"])
    scores = []
    for noisy, clean in zip(read_images(str(work / "noisy")), read_images(str(set12)), strict=True):
        truth = np.asarray(clean.data[:], dtype=np.float64)
        wide = [-(-n // 8) * 8 + 144 - n for n in truth.shape]
        halo = [(72, w - 72) for w in wide]
        y = torch.from_numpy(np.pad(np.asarray(noisy.data[:]), halo, mode="reflect"))[None, None]
        z = model.transform.forward(y) + model.score(y)
        x = model.transform.inverse(z)[0, 0].numpy()
        x = x[72 : 72 + truth.shape[0], 72 : 72 + truth.shape[1]]
        scores.append(compare(x.astype(np.float64), truth, "YX", 255)["psnr"])
    print(f"supervised, same steps: {np.mean(scores):.2f} dB")


if __name__ == "__main__":
    main()
