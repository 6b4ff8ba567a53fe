"""Test the assumptions of an estimate: white, independent noise of one kind.

An estimate cannot reveal that its own assumptions are wrong, so each test here measures the images
in a different way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..solve.stabilization import high_pass, tile_means
from ._autocorrelation import power_by_structure
from ._dct import FREQUENCY, SORTING_BAND
from ._flatness import flattest, slope_of
from ._frames import PreparedFrames, infinite_where_invalid
from ._robust_fit import robust_deviation

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

# Successive frames share noise if the variance of their differences is less than this share of
# that of frames two apart.
MIN_TIME_RATIO = 0.85
# Single frames contain a pattern if their standard deviation is this many times that of repeats.
MIN_PATTERN = 1.2
# Smallest share of the variance of a pixel that all pixels of a line have in common, and the number
# of standard errors of the test.
MIN_LINE_SHARE, MIN_LINE_ERRORS = 0.02, 6.0
# Channels differ if the standard deviations of their noise at one intensity differ by this factor.
MIN_CHANNEL_RATIO = 1.25
# The flattest patches of single frames contain texture if middle frequencies have this many times
# the power of the highest ones.
MIN_TEXTURE = 1.4
MAX_PATCHES_OF_TEXTURE = 100_000
MIDDLE_BAND, HIGHEST_BAND = (FREQUENCY >= 4) & (FREQUENCY <= 6) & ~SORTING_BAND, FREQUENCY >= 9
# Size of the tiles in which frames are compared, in pixels, their smallest number, and the share of
# them that is flat.
FLAT_TILE, MIN_TILES, FLAT_TILES = 16, 24, 0.5
# Length of the blocks of a line, in pixels, and the smallest numbers of blocks and of lines.
BLOCK, MIN_BLOCKS, MIN_LINES = 16, 4, 32
# For normal noise, the variance of a robust variance of n values is about 2.7 · 2 / n; for second
# differences it is twice that, as three successive ones are not independent.
ROBUST_VARIANCE = 2 * 2.7 * 2


def time_ratio(prepared: PreparedFrames) -> float:
    """Return the variance of differences of successive frames over that of frames two apart.

    Parameters
    ----------
    prepared : PreparedFrames

    Returns
    -------
    float
        1 if frames are independent, 0.5 if each is the mean of two successive ones; also 1 if there
        are fewer than three frames. Only the finest structure of flat tiles is used, in which
        motion and bleaching have little power.

    Examples
    --------
    >>> from ._frames import prepare_frames
    >>> frames = np.random.default_rng(0).normal(100, 5, (5, 128, 128))
    >>> averaged = (frames[1:] + frames[:-1]) / 2
    >>> [round(time_ratio(prepare_frames([scene])), 1) for scene in (frames[:4], averaged)]
    [1.0, 0.5]
    """
    near: list[Floats] = []
    far: list[Floats] = []
    for scene, invalid in zip(prepared.scenes, prepared.invalid, strict=True):
        if len(scene) < 3:
            continue
        use = _flat_tiles(scene.mean(0), invalid)
        if use.sum() < MIN_TILES:
            continue
        for apart, found in ((1, near), (2, far)):
            powers = [_power(scene[i + apart] - scene[i])[use] for i in range(len(scene) - apart)]
            found.append(np.mean(powers, 0))
    if not near:
        return 1.0
    expected = float(np.median(np.concatenate(far)))
    return float(np.median(np.concatenate(near))) / expected if expected > 0 else 1.0


def line_shares(prepared: PreparedFrames) -> tuple[float, float]:
    """Return the variance that all pixels of a row, and of a column, share.

    Parameters
    ----------
    prepared : PreparedFrames

    Returns
    -------
    rows, columns : float
        As shares of the variance of the noise of a pixel; 0 where it is not significant.

    Examples
    --------
    >>> from ._frames import prepare_frames
    >>> rng = np.random.default_rng(0)
    >>> frame = rng.normal(100, 5, (128, 128)) + rng.normal(0, 2, (128, 1))
    >>> rows, columns = line_shares(prepare_frames([frame[None]]))
    >>> rows > 0.1, columns
    (True, 0.0)
    """
    planes = prepared.noises or prepared.means
    masks = [np.isposinf(plane) for plane in infinite_where_invalid(prepared.clipped)]
    rows = [_line_share(p, m) for p, m in zip(planes, masks, strict=True)]
    columns = [_line_share(p.T, m.T) for p, m in zip(planes, masks, strict=True)]
    return float(np.median(rows)), float(np.median(columns))


def texture(prepared: PreparedFrames) -> float:
    """Return the ratio of power at middle and high frequencies in the flattest patches.

    Returns
    -------
    float
        About 1 for white noise; more if even the flattest patches contain structure, which is then
        easily mistaken for noise.
    """
    invalid = infinite_where_invalid(prepared.clipped)
    try:
        _, _, calm, *_ = power_by_structure(prepared.means, invalid, MAX_PATCHES_OF_TEXTURE)
    except ValueError:
        return 1.0
    return float(calm[MIDDLE_BAND].mean() / calm[HIGHEST_BAND].mean())


def _power(difference: Floats) -> NDArray[np.float64]:
    """Return the mean square of the finest structure of each tile."""
    return tile_means(high_pass(difference) ** 2, FLAT_TILE)


def _flat_tiles(frame: Floats, invalid: Mask) -> Mask:
    """Return which tiles are in the flatter half and contain only valid pixels."""
    slope = tile_means(slope_of(frame)[1:-1, 1:-1], FLAT_TILE)
    near_invalid = ndimage.binary_dilation(invalid, iterations=2)[1:-1, 1:-1]
    whole: Mask = tile_means(near_invalid.astype(float), FLAT_TILE) == 0
    return flattest(slope, whole, FLAT_TILES) if whole.any() else whole


def _line_share(plane: Floats, invalid: Mask) -> float:
    """Return the variance that rows share, as a share of that of pixels; 0 if not significant.

    It is measured in second differences of successive rows, averaged over blocks of a row: without
    shared noise the medians of rows scatter as little as their blocks imply.
    """
    second = (plane[:-2] - 2 * plane[1:-1] + plane[2:]) / np.sqrt(6)
    out = invalid[:-2] | invalid[1:-1] | invalid[2:]
    count = second.shape[1] // BLOCK
    if count < MIN_BLOCKS or len(second) < MIN_LINES:
        return 0.0
    shape = (len(second), count, BLOCK)
    blocks = second[:, : count * BLOCK].reshape(shape).mean(2)
    whole: Mask = np.all(~out[:, : count * BLOCK].reshape(shape), axis=2)
    pixels = high_pass(plane)[~ndimage.binary_dilation(invalid)[1:-1, 1:-1]]
    enough = whole.sum(1) >= max(MIN_BLOCKS, count // 2)
    if enough.sum() < MIN_LINES or not pixels.size:
        return 0.0
    blocks = np.where(whole, blocks, np.nan)[enough]
    medians = np.nanmedian(blocks, axis=1)
    within = robust_deviation((blocks - medians[:, None])[np.isfinite(blocks)]) ** 2
    expected = np.pi / 2 * within / np.median(whole[enough].sum(1))
    between = robust_deviation(medians) ** 2
    variance = robust_deviation(pixels) ** 2
    error = expected * np.sqrt(ROBUST_VARIANCE / len(medians))
    excess = between - expected
    if variance <= 0 or excess < MIN_LINE_ERRORS * error:
        return 0.0
    return float(excess / variance)


def findings(
    prepared: PreparedFrames,
    white: bool,
    pattern: float = 1.0,
    channels: Sequence[float] = (),
) -> tuple[str, ...]:
    """Return sentences on what contradicts the assumptions of an estimate, and what to do.

    Parameters
    ----------
    prepared : PreparedFrames
    white : bool
        Whether the noise of neighbouring pixels is assumed to be independent.
    pattern : float
        The standard deviation of the noise of single frames in units of the model's, if repeats
        were compared.
    channels : sequence of float
        The same for each channel, if there are several.

    Returns
    -------
    tuple of str
        Empty if nothing was found.
    """
    found = []
    if prepared.several and (ratio := time_ratio(prepared)) < MIN_TIME_RATIO:
        found.append(
            f"Successive frames share noise: their differences have {ratio:.0%} of the variance "
            "that frames two apart have, as after a running or Kalman average. The noise is "
            "stronger than the repeats show. Use the raw frames, or estimate from single frames."
        )
    elif prepared.repeated and pattern > MIN_PATTERN:
        found.append(
            f"Single frames show {pattern:.1f} times the noise that repeats do: a fixed pattern of "
            "the camera or a fine texture, which all frames share. If it is a pattern, name a mean "
            "dark frame in the noise model, '+ pattern(file=dark.tif)', or calibration maps."
        )
    if not prepared.repeated and white and (excess := texture(prepared)) > MIN_TEXTURE:
        found.append(
            "Even the flattest areas contain fine structure "
            f"({excess:.1f} times the power of white noise): texture may be mistaken for noise. "
            "Estimate from repeats of one scene, or from images with flat areas."
        )
    for share, lines in zip(line_shares(prepared), ("rows", "columns"), strict=True):
        if share > MIN_LINE_SHARE:
            found.append(
                f"Whole {lines} have offsets of their own ({share:.0%} of the variance of the "
                f"noise), which no model of independent pixels removes. A noise model with "
                f"'+ {lines}(sigma=...)' does, with a score that was trained with this correction; "
                "Estimate finds the number."
            )
    if len(channels) > 1 and max(channels) > MIN_CHANNEL_RATIO * min(channels) > 0:
        found.append(
            f"The noise of the channels differs: {', '.join(f'{value:.2f}' for value in channels)} "
            "times what the model says. Estimate a noise model for each channel."
        )
    return tuple(found)
