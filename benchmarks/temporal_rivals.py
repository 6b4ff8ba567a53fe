"""Denoise a movie by rivals that see neighbouring frames, for the time that ours takes.

    python benchmarks/context.py calcium --contexts auto --polished calcium --keep FOLDER
    python -m venv ELSEWHERE; ELSEWHERE/bin/pip install careamics
    ELSEWHERE/bin/python benchmarks/temporal_rivals.py FOLDER/calcium.npz --minutes 3
                         [--rivals careamics support] [--support CLONE]

The movie is denoised by Noise2Void of CAREamics with T as its depth (its defaults; patches of
16×64×64 and batches of 8, which have no default), and by SUPPORT, of which CLONE is a clone
(https://github.com/NICALab/SUPPORT): its network of default size for 61 frames with a blind spot
of 1 pixel, its loss, optimizer and normalization, patches of 64×64 in batches of 4. Each is trained
on the movie itself for as long as is given. SUPPORT leaves 30 frames at each end, which count for
nobody; PSNR is over the range of the truth, and transients as by ``transients.py``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from table import table
from transients import transients

FRAMES = 61
ENDS = FRAMES // 2


def careamics(movie: np.ndarray, minutes: float) -> tuple[np.ndarray, int]:
    """Return the movie, of shape (T, Y, X), as Noise2Void denoises it, and the number of steps."""
    from careamics import CAREamist
    from careamics.config import create_n2v_config
    from lightning.pytorch.callbacks import Timer

    config = create_n2v_config(
        "movie", "array", "ZYX", patch_size=(16, 64, 64), batch_size=8, num_epochs=10_000
    )
    timer = Timer(duration={"seconds": 60 * minutes}, interval="step")
    careamist = CAREamist(
        config, work_dir=tempfile.mkdtemp(), callbacks=[timer], enable_progress_bar=False
    )
    careamist.train(train_data=movie)
    found, _ = careamist.predict(
        movie, axes="ZYX", data_type="array", batch_size=1,
        tile_size=(64, 96, 96), tile_overlap=(32, 48, 48),
    )  # fmt: skip
    return np.squeeze(np.array(found)), careamist.trainer.global_step


def support(movie: np.ndarray, minutes: float, clone: Path) -> tuple[np.ndarray, int]:
    """Return the movie as SUPPORT denoises it, unchanged at the ends, and the number of steps."""
    sys.path.insert(0, str(clone))
    from model.SUPPORT import SUPPORT

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = SUPPORT(in_channels=FRAMES, mid_channels=[64, 128, 256, 512, 1024], bs_size=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    mean, deviation = movie.mean(), movie.std()
    z = torch.from_numpy((movie - mean) / deviation).float()
    side, steps, end = min(64, *movie.shape[1:]), 0, time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        corners = rng.integers(0, np.array(z.shape) - (FRAMES, side, side) + 1, (4, 3))
        patches = [z[t : t + FRAMES, y : y + side, x : x + side] for t, y, x in corners]
        batch = torch.rot90(torch.stack(patches), int(rng.integers(4)), (2, 3))
        target = batch[:, ENDS : ENDS + 1]
        error = network(batch) - target
        loss = 0.5 * error.abs().mean() + 0.5 * error.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    found = movie.astype(np.float32)
    with torch.inference_mode():
        for t in range(len(z) - 2 * ENDS):
            found[t + ENDS] = network(z[None, t : t + FRAMES])[0, 0].numpy() * deviation + mean
    return found, steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("movie", type=Path)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--rivals", nargs="+", default=["careamics", "support"])
    parser.add_argument("--support", type=Path)
    options = parser.parse_args()
    arrays = np.load(options.movie)
    noisy, truth = arrays["noisy"].astype(np.float32), arrays["truth"]
    masks = arrays["masks"] if "masks" in arrays.files else None
    inner = slice(ENDS, len(noisy) - ENDS)
    width = float(truth.max() - truth.min())

    def quality(x: np.ndarray) -> tuple[str, str]:
        x = x[inner].astype(float)
        error = np.mean((x - truth[inner]) ** 2)
        return f"{10 * np.log10(width**2 / error):.2f}", transients(x, truth[inner], masks)

    add = table("context_rivals", "movie", "method", "PSNR", "transients", "steps", "seconds")
    for name in arrays.files:
        if name not in ("truth", "masks"):
            add(options.movie.stem, name, *quality(arrays[name]), "", "")
    for rival in options.rivals:
        began = time.perf_counter()
        if rival == "careamics":
            x, steps = careamics(noisy, options.minutes)
        else:
            x, steps = support(noisy, options.minutes, options.support)
        seconds = time.perf_counter() - began
        add(options.movie.stem, rival, *quality(x), f"{steps}", f"{seconds:.0f}")
        np.save(options.movie.with_name(f"{options.movie.stem}_{rival}.npy"), x)


if __name__ == "__main__":
    main()
