"""Sort pixels or patches of similar intensity into bins, within which noise is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]


def bin_numbers(
    intensity: Floats,
    quantiles: Sequence[float] | Floats,
    *,
    side: Literal["left", "right"] = "left",
    distinct: bool = False,
) -> Indices:
    """Assign each value to a bin of intensity.

    Parameters
    ----------
    intensity : ndarray
        Intensities in grey levels, shape ``(values,)``.
    quantiles : sequence of float
        Edges of the bins as quantiles of the intensities, from 0 to 1.
    side : {"left", "right"}
        The bin to which a value equal to an edge is assigned: the darker or the brighter one.
    distinct : bool
        Drop repeated edges, which occur if many values are equal; if kept, they bound empty bins.

    Returns
    -------
    ndarray
        Number of the bin of each value, the darkest is 0; shape ``(values,)``.

    Examples
    --------
    >>> bin_numbers(np.array([1.0, 9.0, 4.0, 2.0]), (0, 0.5, 1)).tolist()
    [0, 1, 1, 0]
    """
    edges = np.quantile(intensity, quantiles)
    if distinct:
        edges = np.unique(edges)
    return np.searchsorted(edges[1:-1], intensity, side=side)


def overlapping_bins(intensity: Floats, quantiles: Sequence[float] | Floats) -> list[Indices]:
    """Return the indices of the values in each bin; those on an edge are in both its bins.

    Parameters
    ----------
    intensity : ndarray
        Intensities in grey levels, shape ``(values,)``; there may be none.
    quantiles : sequence of float
        Edges of the bins as quantiles of the intensities, from 0 to 1.

    Returns
    -------
    list of ndarray
        Indices, the darkest bin first. There is no bin between equal edges.

    Examples
    --------
    >>> [bin.tolist() for bin in overlapping_bins(np.array([1.0, 2.0, 3.0]), (0, 0.5, 1))]
    [[0, 1], [1, 2]]
    """
    edges = np.unique(np.quantile(intensity, quantiles)) if len(intensity) else np.zeros(2)
    return [np.flatnonzero((intensity >= a) & (intensity <= b)) for a, b in pairwise(edges)]


def rank_bins(
    intensity: Floats,
    bounds: Sequence[int] | Indices,
    kind: Literal["quicksort", "stable"] = "quicksort",
) -> list[Indices]:
    """Return the indices of the values in each bin, cut by rank so that no value is in two.

    Parameters
    ----------
    intensity : ndarray
        Intensities in grey levels, shape ``(values,)``.
    bounds : sequence of int
        Ranks at which bins begin and end, including the first and the last one.
    kind : {"quicksort", "stable"}
        How values are sorted; a stable order keeps equal values as they were.

    Returns
    -------
    list of ndarray
        Indices, the darkest bin first.

    Examples
    --------
    >>> [bin.tolist() for bin in rank_bins(np.array([3.0, 1.0, 2.0]), (0, 1, 3))]
    [[1], [2, 0]]
    """
    order = np.argsort(intensity, kind=kind)
    return [order[first:last] for first, last in pairwise(bounds)]


def merge_close_bins(
    bins: Sequence[Indices], intensity: Floats, min_distance: Callable[[Indices], float]
) -> list[Indices]:
    """Merge bins whose means differ by no more than the noise of the intensities in them.

    Such bins would sort the values by their own noise and not by the signal, so the measured
    variance would depend on the noise itself.

    Parameters
    ----------
    bins : sequence of ndarray
        Indices of the values in each bin, the darkest bin first.
    intensity : ndarray
        Intensities in grey levels, shape ``(values,)``.
    min_distance : callable
        Maps the indices in a bin to the smallest distance, in grey levels, to the mean of the next.

    Returns
    -------
    list of ndarray
    """
    merged = [bins[0]]
    for inside in bins[1:]:
        distance = intensity[inside].mean() - intensity[merged[-1]].mean()
        if distance < min_distance(merged[-1]):
            merged[-1] = np.concatenate([merged[-1], inside])
        else:
            merged.append(inside)
    return merged
