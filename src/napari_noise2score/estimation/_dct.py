"""The two-dimensional cosine basis (DCT-II) of small patches, and its frequency bands."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

PATCH_SIZE = 7

_BASIS = fft.dct(np.eye(PATCH_SIZE), axis=0, norm="ortho")
#: Basis functions in columns, shape ``(pixels, frequencies)``: ``patches @ DCT_BASIS`` are the
#: coefficients of patches of shape ``(patches, pixels)``.
DCT_BASIS: NDArray[np.float32] = np.kron(_BASIS, _BASIS).T.astype(np.float32)

_INDICES = np.stack(np.divmod(np.arange(PATCH_SIZE**2), PATCH_SIZE))
#: Sum of the vertical and the horizontal frequency index, 0 to 12, shape ``(frequencies,)``.
FREQUENCY: NDArray[np.intp] = _INDICES.sum(0)

# Half of the low frequencies are used to sort patches by structure, the other half to measure how
# much structure they have, without selection bias. Both halves cover the same directions and
# scales.
_SORTING = (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (0, 4), (4, 0)
#: The frequencies by which patches are sorted, bool, shape ``(frequencies,)``.
SORTING_BAND: NDArray[np.bool_] = np.array([tuple(pair) in _SORTING for pair in _INDICES.T])


def dct_power(covariance: NDArray[Any]) -> NDArray[np.float64]:
    """Return the power at each frequency, from the covariance of the pixels of a patch.

    Parameters
    ----------
    covariance : ndarray
        Shape ``(pixels, pixels)``.

    Returns
    -------
    ndarray
        ``diag(Bᵀ C B)`` with the basis B, shape ``(frequencies,)``.

    Examples
    --------
    >>> bool(np.allclose(dct_power(np.eye(49)), 1))  # white noise has the same power at all
    True
    """
    power: NDArray[np.float64] = np.einsum("iw,ij,jw->w", DCT_BASIS, covariance, DCT_BASIS)
    return power
