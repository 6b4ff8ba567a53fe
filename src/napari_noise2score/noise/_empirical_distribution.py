"""Noise distributions that are interpolated between histograms at known clean levels."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ._empirical_measure import midpoints
from ._torch import broadcast, torch
from .base import Array
from .family import NoiseFamily

if TYPE_CHECKING:
    from torch import Tensor

# the probability of an empty bin, so that cumulative distributions rise, and the probability up to
# which a bin counts as empty
EMPTY_BIN, MAX_EMPTY = 1e-15, 1e-12
# clean values per level at which the score is tabulated, to be inverted
VALUES_PER_LEVEL = 4
# probabilities up to which the score is that of normal noise, as there are hardly any samples
MIN_SEEN = 1e-9
MIN_WIDTH = 1e-300  # of an interval that is divided by


class HistogramDistribution(NoiseFamily):
    """The distribution of y that histograms at known levels of x define.

    Attributes
    ----------
    levels : ndarray of shape (L,)
        Clean levels x in grey levels, rising.
    edges : ndarray of shape (B + 1,)
        Edges of the bins of y in grey levels, rising.
    counts : ndarray of shape (L, B)
        Weight of each bin at each level.
    """

    levels: Array
    edges: Array
    counts: Array

    @cached_property
    def _cdf(self) -> Array:
        """Cumulative distribution at the edges, for each level."""
        probability = self.counts / self.counts.sum(1, keepdims=True) + EMPTY_BIN
        total = np.cumsum(probability, axis=1)
        return np.pad(total / total[:, -1:], ((0, 0), (1, 0)))

    @cached_property
    def _moments(self) -> tuple[Array, Array]:
        """Mean and standard deviation at each level."""
        probability, y = np.diff(self._cdf, axis=1), midpoints(self.edges)
        mean = probability @ y
        within_bin = np.diff(self.edges) ** 2 / 12
        return mean, np.sqrt(probability @ (y**2 + within_bin) - mean**2)

    @cached_property
    def _quantiles(self) -> tuple[Tensor, Tensor, Tensor]:
        """For each pair of neighbouring levels: probabilities, and the quantiles of both there.

        The probabilities are those of all edges of both distributions, so nothing is lost.
        """
        probabilities, low, high = [], [], []
        for first, last in zip(self._cdf[:-1], self._cdf[1:], strict=True):
            probabilities.append(np.sort(np.concatenate([first, last])))
            low.append(np.interp(probabilities[-1], first, self.edges))
            high.append(np.interp(probabilities[-1], last, self.edges))
        first_table, low_table, high_table = (
            torch.from_numpy(np.array(a)) for a in (probabilities, low, high)
        )
        return first_table, low_table, high_table

    @property
    def _gain(self) -> float:
        """Growth of the mean with x, over all levels."""
        mean, _ = self._moments
        return float((mean[-1] - mean[0]) / (self.levels[-1] - self.levels[0]))

    def sample(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw a noisy image y from a clean image x."""
        x = np.asarray(x, dtype=np.float64)
        uniform = rng.random(x.shape)
        inside = np.clip(x, self.levels[0], self.levels[-1])
        k = np.clip(np.searchsorted(self.levels, inside) - 1, 0, len(self.levels) - 2)
        fraction = (inside - self.levels[k]) / np.diff(self.levels)[k]
        y = np.empty_like(x)
        for pair in np.unique(k):
            here = k == pair
            low, high = (
                np.interp(uniform[here], self._cdf[i], self.edges) for i in (pair, pair + 1)
            )
            y[here] = low + fraction[here] * (high - low)
        noisy: Array = y + self._gain * (x - inside)
        return noisy

    def mean(self, x: Tensor) -> Tensor:
        """Return E[y | x]."""
        at, beyond = self._inside(x)
        return _interpolate(at, self.levels, self._moments[0]) + self._gain * beyond

    def variance(self, x: Tensor) -> Tensor:
        """Return Var[y | x]."""
        return _interpolate(self._inside(x)[0], self.levels, self._moments[1]) ** 2

    def clean_from_mean(self, mean: Tensor) -> Tensor:
        """Return the x that has this E[y | x]."""
        means, _ = self._moments
        at = mean.clamp(float(means[0]), float(means[-1]))
        return _interpolate(at, means, self.levels) + (mean - at) / self._gain

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Return f(x, y)."""
        x, y = broadcast(x.double(), y.double())
        fine, f = self._scores
        at, fraction = _interval(self._inside(x)[0], fine)
        column = self._column(y)
        return f[at, column] + fraction * (f[at + 1, column] - f[at, column])

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Return the x for which f(x, y) = s, between the first and the last level."""
        y, s = broadcast(y.double(), s.double())
        fine, f = self._scores
        column = self._column(y)
        low, high = torch.zeros_like(column), torch.full_like(column, len(fine) - 1)
        for _ in range(len(fine).bit_length()):
            middle = (low + high) // 2
            below = f[middle, column] < s
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        high = torch.maximum(high, low + 1).clamp(max=len(fine) - 1)
        low = high - 1
        left, right = f[low, column], f[high, column]
        fraction = ((s - left) / (right - left).clamp(min=MIN_WIDTH)).clamp(0, 1)
        return fine[low] + fraction * (fine[high] - fine[low])

    def bin_probabilities(self, edges: Tensor, x: Tensor) -> Tensor:
        """Return the probability of each bin of y for each x, of shape ``(x, bins)``."""
        bins = self._cdf_of_rows(edges.double().expand(len(x), -1), x.double()).diff(dim=1)
        return torch.where(bins > MAX_EMPTY, bins, 0)

    def _cdf_of_rows(self, y: Tensor, x: Tensor) -> Tensor:
        """Return P(Y < y | x) for rows of y, one for each x."""
        inside, beyond = self._inside(x)
        pair, fraction = _interval(inside, torch.tensor(self.levels))
        probabilities, low, high = (a[pair] for a in self._quantiles)
        marks = low + fraction[:, None] * (high - low)
        y = (y - self._gain * beyond[:, None]).contiguous()
        right = torch.searchsorted(marks, y).clamp(1, marks.shape[1] - 1)
        start, end = marks.gather(1, right - 1), marks.gather(1, right)
        t = ((y - start) / (end - start).clamp(min=MIN_WIDTH)).clamp(0, 1)
        first = probabilities.gather(1, right - 1)
        return first + t * (probabilities.gather(1, right) - first)

    @cached_property
    def _scores(self) -> tuple[Tensor, Tensor]:
        """Fine levels of x, and f at these and the middle of each bin, non-decreasing in x."""
        number = VALUES_PER_LEVEL * (len(self.levels) - 1) + 1
        at = np.arange(number) / VALUES_PER_LEVEL
        fine = np.interp(at, np.arange(len(self.levels)), self.levels)
        x, y = torch.from_numpy(fine), torch.from_numpy(midpoints(self.edges)).expand(number, -1)
        step = torch.sqrt(self.variance(x))[:, None] / 4
        below, here, above = (self._cdf_of_rows(y + k * step, x) for k in (-1, 0, 1))
        left, right = here - below, above - here
        # where there are hardly any samples, treat the noise as normal
        normal = (self.mean(x)[:, None] - y) / (16 * step**2)
        seen = (left > MIN_SEEN) & (right > MIN_SEEN)
        ratio = torch.where(seen, right, 1) / torch.where(seen, left, 1)
        f = torch.where(seen, torch.log(ratio) / step, normal)
        return x, torch.cummax(f, dim=0).values

    def _column(self, y: Tensor) -> Tensor:
        """Return the bin of each y, the first or last if it is in none."""
        at = torch.searchsorted(torch.tensor(self.edges), y.contiguous(), right=True) - 1
        return at.clamp(0, len(self.edges) - 2)

    def _inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return x clipped to the levels, and its distance from them."""
        inside = x.clamp(float(self.levels[0]), float(self.levels[-1]))
        return inside, x - inside


def _interval(at: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """Return the interval of each value between rising knots, and its place in it from 0 to 1."""
    left = torch.searchsorted(knots, at.contiguous().double(), right=True) - 1
    left = left.clamp(0, len(knots) - 2)
    return left, (at - knots[left]) / (knots[left + 1] - knots[left])


def _interpolate(at: Tensor, knots: Array, values: Array) -> Tensor:
    """Interpolate linearly between values at rising knots."""
    left, fraction = _interval(at, torch.tensor(knots))
    known = torch.tensor(values)
    return known[left] + fraction * (known[left + 1] - known[left])
