"""Single pixels that are far from all their neighbours: hot, dead, or hit by a cosmic ray."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from ..solve.transform import Transform

# A defect is so many standard deviations of the noise from the median of its neighbours, and
# stands out by so many times as much as they differ among themselves, but for one at either end:
# what an optical system images, however small and bright, spreads over some pixels.
MIN_DEVIATIONS = 12.0
MIN_CONTRAST = 4.0
NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)


def defects(plane: np.ndarray, transform: Transform) -> np.ndarray:
    """Find defects of a plane.

    Parameters
    ----------
    plane : ndarray
        Grey levels, finite, shape ``(Y, X)``.
    transform : Transform
        Coordinates in which the noise is about 1.

    Returns
    -------
    ndarray
        True where a pixel is a defect, bool, of the same shape.

    Examples
    --------
    >>> plane = np.random.default_rng(0).normal(100, 5, (32, 32))
    >>> plane[8, 8] = 4000
    >>> int(defects(plane, Transform(c0=25)).sum())
    1
    """
    # torch takes no negative strides
    levels = torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float64))
    z = transform.forward(levels).numpy()
    around = ndimage.median_filter(z, footprint=NEIGHBOURS, mode="mirror")
    away = z - around
    far = np.abs(away) > MIN_DEVIATIONS
    if not far.any():
        return far
    brightest, darkest = (
        ndimage.rank_filter(z, rank, footprint=NEIGHBOURS, mode="mirror") for rank in (-2, 1)
    )
    contrast = brightest - darkest
    height = np.where(away > 0, z - darkest, brightest - z)
    return far & (height > MIN_CONTRAST * contrast)
