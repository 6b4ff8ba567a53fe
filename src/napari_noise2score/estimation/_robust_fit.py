"""Least squares in which outliers have a limited influence."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from ..noise.base import Array

MAD_TO_SIGMA = 1.4826  # of normal noise

# a residual of more than this many standard errors is an outlier; larger ones add no more to the
# misfit
MAX_RESIDUAL = 3.0
MAX_EVALUATIONS = 200
# the fit has converged when a step reduces the misfit by less than this fraction of it
TOLERANCE = 1e-7
# the relative change of a parameter in a derivative, and the smallest value that it is relative to
RELATIVE_CHANGE, MIN_VALUE = 1e-4, 1e-3


class Problem(NamedTuple):
    """The quantity to minimize: a robust sum of squared residuals.

    Attributes
    ----------
    residuals : callable
        Maps parameters to residuals in units of their standard errors.
    low, high : ndarray
        Bounds of the parameters.
    positive_scale, negative_scale : ndarray
        Size of a positive and of a negative residual beyond which it is an outlier.
    """

    residuals: Callable[[Array], Array]
    low: Array
    high: Array
    positive_scale: Array
    negative_scale: Array

    def weights(self, residual: Array) -> Array:
        """Return the weights of residuals by Geman and McClure: 1 for small ones, then falling."""
        scale = np.where(residual > 0, self.positive_scale, self.negative_scale)
        weight: Array = 1 / (1 + (residual / scale) ** 2) ** 2
        return weight


def minimize(problem: Problem, start: Array) -> tuple[Array, Array, Array]:
    """Find the parameters of the smallest misfit.

    Parameters
    ----------
    problem : Problem
    start : ndarray
        First parameters, within the bounds.

    Returns
    -------
    parameters, residuals, weights : ndarray

    Examples
    --------
    >>> y = np.array([1.0, 1.1, 0.9, 50])
    >>> one, three = np.ones(1), np.full(4, 3.0)
    >>> problem = Problem(lambda at: y - at, -9 * one, 9 * one, three, three)
    >>> minimize(problem, np.zeros(1))[0].round(2)
    array([1.])
    """
    # positive and negative residuals apart, as a loss function is given only their squares
    squared_scale = np.concatenate([problem.positive_scale, problem.negative_scale]) ** 2

    def split(parameters: Array) -> Array:
        residual = problem.residuals(parameters)
        return np.concatenate([residual.clip(min=0), residual.clip(max=0)])

    def split_derivatives(parameters: Array) -> Array:
        residual = problem.residuals(parameters)
        slope = derivatives(problem.residuals, parameters, residual)
        positive = residual[:, None] > 0
        return np.concatenate([slope * positive, slope * ~positive])

    def limited(squared: Array) -> Array:
        # s² z / (s² + z) of each squared residual z with scale s, and its two derivatives
        share = 1 / (1 + squared / squared_scale)
        return np.stack([squared * share, share**2, -2 * share**3 / squared_scale])

    found = least_squares(
        split, start, split_derivatives, (problem.low, problem.high), "dogbox",
        ftol=TOLERANCE, x_scale="jac", loss=limited, max_nfev=MAX_EVALUATIONS,
    )  # fmt: skip
    residual = problem.residuals(found.x)
    return found.x, residual, problem.weights(residual)


def misfit(residual: Array, weight: Array) -> float:
    """Return the sum of the squared residuals, limited by about their squared scale.

    Parameters
    ----------
    residual, weight : ndarray
        As returned by `minimize`.
    """
    return float((residual**2 * np.sqrt(weight)).sum())


def derivatives(
    residuals: Callable[[Array], Array], at: Array, residual: Array, min_value: float = MIN_VALUE
) -> Array:
    """Return the derivatives of residuals by forward differences.

    Parameters
    ----------
    residuals : callable
        Maps parameters to residuals.
    at, residual : ndarray
        Parameters, and the residuals there.
    min_value : float
        A parameter is changed in proportion to its magnitude, or to this value if that is larger.

    Returns
    -------
    ndarray
        Shape ``(residuals, parameters)``.
    """
    columns = []
    for i, value in enumerate(at):
        moved = at.copy()
        moved[i] += RELATIVE_CHANGE * max(abs(value), min_value)
        columns.append((residuals(moved) - residual) / (moved[i] - value))
    return np.stack(columns, axis=1)


def robust_deviation(values: Array) -> float:
    """Return the standard deviation of normal noise, from the median absolute deviation.

    Parameters
    ----------
    values : ndarray
        Of any shape; NaN values are left out.

    Returns
    -------
    float
        0 if there is no value.

    Examples
    --------
    >>> round(robust_deviation(np.random.default_rng(0).normal(5, 2, 10_000)), 1)
    2.0
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0
    return float(MAD_TO_SIGMA * np.median(np.abs(known - np.median(known))))
