"""Cut random patches out of frames, from which noise is measured."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._dct import PATCH_SIZE
from ._flatness import slope_of

Floats = NDArray[np.floating[Any]]

#: Share of a patch that may be clipped: with few photons, many pixels have none.
MAX_CLIPPED_SHARE = 0.1
# A median is subtracted before the conversion to single precision if the standard deviation is
# less than this share of it.
MIN_RELATIVE_DEVIATION = 1e-3


class Patches(NamedTuple):
    """Random patches of a frame.

    Attributes
    ----------
    intensity, pixel_variance, slope : ndarray
        Mean and variance of the pixels in the frame, and the slope of the smoothed frame in the
        middle, shape ``(patches,)``.
    noise, skewed : ndarray
        Pixels of the patches in the plane used for the variance and in the one used for the third
        moment, shape ``(patches, pixels)``.
    """

    intensity: Floats
    pixel_variance: Floats
    slope: Floats
    noise: NDArray[np.float32]
    skewed: NDArray[np.float32]


def random_patches(
    frame: Floats,
    noise: Floats,
    skewed: Floats,
    clipped: NDArray[Any],
    count: int,
    rng: np.random.Generator,
) -> Patches:
    """Cut random patches out of a frame and of planes of its noise.

    Parameters
    ----------
    frame, noise, skewed : ndarray
        The frame, and the planes whose variance and third moment are measured (which may be the
        frame itself), in grey levels, shape ``(Y, X)``.
    clipped : ndarray
        1 where pixels are clipped, infinite where they are not valid, else 0, shape ``(Y, X)``.
        Patches with too many of them are left out.
    count : int
        The largest number of patches.
    rng : numpy.random.Generator
        Chooses the patches.

    Returns
    -------
    Patches
    """
    # on a large offset the noise would be lost in single precision
    median = float(np.median(frame))
    shift = median if abs(median) * MIN_RELATIVE_DEVIATION > float(frame.std()) else 0.0
    shifts = (0.0, shift, shift if noise is frame else 0.0, shift if skewed is frame else 0.0)
    planes = [
        np.asarray(plane - by if by else plane, dtype=np.float32)
        for plane, by in zip((clipped, frame, noise, skewed), shifts, strict=True)
    ]
    windows = [
        np.lib.stride_tricks.sliding_window_view(plane, (PATCH_SIZE, PATCH_SIZE))
        for plane in planes
    ]
    shape = windows[0].shape[:2]
    chosen = rng.permutation(shape[0] * shape[1])[: 2 * count]
    at: tuple[NDArray[np.intp], ...] = np.unravel_index(chosen, shape)
    if np.any(clipped):
        share = windows[0][at].reshape(len(at[0]), -1).mean(1)
        kept = np.flatnonzero(share <= MAX_CLIPPED_SHARE)
        at = at[0][kept], at[1][kept]
    at = at[0][:count], at[1][:count]
    values = [window[at].reshape(len(at[0]), PATCH_SIZE**2) for window in windows[1:3]]
    if skewed is noise:
        values.append(values[1])
    else:
        values.append(windows[3][at].reshape(len(at[0]), PATCH_SIZE**2))
    slope = slope_of(frame)[PATCH_SIZE // 2 :, PATCH_SIZE // 2 :][at]
    intensity = values[0].mean(1)
    if shift:
        intensity = intensity.astype(np.float64) + shift
    return Patches(intensity, values[0].var(1), slope, values[1], values[2])
