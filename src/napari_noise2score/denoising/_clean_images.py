"""Make clean images for a polish: crops of noisy images, denoised, smoothed, without bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage

from ..noise import NoiseModel
from ..score.empty import is_empty, is_large
from ..score.patches import loop_shape, no_valid_pixel
from ..score.polish import Polish
from ..solve.bias_correction import bins_by_neighbours, measure_bias_correction
from ..solve.pooling import neighbour_mean
from ._blocks import compute_block, read_block
from ._quantities import DENOISED
from .halo import BlockData, without_halo
from .job import Job
from .tile_size import cut_axis

MAX_PIXELS = 2**22  # of all crops
MAX_CROPS_TRIED = 1000
CROP_SIZE = {2: (256, 256), 3: (16, 128, 128)}  # pixels along the axes of space
# The first clean images are medians of this side, in pixels along Y and X.
MEDIAN_SIDE = 3
# share of the power of the noise that may be left in single pixels
MAX_NOISE_LEFT = 0.05
TILE_SIDE = 16  # pixels along Y and X of a tile in which the finest detail is measured


class Crop(NamedTuple):
    """A part of an image that clean images are made of."""

    job: Job
    read: BlockData
    position: tuple[int, ...]
    space: tuple[slice, ...]

    @property
    def pixels(self) -> int:
        """Number of pixels along the axes of space, without the halo."""
        return math.prod(at.stop - at.start for at in self.space)


def read_crops(
    jobs: Sequence[Job], rng: np.random.Generator, max_pixels: int = MAX_PIXELS
) -> list[Crop]:
    """Read random crops of images with their halo; small images are read whole.

    Crops without a valid pixel are skipped, and most of those without signal if the images are
    large.
    """
    cuts = [
        [cut_axis(n, side) for n, side in zip(shape, CROP_SIZE[len(shape)], strict=True)]
        for shape in (job.layout.space_shape for job in jobs)
    ]
    grids = [(*loop_shape(job.layout), *map(len, cut)) for job, cut in zip(jobs, cuts, strict=True)]
    ends = np.cumsum([math.prod(grid) for grid in grids])
    skip_empty = is_large([job.layout for job in jobs])
    crops: list[Crop] = []
    pixels = 0
    tried = rng.choice(int(ends[-1]), min(int(ends[-1]), MAX_CROPS_TRIED), replace=False)
    for number in tried:
        which = int(np.searchsorted(ends, number, side="right"))
        job, cut, grid = jobs[which], cuts[which], grids[which]
        at = [int(i) for i in np.unravel_index(number - (ends[which] - math.prod(grid)), grid)]
        loops = len(job.layout.loop)
        space = tuple(along[i] for along, i in zip(cut, at[loops:], strict=True))
        read = read_block(job, at[:loops], space)
        if read.invalid is not None and read.invalid.all():
            continue
        inner = without_halo(read, job.model, space, job.reach)
        if skip_empty and crops and is_empty(np.nan_to_num(inner)):
            continue
        crops.append(Crop(job, read, tuple(at[:loops]), space))
        pixels += inner.size
        if pixels >= max_pixels:
            break
    if not crops:
        raise no_valid_pixel()
    return crops


def denoised_crop(crop: Crop, with_polish: Polish | None = None) -> Any:
    """Return a crop denoised, without offset, as a masked array if some pixels are invalid."""
    job = replace(crop.job, polish=with_polish)
    # the network's estimates of invalid pixels are kept: they are hidden, but smooth
    whole = BlockData(crop.read.y, context=crop.read.context)
    values, _ = compute_block(job, DENOISED, whole, crop.position, crop.space, job.tile)
    clean = job.layout.to_block(values) - job.noise.offset
    invalid = crop.read.invalid
    return clean if invalid is None else np.ma.MaskedArray(clean, invalid)


def median_of(clean: Any) -> Any:
    """Return the median around each pixel of a clean image that still holds much noise."""
    median = _median(np.ma.getdata(clean))
    mask = np.ma.getmask(clean)
    return median if mask is np.ma.nomask else np.ma.MaskedArray(median, mask)


def noise_left_in(clean: Sequence[Any], noise: NoiseModel) -> float:
    """Return the power of what noise has left in single pixels, in units of that of the noise.

    Noise that is left nearly everywhere shows in the finest detail of the median tile, as structure
    occurs in some tiles only. Noise that is left in few pixels shows in those that are above or
    below all their neighbours, and differ from the median by more than the noise.

    Parameters
    ----------
    clean : sequence of ndarray
        Denoised crops, as from `denoised_crop`.
    noise : NoiseModel
        The noise model.

    Returns
    -------
    float
        The larger of the two.
    """
    ratios: list[np.ndarray] = []
    power = variances = 0.0
    for image in clean:
        x = np.ma.getdata(image).astype(np.float64)
        ratios.append(_finest_detail(x) / _tile_means(variance_at(x, noise)))
        median = _median(x)
        variance, squares = variance_at(median, noise), (x - median) ** 2
        specks = _extreme(x) & (squares > variance)
        power += float(squares[specks].sum())
        variances += float(variance.sum())
    return max(float(np.median(np.concatenate(ratios))), power / variances)


def _median(x: np.ndarray) -> np.ndarray:
    """Return the median around each pixel along Y and X."""
    size = (*[1] * (x.ndim - 2), MEDIAN_SIDE, MEDIAN_SIDE)
    median: np.ndarray = ndimage.median_filter(x, size, mode="nearest")
    return median


def _extreme(x: np.ndarray) -> np.ndarray:
    """Return which pixels are above or below all eight neighbours along Y and X."""
    around = np.ones((*[1] * (x.ndim - 2), 3, 3), bool)
    around[..., 1, 1] = False
    above: np.ndarray = x > ndimage.maximum_filter(x, footprint=around, mode="nearest")
    below: np.ndarray = x < ndimage.minimum_filter(x, footprint=around, mode="nearest")
    extreme: np.ndarray = above | below
    return extreme


def variance_at(x: Any, noise: NoiseModel) -> np.ndarray:
    """Return the variance of the noise at clean grey levels, float64."""
    levels = np.ma.getdata(x).clip(noise.lowest).astype(np.float64)
    variance: np.ndarray = noise.variance(torch.from_numpy(levels)).numpy()
    return variance


def without_bias(clean: Sequence[Any], crops: Sequence[Crop]) -> list[Any]:
    """Return clean images whose noise has the mean of the noisy ones at each intensity."""
    lowest = crops[0].job.noise.lowest
    # adding an array keeps the mask
    return [
        (image + shift).clip(lowest).astype(np.float32)
        for image, shift in zip(clean, bias_of(clean, crops), strict=True)
    ]


def bias_of(clean: Sequence[Any], crops: Sequence[Crop]) -> list[np.ndarray]:
    """Return what clean images lack at each intensity for their noise to have the mean of y.

    Parameters
    ----------
    clean : sequence of ndarray
        Denoised crops, as from `denoised_crop`.
    crops : sequence of Crop
        The crops.

    Returns
    -------
    list of ndarray
        To be added to x, in grey levels, of the shapes of the crops.
    """
    pixels = []
    for image, crop in zip(clean, crops, strict=True):
        x = torch.from_numpy(np.ma.getdata(image))[None]
        y = without_halo(crop.read, crop.job.model, crop.space, crop.job.reach)
        valid = torch.from_numpy(np.isfinite(y))[None]
        # hidden pixels count as what they are estimated to be, for their neighbours
        filled = np.where(np.isfinite(y), y, np.ma.getdata(image) + crop.job.noise.offset)
        pixels.append((x, torch.from_numpy(filled.astype(np.float32))[None], valid))
    bins = bins_by_neighbours([(y, valid) for _, y, valid in pixels])
    solutions, everywhere = [x for x, _, _ in pixels], (-math.inf, math.inf)
    found = measure_bias_correction(bins, solutions, crops[0].job.noise, everywhere)
    return [(found.apply(x, found.locate(neighbour_mean(y))) - x)[0].numpy() for x, y, _ in pixels]


def context_of(crop: Crop) -> np.ndarray:
    """Return what the network sees of the neighbours of a crop, without its halo.

    Parameters
    ----------
    crop : Crop
        The crop.

    Returns
    -------
    ndarray
        float32, shape ``(context channels, *space)``; no channel if the model has no context.
    """
    if crop.read.context is None:
        return np.empty((0, *(at.stop - at.start for at in crop.space)), np.float32)
    read = BlockData(crop.read.context)
    return without_halo(read, crop.job.model, crop.space, crop.job.reach).astype(np.float32)


def _finest_detail(x: np.ndarray) -> np.ndarray:
    """Return the mean squared second difference of 2×2 pixels in each tile, 1-D.

    It is scaled so that white noise gives its variance.
    """
    y, x_ = (n // 2 * 2 for n in x.shape[-2:])
    x = x[..., :y, :x_].astype(np.float64)
    detail = (x[..., ::2, ::2] - x[..., 1::2, ::2] - x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 2
    return _tile_means(np.repeat(np.repeat(detail**2, 2, axis=-2), 2, axis=-1))


def _tile_means(values: np.ndarray) -> np.ndarray:
    """Return the mean of each tile along Y and X, 1-D; of the whole if it is smaller."""
    sides = [min(TILE_SIDE, n // 2 * 2) for n in values.shape[-2:]]
    y, x = (n // side * side for n, side in zip(values.shape[-2:], sides, strict=True))
    tiles = values[..., :y, :x].reshape(-1, y // sides[0], sides[0], x // sides[1], sides[1])
    means: np.ndarray = tiles.mean(axis=(2, 4)).ravel()
    return means
