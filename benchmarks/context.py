"""Measure what the neighbouring time points and planes gain, and what they do to transients.

    python benchmarks/context.py NAME ... [--contexts none auto T1] [--steps 300] [--data DATA]
                                 [--polished NAME ...] [--keep FOLDER]

NAME is slow, fast (the sample of moving cells, one plane, 24 frames, and four times as fast),
stack (its z-stack of 16 planes), calcium (a simulated movie of 500 frames with less than two
photons per pixel), lowlight (80 frames in DATA with 0.15 to 2 photons per pixel, every 16th of
which is compared), or a field of FMD in DATA, such as TwoPhoton_MICE, whose four frames are taken
as T. A context is none, auto, the axis and the reach, as T1 or Z2, or 3-D for a network that sees
volumes. PSNR is over the range of the truth (for lowlight from its 0.1 to its 99.9 % quantile), or
255 for FMD. Data that are named after --polished are denoised with a polish as well.
For calcium, traces are the means over the cells, see `transients`. With --keep, images and results
are written to FOLDER/NAME.npz.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
from real import read_field
from table import table
from tifffile import imread
from transients import transients

from napari_noise2score import denoise, estimate_noise, polish, sample, train
from napari_noise2score.score.training import describe_context

SIDE = 192
PSF_DEVIATION = 1.2  # pixels
BRIGHTNESS = 0.6  # photons per pixel of a cell at rest
CALCIUM_NOISE = "poisson(gain=5, offset=20) + gaussian(sigma=2)"
EMCCD_NOISE = "emccd(gain=8, offset=20, excess=1.25) + gaussian(sigma=2)"


def moving_cells(speed: float) -> tuple[np.ndarray, np.ndarray, str, str]:
    sample.SCALE["T"] = speed
    noisy, truth = sample.simulate_cells((24, 3, SIDE, SIDE))
    sample.SCALE["T"] = 1.0
    return noisy[:, 1], truth[:, 1] + sample.OFFSET, "TYX", sample.NOISE


def stack() -> tuple[np.ndarray, np.ndarray, str, str]:
    noisy, truth = sample.simulate_cells((1, 16, SIDE, SIDE))
    return noisy[0], truth[0] + sample.OFFSET, "ZYX", sample.NOISE


def calcium(
    frames: int = 500, side: int = 96
) -> tuple[np.ndarray, np.ndarray, str, str, np.ndarray]:
    """Return a simulated movie of cells with transients, its truth, and the masks of the cells."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    masks, shapes, traces = [], [], []
    for _ in range(14):
        cy, cx = rng.uniform(8, side - 8, 2)
        radius = np.hypot((y - cy) / rng.uniform(0.9, 1.1), x - cx)
        masks.append(radius < 5)
        ring = np.clip(5.5 - radius, 0, 1) * np.where(radius < 2.5, 0.5, 1)
        shapes.append(ring * rng.uniform(0.6, 1.2))
        spikes = np.zeros(frames)
        spikes[rng.choice(np.arange(20, frames - 40), 8, replace=False)] = rng.uniform(0.8, 2, 8)
        t = np.arange(40)
        response = (1 - np.exp(-(t + 1) / 1.0)) * np.exp(-t / 9)
        traces.append(1 + np.convolve(spikes, response / response.max())[:frames])
    photons = 0.15 + BRIGHTNESS * np.einsum("ct,cyx->tyx", traces, np.array(shapes)) / 2
    photons = ndimage.gaussian_filter(photons, (0, PSF_DEVIATION, PSF_DEVIATION))
    truth = 20 + 5 * photons
    noisy = 5 * rng.poisson(photons) + rng.normal(20, 2, photons.shape)
    noisy = np.clip(np.rint(noisy), 0, 65535).astype(np.uint16)
    return noisy, truth.astype(np.float32), "TYX", CALCIUM_NOISE, np.array(masks)


def psnr(x: np.ndarray, truth: np.ndarray, width: float, compared: slice) -> str:
    x, truth = x[compared], truth[compared]
    if width == 255:
        x = x.clip(0, 255)
    return f"{10 * np.log10(width**2 / np.mean((x.astype(float) - truth) ** 2)):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+")
    parser.add_argument("--contexts", nargs="+", default=["none", "auto"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--polished", nargs="*", default=[])
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    add = table(
        "context_networks", "data", "context", "PSNR", "held-out loss",
        "training (s)", "denoising (s)", "what it sees", "transients",
    )  # fmt: skip
    for name in arguments.names:
        masks = None
        if name in ("slow", "fast"):
            noisy, truth, axes, noise = moving_cells(1.0 if name == "slow" else 4.0)
        elif name == "stack":
            noisy, truth, axes, noise = stack()
        elif name == "calcium":
            noisy, truth, axes, noise, masks = calcium()
        elif name == "lowlight":
            noisy, truth = (
                imread(arguments.data / name / f"{kind}.tif") for kind in ("noisy", "truth")
            )
            axes, noise = "TYX", EMCCD_NOISE
        else:
            noisy, truth = read_field(arguments.data, name)
            truth, axes = np.broadcast_to(truth, noisy.shape), "TYX"
            noise = str(estimate_noise(noisy, axes="TYX").noise)
        ends = (0.001, 0.999) if name == "lowlight" else (0, 1)
        compared = slice(None, None, 16 if name == "lowlight" else 1)
        width = (
            255.0 if noisy.dtype == np.uint8 else float(np.ptp(np.quantile(truth[compared], ends)))
        )
        quality = partial(psnr, truth=truth, width=width, compared=compared)
        peaks = partial(transients, truth=truth, masks=masks)
        plain = noisy.astype(np.float32)
        kept = {"noisy": noisy, "truth": truth} | ({} if masks is None else {"masks": masks})
        add(name, f"noisy: {noise}", quality(plain), "", "", "", "", peaks(plain))
        for text in arguments.contexts:
            kind, reach = (text[:-1], int(text[-1])) if text[-1].isdigit() else (text, None)
            began = time.perf_counter()
            ndim, kind = (3, "none") if text == "3-D" else (2, kind)
            model = train(
                noisy, axes=axes, steps=arguments.steps, ndim=ndim, context=kind, reach=reach
            )
            trained = time.perf_counter()
            x = denoise(noisy, model, noise, np.empty(noisy.shape, np.float32), axes=axes)
            ended = time.perf_counter()
            kept[f"context {text}"] = x.copy()
            add(
                name, text, quality(x), f"{model.provenance['val_loss']:.4f}",
                f"{trained - began:.0f}", f"{ended - trained:.1f}", describe_context(model),
                peaks(x),
            )  # fmt: skip
            if name in arguments.polished:
                began = time.perf_counter()
                polished = polish(noisy, model, noise, axes=axes)
                trained = time.perf_counter()
                denoise(noisy, model, noise, x, axes=axes, polish=polished)
                ended = time.perf_counter()
                kept[f"context {text}, polished"] = x.copy()
                add(
                    name, f"{text}, polished", quality(x), "", f"{trained - began:.0f}",
                    f"{ended - trained:.1f}", describe_context(model), peaks(x),
                )  # fmt: skip
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            np.savez(arguments.keep / f"{name}.npz", **kept)


if __name__ == "__main__":
    main()
