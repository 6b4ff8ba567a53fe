"""Fill the invalid pixels of a block, and undo the correlation of its noise."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from ..image.valid import fill
from ..noise.kernel import Kernel

Block = tuple[np.ndarray, np.ndarray | None]
"""A block, shape ``(channels, *space)``, and which of its pixels are invalid, None if none are."""


def fill_and_decorrelate(
    block: np.ndarray, invalid: np.ndarray | None, kernel: Kernel | None
) -> Block:
    """Fill the invalid pixels of a block, and undo a correlation.

    Parameters
    ----------
    block, invalid : ndarray
        Grey levels, shape ``(channels, *space)``, and which of them are invalid.
    kernel : Kernel or None
        Correlation kernel; if given, the result is smaller by its reach on each side along Y and X.

    Returns
    -------
    block : ndarray
        Grey levels, float32 if they were changed.
    invalid : ndarray or None
        Which pixels are invalid or depend strongly on invalid ones, bool.
    """
    if invalid is not None:
        typical = float(np.median(block[~invalid])) if not invalid.all() else 0.0
        block = fill(block, invalid, max(block.shape), typical).astype(np.float32)
    if kernel is not None:
        block = decorrelated(np.asarray(block, dtype=np.float32), kernel)
        if invalid is not None:
            invalid = decorrelated_mask(invalid, kernel)
    return block, invalid


def decorrelated(block: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Return A⁻¹ of every plane of a block.

    Parameters
    ----------
    block : ndarray
        Grey levels, float32, shape ``(..., Y, X)``.
    kernel : Kernel
        Correlation kernel A.

    Returns
    -------
    ndarray
        float32, smaller by `Kernel.reach` on each side along Y and X.
    """
    inner = slice(kernel.reach, -kernel.reach or None)
    whitened: np.ndarray = kernel.undo(torch.from_numpy(block))[..., inner, inner].numpy()
    return whitened


def decorrelated_mask(invalid: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Return which pixels of A⁻¹ of a block depend strongly on its invalid pixels.

    Parameters
    ----------
    invalid : ndarray
        Which pixels of the block are invalid, bool, shape ``(..., Y, X)``.
    kernel : Kernel
        Correlation kernel A.

    Returns
    -------
    ndarray
        bool, smaller by `Kernel.reach` on each side along Y and X.
    """
    wide = 2 * (max(len(kernel.taps), len(kernel.taps[0])) // 2) + 1
    size = (*[1] * (invalid.ndim - 2), wide, wide)
    inner = slice(kernel.reach, -kernel.reach or None)
    grown: np.ndarray = ndimage.maximum_filter(invalid, size, mode="nearest")[..., inner, inner]
    return grown


def margins_of(kernel: Kernel | None, ndim: int) -> tuple[int, ...]:
    """Return the pixels that A⁻¹ needs beside a patch, both sides together, for each axis."""
    return (0,) * (ndim - 2) + (2 * kernel.reach if kernel else 0,) * 2
