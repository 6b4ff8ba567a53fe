"""Compute a lower bound on the error of a camera's offset and read noise, from four repeats.

    python benchmarks/bound.py DATA [--set Kodak24] [--images 12]

If the clean value of a pixel is unknown, all that its repeats reveal about the noise is in their
k-statistics: no unbiased estimates of the variance and the third moment are more precise. The
covariance of the k-statistics is computed from simulated noise. The printed standard errors (median
over the images) are those of an ideal estimator that knows the intensity of every pixel and weights
all pixels optimally. They are given for all pixels, and for those at least 10 grey levels above the
offset, because these photographs have a border of black pixels.
"""

from __future__ import annotations

import numpy as np
from estimate import LEVELS
from sixteen import load_photographs
from table import table

from napari_noise2score.estimation._repeats import k_statistics

N_REPEATS, N_SIMULATED = 4, 300_000
# the offset of every camera in LEVELS
OFFSET = 100
SIGNALS = np.concatenate([[0.01, 0.5, 1, 2, 4, 8, 16], np.linspace(24, 255, 14)])


def information(signal: float, gain: float, read: float, rng: np.random.Generator) -> np.ndarray:
    """Return the Fisher information of one pixel on gain, offset and read noise."""
    photons = gain * rng.poisson(signal / gain, (N_REPEATS, N_SIMULATED))
    y = photons + read * rng.standard_normal((N_REPEATS, N_SIMULATED))
    slopes = np.array([[signal, -gain, 2 * read], [2 * gain * signal, -(gain**2), 0]])
    return slopes.T @ np.linalg.inv(np.cov(*k_statistics(y - y.mean(0)))) @ slopes


def main() -> None:
    scenes = [a.ravel() for a in load_photographs()]
    (text,), levels, _ = LEVELS["camera"]
    columns = ("standard error of offset (%)", "of read noise (%)")
    add = table("bound", "noise", "grey levels above the offset", *columns)
    for gain, read in levels:
        rng = np.random.default_rng(0)
        per_pixel = np.array([information(signal, gain, read, rng) for signal in SIGNALS])
        for darkest in (0, 10):
            errors = []
            for scene in scenes:
                used = scene[scene >= darkest]
                total = [np.interp(used, SIGNALS, row).sum() for row in per_pixel.reshape(-1, 9).T]
                errors.append(np.sqrt(np.diag(np.linalg.inv(np.reshape(total, (3, 3))))))
            percent = 100 * np.median(errors, axis=0)[1:] / (OFFSET, read)
            add(text.format(gain, read), f"from {darkest}", *percent.round(1))


if __name__ == "__main__":
    main()
