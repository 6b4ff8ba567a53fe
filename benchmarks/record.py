"""Record the results of estimate, train and denoise on real images, to compare two versions.

    python benchmarks/record.py DATA RECORD.json

Every entry of the record is a digest of pixels or the text of an estimate. If a change of the
program is not meant to change any result, the records before and after it are equal. Both must be
written on the same machine. One thread is used, because the order of additions depends on the
number of threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from napari_noise2score import Image, read_image, write_image
from napari_noise2score.cli.main import main as command_line
from napari_noise2score.sample import simulate_cells

STEPS = 40
MIN_LINES_BEFORE_KILL = 4  # of the journal
FMD = (
    "Confocal_BPAE_B",
    "Confocal_FISH",
    "Confocal_MICE",
    "TwoPhoton_BPAE_G",
    "TwoPhoton_MICE",
)
RECORDED_FACTS = (
    "noise",
    "95 % interval",
    "measured from",
    "grey levels",
    "correlation",
    "rivals",
    "curve",
)


def run(*arguments: object) -> str:
    """Run a command and return what it prints."""
    output = io.StringIO()
    sys.argv = ["noise2score", *map(str, arguments)]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
        try:
            command_line()
        except SystemExit as stopped:
            if stopped.code:
                return f"exit code {stopped.code}"
    return output.getvalue()


def run_and_kill(*arguments: object) -> None:
    """Start a job in another process, and kill it after a few blocks."""
    code = "from napari_noise2score.cli.main import main; main()"
    job = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])
    folder = Path(str(arguments[2])).parent
    while job.poll() is None:
        journals = list(folder.glob("*.journal")) + list(folder.glob(".*.journal"))
        if any(journal.read_bytes().count(b"\n") > MIN_LINES_BEFORE_KILL for journal in journals):
            job.kill()
        time.sleep(0.005)


def digest(path: Path) -> str:
    """Return a digest of the pixels of a file."""
    pixels = np.asarray(read_image(path).data)
    return hashlib.sha256(pixels.tobytes() + str((pixels.dtype, pixels.shape)).encode()).hexdigest()


def estimate(path: Path, *options: object) -> Any:
    """Return the noise of an image as the command line estimates it, or its error message."""
    output = run("estimate", path, "--json", *options)
    try:
        estimated = json.loads(output)
    except json.JSONDecodeError:
        return output
    return {key: estimated.get(key) for key in RECORDED_FACTS}


def images_by_model(data: Path, work: Path) -> dict[str, list[Path]]:
    """Return the images on which each model is trained."""
    found: dict[str, list[Path]] = {}
    for path in sorted((data / "w2s" / "avg1").glob("*.*")):
        found.setdefault(f"w2s {path.stem[-1]}", []).append(path)
    for name in FMD:
        found[f"fmd {name}"] = sorted((data / "fmd" / "raw").glob(f"{name}*"))[:1]
    noisy, _ = simulate_cells((3, 4, 96, 96))
    write_image(work / "sample.tif", Image(noisy, "TZYX"))
    found["sample"] = [work / "sample.tif"]
    return found


def main(data: Path, record: Path) -> None:
    """Write the record; update it after each model, so that an interrupted run leaves one."""
    entries: dict[str, Any] = {}
    work = Path(tempfile.mkdtemp())
    for group, paths in images_by_model(data, work).items():
        model = work / f"{group}.n2s"
        folder = work / group
        folder.mkdir()
        for path in paths:
            (folder / path.name).symlink_to(path)
        run("train", folder, "--model", model, "--steps", STEPS)
        for path in paths:
            found = estimate(path)
            entries[f"{path.stem}: estimate"] = found
            noise = found["noise"] if isinstance(found, dict) else "gaussian(sigma=10)"
            clean = work / f"{path.stem}.npy"
            run("denoise", path, clean, "--model", model, "--noise", noise)
            entries[f"{path.stem}: denoised with {noise}"] = digest(clean)
            print(path.stem, noise, flush=True)
        entries[f"{group}: estimate with model"] = estimate(paths[0], "--model", model)
        record.write_text(json.dumps(entries, indent=1, default=float))
    store, sample, model = work / "clean.ome.zarr", work / "sample.tif", work / "sample.n2s"
    noise = "poisson(gain=2, offset=100) + gaussian(sigma=3)"
    arguments = ("denoise", sample, store, "--model", model, "--noise", noise, "--resume")
    std = work / "std.npy"
    run_and_kill(*arguments, "--tile", "64x64")
    entries["sample: stored"] = (run(*arguments, "--tile", "64x64"), digest(store))
    run("denoise", sample, work / "x.npy", *arguments[3:], "--uncertainty", std, "--overwrite")
    entries["sample: uncertainty"] = digest(std)
    record.write_text(json.dumps(entries, indent=1, default=float))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
