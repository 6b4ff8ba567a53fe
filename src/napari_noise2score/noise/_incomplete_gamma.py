"""The regularized incomplete gamma function of one shape, fast enough for a whole table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ._torch import torch

if TYPE_CHECKING:
    from torch import Tensor

KNOTS = 4096
# e^−41 is below the rounding of a double: there the function is 0 or 1
LOG_ROUNDING = 41


def incomplete_gamma(shape: float, t: Tensor) -> Tensor:
    """Return the regularized lower incomplete gamma function P(shape, t).

    It is interpolated over log t by cubic pieces from its values and slopes, to ten digits, because
    direct evaluation would take most of the time of making a table.

    Parameters
    ----------
    shape : float
        Above 0.
    t : Tensor
        At least 0, of any shape.

    Returns
    -------
    Tensor
        float64, of the shape of t.

    Examples
    --------
    >>> import torch
    >>> round(float(incomplete_gamma(1, torch.tensor(1.0))), 6)  # 1 − 1/e
    0.632121
    """
    # Chernoff's bounds on where it is 0 or 1 to rounding
    spread = math.sqrt(2 * LOG_ROUNDING * shape)
    low = (math.lgamma(shape + 1) - LOG_ROUNDING) / shape
    low = max(low, math.log(shape - spread)) if shape > spread else low
    high = math.log(shape + spread + LOG_ROUNDING)
    knots = torch.linspace(low, high, KNOTS, dtype=torch.float64, device=t.device)
    step = (high - low) / (len(knots) - 1)
    value = torch.special.gammainc(torch.full_like(knots, shape), knots.exp())
    slope = torch.exp(shape * knots - knots.exp() - math.lgamma(shape)) * step
    rise, left, right = value.diff(), slope[:-1], slope[1:]
    at = (torch.log(t.double()) - low).div_(step).clamp_(0, len(knots) - 1)
    piece = at.int().clamp_(max=len(knots) - 2).flatten()
    at = at.flatten().sub_(piece)
    found = (left + right - 2 * rise)[piece]
    for coefficient in (3 * rise - 2 * left - right, left, value):
        found.mul_(at).add_(coefficient[piece])
    probability: Tensor = found.reshape(t.shape)
    return probability
