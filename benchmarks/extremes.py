"""How soon a job on extreme input begins, and whether its memory stays flat.

A plane of 20,000 × 20,000 pixels, 50,000 time points in chunks of one plane each, and a folder of
10,000 files. Each is denoised by the command line for a minute at most; what is measured is the
time from the start of the process until its first block (or file) is on the disk, and the memory
of the process when that is so and at the end.

    python benchmarks/extremes.py --folder FOLDER
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import tifffile
import zarr

from napari_noise2score import train

NOISE = "gaussian(sigma=10)"
SECONDS = 60


def plane(folder: Path) -> Path:
    """Write one plane of 20,000 × 20,000 pixels, 800 MB."""
    path = folder / "plane.tif"
    if not path.exists():
        row = np.random.default_rng(0).normal(100, 10, (1000, 20_000)).astype(np.uint16)
        pixels = tifffile.memmap(path, shape=(20_000, 20_000), dtype="u2", bigtiff=True)
        for start in range(0, 20_000, 1000):
            pixels[start : start + 1000] = row
        pixels.flush()
    return path


def frames(folder: Path) -> Path:
    """Write 50,000 time points of 32 × 32 pixels, each a chunk of its own."""
    path = folder / "frames.zarr"
    if not path.exists():
        array = zarr.create_array(
            path, shape=(50_000, 32, 32), chunks=(1, 32, 32), dtype="u2", compressors=None,
            attributes={"axes": "TYX"},
        )  # fmt: skip
        noisy = np.random.default_rng(0).normal(100, 10, (1000, 32, 32)).astype(np.uint16)
        for start in range(0, 50_000, 1000):
            array[start : start + 1000] = noisy
    return path


def files(folder: Path) -> Path:
    """Write 10,000 images of 64 × 64 pixels."""
    path = folder / "files"
    if not path.exists():
        path.mkdir()
        noisy = np.random.default_rng(0).normal(100, 10, (64, 64)).astype(np.uint16)
        for number in range(10_000):
            tifffile.imwrite(path / f"f{number}.tif", noisy)
    return path


def begun(out: Path) -> int:
    """Return how many blocks or files are finished."""
    if out.suffix:
        journal = out.with_name(f".part-{out.name}.journal")
        return journal.read_text().count("done") if journal.exists() else 0
    return sum(1 for p in out.glob("*.tif")) if out.exists() else 0


def measure(source: Path, out: Path, model: Path) -> None:
    """Denoise for a minute and print what was seen."""
    words = ["-c", "from napari_noise2score.cli.main import main; main()"]
    words += ["denoise", source, out, "--model", model]
    words += ["--noise", NOISE, "--overwrite"]
    began = time.monotonic()
    process = psutil.Popen([sys.executable, *map(str, words)], stdout=subprocess.DEVNULL)
    first, memory, done = None, [], 0
    while process.poll() is None and time.monotonic() - began < SECONDS:
        done = begun(out)
        if done and first is None:
            first = time.monotonic() - began
        if first is not None:
            memory.append(process.memory_info().rss / 1e6)
        time.sleep(0.1)
    process.terminate()
    process.wait()
    if first is None:
        print(f"{source.name:<12} nothing in {SECONDS} s")
        return
    print(
        f"{source.name:<12} first after {first:5.1f} s, {done} in {SECONDS} s, "
        f"memory {memory[0]:.0f} MB then, {memory[-1]:.0f} MB at the end, {max(memory):.0f} MB most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "m.n2s"
    small = np.random.default_rng(0).normal(100, 10, (12, 64, 64)).astype(np.uint16)
    train(small, axes="TYX", steps=2).save(model)
    for make, name in ((plane, "plane.ome.zarr"), (frames, "frames.ome.zarr"), (files, "done")):
        measure(make(folder), folder / "out" / name, model)


if __name__ == "__main__":
    main()
