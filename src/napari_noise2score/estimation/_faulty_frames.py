"""Find frames of a series whose noise cannot be measured: black, saturated, or copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A frame is saturated if more than this share of its valid pixels has the largest value of all.
MAX_SATURATED = 0.2
# A frame is dark if its range is less than this share of that of a typical frame.
MAX_DARK_RANGE = 0.25
COPY = "repeats another"


def valid_values(frame: NDArray[Any]) -> NDArray[Any]:
    """Return the valid pixels of a frame, which may be a masked array, in one dimension."""
    if isinstance(frame, np.ma.MaskedArray):
        return frame.compressed()
    return frame.ravel()


def faults_of(frames: Sequence[NDArray[Any]]) -> list[str]:
    """Return for each frame of a series why its noise cannot be measured, if that is so.

    Parameters
    ----------
    frames : sequence of ndarray
        Frames of one scene, in grey levels, each of shape ``(Y, X)``; invalid pixels are masked.

    Returns
    -------
    list of str
        For each frame ``""`` if it can be used, else ``"is black"``, ``"is saturated"``,
        ``"is constant"``, ``"holds no valid pixel"`` or ``"repeats another"``. If none can be
        used, or all are copies of one, every entry is ``""``.

    Examples
    --------
    >>> frames = np.random.default_rng(0).normal(100, 5, (4, 32, 32))
    >>> frames[1], frames[3] = 0, frames[2]
    >>> faults_of(frames)
    ['', 'is black', '', 'repeats another']
    """
    values = [valid_values(frame) for frame in frames]
    ends = [(float(v.min()), float(v.max())) if v.size else (np.nan, np.nan) for v in values]
    varied = [low < high for low, high in ends]
    if not any(varied):
        return [""] * len(frames)
    lowest = min(low for (low, _), ok in zip(ends, varied, strict=True) if ok)
    highest = np.nanmax([high for _, high in ends])
    saturated = [v.size > 0 and float(np.mean(v == highest)) > MAX_SATURATED for v in values]
    middles = np.array([
        np.quantile(v[:: v.size // 100_000 + 1], [0.01, 0.5, 0.99]) if v.size else [np.nan] * 3
        for v in values
    ])  # fmt: skip
    usual = np.nanmedian(middles[varied], axis=0)
    found: list[str] = []
    for i, frame in enumerate(frames):
        low = ends[i][0]
        dark = (
            len(frames) > 2
            and middles[i, 2] - middles[i, 0] < MAX_DARK_RANGE * (usual[2] - usual[0])
            and middles[i, 2] <= usual[1]
        )
        if not values[i].size:
            found.append("holds no valid pixel")
        elif not varied[i]:
            found.append(
                "is black" if low <= lowest else "is saturated" if low >= highest else "is constant"
            )
        elif saturated[i] and not all(saturated):
            found.append("is saturated")
        elif dark:
            found.append("is black")
        elif any(
            not found[j] and ends[j] == ends[i] and _equal(frames[j], frame) for j in range(i)
        ):
            found.append(COPY)
        else:
            found.append("")
    fit = sum(not fault for fault in found)
    if not fit or (fit == 1 and COPY in found):
        return [""] * len(frames)
    return found


def _equal(first: NDArray[Any], second: NDArray[Any]) -> bool:
    if isinstance(first, np.ma.MaskedArray) or isinstance(second, np.ma.MaskedArray):
        both = ~(np.ma.getmaskarray(first) | np.ma.getmaskarray(second))
        return bool(both.any()) and np.array_equal(
            np.ma.getdata(first)[both], np.ma.getdata(second)[both]
        )
    return np.array_equal(first, second)
