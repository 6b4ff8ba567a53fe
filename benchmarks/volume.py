"""Measure memory, speed and workers on OME-Zarr volumes of 1 to 64 GB, denoising some blocks.

python benchmarks/volume.py memory FOLDER [--blocks 8]
python benchmarks/volume.py training FOLDER [--steps 20]
python benchmarks/volume.py speed FOLDER [--blocks 8]
python benchmarks/volume.py workers FOLDER [--blocks 32]

The volumes are created in FOLDER. All their planes are hard links to one plane, so that 64 GB
occupy some megabytes on the disk; reading them takes as long as if the planes differed.
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
from table import table

from napari_noise2score import Image, ScoreModel, denoise_steps, read_image, train
from napari_noise2score.denoising._blocks import compute_block, read_block
from napari_noise2score.denoising._quantities import DENOISED
from napari_noise2score.denoising.cluster import connect
from napari_noise2score.denoising.job import blocks_of, prepare
from napari_noise2score.denoising.jobs import forget
from napari_noise2score.image.ome_zarr import create_ome_zarr

NOISE = "poisson(gain=2, offset=100)"
SIDE = 2048
PLANE_BYTES = 2 * SIDE * SIDE


def noisy_plane() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] / 40
    clean = 200 + 150 * np.sin(y) * np.cos(x)
    return (100 + 2 * np.random.default_rng(0).poisson(clean / 2)).astype(np.uint16)


def create_volume(folder: Path, gigabytes: int) -> Path:
    """Create a volume of that size unless it exists, and return its path."""
    path = folder / f"{gigabytes}GB.ome.zarr"
    if path.exists():
        return path
    partial = folder / f".{path.name}"
    planes = gigabytes * 10**9 // PLANE_BYTES
    lazy = np.broadcast_to(np.uint16(0), (planes, SIDE, SIDE))
    target = create_ome_zarr(partial, Image(lazy, "ZYX", scale={"Z": 2, "Y": 1, "X": 1}), np.uint16)
    target[0] = noisy_plane()
    first = partial / "0" / "c" / "0"
    for z in range(1, planes):
        for file in [p for p in first.rglob("*") if p.is_file()]:
            linked = partial / "0" / "c" / str(z) / file.relative_to(first)
            linked.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, linked)
    partial.rename(path)
    return path


def create_model(folder: Path) -> Path:
    """Train a model unless it exists, and return its path."""
    path = folder / "model.n2s"
    if not path.exists():
        train(noisy_plane()[:256, :256], axes="YX", steps=5).save(path)
    return path


def peak_memory() -> float:
    """Return the peak resident memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def denoise_blocks(folder: Path, gigabytes: int, count: int, **settings) -> float:
    """Denoise ``count`` blocks after the first, and return the seconds they take."""
    image = read_image(create_volume(folder, gigabytes))
    score = ScoreModel.load(create_model(folder))
    out = folder / "out.ome.zarr"
    run = denoise_steps(image, score, NOISE, out, **settings)
    next(run)
    start = time.perf_counter()
    for _ in itertools.islice(run, count):
        pass
    seconds = time.perf_counter() - start
    run.close()
    forget(out)
    return seconds


def memory(folder: Path, count: int, mode: str = "denoise_one") -> None:
    add = table(f"volume_{mode}", "volume", "memory before (MB)", "increase to the peak (MB)")
    create_model(folder)
    for gigabytes in (1, 8, 64):
        create_volume(folder, gigabytes)
        command = [sys.executable, __file__, mode, str(folder), "--blocks", str(count)]
        output = subprocess.check_output([*command, "--gigabytes", str(gigabytes)], text=True)
        before, after = json.loads(output)
        add(f"{gigabytes} GB", f"{before:.0f}", f"{after - before:.0f}")


def training(folder: Path, count: int) -> None:
    memory(folder, count, "train_one")


def train_one(folder: Path, count: int, gigabytes: int) -> None:
    """Train some steps on one volume, and print the memory before and after as JSON."""
    image = read_image(create_volume(folder, gigabytes))
    train(np.random.default_rng(0).normal(100, 10, (64, 64)), axes="YX", steps=1)
    before = peak_memory()
    train(image.data, axes=image.axes, steps=count)
    print(json.dumps([before, peak_memory()]))


def denoise_one(folder: Path, count: int, gigabytes: int) -> None:
    """Denoise some blocks of one volume, and print the memory before and after as JSON."""
    score = ScoreModel.load(create_model(folder))
    score.score(torch.zeros(1, 1, 64, 64))  # memory that torch allocates on first use
    before = peak_memory()
    denoise_blocks(folder, gigabytes, count)
    print(json.dumps([before, peak_memory()]))


def speed(folder: Path, count: int) -> None:
    image, score = read_image(create_volume(folder, 1)), ScoreModel.load(create_model(folder))
    job = prepare(image, score, NOISE, tile=(1024, 1024))
    block = next(iter(blocks_of(job)))
    y = read_block(job, *block)

    def time_network() -> float:
        start = time.perf_counter()
        for _ in range(count):
            compute_block(job, DENOISED, y, block[1], job.tile)
        return time.perf_counter() - start

    pairs = [
        (time_network(), denoise_blocks(folder, 1, count, tile=(1024, 1024))) for _ in range(3)
    ]
    alone, whole = (min(times) for times in zip(*pairs, strict=True))
    pixels = count * 1024**2 / 1e6
    add = table("volume_store", "measured", "megapixels/s")
    add("from store to store", f"{pixels / whole:.3f}")
    add("network alone on tiles in memory", f"{pixels / alone:.3f}")


def workers(folder: Path, count: int) -> None:
    add = table("volume_workers", "workers of one thread", "megapixels/s")
    for number in (1, 2):
        with connect(workers=number) as client:
            seconds = denoise_blocks(folder, 1, count, tile=(256, 256), client=client)
        add(number, f"{count * 1024**2 / 1e6 / seconds:.3f}")


MODES = {"memory": memory, "training": training, "speed": speed, "workers": workers}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=[*MODES, "denoise_one", "train_one"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blocks", "--steps", type=int, default=8)
    parser.add_argument("--gigabytes", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.mode in MODES:
        MODES[options.mode](options.folder, options.blocks)
    else:
        single = {"denoise_one": denoise_one, "train_one": train_one}[options.mode]
        single(options.folder, options.blocks, options.gigabytes)
