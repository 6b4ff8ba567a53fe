"""Survey noisy images before training: transform, normalization, perturbation and quantization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from ..image.axes import Layout
from ..noise.kernel import Kernel
from ..solve.quantization import estimate_quantization, find_quantization_step
from ..solve.stabilization import fit_transform
from ..solve.transform import Transform
from ._defects import defects
from .patches import (
    Drawn,
    ValidOfEach,
    count_pieces,
    is_large,
    loop_shape,
    no_valid_pixel,
    telling,
    undone,
)

MIN_NOISE_RATIO = 2.0**-22  # of the noise to the grey levels; float32 rounds smaller noise away
# mean and scale are computed with this share of the values at either end set to the next ones
EXTREME_SHARE = 0.001
MIN_VALID_SHARE = 0.25  # of a crop; crops of fewer valid pixels, and constant ones, are skipped
# of the range of A⁻¹ y: closer grey levels count as one, as float32 resolves no more
LEVEL_TOLERANCE = 1e-4


def survey(
    arrays: Sequence[Any],
    layouts: Sequence[Layout],
    rng: np.random.Generator,
    kernel: Kernel | None,
    valid: ValidOfEach | None = None,
) -> dict[str, Any]:
    """Look at a few pieces of the images and choose coordinates, σ_a and normalisation.

    Neither invalid pixels nor defects have a say, and the brightest and darkest not in mean and
    scale.
    """
    known, choosy = valid or ValidOfEach(arrays, layouts), is_large(layouts)
    wanted = min(64, 8 * count_pieces(layouts))
    crops: list[Drawn] = []
    constant: set[float] = set()
    for _ in range(3 * wanted):
        block, invalid = telling(lambda: _crop(arrays, layouts, known, rng), rng, choosy)
        some = block if invalid is None else block[~invalid]
        if not some.size:
            continue
        if some.min() == some.max():
            constant.add(float(some.flat[0]))
        elif some.size >= MIN_VALID_SHARE * block.size:
            crops.append((block, invalid))
        if len(crops) == wanted:
            break
    if not crops:
        if not constant:
            raise no_valid_pixel()
        raise UserError(
            f"the images are constant (every pixel looked at is {min(constant):g}): "
            "there is nothing to learn from them"
        )
    if kernel is not None:
        crops = _decorrelated_crops(crops, kernel)
    step = estimate_quantization(_values(crops)).step
    planes, masks = _planes(crops)
    try:
        transform = _fit_transform(planes, masks, step)
        masks = [
            mask | defects(_as_level(plane, mask), transform)
            for plane, mask in zip(planes, masks, strict=True)
        ]
        transform = _fit_transform(planes, masks, step)
    except ValueError:
        raise UserError("the images show no noise: there is nothing to denoise") from None
    largest = max(
        float(np.abs(plane[~mask]).max(initial=0))
        for plane, mask in zip(planes, masks, strict=True)
    )
    if largest * MIN_NOISE_RATIO > transform.c0**0.5:
        raise UserError(
            f"the noise is so small beside grey levels of {largest:g} that single precision does "
            "not hold it: subtract a constant from the images"
        )
    values = np.concatenate([plane[~mask] for plane, mask in zip(planes, masks, strict=True)])
    quantization = estimate_quantization(values)
    levels = torch.from_numpy(values.astype(np.float64))
    z = transform.forward(levels)
    ends = np.quantile(z.numpy(), [EXTREME_SHARE, 1 - EXTREME_SHARE])
    inner = z.clamp(*ends.tolist())
    dark = torch.quantile(levels[:: len(levels) // 100_000 + 1], 0.1)
    # light comes in steps too: of one photon, which is what the variance grows by
    sigma_a = _choose_sigma_a(max(quantization.step, transform.c1) * float(transform.slope(dark)))
    return {
        "transform": transform,
        "mean": float(inner.mean()),
        "scale": float(inner.std()),
        "sigma_a": sigma_a,
        # not below what will be asked for: the smaller the perturbation, the noisier its gradient
        "sigma_a_range": (sigma_a, max(0.7, 1.5 * sigma_a)),
        "low": float(values.min()),
        "high": float(values.max()),
        "quantization": quantization,
        "kernel": kernel,
    }


def _planes(crops: Sequence[Drawn]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Give the planes of crops, and where they are not valid."""
    planes, masks = [], []
    for block, invalid in crops:
        invalid = np.zeros(block.shape, bool) if invalid is None else invalid
        planes += list(block.reshape(-1, *block.shape[-2:]))
        masks += list(invalid.reshape(-1, *block.shape[-2:]))
    return planes, masks


def _values(crops: Sequence[Drawn]) -> np.ndarray:
    """Give the valid pixels of crops."""
    return np.concatenate([c.ravel() if i is None else c[~i] for c, i in crops])


def _fit_transform(
    planes: Sequence[np.ndarray], masks: Sequence[np.ndarray], step: float
) -> Transform:
    return fit_transform([_as_nan(p, m) for p, m in zip(planes, masks, strict=True)], step)


def _as_nan(plane: np.ndarray, invalid: np.ndarray) -> np.ndarray:
    """Give a plane with NaN for its invalid pixels."""
    return np.where(invalid, np.nan, plane) if invalid.any() else plane


def _as_level(plane: np.ndarray, invalid: np.ndarray) -> np.ndarray:
    """Give a plane with a usual grey level for its invalid pixels."""
    if not invalid.any() or invalid.all():
        return np.zeros_like(plane) if invalid.all() else plane
    return np.where(invalid, np.median(plane[~invalid]), plane)


def _decorrelated_crops(crops: Sequence[Drawn], kernel: Kernel) -> list[Drawn]:
    """Give A⁻¹ of crops, on the grid of counts again where they were on one before A."""
    made = [_decorrelated_crop(block, invalid, kernel) for block, invalid in crops]
    values = _values(made)
    step = find_quantization_step(values, LEVEL_TOLERANCE * float(np.ptp(values)))
    if not step:
        return made
    low = float(values.min())
    low += float(np.median((values - low + step / 2) % step)) - step / 2
    return [(low + step * np.round((c - low) / step), i) for c, i in made]


def _decorrelated_crop(crop: np.ndarray, invalid: np.ndarray | None, kernel: Kernel) -> Drawn:
    """Give A⁻¹ of a crop, without its borders, within reach of which it is inexact."""
    # too little would be left of a small one
    if min(crop.shape[-2:]) >= 4 * kernel.reach:
        return undone(crop, invalid, kernel)
    crop, invalid = undone(crop, invalid, None)
    return kernel.undo_image(np.asarray(crop, dtype=np.float32)), invalid


def _choose_sigma_a(step: float) -> float:
    """Choose the perturbation, in units of the noise, for a step of the data in the same units.

    On a grid the density is a comb unless it is blurred by 0.7 steps; without one, less
    perturbation is less lost, until the gradient drowns.
    """
    return min(max(0.2, 0.7 * step), 1.0)


def _crop(
    arrays: Sequence[Any],
    layouts: Sequence[Layout],
    valid: ValidOfEach,
    rng: np.random.Generator,
) -> Drawn:
    """Read a random plane of a random image, at most 128 pixels wide, ``(channel, [1,] Y, X)``."""
    which = int(rng.integers(len(arrays)))
    where = layouts[which]
    position = [int(rng.integers(n)) for n in loop_shape(where)]
    space = []
    for axis, n in zip(where.space, where.space_shape, strict=True):
        size = min(n, 1 if axis == "Z" else 128)
        start = int(rng.integers(n - size + 1))
        space.append(slice(start, start + size))
    return valid[which].read(arrays[which], where, position, space)
