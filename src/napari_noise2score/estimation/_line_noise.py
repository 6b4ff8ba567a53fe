"""Find random offsets of whole rows or columns, as of a scan or of the read-out of a camera."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..image.corrected import row_differences
from ..image.image import Image
from ..noise import Correction, NoiseModel
from ..noise.correction import LINE_NAMES
from ..noise.parameter import round_to_four_digits
from ..score.correction import corrected_image, corrections_for
from ..score.model import ScoreModel
from ._by_channel import common_channels
from ._read_frames import read_scenes, spread_over
from ._robust_fit import robust_deviation

LAGS = (1, 2, 3)  # rows
MIN_SIGNIFICANCE = 5.0  # standard errors of the variance of the offsets
MAX_RATIO_OF_LAGS = 2.0  # offsets differ as much at every lag, structure more at larger ones
MIN_SHARE_OF_NOISE = 0.1  # of the standard deviation of the noise of a pixel
MIN_LINES, MAX_FRAMES = 32, 8
INDEPENDENT_LINES = 3  # one in three second differences tells something new


def undo(
    images: Sequence[Image],
    model: ScoreModel | None,
    noise: NoiseModel | None,
    correction: Sequence[Correction],
    repeats: str,
) -> tuple[list[Image], tuple[Correction, ...]]:
    """Return images in which maps and offsets of lines are undone, and what was undone.

    Parameters
    ----------
    images : sequence of Image
        Raw images.
    model, noise
        A trained model and a noise model, either of which may say what is undone.
    correction : sequence of Correction
        What is undone if they do not say. If it is empty, too, and there is no model, offsets of
        rows and columns are looked for.
    repeats : str
        Axis of the repeats of a scene, in upper case.

    Returns
    -------
    images : list of Image
    corrections : tuple of Correction
        One for all channels, or one for each; empty if nothing is undone.
    """
    known = corrections_for(noise, model) or tuple(correction)
    if not known and model is None and noise is None:
        known = _found_in(images, repeats)
    return [corrected_image(image, known, fills=False) for image in images], known


def _found_in(images: Sequence[Image], repeats: str) -> tuple[Correction, ...]:
    """Return the offsets of lines of all channels, or of each if they differ in kind."""
    count = common_channels(images)
    each = [
        find_line_offsets(read_scenes(images, repeats, channel if count > 1 else None)[0])
        for channel in range(count)
    ]
    if len({(own.rows > 0, own.columns > 0) for own in each}) > 1:
        return tuple(each)
    if not any(each):
        return ()
    rows, columns = (
        round_to_four_digits(float(np.sqrt(np.mean([getattr(own, name) ** 2 for own in each]))))
        for name in LINE_NAMES
    )
    return (Correction(rows=rows, columns=columns),)


def find_line_offsets(scenes: Sequence[NDArray[Any]]) -> Correction:
    """Return the strength of random offsets of rows and of columns.

    Parameters
    ----------
    scenes : sequence of ndarray
        Frames of shape ``(repeats, Y, X)``; masked arrays if some pixels are not valid.

    Returns
    -------
    Correction
        False if there are none.

    Notes
    -----
    Both halves of a row have its offset, but not the same structure: the variance of the offsets
    is the covariance of the second differences of the halves along the columns, divided by 6. For
    offsets it is the same between rows that are one, two and three apart; structure that crosses
    the whole image changes more over a greater distance, or not at all.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> frame = rng.normal(100, 10, (1, 128, 128)) + rng.normal(0, 4, (1, 128, 1))
    >>> found = find_line_offsets([frame])
    >>> 3 < found.rows < 5, found.columns
    (True, 0.0)
    """
    frames = [
        np.ma.filled(np.ma.asarray(frame).astype(np.float64), np.nan)
        for frame in spread_over([frame for scene in scenes for frame in scene], MAX_FRAMES)
    ]
    rows = _strength(frames)
    columns = _strength([frame.T for frame in frames])
    return Correction(rows=rows, columns=columns)


def _strength(frames: Sequence[NDArray[np.float64]]) -> float:
    """Return the standard deviation of the offsets of rows, 0 if there are none."""
    by_lag: dict[int, list[float]] = {lag: [] for lag in LAGS}
    errors: list[float] = []
    noise: list[float] = []
    for frame in frames:
        middle = frame.shape[1] // 2
        if len(frame) < MIN_LINES or middle < MIN_LINES // 2:
            continue
        profiles = [
            np.cumsum(row_differences(half)[0]) for half in (frame[:, :middle], frame[:, middle:])
        ]
        for lag in LAGS:
            first, second = (p[2 * lag :] - 2 * p[lag:-lag] + p[: -2 * lag] for p in profiles)
            covariance = (
                robust_deviation(first + second) ** 2 - robust_deviation(first - second) ** 2
            ) / 4
            by_lag[lag].append(covariance / 6)
            independent = len(first) / INDEPENDENT_LINES
            errors.append(
                robust_deviation(first) * robust_deviation(second) / 6 / np.sqrt(independent)
            )
        noise.append(robust_deviation(np.diff(frame, n=2, axis=1)) / np.sqrt(6))
    if not noise:
        return 0.0
    variances = [float(np.mean(by_lag[lag])) for lag in LAGS]
    variance = float(np.mean(variances))
    error = float(np.mean(errors)) / np.sqrt(len(noise))
    found = (
        variance > MIN_SIGNIFICANCE * error
        and min(variances) * MAX_RATIO_OF_LAGS > max(variances)
        and np.sqrt(variance) > MIN_SHARE_OF_NOISE * float(np.median(noise))
    )
    return round_to_four_digits(float(np.sqrt(variance))) if found else 0.0
