"""Estimate from single noisy frames how the variance of the noise depends on the intensity.

A rough estimate is enough: it only sets the transform and the perturbation of the training, and the
solver accounts for both exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product

import numpy as np

from ..noise.binning import bin_numbers
from .transform import Transform

TILE_SIDE = 8  # pixels
INTENSITY_BINS = 16
MIN_VALID_SHARE = 0.5  # of a tile; other tiles are left out
MAX_CLIPPED_SHARE = 0.1  # of a tile; tiles with more pixels at the ends of the range are left out
# This quantile of the variances of the tiles of an intensity bin is that of flat tiles. It is too
# low by this factor: a tile has only 17 effective samples, and the lowest variances are selected.
FLAT_QUANTILE = 0.2
FLAT_BIAS = 0.707
# each coefficient of the variance curve must reduce the error by about this share to be used
COST_OF_COEFFICIENT = 0.1


def fit_transform(planes: Sequence[np.ndarray], step: float = 0.0) -> Transform:
    """Estimate the variance-stabilizing transform from noisy images alone.

    The variance of the high-pass residual (Immerkær 1996) is measured on small tiles. In each bin
    of their mean, the flattest tiles are assumed to contain only noise. The curve
    ``c0 + c1 t + c2 t²`` is fitted to their variances.

    Parameters
    ----------
    planes : sequence of ndarray
        Noisy planes or pieces of planes in grey levels, shape ``(Y, X)``; NaN where a pixel is
        invalid.
    step : float
        Quantization step of the grey levels, 0 if there is none.

    Returns
    -------
    Transform

    Raises
    ------
    ValueError
        If no tile contains noise.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> frame = 100 + 5.0 * rng.standard_normal((256, 256))
    >>> round(fit_transform([frame]).c0 ** 0.5)
    5
    """
    pairs = [_tiles(np.asarray(p, dtype=np.float64)) for p in planes]
    mean, variance, clipped = (np.concatenate(a) for a in zip(*pairs, strict=True))
    finite = np.isfinite(variance)
    mean, variance, clipped = mean[finite], variance[finite], clipped[finite]
    if np.any(keep := ~clipped & (variance > 0)):
        mean, variance = mean[keep], variance[keep]
    if not np.any(variance > 0):
        raise ValueError("no tile of the images contains noise")
    m, v, weight = _flattest(mean, variance)
    start = float(np.quantile(mean, 0.01))
    c0, c1, c2 = _nonnegative_fit(np.maximum(m - start, 0), v, weight)
    # A minimum of the variance: where there are few photons, the noise nearly vanishes, and a
    # transform that followed it would separate single counts (or grey levels) too far.
    floor = max(0.01 * float(np.median(v)), step**2, c1**2)
    return Transform(start, max(c0, floor), c1, c2)


def measure_noise_by_intensity(planes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Measure the variance of the noise in intensity bins, as `fit_transform` does.

    Parameters
    ----------
    planes : sequence of ndarray
        Noisy planes in grey levels, shape ``(Y, X)``; NaN where a pixel is invalid.

    Returns
    -------
    mean, variance : ndarray
        Intensity in grey levels and variance in grey levels squared of each bin, float64, 1-D;
        empty if every tile is constant or clipped.

    Examples
    --------
    >>> frame = 100 + 5.0 * np.random.default_rng(0).standard_normal((256, 256))
    >>> mean, variance = measure_noise_by_intensity([frame])
    >>> round(float(np.median(variance) ** 0.5))
    5
    """
    large = [p for p in planes if min(p.shape) > 2]
    if not large:
        return np.empty(0), np.empty(0)
    with np.errstate(invalid="ignore"):
        tiles = [_tiles(np.asarray(p, dtype=np.float64)) for p in large]
    mean, variance, clipped = (np.concatenate(a) for a in zip(*tiles, strict=True))
    keep = ~clipped & (variance > 0) & np.isfinite(mean + variance)
    if not keep.any():
        return np.empty(0), np.empty(0)
    return _flattest(mean[keep], variance[keep])[:2]


def high_pass(plane: np.ndarray) -> np.ndarray:
    """Return the high-pass residual of a plane, in which white noise keeps its variance.

    J. Immerkær, *Fast noise variance estimation*, 1996.

    Parameters
    ----------
    plane : ndarray
        Floating-point numbers, shape ``(Y, X)``.

    Returns
    -------
    ndarray
        Shape ``(Y - 2, X - 2)``.
    """
    second = plane[:-2] - 2 * plane[1:-1] + plane[2:]
    residual: np.ndarray = (second[:, :-2] - 2 * second[:, 1:-1] + second[:, 2:]) / 6
    return residual


def tile_means(plane: np.ndarray, side: int) -> np.ndarray:
    """Return the mean of each square tile of a plane, without the remainder at its far edges.

    Parameters
    ----------
    plane : ndarray
        Numbers, shape ``(Y, X)``.
    side : int
        Side of a tile in pixels.

    Returns
    -------
    ndarray
        Row by row, shape ``(tiles,)``.

    Examples
    --------
    >>> tile_means(np.arange(10.0).reshape(2, 5), 2).tolist()
    [3.0, 5.0]
    """
    rows, columns = (n // side for n in plane.shape)
    cut = plane[: rows * side, : columns * side].reshape(rows, side, columns, side)
    means: np.ndarray = cut.mean(axis=(1, 3)).ravel()
    return means


def _tiles(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean, the residual variance and whether it is clipped, for each tile."""
    residual = high_pass(plane)
    inner = plane[1:-1, 1:-1]
    ends = np.zeros(inner.shape, bool)
    if np.isfinite(plane).any():
        ends = (inner == np.nanmin(plane)) | (inner == np.nanmax(plane))
    tiled = partial(tile_means, side=max(1, min(TILE_SIDE, *inner.shape)))
    valid = np.isfinite(residual)
    if valid.all():
        return tiled(inner), tiled(residual**2), tiled(ends.astype(float)) > MAX_CLIPPED_SHARE
    share = tiled(valid.astype(float))
    enough = np.where(share >= MIN_VALID_SHARE, share, np.nan)
    mean, variance = (tiled(np.where(valid, a, 0)) / enough for a in (inner, residual**2))
    return mean, variance, tiled((ends & valid).astype(float)) > MAX_CLIPPED_SHARE * share


def _flattest(mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the intensity, the variance of the noise and its weight, for each intensity bin."""
    quantiles = np.linspace(0, 1, INTENSITY_BINS + 1)
    which = bin_numbers(mean, quantiles, side="right", distinct=True)
    m, v, weight = [], [], []
    for b in np.unique(which):
        inside = which == b
        m.append(np.median(mean[inside]))
        v.append(np.quantile(variance[inside], FLAT_QUANTILE) / FLAT_BIAS)
        weight.append(np.sqrt(inside.sum()))
    return np.array(m), np.array(v), np.array(weight)


def _nonnegative_fit(
    t: np.ndarray, v: np.ndarray, weight: np.ndarray
) -> tuple[float, float, float]:
    """Fit v = c0 + c1 t + c2 t² with coefficients of 0 or above, weighting errors by 1 / v."""
    powers = np.stack([np.ones_like(t), t, t**2], axis=1)
    # the typical variance limits the weight of dark bins, whose variance may be almost 0
    typical = float(np.median(v)) or float(v.mean())
    if not typical > 0:
        raise ValueError("the flattest tiles of the images contain no noise")
    relative = weight / (v + typical)
    best, lowest_error = (float(np.median(v)), 0.0, 0.0), np.inf
    for use in product([False, True], repeat=3):
        if not any(use):
            continue
        solution, *_ = np.linalg.lstsq(powers[:, use] * relative[:, None], v * relative, rcond=None)
        error = float(np.sum(((powers[:, use] @ solution - v) * relative) ** 2))
        error *= 1 + COST_OF_COEFFICIENT * sum(use)
        if np.all(solution >= 0) and error < lowest_error:
            full = np.zeros(3)
            full[list(use)] = solution
            best, lowest_error = (float(full[0]), float(full[1]), float(full[2])), error
    return best
