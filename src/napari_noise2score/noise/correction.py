"""What is undone before the score is learned: calibration maps, offsets of rows and columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..errors import UserError
from ..image.corrected import PixelCorrection
from .calibration_map import CalibrationMap
from .parameter import format_number

MAP_NAMES = ("offset", "gain", "sigma", "read_noise", "pattern")
LINE_NAMES = ("rows", "columns")


@dataclass(frozen=True)
class Correction:
    """What differs from pixel to pixel, or from row to row, and is undone before anything else.

    - A gain map and an offset map: ``y' = (y − offset) · median(gain) / gain + median(offset)``.
    - A map of σ, where the noise has no other scale: ``y' = y · median(σ) / σ``; results are
      multiplied by ``σ / median(σ)`` again.
    - A fixed pattern: ``y' = y − pattern + median(pattern)``.
    - Rows and columns: the most likely offset of each is subtracted, see `CorrectedArray`.

    Read noise that differs between pixels cannot be undone: its root mean square is part of the
    noise model. Pixels that are not finite in a map are defective.

    Parameters
    ----------
    offset, gain, sigma, read_noise, pattern : CalibrationMap, optional
        The maps.
    rows, columns : float
        Standard deviation of the offsets of rows and of columns, in grey levels; 0 for none.
    pivot : float
        Grey level without signal, for a gain map without an offset map.

    Raises
    ------
    UserError
        If a standard deviation is negative or not finite, or a map that must be positive is not.

    Examples
    --------
    >>> print(Correction(rows=4))
    rows(sigma=4)
    """

    offset: CalibrationMap | None = None
    gain: CalibrationMap | None = None
    sigma: CalibrationMap | None = None
    read_noise: CalibrationMap | None = None
    pattern: CalibrationMap | None = None
    rows: float = 0.0
    columns: float = 0.0
    pivot: float = 0.0

    def __post_init__(self) -> None:
        for name in LINE_NAMES:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name}: sigma must be a number of at least 0, not {value:g}")
        for name in ("gain", "sigma", "read_noise"):
            values = getattr(self, name)
            if values is not None and np.nanmin(values.values) <= 0:
                raise UserError(
                    f"{values}: every value of the map must be above 0; mark defective pixels by "
                    "NaN"
                )

    def __bool__(self) -> bool:
        return bool(self.maps) or self.rows > 0 or self.columns > 0

    def __str__(self) -> str:
        # a family with such parameters names the maps; it says nothing of the noise here
        offset = self.offset or (format_number(self.pivot) if self.gain else None)
        given = {"gain": self.gain or (1 if self.offset else None), "offset": offset}
        counts = ", ".join(f"{name}={value}" for name, value in given.items() if value is not None)
        calls = [f"poisson({counts})"] if counts else []
        calls += [f"gaussian(sigma={self.sigma})"] if self.sigma else []
        calls += [f"gaussian(sigma={self.read_noise})"] if self.read_noise else []
        return " + ".join([*calls, *self.terms])

    @property
    def maps(self) -> dict[str, CalibrationMap]:
        """The maps that are given, by name."""
        named = {name: getattr(self, name) for name in MAP_NAMES}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def terms(self) -> list[str]:
        """The terms that follow a noise model in its text form."""
        found = [] if self.pattern is None else [f"pattern(file={self.pattern.inside})"]
        lines = {name: getattr(self, name) for name in LINE_NAMES}
        return found + [f"{n}(sigma={format_number(v)})" for n, v in lines.items() if v]

    @property
    def key(self) -> str:
        """What must be the same in training and in denoising; strengths may differ."""
        maps = [f"{name} {value.digest}" for name, value in self.maps.items()]
        lines = [name for name in LINE_NAMES if getattr(self, name)]
        pivot = [f"pivot {self.pivot:g}"] if self.gain and not self.offset else []
        return ", ".join(maps + pivot + lines)

    def pixel_correction(self, axes: str, shape: tuple[int, ...]) -> PixelCorrection:
        """Return what is done to the pixels of an image.

        Parameters
        ----------
        axes : str
            Axes of the image.
        shape : tuple of int
            Its shape.

        Raises
        ------
        UserError
            If a map does not have the pixels of the image.
        """
        each = {name: m.of_image(axes, shape) for name, m in self.maps.items()}
        shift, factor, back = None, None, 0.0
        if self.offset is not None:
            shift, back = each["offset"], self.offset.median
        elif self.gain is not None:
            shift, back = np.float32(self.pivot) + np.zeros_like(each["gain"]), self.pivot
        if self.pattern is not None:
            pattern = each["pattern"] - self.pattern.median
            shift = pattern if shift is None else shift + pattern
        if self.gain is not None:
            factor = self.gain.median / each["gain"]
        elif self.sigma is not None:
            factor = self.sigma.median / each["sigma"]
        defective = np.zeros((1, 1), bool)
        for values in each.values():
            defective = defective | ~np.isfinite(values)
        return PixelCorrection(
            shift=None if shift is None else np.nan_to_num(shift, nan=back),
            factor=None if factor is None else np.nan_to_num(factor, nan=1.0),
            back=back,
            defective=defective if defective.any() else None,
            rows=self.rows,
            columns=self.columns,
            restores=self.sigma is not None,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the correction as JSON values, which `from_json` reads."""
        maps = {name: value.as_json() for name, value in self.maps.items()}
        return {**maps, "rows": self.rows, "columns": self.columns, "pivot": self.pivot}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Read the correction that `as_json` described.

        Raises
        ------
        UserError
            If a map is gone or has changed.
        """
        values: dict[str, Any] = {
            name: CalibrationMap.from_json(facts[name]) for name in MAP_NAMES if name in facts
        }
        values |= {name: float(facts.get(name, 0)) for name in (*LINE_NAMES, "pivot")}
        return cls(**values)
