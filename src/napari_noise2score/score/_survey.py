"""Survey noisy images before training: transform, normalization, perturbation and quantization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
from ._valid_of_each import ValidOfEach
from .decorrelation import Block, fill_and_decorrelate
from .empty import draw_nonempty, is_large
from .patches import count_pieces, loop_shape, no_valid_pixel

MAX_CROPS, CROPS_PER_PIECE = 64, 8
MAX_CROP_SIDE = 128  # pixels
SIDE_OF_SAMPLE = 512  # pixels of simulated noise
MIN_NOISE_RATIO = 2.0**-22  # of the noise to the grey levels; float32 rounds smaller noise away
# mean and scale are computed with this share of the values at either end clipped
EXTREME_SHARE = 0.001
MIN_VALID_SHARE = 0.25  # of a crop; crops with fewer valid pixels, and constant ones, are skipped
# Of the range of A⁻¹ y: closer grey levels count as one, because of the precision of float32.
GREY_LEVEL_TOLERANCE = 1e-4
MIN_SIGMA_A, MAX_SIGMA_A = 0.2, 1.0  # in units of the noise
MIN_SIGMA_A_OF_SMOOTH_NOISE = 1.0  # the score of a smooth density is large and imprecise
SIGMA_A_PER_STEP = 0.7  # less perturbation would not smooth the density of quantized data


def survey(
    arrays: Sequence[Any],
    layouts: Sequence[Layout],
    rng: np.random.Generator,
    kernel: Kernel | None,
    valid: ValidOfEach | None = None,
    channel: int | None = None,
    of_noise: Kernel | None = None,
) -> dict[str, Any]:
    """Choose transform, perturbation σ_a and normalization by reading a few crops of the images.

    Parameters
    ----------
    arrays : sequence of array-like
        Noisy images.
    layouts : sequence of Layout
        Layout of each image.
    rng : numpy.random.Generator
        Chooses the crops.
    kernel : Kernel or None
        Correlation kernel that is undone before the score is learned.
    valid : ValidOfEach, optional
        The valid pixels of the images; determined if not given.
    channel : int, optional
        The one channel that is surveyed where channels are separate; all by default.
    of_noise : Kernel, optional
        Correlation of the noise that is not undone, see `Kernel.of_noise`.

    Returns
    -------
    dict
        The fields of `ScoreModel` from ``transform`` to ``kernel``. Invalid pixels and defects are
        left out, and the brightest and darkest pixels do not affect mean and scale.

    Raises
    ------
    UserError
        If the images contain no valid pixel, are constant, or contain no noise, or if single
        precision cannot resolve the noise.
    """
    masks_of, skip_empty = valid or ValidOfEach(arrays, layouts), is_large(layouts)
    wanted = min(MAX_CROPS, CROPS_PER_PIECE * count_pieces(layouts))
    crops: list[Block] = []
    constant: set[float] = set()
    for _ in range(3 * wanted):
        (block, invalid), _ = draw_nonempty(
            lambda: (_draw_crop(arrays, layouts, masks_of, rng, channel), None), rng, skip_empty
        )
        pixels = block if invalid is None else block[~invalid]
        if not pixels.size:
            continue
        if pixels.min() == pixels.max():
            constant.add(float(pixels.flat[0]))
        elif pixels.size >= MIN_VALID_SHARE * block.size:
            crops.append((block, invalid))
        if len(crops) == wanted:
            break
    if not crops:
        if not constant:
            raise no_valid_pixel()
        raise UserError(
            f"the images are constant (every pixel that was read is {min(constant):g}): "
            "there is nothing to learn from them"
        )
    if kernel is not None:
        crops = _decorrelated_crops(crops, kernel)
    step = estimate_quantization(_values(crops)).step
    planes, masks = _planes(crops)
    try:
        transform = _fit_transform(planes, masks, step)
        masks = [
            mask | defects(_with_median(plane, mask), transform)
            for plane, mask in zip(planes, masks, strict=True)
        ]
        transform = _fit_transform(planes, masks, step)
        if of_noise is not None:
            transform = _stronger(transform, 1 / share_seen(of_noise))
    except ValueError:
        raise UserError("the images show no noise: there is nothing to denoise") from None
    largest = max(
        float(np.abs(plane[~mask]).max(initial=0))
        for plane, mask in zip(planes, masks, strict=True)
    )
    if largest * MIN_NOISE_RATIO > transform.c0**0.5:
        raise UserError(
            f"the noise is too small for single precision at grey levels of {largest:g}: subtract "
            "a constant from the images"
        )
    values = np.concatenate([plane[~mask] for plane, mask in zip(planes, masks, strict=True)])
    quantization = estimate_quantization(values)
    levels = torch.from_numpy(values.astype(np.float64))
    z = transform.forward(levels)
    ends = np.quantile(z.numpy(), [EXTREME_SHARE, 1 - EXTREME_SHARE])
    inner = z.clamp(*ends.tolist())
    dark = torch.quantile(levels[:: len(levels) // 100_000 + 1], 0.1)
    # photons are a quantization too: their step in grey levels is c1, the slope of the variance
    sigma_a = _choose_sigma_a(max(quantization.step, transform.c1) * float(transform.slope(dark)))
    if of_noise is not None:
        sigma_a = max(sigma_a, MIN_SIGMA_A_OF_SMOOTH_NOISE)
    return {
        "transform": transform,
        "mean": float(inner.mean()),
        "scale": float(inner.std()),
        "sigma_a": sigma_a,
        # no smaller perturbation than the score is evaluated at: its gradient would be noisier
        "sigma_a_range": (sigma_a, max(0.7, 1.5 * sigma_a)),
        "low": float(values.min()),
        "high": float(values.max()),
        "quantization": quantization,
        "kernel": kernel,
    }


def _planes(crops: Sequence[Block]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the planes of crops, and which of their pixels are invalid."""
    planes, masks = [], []
    for block, invalid in crops:
        invalid = np.zeros(block.shape, bool) if invalid is None else invalid
        planes += list(block.reshape(-1, *block.shape[-2:]))
        masks += list(invalid.reshape(-1, *block.shape[-2:]))
    return planes, masks


def _values(crops: Sequence[Block]) -> np.ndarray:
    """Return the valid pixels of crops, 1-D."""
    return np.concatenate([c.ravel() if i is None else c[~i] for c, i in crops])


def _fit_transform(
    planes: Sequence[np.ndarray], masks: Sequence[np.ndarray], step: float
) -> Transform:
    """Return the transform estimated from the valid pixels of planes."""
    return fit_transform([_as_nan(p, m) for p, m in zip(planes, masks, strict=True)], step)


def share_seen(kernel: Kernel) -> float:
    """Return the share of the variance of correlated noise that its finest detail shows.

    Parameters
    ----------
    kernel : Kernel
        The correlation of the noise.
    """
    noise = np.random.default_rng(0).standard_normal((SIDE_OF_SAMPLE, SIDE_OF_SAMPLE))
    smooth = kernel.apply_to_image(noise) / kernel.power**0.5
    return float(fit_transform([smooth], 0.0).variance(torch.zeros(1, dtype=torch.float64)))


def _stronger(transform: Transform, factor: float) -> Transform:
    """Return the transform of noise whose variance is larger by a factor."""
    return replace(
        transform, c0=factor * transform.c0, c1=factor * transform.c1, c2=factor * transform.c2
    )


def _as_nan(plane: np.ndarray, invalid: np.ndarray) -> np.ndarray:
    """Return a plane with NaN in its invalid pixels."""
    return np.where(invalid, np.nan, plane) if invalid.any() else plane


def _with_median(plane: np.ndarray, invalid: np.ndarray) -> np.ndarray:
    """Return a plane with the median of its valid pixels in its invalid pixels."""
    if not invalid.any() or invalid.all():
        return np.zeros_like(plane) if invalid.all() else plane
    return np.where(invalid, np.median(plane[~invalid]), plane)


def _decorrelated_crops(crops: Sequence[Block], kernel: Kernel) -> list[Block]:
    """Return A⁻¹ of crops, rounded to the grid of grey levels if they were on one before A."""
    made = [_decorrelated_crop(block, invalid, kernel) for block, invalid in crops]
    values = _values(made)
    step = find_quantization_step(values, GREY_LEVEL_TOLERANCE * float(np.ptp(values)))
    if not step:
        return made
    low = float(values.min())
    low += float(np.median((values - low + step / 2) % step)) - step / 2
    return [(low + step * np.round((c - low) / step), i) for c, i in made]


def _decorrelated_crop(crop: np.ndarray, invalid: np.ndarray | None, kernel: Kernel) -> Block:
    """Return A⁻¹ of a crop, without its border, where A⁻¹ is not exact."""
    # without its border, too little of a small crop would be left
    if min(crop.shape[-2:]) >= 4 * kernel.reach:
        return fill_and_decorrelate(crop, invalid, kernel)
    crop, invalid = fill_and_decorrelate(crop, invalid, None)
    return kernel.undo_image(np.asarray(crop, dtype=np.float32)), invalid


def _choose_sigma_a(step: float) -> float:
    """Return the perturbation for a quantization step, both in units of the noise.

    The density of quantized data is a comb that must be smoothed. Otherwise a small perturbation
    preserves more detail, until the gradient becomes too noisy.
    """
    return min(max(MIN_SIGMA_A, SIGMA_A_PER_STEP * step), MAX_SIGMA_A)


def _draw_crop(
    arrays: Sequence[Any],
    layouts: Sequence[Layout],
    valid: ValidOfEach,
    rng: np.random.Generator,
    channel: int | None,
) -> Block:
    """Read a random crop of a random plane, shape ``(channels, [1,] Y, X)``."""
    which = int(rng.integers(len(arrays)))
    where = layouts[which]
    position = [int(rng.integers(n)) for n in loop_shape(where)]
    if channel is not None:
        position[where.loop.index("C")] = channel
    space = []
    for axis, n in zip(where.space, where.space_shape, strict=True):
        size = min(n, 1 if axis == "Z" else MAX_CROP_SIDE)
        start = int(rng.integers(n - size + 1))
        space.append(slice(start, start + size))
    return valid[which].read(arrays[which], where, position, space)
