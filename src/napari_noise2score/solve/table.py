"""Solve ``s = f(x, z)`` exactly for any noise model, by one look-up per pixel.

The score network knows the score of ``z' = T(y) + σ_a u``. For a pixel of clean value x, the
density of z' is ``Σ_y p(y | x) N(z'; T(y), σ_a²)``; its score f(x, z') is a function of two
numbers that rises with x. So it is tabulated once for a noise setting, inverted once, and then
every pixel is read off as ``x = G(z, s)``. Nothing is expanded or assumed small.
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
from .quantization import UNQUANTIZED, Quantization
from .transform import Transform

SCORES = 385
# grey levels in units of the noise: a table takes memory as their square, here a few gigabytes
MAX_SPAN = 2000
REACH = 12.0
# within this score of 0 they lie close: noise far wider than that of the data has all of its there
NEAR = 0.1
# what reading x off may miss, in units of the noise
TOLERANCE = 0.02
# over such differences of the score its solution is taken to be bent
APART = 0.08
# what is so unlikely is an outlier, of 3 standard deviations if Gaussian
RARE = 0.00135
# a floor of x further below the grey levels, in units of their range, is none
FAR = 1e3


class Place(NamedTuple):
    """Where pixels lie on the grid of a table.

    Attributes
    ----------
    s, row : Tensor
        Score and row, as a fraction, of each pixel, of the shape of the image.
    at : Tensor
        Row and column as torch's sampling wants them, shape ``(1, 1, pixels, 2)``.
    cell : Tensor
        Number of the cell, int32, of the shape of the image.
    beyond, shift : Tensor
        Numbers of the pixels that are brighter or darker than the grid, and by how much.
    """

    s: Tensor
    row: Tensor
    at: Tensor
    cell: Tensor
    beyond: Tensor
    shift: Tensor


@dataclass(frozen=True)
class Table:
    """The solution x on a grid of z = T(y) and score, and f(x, z) itself.

    Of the two, f is smooth in z at a given x; x at a given score need not be, where the noise hides
    it or where it ends. There x is searched for in f, pixel by pixel; elsewhere it is read off, and
    in the cells between the two are blended: x has no steps, at which rounding would show.

    Attributes
    ----------
    values : Tensor
        Solution x in grey levels, float32, shape ``(z, score)``.
    searched : Tensor
        The share of x that is searched for, float32, shape ``(z, score)``, 0 or 1.
    bend : Tensor or None
        What is added to that x to make it the mean, float32, shape ``(z, score)``.
    rough : Tensor
        Whether any corner of a cell of the grid has x searched for, bool.
    scores : Tensor
        f in float32, rising with x, shape ``(z, x)``.
    levels : Tensor
        The x of its columns in grey levels, float32, rising.
    transform : Transform
        Coordinates of z.
    low, high : float
        z of the first and the last row.
    """

    values: Tensor
    searched: Tensor
    bend: Tensor | None
    rough: Tensor
    scores: Tensor
    levels: Tensor
    transform: Transform
    low: float
    high: float

    def __call__(self, y: Tensor, s: Tensor) -> Tensor:
        """Look the solution up.

        Parameters
        ----------
        y, s : Tensor
            Noisy grey levels and the score of T(y), of one shape.

        Returns
        -------
        Tensor
            Solution x, float32, of that shape.
        """
        return self.look_up(self.place(y, s))

    @property
    def grid(self) -> tuple[Transform, float, float, int]:
        """All that `place` depends on: the same for all noise models of one score model."""
        return self.transform, self.low, self.high, len(self.values)

    def place(self, y: Tensor, s: Tensor) -> Place:
        """Find where pixels lie on the grid; any table of the same `grid` can `look_up` there."""
        y, s = y.float(), s.float().clamp(-REACH, REACH)
        z = self.transform.forward(y)
        row, column = self._place(z, s)
        cell = row.long().clamp(max=len(self.values) - 2) * (SCORES - 1)
        cell += column.long().clamp(max=SCORES - 2)
        # brighter or darker than the table knows: move with y from the nearest row it has
        beyond = ((z < self.low) | (z > self.high)).flatten().nonzero().flatten()
        edge = self.transform.inverse(z.flatten()[beyond].clamp(self.low, self.high))
        return Place(s, row, self._at(row, column), cell.int(), beyond, y.flatten()[beyond] - edge)

    def look_up(self, place: Place) -> Tensor:
        """Give the solution where `place` found the pixels to lie, float32, of their shape."""
        x = _read(self.values, place.at)
        rough = self.rough.to(x.device).flatten().index_select(0, place.cell.flatten())
        rough = rough.nonzero().flatten()
        if len(rough):
            found = self._search(place.row.flatten()[rough], place.s.flatten()[rough])
            share = _read(self.searched, place.at[:, :, rough])
            x[rough] = torch.lerp(x[rough], found, share)
        if self.bend is not None:
            x += _read(self.bend, place.at)
        return x.index_add_(0, place.beyond, place.shift).reshape(place.s.shape)

    def variance(self, y: Tensor, s: Tensor, own: Tensor) -> Tensor:
        """Give the posterior variance of the solution.

        ``Var[x | z] ≈ (∂G/∂s) (∂G/∂z + ∂G/∂s ∂s/∂z)``: second-order Tweedie, by the delta rule.

        Parameters
        ----------
        y, s, own : Tensor
            Noisy grey levels, the score of z = T(y), and how a pixel's score changes with its
            own z, of one shape.

        Returns
        -------
        Tensor
            Variance of x in grey levels squared, float32, of that shape.
        """
        dz, ds = (self.high - self.low) / (len(self.values) - 1), 2 * REACH / (SCORES - 1)
        z = self.transform.forward(y.float()).clamp(self.low + dz, self.high - dz)
        s = s.float().clamp(ds - REACH, REACH - ds)

        def x(z: Tensor, s: Tensor) -> Tensor:
            return _read(self.values, self._at(*self._place(z, s))).reshape(s.shape)

        with_s = (x(z, s + ds) - x(z, s - ds)) / (2 * ds)
        with_z = (x(z + dz, s) - x(z - dz, s)) / (2 * dz)
        return (with_s * (with_z + with_s * own)).clamp(min=0)

    def _place(self, z: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Give row and column, as fractions, of the nearest place within the grid."""
        last = len(self.values) - 1
        row = (z - self.low) * (last / (self.high - self.low))
        column = (torch.asinh(s / NEAR) / math.asinh(REACH / NEAR) + 1) * ((SCORES - 1) / 2)
        return row.clamp(0, last), column.clamp(0, SCORES - 1)

    def _at(self, row: Tensor, column: Tensor) -> Tensor:
        """Give the same place as torch's sampling wants it, from −1 to 1."""
        scale = torch.tensor([SCORES - 1, len(self.values) - 1], device=row.device)
        at = torch.stack([column, row], dim=-1) * (2 / scale) - 1
        return at.reshape(1, 1, -1, 2)

    def _search(self, row: Tensor, s: Tensor) -> Tensor:
        scores, levels = self.scores.to(s.device).flatten(), self.levels.to(s.device)
        count = len(levels)
        first = row.int().clamp_(max=len(self.scores) - 2)
        part, start = row - first, first * count
        # what lies below one another in two rows, side by side
        pairs = torch.stack([scores[:-count], scores[count:]], dim=1)

        def f(column: Tensor) -> Tensor:
            upper, lower = pairs.index_select(0, start + column).unbind(1)
            return torch.lerp(upper, lower, part)

        # the last column whose score is below s, bit by bit
        column = torch.zeros_like(start)
        for bit in reversed(range((count - 2).bit_length())):
            further = (column + (1 << bit)).clamp(max=count - 2)
            column = torch.where(f(further) < s, further, column)
        left, right = f(column), f(column + 1)
        share = ((s - left) / (right - left)).clamp(0, 1)
        return torch.lerp(levels[column], levels[column + 1], share)


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
        Coordinates T in which the score was learned.
    sigma_a : float
        Noise added in training, in units of z; it is known Gaussian noise and accounted for.
    low, high : float
        Range of the noisy grey levels y to be solved.
    quantization : Quantization
        What digitisation did to y.

    Returns
    -------
    Table
        Called with y and the score of T(y), it gives x. The last few are remembered: the images
        of one job share one.

    Notes
    -----
    The score is written ``f(x, z) = (E[T(y) | x, z] − z) / σ_a²`` (Tweedie), which is bounded,
    and made to rise with x by a running maximum where rounding or bins disturb it; for outliers
    darker than their x, at least half as fast as Gaussian noise would have it. No x is given
    whose noisy mean is beyond the last row: a score a little too high, of a dark pixel in heavy
    speckle, would else stand for any x up to infinity. The score is the mean of f over the x that
    are possible, so that the mean of these is ``G + ½ ∂²G/∂s² Var[f | z]``; where a model asks for
    that second term (`Rayleigh`), it is added for a variance that is usual.

    Examples
    --------
    >>> from napari_noise2score.noise import Gaussian
    >>> solve = make_table(Gaussian(10), Transform(c0=100), sigma_a=0.3, low=0, high=255)
    >>> y, s = torch.tensor([100.0]), torch.tensor([-1.0])
    >>> solve(y, s)  # y + (σ² + σ_a²) s, in grey levels: 100 - 10 × 1.09
    tensor([89.0978])
    """
    ends = transform.forward(torch.tensor([low, high], dtype=torch.float64))
    # rows: somewhat beyond the data, which the shots to come may go beyond too
    first, last = (ends + torch.tensor([-2.0, 2.0]) * (1 + sigma_a)).tolist()
    if last - first > MAX_SPAN:
        raise UserError(
            f"the grey levels from {low:.4g} to {high:.4g} are {last - first:.0f} times as far "
            f"apart as the noise is strong, more than can be solved for ({MAX_SPAN}): clip extreme "
            "grey levels, and train again"
        )
    rows = torch.linspace(first, last, 2 + int((last - first) * 3 / sigma_a), dtype=torch.float64)
    # y reaches further: a pixel at the end of the range may be an outlier of its x
    margin = REACH * (1 + sigma_a)
    step = max(sigma_a / 8, 0.05)
    bins = torch.arange(first - margin, last + margin + step, step, dtype=torch.float64)
    edges = transform.inverse(bins)
    x = _candidates(noise, transform, first - margin, last)
    y = noise.bin_centers(edges)
    masses = noise.bin_probabilities(edges, x)
    # σ_a hides the grid itself; what is left of rounding is the variance it adds. Counts that lie
    # on the grid anyhow get none, and counts that lie beside it are not all moved one way, for
    # which no detector is exact enough.
    rounding = (masses.sum(0) * (quantization.rounded(y) - y) ** 2).sum() / masses.sum()
    sigma = torch.sqrt(sigma_a**2 + rounding * transform.slope(y) ** 2)
    z = transform.forward(y.clamp(quantization.floor, quantization.saturation))
    f, density = _scores(masses, z, sigma, rows)
    mean = noise.mean(x)
    expected = transform.forward(mean)
    variance = noise.variance(x) * transform.slope(mean) ** 2 + sigma_a**2
    # of Gaussian noise, for where the masses give a row no chance at all
    gaussian = ((expected[:, None] - rows) / variance[:, None]).float()
    f = torch.where(f.isnan(), gaussian, f)
    darker = density.cumsum(1) < RARE * density.sum(1, keepdim=True)
    # what is clipped does not move with x
    recorded = transform.forward(mean.clamp(quantization.floor, quantization.saturation))
    f = _rising(f, torch.diff(recorded, prepend=recorded[:1]) / variance, darker)
    f, levels = f.T.contiguous(), x.float()
    columns = torch.linspace(-1, 1, 2 * SCORES - 1) * math.asinh(REACH / NEAR)
    targets = NEAR * torch.sinh(columns)
    values = _invert(f, targets[::2], levels)
    open_to = noise.posterior_score_variance / (1 + sigma_a**2) ** 2
    bend = _bend(f, targets[::2], levels, values, open_to) if open_to else None
    # what reading off gives in the middle of each cell, and what searching would give
    read = (values[:-1, :-1] + values[:-1, 1:] + values[1:, :-1] + values[1:, 1:]) / 4
    found = _invert((f[1:] + f[:-1]) / 2, targets[1::2], levels)
    width = 1 / transform.slope(noise.mean(read.double()))
    missed = ((read - found).abs() > TOLERANCE * width).float()[None]
    searched = F.max_pool2d(F.pad(missed, (1, 1, 1, 1)), 2, stride=1)
    rough = F.max_pool2d(searched, 2, stride=1)[0] > 0
    return Table(values, searched[0], bend, rough, f, levels, transform, first, last)


def _read(grid: Tensor, at: Tensor) -> Tensor:
    """Interpolate a grid of shape ``(z, score)``, flat."""
    grid = grid.to(at.device)[None, None]
    return F.grid_sample(grid, at, padding_mode="border", align_corners=True).flatten()


def _candidates(noise: NoiseModel, transform: Transform, low: float, high: float) -> Tensor:
    """Clean values x whose noisy means are evenly spread in z, and the lowest x there is."""
    z = torch.linspace(low, high, max(256, int(4 * (high - low))), dtype=torch.float64)
    x = noise.clean_from_mean(transform.inverse(z))
    floor = noise.lowest + 1e-6 * float(x[-1] - x[0])
    x = x[x > floor]
    if noise.lowest > float(x[0]) - FAR * float(x[-1] - x[0]):
        # towards a floor of zero light, ever smaller steps: dark pixels are most pixels
        first = float(x[0]) - noise.lowest
        near = noise.lowest + first * torch.logspace(-4, 0, 33, dtype=torch.float64)[:-1]
        x = torch.cat([near, x])
    return x


def _scores(masses: Tensor, z: Tensor, sigma: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Give f(x, row), of shape ``(x, row)``, for masses ``(x, y)`` spread by σ about z = T(y).

    It is NaN where the masses give a row no chance at all. The density of the rows is given, too.
    """
    # differences are taken in double precision; from there on single is enough, and faster
    away = ((z[:, None] - rows) / sigma[:, None]).float()
    sigma = sigma.float()[:, None]
    # what is less than e⁻⁸⁰ is nothing, but torch takes ten times as long to say so
    kernel = torch.exp(away.square().mul_(-0.5).clamp_(min=-80)).mul_(sigma.min() / sigma)
    masses = masses.float()
    density = masses @ kernel
    moment = masses @ away.mul_(kernel).div_(sigma)
    # less than this is but a double's rounding of differences of probabilities
    return torch.where(density > 1e-13, moment / density, torch.nan), density


def _rising(f: Tensor, gaussian: Tensor, darker: Tensor) -> Tensor:
    """Make f rise with x.

    Where a pixel is far darker than its x would have it, f may hardly rise any more, and the small
    error of a learned score would stand for any x. There f rises at least half as fast as that of
    Gaussian noise of the same size, of which each step is given.
    """
    least = torch.where(darker, 0.5 * gaussian.float()[:, None], 0) + 1e-6
    least = torch.cumsum(least, dim=0)
    return torch.cummax(f - least, dim=0).values + least


def _invert(f: Tensor, targets: Tensor, x: Tensor) -> Tensor:
    """Interpolate x at the target scores, row by row; beyond the ends x stays at its limit."""
    at = torch.searchsorted(f, targets.expand(len(f), -1).contiguous()).clamp(1, len(x) - 1)
    left, right = f.gather(1, at - 1), f.gather(1, at)
    part = ((targets - left) / (right - left)).clamp(0, 1)
    return torch.lerp(x.take(at - 1), x.take(at), part)


def _bend(f: Tensor, targets: Tensor, x: Tensor, values: Tensor, variance: float) -> Tensor:
    """Give ``½ ∂²G/∂s² variance``, and no more than ``∂G/∂s`` times its root, values being G."""
    less, more = (_invert(f, targets + by, x) for by in (-APART, APART))
    most = (more - less) / (2 * APART) * math.sqrt(variance)
    return ((less + more - 2 * values) * (variance / (2 * APART**2))).clamp(-most, most)
