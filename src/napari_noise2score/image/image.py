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
