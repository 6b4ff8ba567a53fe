"""Find the flattest pixels of an image, where structure adds least to the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

#: Share of the pixels that counts as flat; more would include visible structure, less would select
#: pixels by their noise.
FLAT_SHARE = 0.3
#: Standard deviation, in pixels, of the Gaussian over which noise is averaged before slopes are
#: measured.
SLOPE_SIGMA = 2.0


def smooth(plane: Floats, sigma: float) -> NDArray[np.float64]:
    """Convolve a plane, mirrored at its edges, with a Gaussian truncated at 3 σ.

    Parameters
    ----------
    plane : ndarray
        Shape ``(Y, X)``.
    sigma : float
        Standard deviation of the Gaussian in pixels.

    Returns
    -------
    ndarray
        In double precision, shape ``(Y, X)``.
    """
    radius = int(np.ceil(3 * sigma))
    smoothed: NDArray[np.float64] = ndimage.gaussian_filter(
        plane, sigma, mode="mirror", output=np.float64, radius=radius
    )
    return smoothed


def slope_of(plane: Floats) -> NDArray[np.float64]:
    """Return the slope of the smoothed plane, in grey levels per pixel, shape ``(Y, X)``."""
    gradients = np.gradient(smooth(plane, SLOPE_SIGMA))
    slope: NDArray[np.float64] = np.hypot(*gradients)
    return slope


def flattest(slope: Floats, among: Mask | None = None, share: float = FLAT_SHARE) -> Mask:
    """Select the pixels with the smallest slopes.

    Parameters
    ----------
    slope : ndarray
        Slopes of pixels, patches or tiles, of any shape.
    among : ndarray of bool, optional
        The pixels to choose from; all by default.
    share : float
        Share of these that is selected, from 0 to 1.

    Returns
    -------
    ndarray of bool
        Of the shape of the slopes.

    Examples
    --------
    >>> flattest(np.array([3.0, 1.0, 2.0, 5.0]), share=0.4).tolist()
    [False, True, True, False]
    """
    if among is None:
        selected: Mask = slope <= np.quantile(slope, share)
        return selected
    return (slope <= np.quantile(slope[among], share)) & among
