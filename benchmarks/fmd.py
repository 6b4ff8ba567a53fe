"""Denoise the test mix of FMD, real fluorescence micrographs, as from a terminal.

    python benchmarks/fmd.py DATA FOLDER [--steps 300 | --minutes 3] [--fields NAME ...]

DATA contains ``fmd/raw``, four raw frames of each of twelve fields, and ``fmd/gt``, the averages of
50 frames. For each field a model is trained on its four frames, which are then denoised with
``--noise auto``. Where ``noise2score estimate`` finds that the noise is correlated between pixels,
the model is trained with that kernel as ``--correlation``. PSNR is that of each frame against the
average, with a range of 255; for ``affine``, scale and offset of each result are fitted first.
A field that the program refuses has no result, and its message is printed. Models, polishes and
results are left in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

from table import table

FIELDS = [
    f"{instrument}_{sample}"
    for instrument in ("Confocal", "TwoPhoton", "WideField")
    for sample in ("BPAE_B", "BPAE_G", "BPAE_R", "FISH", "MICE")
    if instrument != "WideField" or sample.startswith("BPAE")
]
FIELDS.remove("TwoPhoton_FISH")  # not in the data


def run(*command: object) -> str:
    """Run ``noise2score`` and return what it prints, results (JSON) or else messages."""
    line = ["noise2score", *map(str, command)]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout if "--json" in line else done.stdout + done.stderr


def psnr(folder: object, clean: Path, *flags: str) -> float:
    return float(json.loads(run("evaluate", folder, clean, "--json", *flags))["mean"]["psnr"])


def after(text: str, begin: str, default: str = "") -> str:
    """Return the rest of the line of a text that begins with the given words."""
    return next((x.removeprefix(begin) for x in text.splitlines() if x.startswith(begin)), default)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--fields", nargs="*", default=FIELDS)
    options = parser.parse_args()
    budget = ["--steps", options.steps] if options.steps else ["--minutes", options.minutes]
    add = table(
        "fmd", "field", "correlation", "noise", "explained", "polish", "steps", "minutes",
        "raw", "denoised", "raw, affine", "denoised, affine",
    )  # fmt: skip
    for field in options.fields:
        frames = f"{options.data}/fmd/raw/{field}_*.png"
        clean = options.data / "fmd" / "gt" / f"{field}.png"
        model, result = options.folder / f"{field}.n2s", options.folder / field
        raw = f"{psnr(frames, clean):.2f}", f"{psnr(frames, clean, '--affine'):.2f}"
        start = time.perf_counter()
        noise = json.loads(run("estimate", frames, "--json"))["noise"]
        kernel = noise.partition("@ ")[2]
        correlation = ["--correlation", kernel] if kernel else []
        try:
            print(run("train", frames, "--model", model, *budget, *correlation))
            text = run("denoise", frames, result, "--model", model, "--noise", "auto")
        except RuntimeError as error:
            print(error)
            add(field, kernel, noise, "", "", "", "", raw[0], "", raw[1], "")
            continue
        print(text)
        minutes = (time.perf_counter() - start) / 60
        polish = "no"
        if "polish: " in text:
            polish = "not used" if "not used" in text else "yes"
        add(
            field, kernel, after(text, "noise, estimated: "),
            after(text, "noise check: explains the noise: ")[:4], polish,
            json.loads(run("info", model, "--json"))["steps"], f"{minutes:.1f}",
            raw[0], f"{psnr(result, clean):.2f}",
            raw[1], f"{psnr(result, clean, '--affine'):.2f}",
        )  # fmt: skip


if __name__ == "__main__":
    main()
