"""Compare the speed of denoising a volume with that of CAREamics and a network of the same size.

python -m venv ELSEWHERE; ELSEWHERE/bin/pip install careamics
OMP_NUM_THREADS=1 python benchmarks/careamics_volume.py FOLDER --careamics ELSEWHERE/bin/python

Both read the same volume from zarr and write to zarr, in alternation, with tiles of the same size.
Each runs in its own process, which imports everything and warms up before time is measured. Both
networks are U-Nets that halve the image twice and use the same number of multiplications per pixel.
They are hardly trained, because training does not affect the speed.
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
from table import table
from torch.utils.flop_counter import FlopCounterMode

SIDE, PLANES = 2048, 2
OVERLAP = 48  # default of CAREamics
# blocks of CAREamics have fewer convolutions, so more features give equally many multiplications
CAREAMICS_FEATURES = 38


def create_volume(folder: Path) -> Path:
    """Create the volume unless it exists, and return its path."""
    path = folder / "volume.zarr"
    if not path.exists():
        y, x = np.mgrid[:SIDE, :SIDE] / 40
        mean = 50 + 40 * np.sin(y) * np.cos(x)
        planes = np.random.default_rng(0).poisson(mean, (PLANES, SIDE, SIDE)).astype(np.uint16)
        zarr.create_group(path).create_array("0", data=planes, chunks=(1, 512, 512))
    return path


def shortest_time(work, times: int = 3) -> float:
    """Return the shortest of several times in seconds, after one run to warm up."""
    seconds = []
    for _ in range(times + 1):
        start = time.perf_counter()
        with torch.inference_mode():
            work()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def multiplications(network, y: torch.Tensor) -> float:
    """Return the number of multiplications per pixel of a network, in thousands."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(y)
    return counter.get_total_flops() / 2e3 / y.numel()


def measure_noise2score(path: Path, folder: Path, tile: int) -> tuple[float, float, float]:
    """Return megapixels/s of the network alone and from zarr to zarr, and `multiplications`."""
    from napari_noise2score import denoise_steps, read_image, train

    image = read_image(path / "0", "ZYX")
    model = train(image.data[0, :256, :256], axes="YX", steps=1)
    y = torch.from_numpy(image.data[0, :tile, :tile].astype(np.float32))[None, None]
    network = shortest_time(lambda: model.score(y))
    start = time.perf_counter()
    steps = denoise_steps(image, model, "poisson(gain=1)", folder / "noise2score.ome.zarr",
                             tile=(tile, tile))  # fmt: skip
    for _ in steps:
        pass
    whole = PLANES * SIDE**2 / (time.perf_counter() - start) / 1e6
    return tile**2 / network / 1e6, whole, multiplications(model.score, y)


def measure_careamics(path: Path, folder: Path, tile: int) -> tuple[float, float, float]:
    """Return megapixels/s of the network alone and from zarr to zarr, and `multiplications`."""
    from careamics import CAREamist
    from careamics.config.factories import create_advanced_n2v_config

    config = create_advanced_n2v_config(
        "volume", "array", "YX", (64, 64), 1, num_epochs=1, num_steps=1, num_workers=0,
        model_params={"depth": 2, "num_channels_init": CAREAMICS_FEATURES},
        trainer_params={"accelerator": "cpu"},
    )  # fmt: skip
    careamist = CAREamist(config, work_dir=folder / "careamics", enable_progress_bar=False)
    planes = zarr.open_group(path, mode="r")["0"]
    careamist.train(train_data=planes[0, :256, :256].astype(np.float32))
    network = careamist.model.model.eval()
    y = torch.zeros(1, 1, tile, tile)
    alone = shortest_time(lambda: network(y))
    start = time.perf_counter()
    careamist.predict_to_disk(
        f"file://{path.resolve()}/0",
        prediction_dir=(folder / "prediction").resolve(), batch_size=1,
        tile_size=(tile, tile), tile_overlap=(OVERLAP, OVERLAP), axes="SYX", data_type="zarr",
        num_workers=0, checkpoint="last",
    )  # fmt: skip
    whole = PLANES * SIDE**2 / (time.perf_counter() - start) / 1e6
    return tile**2 / alone / 1e6, whole, multiplications(network, y)


def compare(folder: Path, python: Path, tile: int, times: int) -> None:
    """Measure both in alternation, and print the best result of each."""
    create_volume(folder)
    best: dict[str, tuple[float, ...]] = {}
    for _ in range(times):
        for program, interpreter in (("noise2score", sys.executable), ("careamics", str(python))):
            for name in ("noise2score.ome.zarr", "prediction", "careamics"):
                shutil.rmtree(folder / name, ignore_errors=True)
            command = [interpreter, __file__, str(folder), "--tile", str(tile), "--only", program]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            measured = json.loads(output.splitlines()[-1])
            best[program] = tuple(map(max, measured, best.get(program, measured)))
    add = table(
        "careamics_programs", f"tiles of {tile}×{tile}", "thousand multiplications per pixel",
        "megapixels/s, network alone", "from zarr to zarr",
    )  # fmt: skip
    for program, (alone, whole, work) in best.items():
        add(program, f"{work:.0f}", f"{alone:.3f}", f"{whole:.3f}")
    print(f"speed relative to CAREamics: {best['noise2score'][1] / best['careamics'][1]:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--careamics", type=Path, help="Python interpreter of an environment with CAREamics"
    )
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--only", choices=["noise2score", "careamics"])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.only:
        measure = {"noise2score": measure_noise2score, "careamics": measure_careamics}[options.only]
        print(json.dumps(measure(create_volume(options.folder), options.folder, options.tile)))
    else:
        compare(options.folder, options.careamics, options.tile, options.times)
