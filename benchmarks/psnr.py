"""Compute the PSNR of 8-bit images, for scripts that run in an environment of their own."""

from __future__ import annotations

import numpy as np


def psnr(images: np.ndarray, clean: np.ndarray, affine: bool = False) -> float:
    """Return the mean PSNR of images against one clean image."""
    found = []
    for image in images:
        fitted = fit_to(image, clean) if affine else image
        found.append(10 * np.log10(255**2 / np.mean((fitted - clean) ** 2)))
    return float(np.mean(found))


def fit_to(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return an image with the scale and offset that bring it closest to another."""
    design = np.stack([image.ravel(), np.ones(image.size)], axis=1)
    found: np.ndarray = (design @ np.linalg.lstsq(design, target.ravel(), rcond=None)[0]).reshape(
        target.shape
    )
    return found
