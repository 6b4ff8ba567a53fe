"""What a detector's digitisation does to grey levels: a grid of them, with two ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

# grey levels further apart are not told by double precision
MAX_GAP = 2.0**53


@dataclass(frozen=True)
class Recording:
    """What digitisation does to y: rounds it to a grid and cuts it off at both ends.

    Attributes
    ----------
    step : float
        Distance of the grey levels that are recorded, 0 if y is recorded as it is.
    zero : float
        One of these grey levels.
    floor, ceiling : float
        Lowest and highest grey level that can be recorded, infinite if there is none.

    Examples
    --------
    >>> import torch
    >>> Recording(step=2, floor=0).rounded(torch.tensor([-7.0, 2.9, 300.4]))
    tensor([ -8.,   2., 300.])
    """

    step: float = 0.0
    zero: float = 0.0
    floor: float = -math.inf
    ceiling: float = math.inf

    def rounded(self, y: Tensor) -> Tensor:
        """Give y on the grid, not cut off."""
        if not self.step:
            return y
        return self.zero + self.step * ((y - self.zero) / self.step).round()


EXACT = Recording()


def recording_of(values: np.ndarray) -> Recording:
    """Read off pixel values how they were recorded.

    Parameters
    ----------
    values : ndarray
        Pixel values of any shape, many of them.

    Returns
    -------
    Recording

    Examples
    --------
    >>> light = np.random.default_rng(0).normal(200, 60, 10_000)
    >>> recording_of(np.clip(np.rint(light), 0, 255).astype(np.uint8))
    Recording(step=1.0, zero=0.0, floor=0.0, ceiling=255.0)
    >>> recording_of(light)
    Recording(step=0.0, zero=0.0, floor=-inf, ceiling=inf)
    """
    step = quantisation_step(values)
    low, high = float(values.min()), float(values.max())
    floor = low if _piles_up(values, low, step or 0.01 * (high - low)) else -math.inf
    ceiling = high if _piles_up(values, high, -step or -0.01 * (high - low)) else math.inf
    if values.dtype.kind == "u":
        floor = 0.0
    return Recording(step, low % step if step else 0.0, floor, ceiling)


def quantisation_step(values: np.ndarray, fuzz: float = 0.0) -> float:
    """Give the step of the grid that pixel values lie on, in grey levels; 0 if on none.

    Parameters
    ----------
    values : ndarray
        Pixel values of any shape; integers are taken to lie on a grid.
    fuzz : float
        Levels that lie so close are one, in grey levels.

    Returns
    -------
    float

    Examples
    --------
    >>> quantisation_step(5.0 * np.random.default_rng(0).poisson(20, 10_000))
    5.0
    >>> quantisation_step(np.random.default_rng(0).normal(size=10_000))
    0.0
    """
    levels = np.unique(values)
    if fuzz:
        starts = np.flatnonzero(np.diff(levels, prepend=-np.inf) > fuzz)
        levels = np.add.reduceat(levels, starts) / np.diff(starts, append=len(levels))
    if len(levels) < 2:
        return 0.0
    gaps = np.diff(levels.astype(np.float64))
    if values.dtype.kind in "ui":
        if gaps.max() > MAX_GAP:
            return 0.0
        return float(np.gcd.reduce(gaps.astype(np.int64)))
    step = float(np.median(gaps[gaps <= 1.01 * gaps.min()]))
    steps = gaps / step
    # floats always lie on a grid, but so fine a one that hardly any of its levels are taken
    taken = len(levels) / (steps.sum() + 1)
    return step if taken > 0.02 and np.allclose(steps, np.round(steps), atol=0.01) else 0.0


def _piles_up(values: np.ndarray, end: float, inwards: float) -> bool:
    """Whether far more pixels have the value of an end than lie right beside it."""
    at_end = int(np.sum(values == end))
    low, high = sorted((end, end + 1.5 * inwards))
    beside = int(np.sum((values >= low) & (values <= high))) - at_end
    return at_end >= 20 and at_end > 3 * beside
