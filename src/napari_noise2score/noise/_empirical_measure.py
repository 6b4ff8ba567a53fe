"""Compute histograms of noise from samples, from a density, or from pairs of images."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np

from ..errors import UserError
from ._torch import torch
from .base import Array

Sampler = Callable[[Array, np.random.Generator], Array]
"""Maps clean grey levels to noisy ones of the same shape."""
Density = Callable[[Array, Array], Array]
"""Maps x and y, which broadcast, to p(y | x) or a multiple of it at each x."""

# a value drawn more often than this has a bin of its own, this wide in distances of the values
MAX_DRAWS_WITHOUT_BIN = 10
WIDTH_OF_OWN_BIN = 0.01
SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
# number of values at each end to which a tail is fitted, and the smallest number that suffices
TAIL_VALUES, MIN_TAIL_VALUES = 100, 5
# quantiles at which edges are placed: those of a normal distribution, up to this many standard
# deviations, and at least this many of them
MAX_NORMAL_QUANTILE, MIN_QUANTILES = 4, 17
# levels of pairs are joined while their means differ by less than this many standard errors
MIN_SEPARATION = 3


class Histograms(NamedTuple):
    """Histograms of y at clean levels.

    Attributes
    ----------
    levels : ndarray
        Clean levels in grey levels, rising, shape ``(levels,)``.
    edges : ndarray
        Edges of the bins of y in grey levels, rising, shape ``(bins + 1,)``.
    counts : ndarray
        Weight of each bin at each level, shape ``(levels, bins)``.
    """

    levels: Array
    edges: Array
    counts: Array


def is_rising(values: Array) -> bool:
    """Return whether values are finite and strictly increasing."""
    return bool(np.isfinite(values).all() and (np.diff(values) > 0).all())


def midpoints(edges: Array) -> Array:
    """Return the midpoints of neighbouring values.

    Examples
    --------
    >>> midpoints(np.array([0.0, 2, 6])).tolist()
    [1.0, 4.0]
    """
    return (edges[1:] + edges[:-1]) / 2


def histograms_of_sampler(sampler: Sampler, levels: Array, samples: int, seed: int) -> Histograms:
    """Draw y at clean levels and compute its histograms; see `Empirical.from_sampler`."""
    rng = np.random.default_rng(seed)
    rows = []
    levels = np.asarray(levels, dtype=np.float64).ravel()
    for level in levels:
        y = np.asarray(sampler(np.full(samples, level), rng), dtype=np.float64)
        if y.shape != (samples,) or not np.isfinite(y).all():
            raise UserError("empirical: the sampler must return one finite y for each x")
        rows.append(np.sort(y))
    return _histograms_of_rows(levels, rows)


def histograms_of_density(density: Density, levels: Array, edges: Array) -> Histograms:
    """Integrate a density within bins; see `Empirical.from_density`."""
    levels, edges = (np.asarray(a, dtype=np.float64).ravel() for a in (levels, edges))
    node, weight = np.polynomial.legendre.leggauss(3)
    half = np.diff(edges)[:, None] / 2
    y = midpoints(edges)[:, None] + half * node
    values = np.asarray(density(levels[:, None], y.reshape(1, -1)), dtype=np.float64)
    shape = (len(levels), y.size)
    if values.shape != shape:
        raise UserError(f"empirical: the density must have shape {shape}, not {values.shape}")
    if not np.isfinite(values).all() or values.min() < 0:
        raise UserError("empirical: the density must be finite and 0 or above everywhere")
    counts = (values.reshape(len(levels), *y.shape) * (half * weight)).sum(-1)
    return Histograms(levels, edges, counts)


def histograms_of_pairs(clean: Array, noisy: Array, max_levels: int) -> Histograms:
    """Compute histograms of y at levels of known clean pixels; see `Empirical.from_pairs`."""
    x, y = (np.asarray(a, dtype=np.float64) for a in (clean, noisy))
    if x.shape != y.shape:
        raise UserError(f"empirical: clean has shape {x.shape} but noisy has shape {y.shape}")
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if not x.size:
        raise UserError("empirical: there are no pixels to measure")
    limits = np.unique(np.quantile(x, np.linspace(0, 1, max_levels + 1)[1:-1]))
    which = np.searchsorted(limits, x, side="right")
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(1, len(limits) + 1))
    levels: list[float] = []
    rows: list[Array] = []
    group = order[:0]
    for pixels in np.split(order, starts):
        group = np.concatenate([group, pixels])
        if len(group) < 2:
            continue
        level = float(x[group].mean())
        row = y[group] + (level - x[group])
        error = row.std() / np.sqrt(len(row))
        if not levels or row.mean() - rows[-1].mean() > MIN_SEPARATION * error:
            levels.append(level)
            rows.append(np.sort(row))
            group = order[:0]
    return _histograms_of_rows(np.array(levels), rows)


def _histograms_of_rows(levels: Array, rows: list[Array]) -> Histograms:
    """Return histograms of the sorted y of each level."""
    number = max(MIN_QUANTILES, 1 + 1000 // max(1, len(rows)))
    quantile = torch.linspace(
        -MAX_NORMAL_QUANTILE, MAX_NORMAL_QUANTILE, number, dtype=torch.float64
    )
    at = torch.special.ndtr(quantile).numpy()
    marks = np.unique([row[(at * (len(row) - 1)).round().astype(int)] for row in rows])
    ends = np.unique([row[[0, -1]] for row in rows])
    marks = np.unique(np.concatenate([marks, ends]))
    if len(marks) < 2:
        raise UserError("empirical: y has the same value at all levels")
    # An edge is midway between a mark and the next value, or, for a value that was drawn often,
    # close to both sides of it: no photon, or counted photons.
    left, right = (np.stack([np.searchsorted(r, marks, s) for r in rows]) for s in SIDES)
    above = np.min([np.append(r, np.inf)[k] for r, k in zip(rows, right, strict=True)], axis=0)
    below = np.max([np.append(r, -np.inf)[k - 1] for r, k in zip(rows, left, strict=True)], axis=0)
    above[-1], below[0] = 2 * marks[-1] - below[-1], 2 * marks[0] - above[0]
    atom = (right - left).max(axis=0) > MAX_DRAWS_WITHOUT_BIN
    upper = marks + np.where(atom, WIDTH_OF_OWN_BIN, 0.5) * (above - marks)
    lower = marks - np.where(atom, WIDTH_OF_OWN_BIN, 0.5) * (marks - below)
    edges = np.unique([lower[0], *upper, *lower[atom]])
    # the lower tail is the upper tail of the mirror image
    counts = [
        _count_with_tail(-edges[::-1], -row[::-1], _count_with_tail(edges, row)[::-1])
        for row in rows
    ]
    return Histograms(levels, edges, np.array(counts)[:, ::-1])


def _count_with_tail(edges: Array, row: Array, counts: Array | None = None) -> Array:
    """Count sorted values in bins, and replace the upper tail by that of a normal distribution."""
    under = np.searchsorted(row, edges)
    counts = np.diff(under).astype(float) if counts is None else counts.copy()
    in_tail = max(10, min(TAIL_VALUES, len(row) // 100))
    k = int(np.argmax(len(row) - under <= in_tail))
    fraction = 1 - under[k] / len(row)
    excess = row[under[k] :].sum() / max(1, len(row) - under[k]) - edges[k]
    if len(row) - under[k] >= MIN_TAIL_VALUES and fraction < 0.5 and excess > 0:
        # of the normal distribution with the same fraction of values and mean beyond the edge
        start = NormalDist().inv_cdf(1 - fraction)
        scale = excess / (NormalDist().pdf(start) / fraction - start)
        beyond = torch.special.ndtr(torch.tensor(-start - (edges[k:] - edges[k]) / scale)).numpy()
        counts[k:] = -np.diff(beyond) / (beyond[0] - beyond[-1]) * counts[k:].sum()
    return counts
