"""Quantization and saturation: the grid of grey levels that a detector records, and its ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

MAX_GAP = 2.0**53  # grey levels; double precision does not resolve larger ones to the unit
MIN_OCCUPANCY = 0.02  # share of the levels of a grid that must occur for it to count as one
MIN_PIXELS_AT_END = 20  # for a range to count as clipped
MIN_EXCESS_AT_END = 3  # ratio of the pixels at the end to those right beside it


@dataclass(frozen=True)
class Quantization:
    """How a detector digitizes y: it rounds to a grid and clips at both ends.

    Attributes
    ----------
    step : float
        Quantization step in grey levels, 0 if y is not quantized.
    origin : float
        One grey level of the grid.
    floor, saturation : float
        Lowest and highest grey level that can be recorded, infinite if there is no such limit.

    Examples
    --------
    >>> import torch
    >>> Quantization(step=2, floor=0).rounded(torch.tensor([-7.0, 2.9, 300.4]))
    tensor([ -8.,   2., 300.])
    """

    step: float = 0.0
    origin: float = 0.0
    floor: float = -math.inf
    saturation: float = math.inf

    def rounded(self, y: Tensor) -> Tensor:
        """Return y rounded to the grid, not clipped."""
        if not self.step:
            return y
        return self.origin + self.step * ((y - self.origin) / self.step).round()


UNQUANTIZED = Quantization()


def estimate_quantization(values: NDArray[Any]) -> Quantization:
    """Estimate from many pixel values how they were digitized.

    Parameters
    ----------
    values : ndarray
        Pixel values of any shape, a few thousand or more.

    Returns
    -------
    Quantization

    Examples
    --------
    >>> exact = np.random.default_rng(0).normal(200, 60, 10_000)
    >>> estimate_quantization(np.clip(np.rint(exact), 0, 255).astype(np.uint8))
    Quantization(step=1.0, origin=0.0, floor=0.0, saturation=255.0)
    >>> estimate_quantization(exact)
    Quantization(step=0.0, origin=0.0, floor=-inf, saturation=inf)
    """
    step = find_quantization_step(values)
    low, high = float(values.min()), float(values.max())
    floor = low if _is_clipped(values, low, step or 0.01 * (high - low)) else -math.inf
    saturation = high if _is_clipped(values, high, -step or -0.01 * (high - low)) else math.inf
    if values.dtype.kind == "u":
        floor = 0.0
    return Quantization(step, low % step if step else 0.0, floor, saturation)


def find_quantization_step(values: NDArray[Any], tolerance: float = 0.0) -> float:
    """Return the step of the grid that pixel values lie on.

    Parameters
    ----------
    values : ndarray
        Pixel values of any shape; integers are assumed to lie on a grid.
    tolerance : float
        Grey levels closer together than this count as one.

    Returns
    -------
    float
        Step in grey levels, 0 if the values lie on no grid.

    Examples
    --------
    >>> find_quantization_step(5.0 * np.random.default_rng(0).poisson(20, 10_000))
    5.0
    >>> find_quantization_step(np.random.default_rng(0).normal(size=10_000))
    0.0
    """
    levels = np.unique(values)
    if tolerance:
        starts = np.flatnonzero(np.diff(levels, prepend=-np.inf) > tolerance)
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
    # floating-point numbers always lie on some grid, but on a very fine one few levels occur
    occupancy = len(levels) / (steps.sum() + 1)
    on_grid = occupancy > MIN_OCCUPANCY and np.allclose(steps, np.round(steps), atol=0.01)
    return step if on_grid else 0.0


def _is_clipped(values: NDArray[Any], end: float, inwards: float) -> bool:
    """Return whether far more pixels have the value of an end than lie right beside it."""
    at_end = int(np.sum(values == end))
    low, high = sorted((end, end + 1.5 * inwards))
    beside = int(np.sum((values >= low) & (values <= high))) - at_end
    return at_end >= MIN_PIXELS_AT_END and at_end > MIN_EXCESS_AT_END * beside
