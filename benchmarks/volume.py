"""Memory, speed and workers on OME-Zarr volumes of 1 to 64 GB, of which some blocks are denoised.

python benchmarks/volume.py memory FOLDER [--blocks 8]
python benchmarks/volume.py training FOLDER [--steps 20]
python benchmarks/volume.py speed FOLDER [--blocks 8]
python benchmarks/volume.py workers FOLDER [--blocks 32]

The volumes are made in FOLDER: one plane, linked as often as there are planes, so that 64 GB take
some megabytes of disk; reading them is as much work as if all planes differed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from napari_noise2score import Image, ScoreModel, denoise_steps, read_image, train
from napari_noise2score.denoising._blocks import compute_block, read_block
from napari_noise2score.denoising._quantities import DENOISED
from napari_noise2score.denoising.cluster import connect
from napari_noise2score.denoising.job import blocks_of, prepare
from napari_noise2score.denoising.jobs import forget
from napari_noise2score.image.ome_zarr import create_ome_zarr

NOISE = "poisson(gain=2, offset=100)"
SIDE = 2048
PLANE = 2 * SIDE * SIDE


def plane() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] / 40
    clean = 200 + 150 * np.sin(y) * np.cos(x)
    return (100 + 2 * np.random.default_rng(0).poisson(clean / 2)).astype(np.uint16)


def volume(folder: Path, gigabytes: int) -> Path:
    """Make a volume of that size, unless it is there."""
    path = folder / f"{gigabytes}GB.ome.zarr"
    if path.exists():
        return path
    part = folder / f".{path.name}"
    planes = gigabytes * 10**9 // PLANE
    lazy = np.broadcast_to(np.uint16(0), (planes, SIDE, SIDE))
    target = create_ome_zarr(part, Image(lazy, "ZYX", scale={"Z": 2, "Y": 1, "X": 1}), np.uint16)
    target[0] = plane()
    first = part / "0" / "c" / "0"
    for z in range(1, planes):
        for file in [p for p in first.rglob("*") if p.is_file()]:
            linked = part / "0" / "c" / str(z) / file.relative_to(first)
            linked.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, linked)
    part.rename(path)
    return path


def model(folder: Path) -> Path:
    path = folder / "model.n2s"
    if not path.exists():
        train(plane()[:256, :256], axes="YX", steps=5).save(path)
    return path


def peak() -> float:
    """Give the most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def some_blocks(folder: Path, gigabytes: int, count: int, **how) -> float:
    """Denoise so many blocks, and give the seconds from the first to the last of them."""
    image, score = read_image(volume(folder, gigabytes)), ScoreModel.load(model(folder))
    out = folder / "out.ome.zarr"
    run = denoise_steps(image, score, NOISE, out, **how)
    next(run)
    began = time.perf_counter()
    for _ in itertools.islice(run, count):
        pass
    seconds = time.perf_counter() - began
    run.close()
    forget(out)
    return seconds


def memory(folder: Path, count: int, what: str = "denoise_one") -> None:
    print("volume | before (MB) | peak above (MB)")
    model(folder)
    for gigabytes in (1, 8, 64):
        volume(folder, gigabytes)
        words = [sys.executable, __file__, what, str(folder), "--blocks", str(count)]
        said = subprocess.check_output([*words, "--gigabytes", str(gigabytes)], text=True)
        before, after = json.loads(said)
        print(f"{gigabytes} GB | {before:.0f} | {after - before:.0f}", flush=True)


def training(folder: Path, count: int) -> None:
    memory(folder, count, "train_one")


def train_one(folder: Path, count: int, gigabytes: int) -> None:
    """Train some steps on one volume in a process of its own."""
    image = read_image(volume(folder, gigabytes))
    train(np.random.default_rng(0).normal(100, 10, (64, 64)), axes="YX", steps=1)
    before = peak()
    train(image.data, axes=image.axes, steps=count)
    print(json.dumps([before, peak()]))


def denoise_one(folder: Path, count: int, gigabytes: int) -> None:
    """Denoise some blocks of one volume in a process of its own."""
    score = ScoreModel.load(model(folder))
    score.score(torch.zeros(1, 1, 64, 64))  # what torch sets up when it is first used
    before = peak()
    some_blocks(folder, gigabytes, count)
    print(json.dumps([before, peak()]))


def speed(folder: Path, count: int) -> None:
    image, score = read_image(volume(folder, 1)), ScoreModel.load(model(folder))
    job = prepare(image, score, NOISE, tile=(1024, 1024))
    block = next(iter(blocks_of(job)))
    y = read_block(job, *block)

    def bare() -> float:
        began = time.perf_counter()
        for _ in range(count):
            compute_block(job, DENOISED, y, block[1], job.tile)
        return time.perf_counter() - began

    pairs = [(bare(), some_blocks(folder, 1, count, tile=(1024, 1024))) for _ in range(3)]
    alone, whole = (min(times) for times in zip(*pairs, strict=True))
    pixels = count * 1024**2 / 1e6
    print(f"network alone, tiles in memory: {pixels / alone:.3f} megapixels/s")
    print(f"from store to store: {pixels / whole:.3f} megapixels/s, {100 * alone / whole:.1f} %")


def workers(folder: Path, count: int) -> None:
    rates = []
    for number in (1, 2):
        with connect(workers=number) as client:
            seconds = some_blocks(folder, 1, count, tile=(256, 256), client=client)
        rates.append(count * 1024**2 / 1e6 / seconds)
        print(f"{number} worker(s): {rates[-1]:.3f} megapixels/s", flush=True)
    print(f"2 against 1: {rates[1] / rates[0]:.2f}")


MODES = {"memory": memory, "training": training, "speed": speed, "workers": workers}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=[*MODES, "denoise_one", "train_one"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blocks", "--steps", type=int, default=8)
    parser.add_argument("--gigabytes", type=int, default=1)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.what in MODES:
        MODES[given.what](given.folder, given.blocks)
    else:
        single = {"denoise_one": denoise_one, "train_one": train_one}[given.what]
        single(given.folder, given.blocks, given.gigabytes)
