"""Calibration maps: one value of offset, gain or noise for each pixel of a detector."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..errors import UserError
from ._empirical_file import format_name
from .base import Array

MAX_MAPS_IN_MEMORY = 8


@dataclass(frozen=True, eq=False)
class CalibrationMap:
    """A value for each pixel of a detector, or each voxel of a volume; NaN where one is defective.

    Two maps are equal if their values and their corner are.

    Parameters
    ----------
    values : ndarray
        Shape ``(Y, X)`` or ``(Z, Y, X)``, in grey levels or grey levels per photoelectron.
    file : str
        The file that they were read from; empty if there is none.
    corner : tuple of int, optional
        Row and column of the detector where the images begin, for images of a part of it.

    Raises
    ------
    UserError
        If no value is finite.

    Examples
    --------
    >>> print(CalibrationMap(np.ones((4, 4)), file="gain.tif", corner=(2, 0)))
    map(gain.tif, y=2, x=0)
    """

    values: Array
    file: str = ""
    corner: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float32)
        if values.ndim not in (2, 3):
            raise UserError(f"{self}: a calibration map has the axes YX or ZYX")
        if not np.isfinite(values).any():
            raise UserError(f"{self}: the calibration map holds no finite value")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    @classmethod
    def read(cls, file: str | os.PathLike[str], corner: tuple[int, int] | None = None) -> Self:
        """Read a map from an image file of any format; frames of several time points are averaged.

        Parameters
        ----------
        file : path-like
            An image of axes YX, ZYX or TYX.
        corner : tuple of int, optional
            As for the class.

        Raises
        ------
        UserError
            If it cannot be read, or has other axes.
        """
        path = Path(file)
        try:
            state = path.stat()
            facts = (state.st_mtime_ns, state.st_size)
        except OSError:
            raise UserError(f"calibration map {file}: there is no such file") from None
        return cls(_read(str(path.resolve()), *facts), str(file), corner)

    def __str__(self) -> str:
        return f"map({self.inside})"

    @property
    def inside(self) -> str:
        """The content of the brackets in the text form."""
        corner = "" if self.corner is None else f", y={self.corner[0]}, x={self.corner[1]}"
        return (format_name(self.file) if self.file else "array") + corner

    def __repr__(self) -> str:
        return str(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CalibrationMap) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify the values and the corner."""
        content = f"{self.values.shape} {self.corner}".encode() + self.values.tobytes()
        return sha256(content).hexdigest()[:16]

    @cached_property
    def median(self) -> float:
        """The median of the finite values."""
        return float(np.median(self.values[np.isfinite(self.values)]))

    @cached_property
    def root_mean_square(self) -> float:
        """The root of the mean square of the finite values."""
        return float(np.sqrt(np.mean(self.values[np.isfinite(self.values)].astype(float) ** 2)))

    def of_image(self, axes: str, shape: tuple[int, ...]) -> Array:
        """Return the part of the map that belongs to an image.

        Parameters
        ----------
        axes : str
            Axes of the image.
        shape : tuple of int
            Its shape.

        Returns
        -------
        ndarray
            float32, shape ``(Y, X)`` or ``(Z, Y, X)`` of the image.

        Raises
        ------
        UserError
            If the map does not have these pixels.
        """
        sizes = dict(zip(axes, (int(n) for n in shape), strict=True))
        wanted = (sizes["Y"], sizes["X"])
        y, x = self.corner or (0, 0)
        values = self.values
        if values.ndim == 3 and values.shape[0] != sizes.get("Z", 1):
            raise UserError(
                f"{self}: the calibration map has {values.shape[0]} planes along Z, and the image "
                f"{sizes.get('Z', 1)}"
            )
        if values.ndim == 3 and "Z" not in sizes:
            values = values[0]
        if self.corner is None and values.shape[-2:] != wanted:
            raise UserError(
                f"{self}: the calibration map has {_sizes(values)} pixels, and the image "
                f"{wanted[0]} × {wanted[1]}: for images of a part of the detector, name the row "
                f"and the column where they begin, as in map({self.inside}, y=0, x=0)"
            )
        part = values[..., y : y + wanted[0], x : x + wanted[1]]
        if min(y, x) < 0 or part.shape[-2:] != wanted:
            raise UserError(
                f"{self}: from there, the calibration map of {_sizes(values)} pixels does not "
                f"cover an image of {wanted[0]} × {wanted[1]}"
            )
        return part

    def as_json(self) -> dict[str, Any]:
        """Return file, corner and digest as JSON values."""
        corner = None if self.corner is None else list(self.corner)
        file = str(Path(self.file).resolve()) if self.file else ""
        return {"file": file, "corner": corner, "digest": self.digest}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Read the map that `as_json` described.

        Raises
        ------
        UserError
            If its file is gone, or has changed.
        """
        if not facts["file"]:
            raise UserError(
                "the model was trained with a calibration map that was given as an array: give "
                "it with the noise model"
            )
        corner = None if facts["corner"] is None else (facts["corner"][0], facts["corner"][1])
        found = cls.read(facts["file"], corner)
        if found.digest != facts["digest"]:
            raise UserError(
                f"calibration map {facts['file']}: it has changed since the model was trained with "
                "it: train again"
            )
        return found


@lru_cache(MAX_MAPS_IN_MEMORY)
def _read(file: str, time: int, size: int) -> Array:  # noqa: ARG001
    """Return the values of a map file; it is read again when its time or size has changed."""
    from ..image.files import read_image

    image = read_image(file)
    values = np.asarray(image.data, dtype=np.float64)
    axes = image.axes
    for axis in axes:
        # a file of several frames is a recording of the same thing
        if axis in "TS" or (values.shape[axes.index(axis)] == 1 and axis not in "YX"):
            values = values.mean(axis=axes.index(axis))
            axes = axes.replace(axis, "")
    if axes not in ("YX", "ZYX"):
        raise UserError(f"calibration map {file}: its axes are {axes}; YX or ZYX are needed")
    return values.astype(np.float32)


def _sizes(values: Array) -> str:
    return " × ".join(map(str, values.shape[-2:]))
