"""How well four shots of a scene can tell offset and read noise of a camera, whatever is done.

    python benchmarks/bound.py DATA [--set Kodak24] [--images 12]

What a pixel's shots tell of its noise without its clean value are the k-statistics of their grey
levels: of variance and third moment nothing unbiased is better. Their covariance is that of drawn
noise. Were every pixel's brightness known beside, and all of them weighted at best, the parameters
would have the standard errors that are printed (median over the images): of all pixels, and of
those at least 10 grey levels above the offset, as these photographs have a frame of black pixels.
"""

from __future__ import annotations

import numpy as np
from estimate import LEVELS
from sixteen import photographs

from napari_noise2score.estimation._repeats import k_statistics

SHOTS, DRAWN = 4, 300_000
# of the cameras of the estimate benchmark
OFFSET = 100
SIGNALS = np.concatenate([[0.01, 0.5, 1, 2, 4, 8, 16], np.linspace(24, 255, 14)])


def told(signal: float, gain: float, read: float, chance: np.random.Generator) -> np.ndarray:
    """Information of a pixel's k-statistics on gain, offset and read noise."""
    y = gain * chance.poisson(signal / gain, (SHOTS, DRAWN))
    away = y + read * chance.standard_normal((SHOTS, DRAWN))
    slopes = np.array([[signal, -gain, 2 * read], [2 * gain * signal, -(gain**2), 0]])
    return slopes.T @ np.linalg.inv(np.cov(*k_statistics(away - away.mean(0)))) @ slopes


def main() -> None:
    scenes = [a.ravel() for a in photographs()]
    (text,), levels, _ = LEVELS["camera"]
    print("noise | pixels | standard error of offset, of read noise, %")
    for gain, read in levels:
        chance = np.random.default_rng(0)
        each = np.array([told(signal, gain, read, chance) for signal in SIGNALS])
        for darkest in (0, 10):
            errors = []
            for scene in scenes:
                seen = scene[scene >= darkest]
                total = [np.interp(seen, SIGNALS, row).sum() for row in each.reshape(-1, 9).T]
                errors.append(np.sqrt(np.diag(np.linalg.inv(np.reshape(total, (3, 3))))))
            shares = 100 * np.median(errors, axis=0)[1:] / (OFFSET, read)
            print(f"`{text.format(gain, read)}` | from {darkest} | {shares.round(1)}", flush=True)


if __name__ == "__main__":
    main()
