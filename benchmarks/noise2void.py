"""CAREamics' Noise2Void on the same real shots, device and wall time as ``fmd.py``.

    python -m venv ELSEWHERE; ELSEWHERE/bin/pip install careamics
    ELSEWHERE/bin/python benchmarks/noise2void.py DATA [--minutes 3] [--fields NAME ...]

Settings are its own defaults (patches of 64×64; 16 of them in a batch, for which it has none),
but for the number of epochs, of which it does as many as the time allows. It is given the four raw
shots of a field and denoises each of them. PSNR is of each shot against the 50-frame average, range
255; ``affine`` fits scale and offset of each result first.
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


def psnr(images: np.ndarray, clean: np.ndarray, affine: bool = False) -> float:
    """Mean PSNR of images against one clean image."""
    found = []
    for image in images:
        if affine:
            rows = np.stack([image.ravel(), np.ones(image.size)], axis=1)
            image = (rows @ np.linalg.lstsq(rows, clean.ravel(), rcond=None)[0]).reshape(
                clean.shape
            )
        found.append(10 * np.log10(255**2 / np.mean((image - clean) ** 2)))
    return float(np.mean(found))


def noise2void(shots: np.ndarray, minutes: float) -> tuple[np.ndarray, int, float]:
    """Train on shots of shape (S, Y, X); give them denoised, the steps and the seconds taken."""
    config = create_n2v_config(
        "fmd", "array", "SYX", patch_size=(64, 64), batch_size=16, num_epochs=10_000
    )
    timer = Timer(duration={"seconds": 60 * minutes}, interval="step")
    careamist = CAREamist(
        config, work_dir=tempfile.mkdtemp(), callbacks=[timer], enable_progress_bar=False
    )
    began = time.perf_counter()
    careamist.train(train_data=shots)
    seconds = time.perf_counter() - began
    found, _ = careamist.predict(shots, axes="SYX", data_type="array", batch_size=1)
    return np.squeeze(np.array(found)), careamist.trainer.global_step, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--fields", nargs="*", default=FIELDS)
    given = parser.parse_args()
    print("field | raw | Noise2Void | gain | raw, affine | Noise2Void, affine | steps | seconds")
    for field in given.fields:
        paths = sorted((given.data / "fmd" / "raw").glob(f"{field}_*.png"))
        shots = np.stack([np.array(Image.open(p), dtype=np.float32) for p in paths])
        clean = np.array(Image.open(given.data / "fmd" / "gt" / f"{field}.png"), dtype=np.float64)
        found, steps, seconds = noise2void(shots, given.minutes)
        raw, done = psnr(shots, clean), psnr(found, clean)
        fitted = psnr(shots, clean, affine=True), psnr(found, clean, affine=True)
        print(
            f"{field} | {raw:.2f} | {done:.2f} | {done - raw:+.2f} | {fitted[0]:.2f} "
            f"| {fitted[1]:.2f} | {steps} | {seconds:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
