"""Measure PSNR of two channels that are learned together or each by itself, and alone.

Two detectors of gain 2 and 8 see two scenes of the sample cells. Prints PSNR in dB of each channel.
"""

from __future__ import annotations

import argparse

import numpy as np
from table import table

from napari_noise2score import denoise, estimate_noise, parse_noise, train
from napari_noise2score.sample import simulate_cells

NOISE = (
    "poisson(gain=2, offset=100) + gaussian(sigma=3) ; "
    "poisson(gain=8, offset=200) + gaussian(sigma=10)"
)


def main() -> None:
    """Print PSNR of both channels for each way of training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="+", choices=["alone", "separate", "joint", "estimate"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--frames", type=int, default=4)
    options = parser.parse_args()
    shape = (options.frames, 1, options.side, options.side)
    clean = np.stack([simulate_cells(shape, seed=s)[1][:, 0] for s in (0, 5)]).astype(np.float64)
    clean[1] *= 4
    noise = parse_noise(NOISE)
    noisy = np.rint(noise.sample(clean, np.random.default_rng(1))).swapaxes(0, 1).astype(np.uint16)
    models = noise.for_channels(2)
    add = table("channels", "trained", "first channel", "second channel")
    for way in options.ways:
        if way == "estimate":
            # the standard sample, of more planes
            many = np.stack([simulate_cells(seed=s)[1] for s in (0, 5)]).astype(np.float64)
            many[1] *= 4
            drawn = np.rint(noise.sample(many, np.random.default_rng(1))).swapaxes(0, 1)
            report = estimate_noise(drawn.astype(np.uint16), axes="TCZYX")
            print(report.noise, report.check_sentence, report.channels_sentence, sep="\n")
            continue
        if way == "alone":
            found = []
            for channel, own in enumerate(models):
                one = noisy[:, channel]
                model = train(one, axes="TYX", steps=options.steps, context="none")
                found.append(denoise(one, model, own, np.empty(one.shape, np.float32), axes="TYX"))
            result = np.stack(found, axis=1)
        else:
            model = train(noisy, axes="TCYX", steps=options.steps, channels=way, context="none")
            out = np.empty(noisy.shape, np.float32)
            result = denoise(noisy, model, noise, out, axes="TCYX")
        scores = []
        for channel, own in enumerate(models):
            error = np.mean((result[:, channel] - own.offset - clean[channel]) ** 2)
            scores.append(10 * np.log10(np.ptp(clean[channel]) ** 2 / error))
        add(way, *(f"{score:.2f}" for score in scores))


if __name__ == "__main__":
    main()
