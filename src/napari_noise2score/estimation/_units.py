"""Scale grey levels to a suitable unit, and report failed arithmetic in one line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError

# Grey levels within this range are used as they are; others are scaled, because bounds and starting
# points of the fit are absolute.
USUAL_RANGE = 1e-2, 1e7
# The squares of smaller differences vanish in double precision.
MIN_RANGE = 1e-150
#: Number of grey levels of a scene from which quantiles and ranges are computed.
MAX_SAMPLE = 200_000


def unit_of(values: NDArray[Any]) -> float:
    """Return the unit of grey levels, a power of ten, in which noise is estimated.

    Parameters
    ----------
    values : ndarray
        Grey levels.

    Returns
    -------
    float
        1 unless their range is below 0.01 or above 10⁷.

    Examples
    --------
    >>> unit_of(np.linspace(0, 300e-12, 100))
    1e-12
    """
    values = values[:: values.size // MAX_SAMPLE + 1].astype(np.float64)
    low, high = np.quantile(values, [0.001, 0.999])
    span = high - low or float(np.ptp(values))
    if span < MIN_RANGE or USUAL_RANGE[0] <= span <= USUAL_RANGE[1]:
        return 1.0
    return float(f"1e{math.floor(math.log10(span / 100))}")


def in_units(frames: NDArray[Any], unit: float) -> NDArray[np.float64]:
    """Return frames divided by a unit, in double precision; a masked array stays one."""
    if isinstance(frames, np.ma.MaskedArray):
        return np.ma.MaskedArray(frames.data.astype(np.float64) / unit, frames.mask)
    divided: NDArray[np.float64] = frames.astype(np.float64) / unit
    return divided


@contextmanager
def arithmetic_as_user_error() -> Iterator[None]:
    """Turn failures of the arithmetic into a `UserError`, and silence its warnings."""
    try:
        with np.errstate(all="ignore"):
            yield
    except (np.linalg.LinAlgError, FloatingPointError, OverflowError, ZeroDivisionError) as error:
        raise UserError(
            "the noise of these images cannot be estimated: its equations have no solution "
            f"({error}); give other images of the same kind, or state the noise model"
        ) from None
