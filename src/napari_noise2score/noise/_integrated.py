"""Probabilities of bins for noise whose cumulative distribution has no closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ._torch import torch

if TYPE_CHECKING:
    from torch import Tensor

CELLS = 160  # into which the range of y is divided


def integrated_bins(
    density: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, edges: Tensor
) -> Tensor:
    """Return the probabilities of bins by integrating a density of y, one for each x.

    It is integrated by Simpson's rule over cells of y, and interpolated within them with its slope.

    Parameters
    ----------
    density : callable
        Maps y of shape ``(x, points)`` to their density, up to a factor.
    low, high : Tensor
        Range outside of which the probability counts as 0, shape ``(x, 1)``.
    edges : Tensor
        Rising edges of the bins, shape ``(bins + 1,)``.

    Returns
    -------
    Tensor
        Of shape ``(x, bins)``.

    Examples
    --------
    >>> import torch
    >>> zero, one = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    >>> integrated_bins(lambda y: 2 * y, zero, one, torch.tensor([0, 0.5, 1]).double())
    tensor([[0.2500, 0.7500]], dtype=torch.float64)
    """
    step = (high - low) / CELLS
    points = density(low + step / 2 * torch.arange(2 * CELLS + 1).to(low)) * step
    cell = (points[:, :-1:2] + 4 * points[:, 1::2] + points[:, 2::2]) / 6
    total = cell.sum(1, keepdim=True)
    slope = points[:, ::2] / total
    cdf = torch.nn.functional.pad(torch.cumsum(cell, 1) / total, (1, 0))
    at = ((edges - low) / step).clamp(0, CELLS)
    left = at.long().clamp(max=CELLS - 1)
    t = at - left
    start, rise = cdf.gather(1, left), (cell / total).gather(1, left)
    first, last = slope.gather(1, left), slope.gather(1, left + 1)
    cubic = first + t * (3 * rise - 2 * first - last + t * (first + last - 2 * rise))
    cdf_at_edges: Tensor = start + t * cubic
    return cdf_at_edges.diff(dim=1).clamp(min=0)
