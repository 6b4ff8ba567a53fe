"""A parameter of a noise family: its name, label, unit and bounds, and how it scales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import UserError, quoted

# grey levels: squares of larger or smaller values overflow in single precision
MIN_GREY_LEVEL, MAX_GREY_LEVEL = 1e-15, 1e15
# numbers of looks: with more of them the noise is less than a thousandth of the signal
MAX_LOOKS = 1e6


@dataclass(frozen=True)
class Parameter:
    """What the parser, the window, the estimator and the documentation need about a parameter.

    Attributes
    ----------
    name : str
        The name in Python and in the text form.
    label : str
        The name in the window.
    help : str
        One or two sentences for a tooltip, without the unit.
    unit : str
        The unit as usually written; empty if there is none.
    default : float, optional
        The value if none is given; None if the parameter is required.
    initial : float
        The initial value in the window.
    above, at_least, below : float, optional
        The bounds within which the model is defined.
    low, high : float
        The range that can be computed with, both ends included.
    variance_power : float
        The variance is multiplied by f if the parameter is multiplied by f to this power.
    unit_power : float
        The power of the unit of grey levels that the parameter is measured in.
    slider_reach : float, optional
        Smallest distance that a slider covers on both sides of the value, for a parameter that may
        be 0 or negative; None for a logarithmic slider.
    is_file : bool
        Whether the value is the name of a file, not a number.

    Examples
    --------
    >>> gain = Parameter("gain", "Gain", "Grey levels per photon.", above=0)
    >>> gain.check("poisson", -1)
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.UserError: poisson: gain must be a number above 0, not -1
    """

    name: str
    label: str
    help: str
    unit: str = ""
    default: float | None = None
    initial: float = 1.0
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    low: float = -MAX_GREY_LEVEL
    high: float = MAX_GREY_LEVEL
    variance_power: float = 0.0
    unit_power: float = 0.0
    slider_reach: float | None = None
    is_file: bool = False

    @property
    def domain(self) -> str:
        """The values for which the model is defined, in words, as in "a number above 0"."""
        if self.above is not None and self.below is not None:
            return f"between {self.above:g} and {self.below:g}"
        if self.above is not None:
            return f"a number above {self.above:g}"
        if self.at_least is not None:
            return f"a number of at least {self.at_least:g}"
        return "a number"

    def check(self, family: str, value: Any) -> None:
        """Raise a `UserError` unless a value is a number in the domain and in range.

        Parameters
        ----------
        family : str
            Name of the family, which begins the message.
        value : object
            Anything.

        Raises
        ------
        UserError
            If the value is not a real number, or lies outside the domain or the range.
        """
        number = _real_number(value)
        if number is None:
            raise UserError(f"{family}: {self.name} must be a number, not {quoted(repr(value))}")
        if not self._contains(number):
            raise UserError(f"{family}: {self.name} must be {self.domain}, not {number:g}")
        if not self.low <= value <= self.high:
            raise UserError(
                f"{family}: {self.name} must be between {self.low:g} and {self.high:g}, "
                f"not {number:g}"
            )

    def _contains(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
        )


def _real_number(value: Any) -> float | None:
    """Return a value as a float, or None if it is not a real number that a double can hold."""
    if isinstance(value, str | bytes | bool | complex):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def grey_level(name: str, label: str, help: str, **more: Any) -> Parameter:
    """Declare a parameter above 0 that is measured in grey levels.

    Parameters
    ----------
    name, label, help : str
        As for `Parameter`.
    **more
        Further fields of `Parameter`.

    Returns
    -------
    Parameter

    Examples
    --------
    >>> grey_level("sigma", "Sigma", "Standard deviation of the noise.").domain
    'a number above 0'
    """
    fields: dict[str, Any] = {
        "unit": "grey levels", "above": 0.0, "low": MIN_GREY_LEVEL, "unit_power": 1.0,
    }  # fmt: skip
    return Parameter(name, label, help, **(fields | more))


OFFSET = Parameter(
    "offset",
    "Offset",
    "Grey level where there is no signal, often 100. The denoised image keeps it.",
    "grey levels",
    default=0.0,
    initial=0.0,
    unit_power=1.0,
    slider_reach=100.0,
)
"""The grey level without signal, shared by all families that have one."""


def format_call(name: str, values: dict[str, float]) -> str:
    """Return ``name(key=value, ...)`` with the shortest numbers that are read back unchanged.

    Examples
    --------
    >>> format_call("poisson", {"gain": 2.0, "offset": 100.5})
    'poisson(gain=2, offset=100.5)'
    """
    return f"{name}({', '.join(f'{k}={format_number(v)}' for k, v in values.items())})"


def format_number(value: float) -> str:
    """Return the shortest text that reads back as the same number, without a trailing ".0".

    Examples
    --------
    >>> format_number(25.0), format_number(0.1)
    ('25', '0.1')
    """
    text = repr(float(value))
    return text.removesuffix(".0")


def round_to_four_digits(value: float) -> float:
    """Return a number rounded to four significant digits.

    Examples
    --------
    >>> round_to_four_digits(3.14159)
    3.142
    """
    return float(f"{value:.4g}")
