"""The noise of shots of a scene that keeps still, pixel by pixel.

Such shots differ by noise alone. What is told of each pixel is told of it by itself then, with no
picture to be taken off: nothing of what the shots hold is lost, as it is where the finest waves of
patches alone are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ._dct import SIDE
from ._moments import CUT, EDGES, LEAST, Moments, told_apart

# what is white has as much power in the mean of a square of so many pixels as in each of them;
# this much more may be left of what moves, and so many standard errors
CELL = 4
MOVED, SURE = 0.03, 3.5
# the variance of the square of such a mean: 2 for Gaussian noise of one level, more for others
SCATTER = 3.0
RANGES = 12
# they differ by so many of the standard deviations that noise gives what they are sorted by
APART = 3.0
# pixels looked at in all
MOST = 4_000_000


def is_still(scenes: Sequence[np.ndarray], usable: Sequence[np.ndarray]) -> bool:
    """Say whether shots differ by white noise alone: nothing moves, drifts or bleaches.

    Parameters
    ----------
    scenes : sequence of ndarray
        Shots of each scene, in grey levels, shape ``(shots, Y, X)``.
    usable : sequence of ndarray
        Which pixels count, bool, shape ``(Y, X)``.

    Returns
    -------
    bool
        False, too, if there are less than three shots of a scene, which tell no third moment.
    """
    return all(
        len(shots) > 2 and not any(_moves(shots, row, use) for row in contrasts(len(shots)))
        for shots, use in zip(scenes, usable, strict=True)
    )


def contrasts(count: int) -> np.ndarray:
    """Give orthonormal polynomials of the number of a shot, shape ``(count - 1, count)``.

    What drifts or bleaches evenly is in the first; were all shots compared alike, it would hide.
    """
    return np.linalg.qr(np.vander(np.arange(count), increasing=True))[0].T[1:]


def _moves(shots: np.ndarray, contrast: np.ndarray, usable: np.ndarray) -> bool:
    """Say whether a contrast of shots has more power in coarse than in fine structure."""
    height, width = (n // CELL * CELL for n in shots.shape[-2:])

    def cells(plane: np.ndarray) -> np.ndarray:
        squares = plane[:height, :width].reshape(height // CELL, CELL, width // CELL, CELL)
        return squares.swapaxes(1, 2).reshape(-1, CELL**2)

    whole = cells(usable).all(1)
    if not whole.any():
        return True
    noise = cells(np.tensordot(contrast, shots, 1))[whole]
    light = cells(shots.mean(0))[whole].mean(1)
    coarse = CELL**2 * noise.mean(1) ** 2
    fine = noise.var(1, ddof=1)
    edges = np.quantile(light, np.linspace(0, 1, RANGES + 1))
    which = np.searchsorted(edges[1:-1], light)
    # what moves may be as rare as a few bright spots: every range of brightness by itself
    for inside in (np.full(len(light), True), *(which == i for i in range(RANGES))):
        if inside.any() and (level := float(fine[inside].mean())) > 0:
            above = float(coarse[inside].mean()) / level - 1
            if above > MOVED + SURE * np.sqrt(SCATTER / inside.sum()):
                return True
    return False


def measure_repeats(scenes: Sequence[np.ndarray], usable: Sequence[np.ndarray]) -> Moments:
    """Measure the noise of shots of scenes that keep still, by brightness.

    Parameters
    ----------
    scenes : sequence of ndarray
        Shots of each scene, at least three, in grey levels, shape ``(shots, Y, X)``; nothing but
        white noise differs.
    usable : sequence of ndarray
        Which pixels count, bool, shape ``(Y, X)``.

    Returns
    -------
    Moments

    Raises
    ------
    ValueError
        If there are too few pixels to tell anything.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> scene = np.kron(rng.uniform(20, 200, (6, 6)), np.ones((40, 40)))
    >>> shots = 5.0 * rng.poisson(scene / 5, (4, 240, 240))
    >>> found = measure_repeats([shots], [np.full(scene.shape, True)])
    >>> gain = found.variance / found.mean
    >>> bool(abs(np.median(gain) - 5) < 0.1)
    True
    """
    every = max(1, sum(int(use.sum()) for use in usable) // MOST)
    parts = []
    for shots, use in zip(scenes, usable, strict=True):
        count = len(shots)
        mean = shots.mean(0)
        at = np.flatnonzero(use)[::every]
        noise = shots.reshape(count, -1)[:, at] - mean.ravel()[at]
        square, cube = k_statistics(noise)
        # brightness without the pixel itself: sorted by its own noise, bright would be noisy
        light = _around(mean).ravel()[at]
        parts.append(np.stack([light, mean.ravel()[at], square, cube, square / count]))
    light, mean, square, cube, mean_square = np.concatenate(parts, axis=1)
    order = np.argsort(light, kind="stable")
    bounds = np.unique((np.array(EDGES) * len(light)).astype(int))
    ranges = [order[a:b] for a, b in pairwise(bounds) if b - a >= LEAST]
    if not ranges:
        raise ValueError("too few pixels to tell their noise")
    rows = []

    def apart(inside: np.ndarray) -> float:
        return APART * math.sqrt(mean_square[inside].mean() / 8)

    for inside in told_apart(ranges, light, apart):
        m, v, third = (part[inside].mean() for part in (mean, square, cube))
        errors = [part[inside].std() / np.sqrt(len(inside)) for part in (square, cube)]
        spread = np.sqrt(max(mean[inside].var() - mean_square[inside].mean(), 0.0))
        rows.append((m, v, third, *errors, spread))
    found = np.array(rows).T
    found = found[:, found[1] > 0]
    if not found.size:
        raise ValueError("the shots show no noise")
    return Moments(*found)


def k_statistics(noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the unbiased variance and third moment of shots less their mean, ``(shots, ...)``."""
    count = len(noise)
    square = (noise**2).sum(0) / (count - 1)
    return square, count * (noise**3).sum(0) / ((count - 1) * (count - 2))


def usable_pixels(cut: np.ndarray) -> np.ndarray:
    """Say of each pixel whether recording ended in few of those around it, bool as given."""
    wide = np.pad(cut.astype(float), SIDE // 2, mode="reflect")
    sums = np.lib.stride_tricks.sliding_window_view(wide, SIDE, 0).sum(-1)
    return np.lib.stride_tricks.sliding_window_view(sums, SIDE, 1).mean(-1) / SIDE <= CUT


def _around(plane: np.ndarray) -> np.ndarray:
    """Give the mean of the eight pixels around each."""
    wide = np.pad(plane, 1, mode="reflect")
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] - plane) / 8
