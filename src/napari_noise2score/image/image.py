"""An image with what a scientist needs to know of it: axes, pixel size, channels, where from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError
from .axes import parse_axes


@dataclass(frozen=True)
class Image:
    """An array-like and its metadata. The data stay where they are until sliced.

    Attributes
    ----------
    data : array-like
        numpy, dask or zarr array.
    axes : str
        One letter of ``TCZYX`` for each dimension.
    scale : mapping of str to float
        Pixel size along an axis, in the axis's unit; absent means not known.
    translate : mapping of str to float
        Position of the first pixel along an axis, in the axis's unit.
    units : mapping of str to str
        Unit of an axis, as ``"micrometer"`` or ``"second"``.
    channels : tuple of str
        Names of the channels, empty if not known.
    rgb : bool
        Whether the channels are red, green and blue (and alpha).
    name : str
        A short name, for layers and files.
    omero : mapping
        How the channels are shown (names, colours, contrast), as OME-Zarr's ``omero`` has it.
    imagej : mapping
        What ImageJ keeps beside (tables of colours, ranges, labels, info), for it to find again.
    notes : mapping
        What made it: model, noise, version. Written with the image where the format can.
    source : str
        Where it was read from, empty if it was not.
    files : tuple of str
        Every file or store that holds its pixels, as resolved paths; a result may replace none.

    Examples
    --------
    >>> import numpy as np
    >>> Image(np.zeros((3, 8, 8)), "ZYX", scale={"Z": 0.5, "Y": 0.1, "X": 0.1}).axes
    'ZYX'
    """

    data: Any
    axes: str
    scale: Mapping[str, float] = field(default_factory=dict)
    translate: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    rgb: bool = False
    name: str = "image"
    omero: Mapping[str, Any] = field(default_factory=dict)
    imagej: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    files: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "axes", parse_axes(self.axes, len(self.data.shape)))
        if self.data.dtype.kind not in "uif":
            raise UserError(
                f"{self.name}: pixels of type {self.data.dtype} cannot be denoised; "
                "use integers or floating point numbers"
            )


def described(image: Image) -> dict[str, Any]:
    """Return all that an image says of itself but for its pixels; values are JSON.

    Parameters
    ----------
    image : Image

    Returns
    -------
    dict
        As `facts_of` reads it back.
    """
    return {
        "axes": image.axes,
        "scale": dict(image.scale),
        "translate": dict(image.translate),
        "units": dict(image.units),
        "channels": list(image.channels),
        "rgb": image.rgb,
        "omero": dict(image.omero),
        "notes": dict(image.notes),
    }


def facts_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `described` wrote as arguments of `Image`, without data and axes.

    Parameters
    ----------
    said : mapping
        From a file, so anything may stand in it.

    Returns
    -------
    dict

    Raises
    ------
    UserError
        If a value is not of the kind that `described` writes.

    Examples
    --------
    >>> facts_of({"scale": {"X": "wide"}})
    Traceback (most recent call last):
    ...
    napari_noise2score.errors.UserError: its scale is not understood: {'X': 'wide'}
    """
    kinds: dict[str, Any] = {
        "scale": lambda v: {str(a): float(n) for a, n in dict(v).items()},
        "translate": lambda v: {str(a): float(n) for a, n in dict(v).items()},
        "units": lambda v: {str(a): str(u) for a, u in dict(v).items()},
        "channels": lambda v: tuple(str(name) for name in v),
        "rgb": bool,
        "omero": dict,
        "notes": dict,
    }
    facts = {}
    for name, kind in kinds.items():
        if value := said.get(name):
            try:
                facts[name] = kind(value)
            except (TypeError, ValueError):
                raise UserError(f"its {name} is not understood: {value!r}"[:200]) from None
    return facts
