"""Solve ``s = f(x, z)`` exactly for any noise model, by one look-up per pixel.

The network estimates the score of ``z' = T(y) + σ_a u``. For a pixel with the clean value x, the
density of z' is ``Σ_y p(y | x) N(z'; T(y), σ_a²)``. Its score f(x, z') is a function of two numbers
that increases with x. It is therefore tabulated and inverted once for each noise model; every pixel
is then looked up as ``x = G(z, s)``. There is no series expansion and no assumption of weak noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from ..noise.base import NoiseModel
from ._bisection import bisected
from ._score_grid import (
    MAX_DEVIATION,
    invert_rows,
    make_increasing,
    mean_correction_of,
    tabulate_noise,
    tabulated_scores,
)
from .quantization import UNQUANTIZED, Quantization
from .transform import Transform

COLUMNS = 385  # of the table, one for each score
# Range of z, in units of the noise. Memory grows with its square, here to a few gigabytes.
MAX_SPAN = 2000
# The columns of the table are close together for scores below this: noise far stronger than that of
# the data has all of its scores there.
LINEAR_RANGE = 0.1
ASINH_OF_LIMIT = math.asinh(MAX_DEVIATION / LINEAR_RANGE)
# Largest error of interpolating x in the table, in units of the noise.
INTERPOLATION_TOLERANCE = 0.02
# A pixel is an outlier if a darker one is less likely than this (Gaussian: 3 standard deviations).
OUTLIER_PROBABILITY = 0.00135
# Change of the score by which the conditioning of the solution is measured, in units of 1 / z.
CONDITIONING_STEP = 0.3
# Share of the squared error of the score that a pixel as well conditioned as under Gaussian noise
# has in common with its neighbours, so that pooling does not lower it. Measured, see decision 89.
COMMON_ERROR = 0.5


class GridPosition(NamedTuple):
    """Positions of the pixels of an image on the grid of a table.

    Attributes
    ----------
    s, row : Tensor
        Score and fractional row of each pixel, float32, of the shape of the image.
    at : Tensor
        Column and row, scaled to −1 ... 1 as `torch.nn.functional.grid_sample` expects them,
        float32, shape ``(1, 1, pixels, 2)``.
    cell : Tensor
        Number of the cell that holds the pixel, int32, of the shape of the image.
    outside, excess : Tensor
        Flat indices of the pixels outside the grid, int64, and the grey levels by which they are
        brighter (above 0) or darker (below 0) than its last row, float32, shape ``(pixels,)``.
    """

    s: Tensor
    row: Tensor
    at: Tensor
    cell: Tensor
    outside: Tensor
    excess: Tensor


@dataclass(frozen=True)
class Table:
    """The solution x on a grid of z = T(y) and score, together with f(x, z).

    f is always smooth in z at a given x. The solution x at a given score is not smooth where noise
    masks the signal or where x reaches its limit. There it is found by searching f for each pixel;
    elsewhere it is interpolated in the table. The two are blended in the cells between, so that x
    has no steps, which rounding would make visible.

    Attributes
    ----------
    values : Tensor
        Solution x in grey levels, float32, shape ``(z, score)``.
    searched : Tensor
        Weight of the searched x, 0 or 1, float32, shape ``(z, score)``.
    mean_correction : Tensor or None
        Difference of the posterior mean from x in grey levels, float32, shape ``(z, score)``; None
        if it is not applied.
    conditioning : Tensor
        |∂x/∂s| in grey levels, over a step of the score as large as its errors, at least the width
        of the noise, less the part of the error that neighbours share, float32, shape
        ``(z, score)``.
    needs_search : Tensor
        Whether x is searched for at any corner of a cell, bool, shape ``(z - 1, score - 1)``.
    scores : Tensor
        f(x, z), increasing with x, float32, shape ``(z, x)``.
    levels : Tensor
        The x of the columns of `scores` in grey levels, increasing, float32, shape ``(x,)``.
    transform : Transform
        The transform T.
    low, high : float
        z of the first and the last row.
    """

    values: Tensor
    searched: Tensor
    mean_correction: Tensor | None
    conditioning: Tensor
    needs_search: Tensor
    scores: Tensor
    levels: Tensor
    transform: Transform
    low: float
    high: float

    def __call__(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the solution x.

        Parameters
        ----------
        y, s : Tensor
            Noisy grey levels and the score of T(y), of one shape.

        Returns
        -------
        Tensor
            Solution x in grey levels, float32, of that shape.
        """
        return self.look_up(self.locate(y, s))[0]

    @property
    def grid(self) -> tuple[Transform, float, float, int]:
        """Everything `locate` depends on; the same for all noise models of one score model."""
        return self.transform, self.low, self.high, len(self.values)

    def locate(self, y: Tensor, s: Tensor) -> GridPosition:
        """Return the positions of pixels on the grid; tables of the same `grid` share them.

        Parameters
        ----------
        y, s : Tensor
            Noisy grey levels and the score of T(y), of one shape.

        Returns
        -------
        GridPosition
            To be passed to `look_up`.
        """
        y, s = y.float(), s.float().clamp(-MAX_DEVIATION, MAX_DEVIATION)
        z = self.transform.forward(y)
        row, column = self._row_and_column(z, s)
        cell = row.long().clamp(max=len(self.values) - 2) * (COLUMNS - 1)
        cell += column.long().clamp(max=COLUMNS - 2)
        # outside the table x follows y, from the solution of the nearest row
        outside = ((z < self.low) | (z > self.high)).flatten().nonzero().flatten()
        edge = self.transform.inverse(z.flatten()[outside].clamp(self.low, self.high))
        excess = y.flatten()[outside] - edge
        return GridPosition(s, row, self._sampling_grid(row, column), cell.int(), outside, excess)

    def look_up(self, position: GridPosition) -> tuple[Tensor, Tensor]:
        """Return the solution and its conditioning at positions from `locate`.

        Parameters
        ----------
        position : GridPosition
            Positions on a table of the same `grid`.

        Returns
        -------
        x, conditioning : Tensor
            The solution, and its `conditioning`, in grey levels, float32, of the shape of the
            image.
        """
        x, conditioning = _interpolate(torch.stack([self.values, self.conditioning]), position.at)
        if self.needs_search.any():
            self._search_where_needed(x, position)
        if self.mean_correction is not None:
            x += _interpolate(self.mean_correction[None], position.at)[0]
        x.index_add_(0, position.outside, position.excess)
        return x.reshape(position.s.shape), conditioning.reshape(position.s.shape)

    def variance(self, y: Tensor, s: Tensor, slope: Tensor) -> Tensor:
        """Return the posterior variance of the solution.

        It is ``Var[x | z] ≈ (∂G/∂s) (∂G/∂z + ∂G/∂s ∂s/∂z)``, the second-order Tweedie formula with
        the delta method.

        Parameters
        ----------
        y, s, slope : Tensor
            Noisy grey levels, the score of z = T(y), and ∂s/∂z, the derivative of a pixel's score
            by the pixel's own z, of one shape.

        Returns
        -------
        Tensor
            Variance of x in grey levels squared, float32, of that shape.
        """
        dz, ds = (
            (self.high - self.low) / (len(self.values) - 1),
            2 * MAX_DEVIATION / (COLUMNS - 1),
        )
        z = self.transform.forward(y.float()).clamp(self.low + dz, self.high - dz)
        s = s.float().clamp(ds - MAX_DEVIATION, MAX_DEVIATION - ds)

        def x(z: Tensor, s: Tensor) -> Tensor:
            at = self._sampling_grid(*self._row_and_column(z, s))
            return _interpolate(self.values[None], at)[0].reshape(s.shape)

        by_s = (x(z, s + ds) - x(z, s - ds)) / (2 * ds)
        by_z = (x(z + dz, s) - x(z - dz, s)) / (2 * dz)
        return (by_s * (by_z + by_s * slope)).clamp(min=0)

    def _row_and_column(self, z: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fractional row and column of the nearest point within the grid."""
        last = len(self.values) - 1
        row = (z - self.low) * (last / (self.high - self.low))
        column = (torch.asinh(s / LINEAR_RANGE) / ASINH_OF_LIMIT + 1) * ((COLUMNS - 1) / 2)
        return row.clamp(0, last), column.clamp(0, COLUMNS - 1)

    def _sampling_grid(self, row: Tensor, column: Tensor) -> Tensor:
        """Return column and row scaled to −1 ... 1, as `grid_sample` expects them."""
        scale = torch.tensor([COLUMNS - 1, len(self.values) - 1], device=row.device)
        at = torch.stack([column, row], dim=-1) * (2 / scale) - 1
        return at.reshape(1, 1, -1, 2)

    def _search_where_needed(self, x: Tensor, position: GridPosition) -> None:
        """Replace the x of pixels in cells in which it is not smooth, 1-D, in place."""
        cells = self.needs_search.to(x.device).flatten().index_select(0, position.cell.flatten())
        pixels = cells.nonzero().flatten()
        if len(pixels):
            found = self._search(position.row.flatten()[pixels], position.s.flatten()[pixels])
            weight = _interpolate(self.searched[None], position.at[:, :, pixels])[0]
            x[pixels] = torch.lerp(x[pixels], found, weight)

    def _search(self, row: Tensor, s: Tensor) -> Tensor:
        """Return the x at which f interpolated between two rows equals s, by bisection."""
        scores, levels = self.scores.to(s.device).flatten(), self.levels.to(s.device)
        count = len(levels)
        first = row.int().clamp_(max=len(self.scores) - 2)
        fraction, start = row - first, first * count
        # neighbours in two successive rows side by side, so that one look-up reads both
        pairs = torch.stack([scores[:-count], scores[count:]], dim=1)

        def f(column: Tensor) -> Tensor:
            upper, lower = pairs.index_select(0, start + column).unbind(1)
            return torch.lerp(upper, lower, fraction)

        return bisected(f, s, levels, torch.zeros_like(start))


@lru_cache(maxsize=16)
def make_table(
    noise: NoiseModel,
    transform: Transform,
    sigma_a: float,
    low: float,
    high: float,
    quantization: Quantization = UNQUANTIZED,
) -> Table:
    """Tabulate the solution of ``s = f(x, T(y))`` for a noise model.

    Parameters
    ----------
    noise : NoiseModel
        The noise p(y | x).
    transform : Transform
        The transform T to the coordinates in which the score was learned.
    sigma_a : float
        Perturbation σ_a of the training, in units of z: Gaussian noise that the table accounts for.
    low, high : float
        Range of the noisy grey levels y to be solved.
    quantization : Quantization
        How y was digitized.

    Returns
    -------
    Table
        Callable with y and the score of T(y), returns x. The last 16 tables are cached, so that the
        images of one job share one.

    Raises
    ------
    UserError
        If the grey levels span more than `MAX_SPAN` standard deviations of the noise.

    Notes
    -----
    The score is ``f(x, z) = (E[T(y) | x, z] − z) / σ_a²`` (Tweedie's formula), which is bounded.
    Where rounding or binning makes it decrease with x, a running maximum replaces it. For outliers
    darker than their x it increases at least half as fast as for Gaussian noise. x is limited to
    values whose noisy mean is within the rows: otherwise a small error of the score of an outlier
    (a dark pixel in strong speckle, a pixel at the floor) could correspond to an x far beyond all
    grey levels, up to infinity. The score is the mean of f over the posterior of x, so that the
    posterior mean is ``G + ½ ∂²G/∂s² Var[f | z]``. The second term is added for noise models that
    declare a typical ``Var[f | z]`` (`Rayleigh`).

    Examples
    --------
    >>> from napari_noise2score.noise import Gaussian
    >>> solve = make_table(Gaussian(10), Transform(c0=100), sigma_a=0.3, low=0, high=255)
    >>> y, s = torch.tensor([100.0]), torch.tensor([-1.0])
    >>> solve(y, s)  # y + (σ² + σ_a²) s, in grey levels: 100 - 10 × 1.09
    tensor([89.0978])
    """
    ends = transform.forward(torch.tensor([low, high], dtype=torch.float64))
    # a margin, as the pixels to be solved may exceed the range of those surveyed
    first, last = (ends + torch.tensor([-2.0, 2.0]) * (1 + sigma_a)).tolist()
    check_span(torch.tensor([first, last]), low, high)
    rows = torch.linspace(first, last, 2 + int((last - first) * 3 / sigma_a), dtype=torch.float64)
    x, masses, z, sigma = tabulate_noise(noise, transform, sigma_a, first, last, quantization)
    f, density = tabulated_scores(masses, z, sigma, rows)
    mean = noise.mean(x)
    expected = transform.forward(mean)
    variance = noise.variance(x) * transform.slope(mean) ** 2 + sigma_a**2
    # f of Gaussian noise replaces it in rows whose probability is 0
    gaussian = ((expected[:, None] - rows) / variance[:, None]).float()
    f = torch.where(f.isnan(), gaussian, f)
    darker = density.cumsum(1) < OUTLIER_PROBABILITY * density.sum(1, keepdim=True)
    # a clipped grey level does not change with x
    recorded = transform.forward(mean.clamp(quantization.floor, quantization.saturation))
    f = make_increasing(f, torch.diff(recorded, prepend=recorded[:1]) / variance, darker)
    f, levels = f.T.contiguous(), x.float()
    columns = torch.linspace(-1, 1, 2 * COLUMNS - 1) * ASINH_OF_LIMIT
    targets = LINEAR_RANGE * torch.sinh(columns)
    values = invert_rows(f, targets[::2], levels)
    conditioning = _conditioning(
        values, targets[::2].contiguous(), transform.slope(transform.inverse(rows)), sigma_a
    )
    spread = noise.posterior_score_variance / (1 + sigma_a**2) ** 2
    correction = mean_correction_of(f, targets[::2], levels, values, spread) if spread else None
    # x in the middle of each cell, by interpolation and by searching
    read = (values[:-1, :-1] + values[:-1, 1:] + values[1:, :-1] + values[1:, 1:]) / 4
    found = invert_rows((f[1:] + f[:-1]) / 2, targets[1::2], levels)
    width = 1 / transform.slope(noise.mean(read.double()))
    missed = (read - found).abs() > INTERPOLATION_TOLERANCE * width
    searched = _any_of_four(F.pad(missed, (1, 1, 1, 1)))
    cells, weight = _any_of_four(searched), searched.float()
    return Table(values, weight, correction, conditioning, cells, f, levels, transform, first, last)


def _any_of_four(flags: Tensor) -> Tensor:
    """Return whether any of 2×2 neighbours is true, of shape smaller by 1."""
    rows = flags[1:] | flags[:-1]
    return rows[:, 1:] | rows[:, :-1]


def _conditioning(values: Tensor, targets: Tensor, slope: Tensor, sigma_a: float) -> Tensor:
    """Return |∂x/∂s| for each row and target score, at least the width 1 / T' of the noise.

    It is lowered by the share of the error that neighbours have in common: `COMMON_ERROR` at the
    ``(1 + σ_a²) / T'`` of Gaussian noise and below, nothing far above.
    """
    last = len(targets) - 2
    sides = []
    for by in (-CONDITIONING_STEP, CONDITIONING_STEP):
        score = targets + by
        first = (torch.searchsorted(targets, score) - 1).clamp(0, last)
        fraction = (score - targets[first]) / (targets[first + 1] - targets[first])
        sides.append(torch.lerp(values[:, first], values[:, first + 1], fraction.clamp(0, 1)))
    conditioning = (sides[1] - sides[0]) / (2 * CONDITIONING_STEP)
    width = (1 / slope).float()[:, None]
    squared = torch.maximum(conditioning, width).square()
    gaussian = ((1 + sigma_a**2) * width).square()
    return (squared - COMMON_ERROR * torch.minimum(squared, gaussian)).sqrt()


def check_span(ends: Tensor, low: float, high: float) -> None:
    """Raise a `UserError` if a range of grey levels is too wide to be tabulated.

    Parameters
    ----------
    ends : Tensor
        The two ends of the range, in units of z.
    low, high : float
        The grey levels, for the message.

    Examples
    --------
    >>> check_span(torch.tensor([0.0, 100.0]), 0, 255)
    """
    span = float(ends[1] - ends[0])
    if span > MAX_SPAN:
        raise UserError(
            f"the grey levels from {low:.4g} to {high:.4g} span {span:.0f} standard "
            f"deviations of the noise, but at most {MAX_SPAN} can be solved for: clip extreme grey "
            "levels, and train again"
        )


def _interpolate(grids: Tensor, at: Tensor) -> Tensor:
    """Interpolate grids of shape ``(n, z, score)`` bilinearly, shape ``(n, pixels)``."""
    grids = grids.to(at.device)[None]
    return F.grid_sample(grids, at, padding_mode="border", align_corners=True)[0, :, 0]
