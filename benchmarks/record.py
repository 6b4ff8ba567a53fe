"""Record what estimate, train and denoise make of real images, to compare two versions by.

    python benchmarks/record.py DATA RECORD.json

Every line of the record is a digest of pixels or the text of an estimate. Of a change that is not
meant to change any result, the records before and after are equal; they are made on one machine,
with one thread, as the order of additions depends on both.
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
KILLED_AFTER = 4  # lines of the journal
FMD = (
    "Confocal_BPAE_B",
    "Confocal_FISH",
    "Confocal_MICE",
    "TwoPhoton_BPAE_G",
    "TwoPhoton_MICE",
)
TAKEN = ("noise", "95 % interval", "measured from", "grey levels", "correlation", "rivals", "curve")


def run(*words: object) -> str:
    """Run a command and return what it prints."""
    printed = io.StringIO()
    sys.argv = ["noise2score", *map(str, words)]
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        try:
            command_line()
        except SystemExit as ended:
            if ended.code:
                return f"exit code {ended.code}"
    return printed.getvalue()


def run_and_kill(*words: object) -> None:
    """Begin a job in another process, and kill it after a few blocks."""
    code = "from napari_noise2score.cli.main import main; main()"
    job = subprocess.Popen([sys.executable, "-c", code, *map(str, words)])
    folder = Path(str(words[2])).parent
    while job.poll() is None:
        journals = list(folder.glob("*.journal")) + list(folder.glob(".*.journal"))
        if any(journal.read_bytes().count(b"\n") > KILLED_AFTER for journal in journals):
            job.kill()
        time.sleep(0.005)


def digest(path: Path) -> str:
    """Return a digest of the pixels of a file."""
    pixels = np.asarray(read_image(path).data)
    return hashlib.sha256(pixels.tobytes() + str((pixels.dtype, pixels.shape)).encode()).hexdigest()


def estimate(path: Path, *more: object) -> Any:
    """Return what the command line finds of the noise of an image."""
    printed = run("estimate", path, "--json", *more)
    try:
        facts = json.loads(printed)
    except json.JSONDecodeError:
        return printed
    return {key: facts.get(key) for key in TAKEN}


def groups(data: Path, work: Path) -> dict[str, list[Path]]:
    """Return the images of each model."""
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
    """Write the record."""
    lines: dict[str, Any] = {}
    work = Path(tempfile.mkdtemp())
    for group, paths in groups(data, work).items():
        model = work / f"{group}.n2s"
        folder = work / group
        folder.mkdir()
        for path in paths:
            (folder / path.name).symlink_to(path)
        run("train", folder, "--model", model, "--steps", STEPS)
        for path in paths:
            found = estimate(path)
            lines[f"{path.stem}: estimate"] = found
            noise = found["noise"] if isinstance(found, dict) else "gaussian(sigma=10)"
            clean = work / f"{path.stem}.npy"
            run("denoise", path, clean, "--model", model, "--noise", noise)
            lines[f"{path.stem}: denoised with {noise}"] = digest(clean)
            print(path.stem, noise, flush=True)
        lines[f"{group}: estimate with model"] = estimate(paths[0], "--model", model)
        record.write_text(json.dumps(lines, indent=1, default=float))
    store, sample, model = work / "clean.ome.zarr", work / "sample.tif", work / "sample.n2s"
    noise = "poisson(gain=2, offset=100) + gaussian(sigma=3)"
    words = ("denoise", sample, store, "--model", model, "--noise", noise, "--resume")
    std = work / "std.npy"
    run_and_kill(*words, "--tile", "64x64")
    lines["sample: stored"] = (run(*words, "--tile", "64x64"), digest(store))
    run("denoise", sample, work / "x.npy", *words[3:], "--uncertainty", std, "--overwrite")
    lines["sample: uncertainty"] = digest(std)
    record.write_text(json.dumps(lines, indent=1, default=float))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
