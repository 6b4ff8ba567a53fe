"""Base classes of the families of counted photons, with their sampling and their fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..errors import UserError
from .base import Array
from .family import NoiseFamily
from .fitting import READ_NOISE, FittedParameters, Start, line_through

if TYPE_CHECKING:
    from torch import Tensor

# numpy draws counts of 64 bits
MAX_COUNTS = 1e18


class WithOffset(NoiseFamily):
    """Base class of families whose y has the mean x + offset."""

    # a field of each subclass, which takes the place of the property of a model
    offset: float = 0.0

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x] = x + offset."""
        return x + self.offset

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the x that has this E[y | x]."""
        return mean - self.offset


class Counting(WithOffset):
    """Base class of families of counted photons."""

    is_counting: ClassVar[bool] = True


def draw_counts(x: Array, gain: float, rng: np.random.Generator) -> Array:
    """Draw Poisson counts of mean x / gain; an x below 0 counts as 0.

    Parameters
    ----------
    x : ndarray
        Clean grey levels.
    gain : float
        Grey levels per count.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int

    Raises
    ------
    UserError
        If a count would not fit into 64 bits.

    Examples
    --------
    >>> draw_counts(np.array([0.0, -3.0]), 2, np.random.default_rng(0)).tolist()
    [0, 0]
    """
    mean = np.maximum(np.asarray(x, dtype=np.float64), 0) / gain
    if not mean.max(initial=0) <= MAX_COUNTS:
        raise UserError(f"gain={gain:g} is too small for grey levels of up to {np.max(x):g}")
    counts: Array = rng.poisson(mean)
    return counts


def fitted_as_counts(excess: float = 1.0) -> tuple[FittedParameters, ...]:
    """Return the sets of parameters to fit to counts: with and without offset and read noise.

    Parameters
    ----------
    excess : float
        Excess noise factor: the variance is ``excess × gain × x``. If above 1, it is set as a fixed
        parameter of the family.

    Returns
    -------
    tuple of FittedParameters
    """
    every = ("gain", "offset", READ_NOISE)
    subsets = (("gain",), ("gain", "offset"), ("gain", READ_NOISE), every)
    fixed = {"excess": excess} if excess > 1 else {}
    bounds = {"offset": (-np.inf, np.inf)}
    return tuple(
        FittedParameters(
            names, _start(names, excess), bounds, fixed, () if names == every else every
        )
        for names in subsets
    )


def _start(names: tuple[str, ...], excess: float) -> Start:
    def start(mean: Array, variance: Array) -> Sequence[float]:
        if names == ("gain",):
            return [float(np.median(variance / np.maximum(mean, 1e-9))) / excess]
        slope, intercept = line_through(mean, variance)
        if "offset" in names:
            slope = max(slope, 0.01 * float(np.median(variance)) / float(np.ptp(mean) + 1))
            read_noise = 0.1 * float(np.sqrt(variance.min()))
            values = {"offset": -intercept / slope, READ_NOISE: read_noise}
        else:
            slope = max(slope, 1e-6)
            values = {READ_NOISE: float(np.sqrt(variance.min()))}
        values["gain"] = slope / excess
        return [values[name] for name in names]

    return start
