"""Find defects: single pixels that are hot, dead or hit by a cosmic ray."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from ..solve.transform import Transform

# A defect differs from the median of its neighbours by this many standard deviations of the noise,
# and by this multiple of their range, which excludes their highest and lowest. Real structures,
# however small and bright, extend over several pixels.
MIN_DEVIATIONS = 12.0
MIN_CONTRAST = 4.0
NEIGHBOURS = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)


def defects(plane: np.ndarray, transform: Transform) -> np.ndarray:
    """Return which pixels of a plane are defects.

    Parameters
    ----------
    plane : ndarray
        Grey levels, finite, shape ``(Y, X)``.
    transform : Transform
        Variance-stabilizing transform of the image.

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
    # torch does not accept negative strides
    levels = torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float64))
    z = transform.forward(levels).numpy()
    neighbours = ndimage.median_filter(z, footprint=NEIGHBOURS, mode="mirror")
    difference = z - neighbours
    far: np.ndarray = np.abs(difference) > MIN_DEVIATIONS
    if not far.any():
        return far
    brightest, darkest = (
        ndimage.rank_filter(z, rank, footprint=NEIGHBOURS, mode="mirror") for rank in (-2, 1)
    )
    contrast = brightest - darkest
    height = np.where(difference > 0, z - darkest, brightest - z)
    found: np.ndarray = far & (height > MIN_CONTRAST * contrast)
    return found
