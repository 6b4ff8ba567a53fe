"""How channels are shown: OME-Zarr's ``omero``, from and to the colours of other formats."""

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
    """Return how one channel is shown, as an entry of ``omero["channels"]``.

    Parameters
    ----------
    label : str
        Name of the channel.
    color : str
        Colour of its brightest pixels, as six hexadecimal digits.
    window : (float, float), optional
        Grey levels shown black and in full colour; by default the limits.
    limits : (float, float)
        Grey levels the data can have.
    active : bool
        Whether the channel is on view.

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


def entries(omero: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the channels that are described, empty where the metadata are of another form."""
    listed = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        return []
    return [c if isinstance(c, Mapping) else {} for c in listed]


def color_of(entry: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Return the colour of a channel as red, green and blue, None where it has none.

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
    """Return the grey levels shown black and in full colour, None where they are not known."""
    window = entry.get("window")
    if not isinstance(window, Mapping):
        return None
    start, end = number_of(window.get("start")), number_of(window.get("end"))
    return None if start is None or end is None else (start, end)
