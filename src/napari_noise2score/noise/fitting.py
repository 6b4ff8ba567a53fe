"""What the estimator needs to know about a family: the parameters to fit and their start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .base import Array
from .parameter import MIN_GREY_LEVEL, round_to_four_digits

if TYPE_CHECKING:
    from torch import Tensor

    from .family import NoiseFamily

READ_NOISE = "read noise"
"""The name of the standard deviation of the read noise among fitted parameters."""
# the smallest value that a parameter above 0 is fitted with
MIN_FITTED = 1e-9

Start = Callable[[Array, Array], Sequence[float]]
"""Maps means and variances to the initial values of a fit."""


@dataclass(frozen=True)
class FittedParameters:
    """A set of parameters of a family that are fitted together to measured moments.

    Attributes
    ----------
    names : tuple of str
        Parameters of the family, and `READ_NOISE` for read noise on top.
    start : callable
        Maps means and variances, both of shape ``(bins,)``, to initial values of these.
    bounds : mapping
        Range of a parameter, if that of the family is too wide for a fit.
    fixed : mapping
        Values of further parameters, which are not fitted. Each adds to the penalty like a fitted
        one, since its value was chosen among others.
    general : tuple of str
        Names of the largest set that includes this one as a special case; confidence intervals are
        those of its parameters. Empty if this is the largest.
    """

    names: tuple[str, ...]
    start: Start
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    general: tuple[str, ...] = ()

    def ranges(self, family: type[NoiseFamily]) -> tuple[Array, Array]:
        """Return the lower and the upper bounds, each of shape ``(parameters,)``."""
        known = {p.name: (p.low, p.high) for p in family.parameters()}
        known[READ_NOISE] = 0.0, np.inf
        pairs = []
        for name in self.names:
            low, high = self.bounds.get(name, known[name])
            pairs.append((MIN_FITTED if low == MIN_GREY_LEVEL else low, high))
        low_ends, high_ends = np.array(pairs, dtype=float).T
        return low_ends, high_ends


@dataclass(frozen=True)
class FromScore:
    """How the one parameter of a family with Var[y | x] ∝ x^ρ is found from a trained score.

    Attributes
    ----------
    parameter : str
        The parameter.
    max_power : float
        Largest measured ρ for which the noise is of this family rather than of the next one.
    from_perturbation : callable
        Maps y and the reading −ε/Δs of each pixel, both of shape ``(pixels,)``, to the parameter.
    from_variance : callable
        Maps one y and the variance of the noise there to the parameter.
    variation_weight : float
        Weight of the total variation of x̂ in the measure of quality.
    fidelity : callable, optional
        Maps x̂ and y, in units of the largest grey level, to the rest of that measure.

    Notes
    -----
    The measures are those of Kim & Ye, NeurIPS 2021, and the powers those of Kim, Kwon & Ye,
    CVPR 2022.
    """

    parameter: str
    max_power: float
    from_perturbation: Callable[[Array, Array], float]
    from_variance: Callable[[float, float], float]
    variation_weight: float = 1.0
    fidelity: Callable[[Tensor, Tensor], Tensor] | None = None

    def model(self, family: type[NoiseFamily], value: float) -> NoiseFamily:
        """Return the model with a value, rounded to four digits and brought into its range."""
        named = {p.name: p for p in family.parameters()}[self.parameter]
        low = max(named.low, MIN_FITTED)
        return family(**{self.parameter: max(low, round_to_four_digits(value))})


def line_through(mean: Array, variance: Array) -> tuple[float, float]:
    """Fit a line to variance against mean, minimizing relative errors.

    Parameters
    ----------
    mean, variance : ndarray
        Shape ``(bins,)``.

    Returns
    -------
    slope, intercept : float

    Examples
    --------
    >>> slope, intercept = line_through(np.array([1.0, 2, 3]), np.array([3.0, 5, 7]))
    >>> round(slope, 6), round(intercept, 6)
    (2.0, 1.0)
    """
    rows = np.stack([mean, np.ones_like(mean)], axis=1) / variance[:, None]
    slope, intercept = np.linalg.lstsq(rows, np.ones_like(variance), rcond=None)[0]
    return float(slope), float(intercept)


def coefficient_of_variation(mean: Array, variance: Array) -> float:
    """Return the median standard deviation as a fraction of the mean.

    Parameters
    ----------
    mean, variance : ndarray
        Shape ``(bins,)``.

    Examples
    --------
    >>> coefficient_of_variation(np.array([10.0, 20, 40]), np.array([1.0, 4, 16]))
    0.1
    """
    return float(np.sqrt(np.median(variance / np.maximum(mean, 1e-9) ** 2)))


def read_noise_beside(variance: Array) -> float:
    """Return an initial value of the read noise on top of noise that vanishes in the dark.

    Examples
    --------
    >>> read_noise_beside(np.array([16.0, 25]))
    2.0
    """
    return float(np.sqrt(variance.min()) / 2)
