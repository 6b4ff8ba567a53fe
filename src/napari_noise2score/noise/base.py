"""Noise models p(y | x): how a clean pixel x becomes a noisy one y.

Each model is immutable, prints as one line of text that `parse_noise` reads back, and knows
four things: how to sample it, its score f(x, y) = d/dy log p(y | x), the closed-form solution of
``s = f(x, y)`` for x, and its cumulative distribution, from which the table solver is built.
They compose: ``Poisson(gain=2, offset=100) + Gaussian(sigma=3)`` is a camera.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
from torch import Tensor

from ..errors import UserError, quoted

if TYPE_CHECKING:
    from .correlated import Correlated
    from .sum import Sum


@runtime_checkable
class NoiseModel(Protocol):
    """What every noise model can do. Images are float64 grey levels, of any shape."""

    def __str__(self) -> str:
        """Give the one spelling, as ``gaussian(sigma=25)``."""

    def __hash__(self) -> int:
        """Give equal models equal hashes."""

    @property
    def lowest(self) -> float:
        """Smallest x the model is defined for, in grey levels."""

    @property
    def offset(self) -> float:
        """Grey level without light: what stands in y but not in x."""

    @property
    def unsure(self) -> float:
        """How far x is taken to be open where s = f(x, y) is solved, 0 for most models."""

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a noisy image y from a clean image x."""

    def mean(self, x: Tensor) -> Tensor:
        """Give E[y | x]."""

    def variance(self, x: Tensor) -> Tensor:
        """Give Var[y | x]."""

    def clean(self, mean: Tensor) -> Tensor:
        """Give the x that has this E[y | x]."""

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """Give f(x, y) = d/dy log p(y | x)."""

    def solve(self, y: Tensor, s: Tensor) -> Tensor:
        """Give the x for which f(x, y) = s."""

    def masses(self, edges: Tensor, x: Tensor) -> Tensor:
        """Give the probability of each bin of y, for each x, of shape ``(x, bins)``."""

    def middles(self, edges: Tensor) -> Tensor:
        """Give the y at which the probability of each bin is taken to lie."""


# parameters in grey levels: squares of what is larger or smaller overflow in single precision
MIN_GREY_LEVEL, MAX_GREY_LEVEL = 1e-15, 1e15
# numbers of looks: noise of more is less than a thousandth of the signal
MAX_SHAPE = 1e6


def positive(model: str, **values: float) -> None:
    """Raise a `UserError` unless every value is a number above 0 that can be computed with."""
    for name, value in values.items():
        checked_number(model, name, value)
        if not value > 0:
            raise UserError(f"{model}: {name} must be a number above 0, not {value:g}")
        in_range(model, name, value, MIN_GREY_LEVEL, MAX_GREY_LEVEL)


def checked_offset(model: str, offset: float) -> None:
    """Raise a `UserError` unless an offset is a number that can be computed with."""
    checked_number(model, "offset", offset)
    if not math.isfinite(offset):
        raise UserError(f"{model}: offset must be a number, not {offset:g}")
    in_range(model, "offset", offset, -MAX_GREY_LEVEL, MAX_GREY_LEVEL)


def checked_number(model: str, name: str, value: Any) -> None:
    """Raise a `UserError` unless a value is a real number that a double can hold."""
    try:
        float(value)
        known = not isinstance(value, str | bytes | bool | complex)
    except (TypeError, ValueError, OverflowError):
        known = False
    if not known:
        raise UserError(f"{model}: {name} must be a number, not {quoted(repr(value))}")


def in_range(model: str, name: str, value: float, least: float, most: float) -> None:
    """Raise a `UserError` unless a value lies between two others, or at one of them."""
    if not least <= value <= most:
        raise UserError(f"{model}: {name} must be between {least:g} and {most:g}, not {value:g}")


def spell(name: str, **values: float | None) -> str:
    """Write ``name(key=value, ...)``, leaving out what is None."""
    given = ", ".join(f"{k}={spell_number(v)}" for k, v in values.items() if v is not None)
    return f"{name}({given})"


def spell_number(value: float) -> str:
    """Give the shortest text that reads back as the same number, without a trailing '.0'."""
    text = repr(float(value))
    return text[:-2] if text.endswith(".0") else text


class Summable:
    """What may stand before ``+ Gaussian(sigma)``."""

    def __add__(self, other: Any) -> Sum:
        from .gaussian import Gaussian
        from .sum import Sum

        if not isinstance(other, Gaussian) or other.growth:
            return NotImplemented
        return Sum(cast(NoiseModel, self), other)


class Pixelwise(Summable):
    """What all pixelwise models share: bins from the cumulative distribution, ``@`` and ``+``."""

    lowest: float = 0.0
    offset: float = 0.0
    # Var[f | y], in units of 1 / Var[y | x], at which the table gives the mean of x rather than
    # the solution of s = f(x, y), which differ where f is far from straight in x
    unsure: float = 0.0

    def cdf(self, y: Tensor, x: Tensor) -> Tensor:
        """Give P(Y < y | x)."""
        raise NotImplementedError

    def masses(self, edges: Tensor, x: Tensor) -> Tensor:
        """Give the probability of each bin of y, for each x, of shape ``(x, bins)``."""
        return self.cdf(edges[None, :], x[:, None]).diff(dim=1).clamp(min=0)

    def middles(self, edges: Tensor) -> Tensor:
        """Give the y at which the probability of each bin is taken to lie."""
        return (edges[1:] + edges[:-1]) / 2

    def __matmul__(self, other: Any) -> Correlated:
        from .correlated import Correlated
        from .kernel import Kernel

        if not isinstance(other, Kernel):
            return NotImplemented
        return Correlated(cast(NoiseModel, self), other)
