"""What contradicts the assumptions that noise is estimated under: white, independent, of one kind.

An estimate cannot disagree with what it assumes. Each test here looks at the images in another way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..solve.stabilization import high_pass
from ._autocorrelation import power_of_calm
from ._dct import ORDER, SORTS
from ._frames import Shots
from ._moments import slope

# Successive frames share noise if the variance of their differences is less than this share of
# that of frames two apart.
MIN_TIME_RATIO = 0.85
# Single frames that show so many times the standard deviation that repeats show hold a pattern.
MIN_PATTERN = 1.2
# Noise that all pixels of a line share, as a share of the variance of a pixel, and in standard
# errors of the test.
MIN_LINE_SHARE, MIN_LINE_ERRORS = 0.02, 6.0
# Channels differ if the standard deviation of their noise at one brightness does by this factor.
MIN_CHANNEL_RATIO = 1.25
# Calm patches of single frames hold texture if waves of middle frequency have so many times the
# power of the finest ones.
MIN_TEXTURE = 1.4
MAX_PATCHES = 100_000
TILE, BLOCK, MIN_TILES = 16, 16, 24
MIDDLE, FINEST = (ORDER >= 4) & (ORDER <= 6) & ~SORTS, ORDER >= 9


def time_ratio(shots: Shots) -> float:
    """Return the variance of differences of successive frames, as a share of frames two apart.

    Parameters
    ----------
    shots : Shots
        As `look_over` gave them.

    Returns
    -------
    float
        1 where frames are independent, half for the mean of two successive ones; 1 if there are
        less than three frames, too. Only the finest structure of flat tiles counts, in which what
        moves or bleaches has little.

    Examples
    --------
    >>> from ._frames import look_over
    >>> frames = np.random.default_rng(0).normal(100, 5, (5, 128, 128))
    >>> averaged = (frames[1:] + frames[:-1]) / 2
    >>> [round(time_ratio(look_over([scene])), 1) for scene in (frames[:4], averaged)]
    [1.0, 0.5]
    """
    near, far = [], []
    for scene, invalid in zip(shots.scenes, shots.invalid, strict=True):
        if len(scene) < 3:
            continue
        use = _flat_tiles(scene.mean(0), invalid)
        if use.sum() < MIN_TILES:
            continue
        near.append(
            np.mean([_energy(scene[i + 1] - scene[i])[use] for i in range(len(scene) - 1)], 0)
        )
        far.append(
            np.mean([_energy(scene[i + 2] - scene[i])[use] for i in range(len(scene) - 2)], 0)
        )
    if not near:
        return 1.0
    below = float(np.median(np.concatenate(far)))
    return float(np.median(np.concatenate(near))) / below if below > 0 else 1.0


def line_shares(shots: Shots) -> tuple[float, float]:
    """Return the variance that all pixels of a row, and of a column, share.

    Parameters
    ----------
    shots : Shots
        As `look_over` gave them.

    Returns
    -------
    rows, columns : float
        As shares of the variance of a pixel's noise; 0 where chance does as much.

    Examples
    --------
    >>> from ._frames import look_over
    >>> rng = np.random.default_rng(0)
    >>> frame = rng.normal(100, 5, (128, 128)) + rng.normal(0, 2, (128, 1))
    >>> rows, columns = line_shares(look_over([frame[None]]))
    >>> rows > 0.1, columns
    (True, 0.0)
    """
    planes = shots.noises or shots.frames
    masks = [np.isposinf(np.asarray(cut, dtype=float)) for cut in shots.cut]
    rows = [_line_share(p, m) for p, m in zip(planes, masks, strict=True)]
    columns = [_line_share(p.T, m.T) for p, m in zip(planes, masks, strict=True)]
    return tuple(float(np.median(found)) for found in (rows, columns))  # type: ignore[return-value]


def texture(shots: Shots) -> float:
    """Return how much more power calm patches of single frames have in middle than in fine waves.

    Returns
    -------
    float
        About 1 for white noise; more where even the calmest patches hold a picture, which is then
        easily taken for noise.
    """
    cut = [np.where(np.isposinf(np.asarray(c, dtype=float)), np.inf, 0.0) for c in shots.cut]
    try:
        _, _, calm, *_ = power_of_calm(shots.frames, cut, MAX_PATCHES)
    except ValueError:
        return 1.0
    return float(calm[MIDDLE].mean() / calm[FINEST].mean())


def _energy(difference: np.ndarray) -> np.ndarray:
    """Return the mean square of the finest structure of each tile."""
    return _tiles(high_pass(difference) ** 2)


def _flat_tiles(frame: np.ndarray, invalid: np.ndarray) -> np.ndarray:
    """Say which tiles are among the flatter half, and valid throughout."""
    steep = _tiles(slope(frame)[1:-1, 1:-1])
    whole = _tiles(ndimage.binary_dilation(invalid, iterations=2)[1:-1, 1:-1].astype(float)) == 0
    if not whole.any():
        return whole
    return whole & (steep <= np.median(steep[whole]))


def _tiles(plane: np.ndarray) -> np.ndarray:
    rows, columns = (n // TILE for n in plane.shape)
    cut = plane[: rows * TILE, : columns * TILE]
    return cut.reshape(rows, TILE, columns, TILE).mean(axis=(1, 3)).ravel()


def _line_share(plane: np.ndarray, invalid: np.ndarray) -> float:
    """Return the variance that rows share, as a share of that of pixels; 0 if it is chance.

    The second difference from row to row, averaged over blocks of a row: without anything in
    common the medians of rows scatter as little as their blocks say.
    """
    second = (plane[:-2] - 2 * plane[1:-1] + plane[2:]) / np.sqrt(6)
    out = invalid[:-2] | invalid[1:-1] | invalid[2:]
    count = second.shape[1] // BLOCK
    if count < 4 or len(second) < 32:
        return 0.0
    shape = (len(second), count, BLOCK)
    blocks = second[:, : count * BLOCK].reshape(shape).mean(2)
    whole = ~out[:, : count * BLOCK].reshape(shape).any(2)
    pixels = high_pass(plane)[~ndimage.binary_dilation(invalid)[1:-1, 1:-1]]
    enough = whole.sum(1) >= max(4, count // 2)
    if enough.sum() < 32 or not pixels.size:
        return 0.0
    blocks = np.where(whole, blocks, np.nan)[enough]
    middle = np.nanmedian(blocks, axis=1)
    within = _spread((blocks - middle[:, None])[np.isfinite(blocks)]) ** 2
    chance = np.pi / 2 * within / np.median(whole[enough].sum(1))
    between = _spread(middle) ** 2
    variance = _spread(pixels) ** 2
    # a robust variance of so many rows, of which three in a row are not independent
    error = chance * np.sqrt(2 * 2.7 * 2 / len(middle))
    above = between - chance
    if variance <= 0 or above < MIN_LINE_ERRORS * error:
        return 0.0
    return float(above / variance)


def _spread(values: np.ndarray) -> float:
    """Return the standard deviation of normal noise, by the median absolute deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def findings(
    shots: Shots,
    white: bool,
    pattern: float = 1.0,
    channels: Sequence[float] = (),
) -> tuple[str, ...]:
    """Say in plain words what contradicts the assumptions of an estimate, and what to do.

    Parameters
    ----------
    shots : Shots
        As `look_over` gave them.
    white : bool
        Whether the noise of neighbouring pixels is taken to be independent.
    pattern : float
        How many times the standard deviation of the model single frames show, if repeats were
        compared.
    channels : sequence of float
        The same of each channel by itself, where there are several.

    Returns
    -------
    tuple of str
        Sentences; none if nothing was found.
    """
    found = []
    if shots.several and (ratio := time_ratio(shots)) < MIN_TIME_RATIO:
        found.append(
            f"Successive frames share noise: their differences have {ratio:.0%} of the variance "
            "of frames two apart, as after a running or Kalman average, so that there is more "
            "noise than repeats show. Use the raw frames, or estimate from single frames."
        )
    elif shots.repeated and pattern > MIN_PATTERN:
        found.append(
            f"Single frames show {pattern:.1f} times the noise that repeats do: a fixed pattern of "
            "the camera or a fine texture, which all frames share. Subtract a mean dark frame or "
            "divide by a flat field if it is a pattern; denoising does not remove it."
        )
    if not shots.repeated and white and (excess := texture(shots)) > MIN_TEXTURE:
        found.append(
            f"Even the flattest parts hold fine structure ({excess:.1f} times the power that white "
            "noise has): texture may be taken for noise. Estimate from repeats of one scene, or "
            "from images with flat areas."
        )
    for share, lines in zip(line_shares(shots), ("rows", "columns"), strict=True):
        if share > MIN_LINE_SHARE:
            found.append(
                f"Pixels of one of the {lines} share noise ({share:.0%} of the variance): "
                f"{lines[:-1]} noise of the camera, which no model of independent pixels removes. "
                f"Subtract the median of each of the {lines} of a dark or masked area first."
            )
    if len(channels) > 1 and max(channels) > MIN_CHANNEL_RATIO * min(channels) > 0:
        found.append(
            f"The noise of the channels differs: {', '.join(f'{level:.2f}' for level in channels)} "
            "times what the model says. Take each channel as an image of its own."
        )
    return tuple(found)
