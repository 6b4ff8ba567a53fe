"""Base class of sums of counted pulses of random height, and the series of their density."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ._counting import WithOffset
from ._torch import torch

if TYPE_CHECKING:
    from torch import Tensor

# number of terms of the series over the number of pulses, and their range in standard deviations
TERMS = 64
MAX_DEVIATION = 8
# lower bound of y above the offset in computations, in grey levels
MIN_SIGNAL = 1e-12
# x is limited to this many times y, as a wrong score can lead to a division by 0
MAX_RATIO = 1000


class Pulses(WithOffset):
    """Base class of noise families: y is the offset plus a sum of pulses, possibly an empty one."""

    def bin_centers(self, edges: Tensor) -> Tensor:
        """Return a representative y of each bin: the offset for the bin that contains it."""
        dark = (edges[:-1] <= self.offset) & (edges[1:] > self.offset)
        return torch.where(dark, self.offset, super().bin_centers(edges))


def pulse_series(log_ratio: Tensor, shape: float, plus: float = 0) -> tuple[Tensor, Tensor]:
    """Return numbers n and ``log(e^(n log_ratio) / (n! Γ(n shape + plus)))``.

    Only the terms around the largest are computed (Dunn & Smyth, *Stat. Comput.* 15, 2005,
    doi:10.1007/s11222-005-4070-y).

    Parameters
    ----------
    log_ratio : Tensor
        Of any shape.
    shape : float
        Shape of the Gamma distribution of a pulse's height.
    plus : float
        0 for the density, 1 for its integral from 0.

    Returns
    -------
    number, term : Tensor
        Of the shape of log_ratio with a new last axis.
    """
    peak = torch.exp((log_ratio - shape * math.log(shape)) / (1 + shape))
    spread = torch.sqrt(peak / (1 + shape))
    first = (peak - MAX_DEVIATION * spread).clamp(min=1).floor()
    # Where the terms extend over many n they are as smooth as a normal density, and every k-th
    # of them, k below one standard deviation, gives the sum to nine digits.
    stride = (peak + MAX_DEVIATION * (spread + 1) - first).clamp(min=TERMS - 1) / (TERMS - 1)
    number = first[..., None] + stride[..., None] * torch.arange(TERMS).to(log_ratio)
    terms = number * log_ratio[..., None] - torch.lgamma(number + 1)
    terms = terms - torch.lgamma(number * shape + plus)
    return number, terms + torch.log(stride)[..., None]
