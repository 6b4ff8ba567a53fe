"""Denoise the frames of ``fmd.py`` by Noise2Void of CAREamics, on the same device in the same time.

    python -m venv ELSEWHERE; ELSEWHERE/bin/pip install careamics
    ELSEWHERE/bin/python benchmarks/noise2void.py DATA [--minutes 3] [--fields NAME ...]

Settings are the defaults of CAREamics (patches of 64×64), except for the batch size of 16, which
has no default, and the number of epochs, which is as many as the time allows. Noise2Void is trained
on the four raw frames of a field and denoises each of them. PSNR is that of each frame against the
50-frame average, with a range of 255; for ``affine``, scale and offset of each result are fitted
first.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from careamics import CAREamist
from careamics.config import create_n2v_config
from fmd import FIELDS
from lightning.pytorch.callbacks import Timer
from PIL import Image
from psnr import psnr
from table import table


def noise2void(frames: np.ndarray, minutes: float) -> tuple[np.ndarray, int, float]:
    """Train on frames of shape (S, Y, X), and return them denoised, the steps, and the seconds."""
    config = create_n2v_config(
        "fmd", "array", "SYX", patch_size=(64, 64), batch_size=16, num_epochs=10_000
    )
    timer = Timer(duration={"seconds": 60 * minutes}, interval="step")
    careamist = CAREamist(
        config, work_dir=tempfile.mkdtemp(), callbacks=[timer], enable_progress_bar=False
    )
    start = time.perf_counter()
    careamist.train(train_data=frames)
    seconds = time.perf_counter() - start
    found, _ = careamist.predict(frames, axes="SYX", data_type="array", batch_size=1)
    return np.squeeze(np.array(found)), careamist.trainer.global_step, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--fields", nargs="*", default=FIELDS)
    options = parser.parse_args()
    figures = ("raw", "Noise2Void", "gain", "raw, affine", "Noise2Void, affine")
    add = table("noise2void", "field", *figures, "steps", "seconds")
    for field in options.fields:
        paths = sorted((options.data / "fmd" / "raw").glob(f"{field}_*.png"))
        frames = np.stack([np.array(Image.open(p), dtype=np.float32) for p in paths])
        clean = np.array(Image.open(options.data / "fmd" / "gt" / f"{field}.png"), dtype=np.float64)
        found, steps, seconds = noise2void(frames, options.minutes)
        raw_psnr, denoised_psnr = psnr(frames, clean), psnr(found, clean)
        affine_psnr = psnr(frames, clean, affine=True), psnr(found, clean, affine=True)
        gain = denoised_psnr - raw_psnr
        add(
            field, f"{raw_psnr:.2f}", f"{denoised_psnr:.2f}", f"{gain:+.2f}",
            f"{affine_psnr[0]:.2f}", f"{affine_psnr[1]:.2f}", steps, f"{seconds:.0f}",
        )  # fmt: skip


if __name__ == "__main__":
    main()
