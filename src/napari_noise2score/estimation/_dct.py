"""Cosine waves of small patches, in which white noise has the same power and pictures have not."""

from __future__ import annotations

import numpy as np

SIDE = 7


def _waves() -> tuple[np.ndarray, np.ndarray]:
    """Cosine waves of a patch, shape (pixels, waves), and their two wave numbers."""
    at = np.arange(SIDE)
    waves = np.cos(np.pi * at[:, None] * (at + 0.5) / SIDE) * np.sqrt(2 / SIDE)
    waves[0] /= np.sqrt(2)
    return np.kron(waves, waves).T.astype(np.float32), np.stack(np.divmod(np.arange(SIDE**2), SIDE))


WAVES, NUMBERS = _waves()
# waves by the sum of their wave numbers, from 0 to 12
ORDER = NUMBERS.sum(0)
# half of the coarse waves sort patches by structure, the other half says how much picture there
# is; both are alike in direction and in scale
SORTING = (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (0, 4), (4, 0)
SORTS = np.array([tuple(pair) in SORTING for pair in NUMBERS.T])


def power_of(shared: np.ndarray) -> np.ndarray:
    """Give the power of each wave, from the mean product of each pair of pixels of a patch."""
    return np.einsum("iw,ij,jw->w", WAVES, shared, WAVES)
