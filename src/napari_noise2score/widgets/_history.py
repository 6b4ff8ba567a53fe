"""Undo and redo for the noise model of each layer."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

MOST = 100  # noise models that are kept for a layer


class History:
    """The noise models that a layer had, and which of them it has.

    Examples
    --------
    >>> from napari.layers import Image
    >>> import numpy as np
    >>> history, layer = History(), Image(np.zeros((8, 8)))
    >>> for noise in ("gaussian(sigma=1)", "gaussian(sigma=2)"):
    ...     history.add(layer, noise)
    >>> history.step(layer, -1), history.can_step(layer, -1), history.step(layer, 1)
    ('gaussian(sigma=1)', False, 'gaussian(sigma=2)')
    """

    def __init__(self) -> None:
        self._noises: WeakKeyDictionary[Any, tuple[list[str], int]] = WeakKeyDictionary()

    def add(self, layer: Any, noise: str) -> None:
        """Add the noise model that a layer has now; what was undone is forgotten."""
        noises, at = self._noises.get(layer, ([], -1))
        if at >= 0 and noises[at] == noise:
            return
        noises = [*noises[: at + 1], noise][-MOST:]
        self._noises[layer] = noises, len(noises) - 1

    def can_step(self, layer: Any, by: int) -> bool:
        """Return whether there is an earlier (by = −1) or later (1) noise model."""
        noises, at = self._noises.get(layer, ([], -1))
        return 0 <= at + by < len(noises)

    def step(self, layer: Any, by: int) -> str:
        """Go to the earlier or later noise model, and return it."""
        noises, at = self._noises[layer]
        self._noises[layer] = noises, at + by
        return noises[at + by]
