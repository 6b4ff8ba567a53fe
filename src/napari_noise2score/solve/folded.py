"""Solve for the clean image by operations on whole images, for programs other than this one.

A `Table` selects the pixels that need a search. Here every pixel takes the same path, so that the
operations can be recorded once, for images of any size, and written to ONNX or TorchScript.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..noise import NoiseModel
from ._bisection import bisected
from ._score_grid import MAX_DEVIATION
from .bias_correction import BiasCorrection
from .pooling import limited_everywhere, neighbour_mean, pool
from .table import ASINH_OF_LIMIT, COLUMNS, LINEAR_RANGE, Table

MOMENT_POINTS = 4096  # at which mean and variance of the noise are tabulated


class FoldedSolver(nn.Module):
    """What `pooled_solution` and a bias correction compute, for one noise model.

    Parameters
    ----------
    table : Table
        The solution for the noise model.
    noise : NoiseModel
        The noise p(y | x), independent between pixels.
    error : float
        Error of the score in units of 1 / z, by which x is pooled; 0 if it is not.
    correction : BiasCorrection or None
        What is added to pooled x.

    Examples
    --------
    >>> from napari_noise2score.noise import Gaussian
    >>> from napari_noise2score.solve.table import make_table
    >>> from napari_noise2score.solve.transform import Transform
    >>> noise = Gaussian(10)
    >>> table = make_table(noise, Transform(c0=100), sigma_a=0.3, low=0, high=255)
    >>> y, s = torch.full((1, 1, 8, 8), 100.0), torch.full((1, 1, 8, 8), -1.0)
    >>> folded = FoldedSolver(table, noise, 0.0, None)
    >>> bool(torch.allclose(folded(y, s), table(y, s)))
    True
    """

    def __init__(
        self, table: Table, noise: NoiseModel, error: float, correction: BiasCorrection | None
    ):
        super().__init__()
        self.transform, self.low, self.high = table.transform, table.low, table.high
        ends = torch.tensor([table.low, table.high], dtype=torch.float64)
        self.ends = table.transform.inverse(ends).tolist()  # in grey levels
        self.rows, self.error, self.offset = len(table.values), error, noise.offset
        self.correction, self.lowest = correction, noise.lowest
        grids = [table.values, table.conditioning]
        if table.mean_correction is not None:
            grids.append(table.mean_correction)
        self.searches = bool(table.needs_search.any())
        if self.searches:
            # the weight of the searched x, and whether x is searched for in the cell of a pixel
            grids.append(table.searched)
            cells = torch.zeros_like(table.values)
            cells[:-1, :-1] = table.needs_search
            self.register_buffer("needs_search", cells.flatten())
            self.register_buffer("scores", table.scores.flatten().clone())
            self.register_buffer("levels", table.levels.clone())
        self.corrects_mean = table.mean_correction is not None
        self.register_buffer("grids", torch.stack(grids, dim=-1).flatten(0, 1))
        first, last = float(table.levels[0]), float(table.levels[-1])
        x = torch.linspace(first, last, MOMENT_POINTS, dtype=torch.float64)
        self.moments = _Moments(
            first, (last - first) / (MOMENT_POINTS - 1), noise.mean(x), noise.variance(x)
        )

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the clean grey levels, the offset included.

        Parameters
        ----------
        y, s : Tensor
            Noisy grey levels and the score of T(y), shape ``(n, channels, ..., Y, X)``. Pixels
            within `POOLING_REACH` of a border along Y and X depend on it.

        Returns
        -------
        Tensor
            float32, of that shape.
        """
        x, conditioning = self._look_up(y, s)
        if self.error:
            noise = _TabulatedNoise(self.moments, self.lowest)
            x = limited_everywhere(x, y, noise)  # type: ignore[arg-type]
            x, _ = pool(x, conditioning, self.error)
        if self.correction is not None:
            x = _without_bias(x, neighbour_mean(y), self.correction)
        return x + self.offset

    def _look_up(self, y: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the solution x and its conditioning."""
        s = s.clamp(-MAX_DEVIATION, MAX_DEVIATION)
        z = self.transform.forward(y)
        nearest = z.clamp(self.low, self.high)
        row = (nearest - self.low) * ((self.rows - 1) / (self.high - self.low))
        column = (_asinh(s / LINEAR_RANGE) / ASINH_OF_LIMIT + 1) * ((COLUMNS - 1) / 2)
        row, column = row.clamp(0, self.rows - 1), column.clamp(0, COLUMNS - 1)
        first_row = row.floor().clamp(max=self.rows - 2)
        first_column = column.floor().clamp(max=COLUMNS - 2)
        down, right = (row - first_row)[..., None], (column - first_column)[..., None]
        cell = first_row.long() * COLUMNS + first_column.long()
        grids: Tensor = self.grids  # type: ignore[assignment]
        upper = torch.lerp(grids[cell], grids[cell + 1], right)
        lower = torch.lerp(grids[cell + COLUMNS], grids[cell + COLUMNS + 1], right)
        found = torch.lerp(upper, lower, down)
        x = found[..., 0]
        if self.searches:
            searched = torch.lerp(x, self._search(first_row, row - first_row, s), found[..., -1])
            needs: Tensor = self.needs_search  # type: ignore[assignment]
            x = torch.where(needs[cell] > 0, searched, x)
        if self.corrects_mean:
            x = x + found[..., 2]
        # beyond the table x follows y, from the solution of the nearest row
        beyond = (y - self.ends[1]).clamp(min=0) + (y - self.ends[0]).clamp(max=0)
        return x + beyond, found[..., 1]

    def _search(self, first: Tensor, fraction: Tensor, s: Tensor) -> Tensor:
        """Return the x at which f interpolated between two rows equals s, as `Table` does."""
        scores: Tensor = self.scores  # type: ignore[assignment]
        levels: Tensor = self.levels  # type: ignore[assignment]
        count = len(levels)
        start = first.long() * count

        def f(column: Tensor) -> Tensor:
            at = start + column
            return torch.lerp(scores[at], scores[at + count], fraction)

        return bisected(f, s, levels, torch.zeros_like(start))


def _asinh(values: Tensor) -> Tensor:
    """Return the inverse hyperbolic sine by operations that ONNX has in every version."""
    size = values.abs()
    found = torch.log1p(size + size.square() / (1 + torch.sqrt(size.square() + 1)))
    return torch.where(values < 0, -found, found)


def _without_bias(x: Tensor, around: Tensor, correction: BiasCorrection) -> Tensor:
    """Return what `BiasCorrection.apply` does, without a search for the bin of each pixel."""
    shifts = []
    for channel, (at, values) in enumerate(zip(correction.at, correction.shift, strict=True)):
        key = around[:, channel]
        shift = torch.full_like(key, float(values[0]))
        for i in range(len(at) - 1):
            first, last = float(at[i]), float(at[i + 1])
            slope = float(values[i + 1] - values[i]) / max(last - first, 1e-12)
            shift = shift + slope * (key.clamp(first, last) - first)
        shifts.append(shift)
    return correction.moved(x, torch.stack(shifts, dim=1))


class _Moments(nn.Module):
    """Mean and variance of the noise at evenly spaced x, continued in straight lines."""

    def __init__(self, first: float, step: float, mean: Tensor, variance: Tensor):
        super().__init__()
        self.first, self.step = first, step
        self.register_buffer("values", torch.stack([mean, variance], dim=-1).float())

    def forward(self, x: Tensor) -> Tensor:
        """Return mean and variance, in this order along a last axis."""
        values: Tensor = self.values  # type: ignore[assignment]
        at = (x - self.first) / self.step
        cell = at.floor().clamp(0, len(values) - 2)
        i = cell.long()
        return torch.lerp(values[i], values[i + 1], (at - cell)[..., None])


class _TabulatedNoise(NamedTuple):
    """Mean, variance and lowest x of a noise model, as `limited_everywhere` uses them."""

    moments: _Moments
    lowest: float

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x]."""
        mean: Tensor = self.moments(x)[..., 0]
        return mean

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x]."""
        variance: Tensor = self.moments(x)[..., 1].clamp(min=0)
        return variance
