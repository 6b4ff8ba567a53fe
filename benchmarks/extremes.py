"""Measure how soon a job on very large input begins, and whether its memory stays constant.

The inputs are a plane of 20,000 × 20,000 pixels, 50,000 time points in chunks of one plane each,
and a folder of 10,000 files. Each is denoised from the command line for at most a minute. Printed
are the time from the start of the process until its first block (or file) is on the disk, and the
memory of the process at that moment and at the end.

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
from table import table

from napari_noise2score import train

NOISE = "gaussian(sigma=10)"
MAX_SECONDS = 60
COLUMNS = [
    "first block after (s)", f"blocks in {MAX_SECONDS} s", "memory at first (MB)", "at the end",
    "at most",
]  # fmt: skip


def write_plane(folder: Path) -> Path:
    """Write one plane of 20,000 × 20,000 pixels (800 MB) unless it exists."""
    path = folder / "plane.tif"
    if not path.exists():
        row = np.random.default_rng(0).normal(100, 10, (1000, 20_000)).astype(np.uint16)
        pixels = tifffile.memmap(path, shape=(20_000, 20_000), dtype="u2", bigtiff=True)
        for start in range(0, 20_000, 1000):
            pixels[start : start + 1000] = row
        pixels.flush()
    return path


def write_frames(folder: Path) -> Path:
    """Write 50,000 time points of 32 × 32 pixels, one per chunk, unless they exist."""
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


def write_files(folder: Path) -> Path:
    """Write 10,000 images of 64 × 64 pixels unless they exist."""
    path = folder / "files"
    if not path.exists():
        path.mkdir()
        noisy = np.random.default_rng(0).normal(100, 10, (64, 64)).astype(np.uint16)
        for number in range(10_000):
            tifffile.imwrite(path / f"f{number}.tif", noisy)
    return path


def count_finished(out: Path) -> int:
    """Return the number of finished blocks or files."""
    if out.suffix:
        journal = out.with_name(f".part-{out.name}.journal")
        return journal.read_text().count("done") if journal.exists() else 0
    return sum(1 for path in out.glob("*.tif")) if out.exists() else 0


def measure(source: Path, out: Path, model: Path) -> list[str]:
    """Denoise for at most a minute, and return time, blocks and memory, as in `COLUMNS`."""
    command = ["-c", "from napari_noise2score.cli.main import main; main()"]
    command += ["denoise", source, out, "--model", model]
    command += ["--noise", NOISE, "--overwrite"]
    start_time = time.monotonic()
    process = psutil.Popen([sys.executable, *map(str, command)], stdout=subprocess.DEVNULL)
    first, memory, done = None, [], 0
    while process.poll() is None and time.monotonic() - start_time < MAX_SECONDS:
        done = count_finished(out)
        if done and first is None:
            first = time.monotonic() - start_time
        if first is not None:
            memory.append(process.memory_info().rss / 1e6)
        time.sleep(0.1)
    process.terminate()
    process.wait()
    if first is None:
        return ["none", "0", "", "", ""]
    figures = memory[0], memory[-1], max(memory)
    return [f"{first:.1f}", str(done), *(f"{figure:.0f}" for figure in figures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "m.n2s"
    small = np.random.default_rng(0).normal(100, 10, (12, 64, 64)).astype(np.uint16)
    train(small, axes="TYX", steps=2).save(model)
    add = table("extremes", "input", *COLUMNS)
    for write, name in (
        (write_plane, "plane.ome.zarr"),
        (write_frames, "frames.ome.zarr"),
        (write_files, "done"),
    ):
        source = write(folder)
        add(source.name, *measure(source, folder / "out" / name, model))


if __name__ == "__main__":
    main()
