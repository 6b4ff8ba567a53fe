"""Probe images by which the diagonal of a Jacobian is measured, many pixels at once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor


def probes(like: Tensor, spacing: tuple[int, int, int]) -> Iterator[tuple[Any, Tensor]]:
    """Yield images that are ±1 at a grid of pixels and 0 elsewhere, until each pixel was once ±1.

    Along Z the signs alternate from pixel to pixel of the grid, along Y and X in every other row
    and column of grids. In the mean over a few pixels, the influence of a probed pixel on its
    neighbours then cancels.

    Parameters
    ----------
    like : Tensor
        Image of shape ``(n, channels, *space)`` that is to be probed.
    spacing : tuple of int
        Distance of the pixels of one grid along Z, Y and X.

    Yields
    ------
    at : tuple of slice and int
        Index of the pixels that are ±1.
    probe : Tensor
        The image, of the shape and type of `like`.

    Examples
    --------
    >>> at, probe = next(probes(torch.zeros(1, 1, 4, 4), (1, 2, 2)))
    >>> probe[0, 0].int().tolist()
    [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    """
    steps = spacing[5 - like.ndim :]
    for channel, *start in product(range(like.shape[1]), *map(range, steps)):
        probe = torch.zeros_like(like)
        grid = tuple(slice(a, None, n) for a, n in zip(start, steps, strict=True))
        at: Any = (slice(None), channel, *grid)
        probe[at] = 1
        for axis, (first, step) in enumerate(zip(start, steps, strict=True), 2):
            if first % 2 or axis < like.ndim - 2:
                odd = torch.arange(like.shape[axis], device=like.device) // step % 2
                probe *= (1 - 2 * odd).reshape([-1] + [1] * (like.ndim - 1 - axis))
        yield at, probe
