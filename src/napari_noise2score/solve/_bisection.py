"""Invert an increasing function that is known at columns, for all pixels at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def bisected(f: Callable[[Tensor], Tensor], s: Tensor, levels: Tensor, column: Tensor) -> Tensor:
    """Return the x at which an increasing f equals s.

    Parameters
    ----------
    f : callable
        Returns f at the x of a column for each pixel; increasing.
    s : Tensor
        Values to be found.
    levels : Tensor
        The x of the columns, increasing, shape ``(columns,)``.
    column : Tensor
        Zeros of the shape of s, of the integer type that f takes.

    Returns
    -------
    Tensor
        x, of the shape of s, linear between columns.

    Examples
    --------
    >>> levels = torch.arange(5.0)
    >>> bisected(lambda i: levels[i] ** 2, torch.tensor([6.5]), levels, torch.tensor([0]))
    tensor([2.5000])
    """
    count = len(levels)
    # one bit of the last column whose f is below s at a time
    for bit in reversed(range((count - 2).bit_length())):
        further = (column + (1 << bit)).clamp(max=count - 2)
        column = torch.where(f(further) < s, further, column)
    left, right = f(column), f(column + 1)
    share = ((s - left) / (right - left)).clamp(0, 1)
    return torch.lerp(levels[column], levels[column + 1], share)
