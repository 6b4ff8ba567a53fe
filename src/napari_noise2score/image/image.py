"""An image with its metadata: axes, pixel size, units, channels, provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import UserError
from ._units import number_of, size_of
from .arrays import as_image_array, described_by_xarray
from .axes import parse_axes
from .valid import ValidPixels, find_valid


@dataclass(frozen=True)
class Image:
    """An array-like with its metadata. Pixels are not read until the data are sliced.

    Attributes
    ----------
    data : array-like
        numpy, dask or zarr array.
    axes : str
        One letter of ``STCZYX`` for each dimension.
    scale : mapping of str to float
        Pixel size along each axis, in the unit of that axis. Unknown sizes are absent; values that
        are not positive numbers are dropped.
    translate : mapping of str to float
        Position of the first pixel along an axis, in the axis's unit.
    units : mapping of str to str
        Unit of an axis, such as ``"micrometer"`` or ``"second"``.
    channels : tuple of str
        Names of the channels, empty if not known.
    rgb : bool
        Whether the channels are red, green and blue (and alpha).
    name : str
        A short name, for layers and files.
    omero : mapping
        Display settings of the channels (names, colours, contrast), as in OME-Zarr's ``omero``.
    imagej : mapping
        ImageJ's own metadata (look-up tables, display ranges, labels, info), kept for writing.
    header : mapping
        What a file format says beyond that, kept for writing the same format: the bytes of a header
        (``nifti``, ``mrc``), or an ``affine`` from indices (X, Y, Z) to millimetres to the right,
        front and top of a patient, of shape (4, 4). Never data of a patient.
    notes : mapping
        Provenance: model, noise, version. Written with the image if the format allows.
    source : str
        Path or address that it was read from; empty for an array.
    files : tuple of str
        Resolved paths of all files and stores that hold its pixels; no result may replace them.
    valid : ValidPixels or None
        Which pixels were recorded; None before they have been searched for, see `valid_of`. The
        mask of a masked array is kept.

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
    header: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    files: tuple[str, ...] = ()
    valid: ValidPixels | None = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "data", as_image_array(self.data))
        except UserError as error:
            raise UserError(f"{self.name}: {error}") from None
        object.__setattr__(self, "axes", parse_axes(self.axes, len(self.data.shape)))
        # damaged metadata may contain values that no format can hold
        sizes = {axis: size for axis, size in self.scale.items() if size_of(size) is not None}
        places = {axis: at for axis, at in self.translate.items() if number_of(at) is not None}
        object.__setattr__(self, "scale", sizes)
        object.__setattr__(self, "translate", places)
        if isinstance(self.data, np.ma.MaskedArray):
            if self.valid is None:
                object.__setattr__(self, "valid", find_valid(self.data, self.axes))
            object.__setattr__(self, "data", self.data.data)


def as_image(data: Any, axes: str | None = None) -> Image:
    """Return an `Image` for an image in any of the accepted forms.

    Parameters
    ----------
    data : Image or array-like
        See `as_image_array`. Axes and pixel size of an xarray DataArray are used.
    axes : str, optional
        Axes of the array; required if it has none and is not two-dimensional.

    Returns
    -------
    Image

    Raises
    ------
    UserError
        If it is not an image, or its axes are unknown or do not match.

    Examples
    --------
    >>> as_image([[1, 2], [3, 4]]).axes
    'YX'
    """
    if isinstance(data, Image):
        return data if axes is None else replace(data, axes=axes)
    known = described_by_xarray(data)
    array = as_image_array(data)
    own = known.pop("axes", None)
    axes = axes or own
    if axes is None and len(array.shape) != 2:
        raise UserError(
            f"the image has {len(array.shape)} dimensions: say which they are, as in axes='ZYX'"
        )
    return Image(array, axes or "YX", **known)


def as_images(data: Any, axes: str | Sequence[str] | None = None) -> list[Image]:
    """Return one image or several as a list of `Image`.

    Parameters
    ----------
    data : Image or array-like, or a list or tuple of them
        A nested list of numbers is one image.
    axes : str or sequence of str, optional
        Axes of all of them, or of each.

    Returns
    -------
    list of Image

    Raises
    ------
    UserError
        If there is no image, or as for `as_image`.

    Examples
    --------
    >>> import numpy as np
    >>> [image.axes for image in as_images([np.zeros((4, 4)), np.zeros((3, 4, 4))], ["YX", "TYX"])]
    ['YX', 'TYX']
    """
    several = isinstance(data, list | tuple) and (
        not data or any(isinstance(one, Image) or hasattr(one, "shape") for one in data)
    )
    images = list(data) if several else [data]
    if not images:
        raise UserError("there is no image")
    each = [axes] * len(images) if axes is None or isinstance(axes, str) else list(axes)
    if len(each) != len(images):
        raise UserError(f"{len(each)} axes are given for {len(images)} images")
    return [as_image(one, its) for one, its in zip(images, each, strict=True)]


def described(image: Image) -> dict[str, Any]:
    """Return all metadata of an image as JSON values.

    Parameters
    ----------
    image : Image

    Returns
    -------
    dict
        Can be read back by `facts_of`.
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


def _plain(value: Any) -> dict[str, Any]:
    """Return a mapping that can be written as JSON, or raise a ``ValueError``."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    return plain


def facts_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `described` wrote as arguments of `Image`, without data and axes.

    Parameters
    ----------
    said : mapping
        Content of a file, which is not trusted.

    Returns
    -------
    dict

    Raises
    ------
    UserError
        If a value is not of the type that `described` writes.

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
        "omero": _plain,
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
