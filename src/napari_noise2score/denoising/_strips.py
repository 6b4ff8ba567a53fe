"""Solve a plane strip by strip for one noise model after another.

The steps of solving read and write whole planes many times. Strips fit the caches of a processor,
and every core solves strips of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..noise import NoiseModel
from ..solve.bias_correction import BiasCorrection, BinPosition
from ..solve.pooling import neighbour_mean, pooled_solution
from ..solve.table import GridPosition, Table
from ._one_core import map_on_cores

MAX_STRIP_PIXELS = 2**18  # on a CPU


class Strip(NamedTuple):
    """Some rows of a plane, with a margin around them, and what is the same for all noise models.

    Attributes
    ----------
    y : Tensor
        Noisy grey levels, shape ``(1, channels, ..., Y, X)``.
    position : GridPosition
        Of the pixels, on the table.
    between : BinPosition or None
        Of the pixels between the bins of the bias correction, None without it.
    """

    y: Tensor
    position: GridPosition
    between: BinPosition | None


def make_strips(
    y: Tensor, score: Tensor, margin: int, table: Table, correction: BiasCorrection | None
) -> list[Strip]:
    """Cut a plane into strips, and locate their pixels on a table.

    Parameters
    ----------
    y, score : Tensor
        Noisy grey levels and the score of T(y), shape ``(1, channels, ..., Y, X)``.
    margin : int
        Pixels along Y and X around the plane, as many as a solution depends on.
    table : Table
        A solution for any noise model; tables of the same ``grid`` share the strips.
    correction : BiasCorrection or None
        One for any noise model.

    Returns
    -------
    list of Strip
        Their margins overlap.
    """
    height, width = (n - 2 * margin for n in y.shape[-2:])
    rows = height
    if y.device.type == "cpu":
        rows = max(1, MAX_STRIP_PIXELS // (width * y[0, ..., 0, 0].numel()))
    strips = []
    for first in range(0, height, rows):
        at = (..., slice(first, first + rows + 2 * margin), slice(None))
        own = y[at].contiguous()
        between = correction and correction.locate(neighbour_mean(own))
        strips.append(Strip(own, table.locate(own, score[at]), between))
    return strips


def solve_strips(
    strips: list[Strip],
    margin: int,
    table: Table,
    noise: NoiseModel,
    error: float,
    correction: BiasCorrection | None,
) -> Tensor:
    """Return the solution of a plane for a noise model, as `pooled_solution` without its bias.

    Parameters
    ----------
    strips : list of Strip
        As from `make_strips`.
    margin : int
        That of the strips.
    table, correction
        Those for the noise model.
    noise : NoiseModel
        The noise model.
    error : float
        Error of the score in units of 1 / z.

    Returns
    -------
    Tensor
        x in grey levels, float32, shape ``(1, channels, ..., Y, X)``, without the margin.
    """
    inner = slice(margin, -margin or None)

    def solve(strip: Strip) -> Tensor:
        x = pooled_solution(table, strip.position, strip.y, noise, error)
        if correction is not None and strip.between is not None:
            x = correction.apply(x, strip.between)
        return x[..., inner, inner]

    if strips[0].y.device.type == "cpu":
        return torch.cat(map_on_cores(solve, strips), dim=-2)
    return torch.cat([solve(strip) for strip in strips], dim=-2)
