"""Variance and third moment of noise that is clipped at the floor of the grey levels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from ..noise.base import Array
from ..noise.family import NoiseFamily

# clean grey levels that are tried, from this many standard deviations below the floor, and bins of
# y, up to this many above the brightest
CLEAN, BELOW = 48, 2.0
BINS, ABOVE = 128, 8.0


class PixelsAtFloor(NamedTuple):
    """Single pixels at the lowest grey level that can be recorded.

    Attributes
    ----------
    below : float
        Grey level below which y is recorded as that level.
    share : float
        Share of such pixels whose neighbours are all above it.
    level : float
        The lowest grey level; the same as `below` if grey levels are not rounded.
    """

    below: float
    share: float
    level: float


def clipped_cumulants(
    noise: NoiseFamily, mean: Array, at_floor: PixelsAtFloor
) -> tuple[Array, Array]:
    """Return variance and third central moment of clipped y as functions of its mean.

    Parameters
    ----------
    noise : NoiseFamily
        The noise before clipping; its variance is the same at all grey levels.
    mean : ndarray
        Mean of what is recorded, in grey levels, shape ``(bins,)``.
    at_floor : PixelsAtFloor
        Where it is clipped.

    Returns
    -------
    variance, third : ndarray
        In grey levels squared and cubed, of the same shape.

    Examples
    --------
    >>> from napari_noise2score.noise import Gaussian
    >>> floor = PixelsAtFloor(0.0, 0.1, 0.0)
    >>> variance, third = clipped_cumulants(Gaussian(sigma=10), np.array([4.0, 100.0]), floor)
    >>> variance.round(), bool(third[0] > 100 > abs(third[1]))
    (array([ 34., 100.]), True)
    """
    sigma = float(np.sqrt(noise.cumulants(mean)[0].max()))
    top = float(mean.max())
    x = torch.linspace(at_floor.below - BELOW * sigma, top + sigma, CLEAN, dtype=torch.float64)
    edges = torch.linspace(at_floor.below, top + ABOVE * sigma, BINS + 1, dtype=torch.float64)
    below = noise.cdf(edges[None, :1], x[:, None])
    inner = noise.bin_probabilities(edges, x)
    probability = torch.cat([below, inner, (1 - below - inner.sum(1, keepdim=True))], 1)
    level = torch.tensor([at_floor.level], dtype=torch.float64)
    y = torch.cat([level, (edges[1:] + edges[:-1]) / 2, edges[-1:]])
    means = probability @ y
    from_mean = y - means[:, None]
    # without the variance that the width of the bins adds
    width = float(edges[1] - edges[0])
    added = inner.sum(1) * width**2 / 12
    variance = (probability * from_mean**2).sum(1) - added
    third = (probability * from_mean**3).sum(1)
    return np.interp(mean, means, variance), np.interp(mean, means, third)
