"""Denoise a volume from zarr to zarr, here and by CAREamics with a network of the same size.

python -m venv ELSEWHERE; ELSEWHERE/bin/pip install careamics
OMP_NUM_THREADS=1 python benchmarks/careamics_volume.py FOLDER --careamics ELSEWHERE/bin/python

Both take turns on the same volume, each in a process of its own that loads and warms up before the
clock starts, both with tiles of the same size. The networks are U-Nets of two halvings that make
equally many multiplications for a pixel, hardly trained, since no time depends on that.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import zarr
from torch.utils.flop_counter import FlopCounterMode

SIDE, PLANES = 2048, 2
OVERLAP = 48  # CAREamics' own default
# its blocks have fewer convolutions: with more features it has as much to do
WIDTH = 38


def volume(folder: Path) -> Path:
    """Make the volume, unless it is there."""
    path = folder / "volume.zarr"
    if not path.exists():
        y, x = np.mgrid[:SIDE, :SIDE] / 40
        mean = 50 + 40 * np.sin(y) * np.cos(x)
        planes = np.random.default_rng(0).poisson(mean, (PLANES, SIDE, SIDE)).astype(np.uint16)
        zarr.create_group(path).create_array("0", data=planes, chunks=(1, 512, 512))
    return path


def timed(work, times: int = 3) -> float:
    """Give the shortest time of some, after one that warms up."""
    seconds = []
    for _ in range(times + 1):
        began = time.perf_counter()
        with torch.inference_mode():
            work()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def work_of(network, y: torch.Tensor) -> float:
    """Give the thousands of multiplications that a network makes for a pixel."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(y)
    return counter.get_total_flops() / 2e3 / y.numel()


def here(path: Path, folder: Path, tile: int) -> tuple[float, float, float]:
    """Give megapixels per second of the network alone and from store to store, and its work."""
    from napari_noise2score import denoise_steps, read_image, train

    image = read_image(path / "0", "ZYX")
    model = train(image.data[0, :256, :256], axes="YX", steps=1)
    y = torch.from_numpy(image.data[0, :tile, :tile].astype(np.float32))[None, None]
    network = timed(lambda: model.score(y))
    began = time.perf_counter()
    steps = denoise_steps(image, model, "poisson(gain=1)", folder / "here.ome.zarr",
                             tile=(tile, tile))  # fmt: skip
    for _ in steps:
        pass
    whole = PLANES * SIDE**2 / (time.perf_counter() - began) / 1e6
    return tile**2 / network / 1e6, whole, work_of(model.score, y)


def careamics(path: Path, folder: Path, tile: int) -> tuple[float, float, float]:
    """Give megapixels per second of the network alone and from store to store, and its work."""
    from careamics import CAREamist
    from careamics.config.factories import create_advanced_n2v_config

    config = create_advanced_n2v_config(
        "volume", "array", "YX", (64, 64), 1, num_epochs=1, num_steps=1, num_workers=0,
        model_params={"depth": 2, "num_channels_init": WIDTH},
        trainer_params={"accelerator": "cpu"},
    )  # fmt: skip
    careamist = CAREamist(config, work_dir=folder / "careamics", enable_progress_bar=False)
    planes = zarr.open_group(path, mode="r")["0"]
    careamist.train(train_data=planes[0, :256, :256].astype(np.float32))
    network = careamist.model.model.eval()
    y = torch.zeros(1, 1, tile, tile)
    alone = timed(lambda: network(y))
    began = time.perf_counter()
    careamist.predict_to_disk(
        f"file://{path.resolve()}/0", prediction_dir=(folder / "there").resolve(), batch_size=1,
        tile_size=(tile, tile), tile_overlap=(OVERLAP, OVERLAP), axes="SYX", data_type="zarr",
        num_workers=0, checkpoint="last",
    )  # fmt: skip
    whole = PLANES * SIDE**2 / (time.perf_counter() - began) / 1e6
    return tile**2 / alone / 1e6, whole, work_of(network, y)


def compare(folder: Path, python: Path, tile: int, times: int) -> None:
    """Let both take turns, and print the best of each."""
    volume(folder)
    best: dict[str, tuple[float, ...]] = {}
    for _ in range(times):
        for who, interpreter in (("here", sys.executable), ("careamics", str(python))):
            for made in ("here.ome.zarr", "there", "careamics"):
                shutil.rmtree(folder / made, ignore_errors=True)
            words = [interpreter, __file__, str(folder), "--tile", str(tile), "--only", who]
            said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            found = json.loads(said.splitlines()[-1])
            best[who] = tuple(map(max, found, best.get(who, found)))
    print(f"tiles of {tile}x{tile} | multiplications per pixel | megapixels/s: network | in all")
    for who, (alone, whole, work) in best.items():
        print(f"{who} | {work:.0f} thousand | {alone:.3f} | {whole:.3f}")
    print(f"here against CAREamics: {best['here'][1] / best['careamics'][1]:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--careamics", type=Path, help="the Python that has CAREamics")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--only", choices=["here", "careamics"])
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.only:
        measure = {"here": here, "careamics": careamics}[given.only]
        print(json.dumps(measure(volume(given.folder), given.folder, given.tile)))
    else:
        compare(given.folder, given.careamics, given.tile, given.times)
