"""Convert display settings of channels between OME-Zarr's ``omero`` and other formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._units import number_of

WHITE = "FFFFFF"


def channel(
    label: str = "",
    color: str = WHITE,
    window: tuple[float, float] | None = None,
    limits: tuple[float, float] = (0.0, 65535.0),
    active: bool = True,
) -> dict[str, Any]:
    """Return the display settings of one channel as an entry of ``omero["channels"]``.

    Parameters
    ----------
    label : str
        Name of the channel.
    color : str
        Colour of its brightest pixels, as six hexadecimal digits.
    window : (float, float), optional
        Grey levels displayed as black and in full colour; by default the limits.
    limits : (float, float)
        Smallest and largest possible grey level.
    active : bool
        Whether the channel is displayed.

    Examples
    --------
    >>> channel("DAPI", "0000FF", (100, 500))["window"]
    {'min': 0.0, 'start': 100.0, 'end': 500.0, 'max': 65535.0}
    """
    start, end = window or limits
    return {
        "label": label,
        "color": color,
        "window": {
            "min": float(limits[0]),
            "start": float(start),
            "end": float(end),
            "max": float(limits[1]),
        },
        "active": active,
    }


def named_channel(label: str, color: str) -> dict[str, Any]:
    """Return the display settings of a channel whose display range is not known."""
    return {"label": label, "color": color, "active": True}


def entries(omero: Any) -> list[Mapping[str, Any]]:
    """Return the entries of all channels, empty if the metadata have another form."""
    listed = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        return []
    return [c if isinstance(c, Mapping) else {} for c in listed]


def color_of(entry: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Return the colour of a channel as red, green and blue, or None if it has none.

    Examples
    --------
    >>> color_of({"color": "00FF80"}), color_of({"color": "green"})
    ((0, 255, 128), None)
    """
    text = str(entry.get("color", "")).lstrip("#")
    try:
        value = int(text, 16)
    except ValueError:
        return None
    return (value >> 16, value >> 8 & 255, value & 255) if len(text) == 6 else None


def window_of(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the grey levels displayed as black and in full colour, or None if unknown."""
    window = entry.get("window")
    if not isinstance(window, Mapping):
        return None
    start, end = number_of(window.get("start")), number_of(window.get("end"))
    return None if start is None or end is None else (start, end)
