"""Recognise and convert units of pixel sizes and positions."""

from __future__ import annotations

import math
from typing import Any

# names used by OME-Zarr and napari, with their size in metres or seconds
LENGTHS = {
    "angstrom": 1e-10, "picometer": 1e-12, "nanometer": 1e-9, "micrometer": 1e-6,
    "millimeter": 1e-3, "centimeter": 1e-2, "decimeter": 1e-1, "meter": 1.0, "kilometer": 1e3,
    "inch": 0.0254, "foot": 0.3048,
}  # fmt: skip
TIMES = {
    "nanosecond": 1e-9, "microsecond": 1e-6, "millisecond": 1e-3, "second": 1.0, "minute": 60.0,
    "hour": 3600.0, "day": 86400.0,
}  # fmt: skip
NAMES = {
    "µm": "micrometer", "μm": "micrometer", "um": "micrometer", "micron": "micrometer",
    "microns": "micrometer", "\\u00b5m": "micrometer", "micrometre": "micrometer",
    "nm": "nanometer", "mm": "millimeter", "cm": "centimeter", "dm": "decimeter", "m": "meter",
    "km": "kilometer", "pm": "picometer", "å": "angstrom", "a": "angstrom", "in": "inch",
    "inches": "inch", "ft": "foot", "s": "second", "sec": "second", "secs": "second",
    "seconds": "second", "ms": "millisecond", "msec": "millisecond", "µs": "microsecond",
    "μs": "microsecond", "us": "microsecond", "ns": "nanosecond", "min": "minute",
    "mins": "minute", "minutes": "minute", "h": "hour", "hr": "hour", "hours": "hour", "d": "day",
}  # fmt: skip
SYMBOLS = {
    "angstrom": "Å", "picometer": "pm", "nanometer": "nm", "micrometer": "µm",
    "millimeter": "mm", "centimeter": "cm", "decimeter": "dm", "meter": "m", "kilometer": "km",
    "inch": "in", "foot": "ft", "nanosecond": "ns", "microsecond": "µs", "millisecond": "ms",
    "second": "s", "minute": "min", "hour": "h", "day": "d",
}  # fmt: skip
NO_UNITS = ("", "pixel", "pixels", "reference frame", "none", "null", "unknown")


def unit_of(text: Any) -> str:
    """Return the full name of a unit, empty if the text names none.

    Examples
    --------
    >>> unit_of("um"), unit_of("Micron"), unit_of("reference frame"), unit_of("furlong")
    ('micrometer', 'micrometer', '', 'furlong')
    """
    said = " ".join(str(text or "").split())
    if said.lower() in NO_UNITS:
        return ""
    return NAMES.get(said) or NAMES.get(said.lower(), said)


def convert(value: float, unit: str, into: str) -> float | None:
    """Convert a length or a time to another unit; return None if the units are incompatible.

    Examples
    --------
    >>> convert(12.5, "millimeter", "micrometer")
    12500.0
    >>> convert(1, "second", "micrometer") is None
    True
    """
    if unit == into:
        return value
    for family in (LENGTHS, TIMES):
        if unit in family and into in family:
            # the factor is rounded, so that 12.5 mm are 12500 µm rather than 12499.999
            return value * float(f"{family[unit] / family[into]:.12g}")
    return None


def size_of(text: Any) -> float | None:
    """Return a pixel size or an interval, or None if it is not a positive number.

    Examples
    --------
    >>> size_of("0.5"), size_of("-1"), size_of("NaN"), size_of("wide")
    (0.5, None, None, None)
    """
    value = number_of(text)
    return value if value is not None and value > 0 else None


def number_of(text: Any) -> float | None:
    """Return a text or number as a finite float, or None if it is not one."""
    try:
        value = float(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None
