"""What single noisy frames say of their noise: how it grows with the signal.

Rough by intent: it only sets the coordinates and the perturbation of training, which the solver
accounts for exactly whatever they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from .transform import Transform

TILE = 8
BINS = 16
# a tile counts if so much of it is valid
MIN_KNOWN = 0.5
# the share of a bin's flattest tiles that is taken for noise alone, and what the variance of
# such a tile reads on average: its 17 effective samples scatter, and the low ones are chosen
FLAT = 0.2
FLAT_READS = 0.707


def fit_transform(planes: Sequence[np.ndarray], step: float = 0.0) -> Transform:
    """Choose variance-stabilising coordinates from noisy images alone.

    The variance of the high-pass (Immerkær 1996) residual on small tiles, by their mean: in each
    range of means the flattest tiles show the noise. A curve c0 + c1 t + c2 t² goes through them.

    Parameters
    ----------
    planes : sequence of 2-D ndarray
        Noisy planes or pieces of planes, in grey levels; NaN where a pixel is not valid.
    step : float
        Quantisation step of the grey levels, 0 if none.

    Returns
    -------
    Transform

    Raises
    ------
    ValueError
        If no tile shows any noise.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> frame = 100 + 5.0 * rng.standard_normal((256, 256))
    >>> round(fit_transform([frame]).c0 ** 0.5)
    5
    """
    pairs = [_tiles(np.asarray(p, dtype=np.float64)) for p in planes]
    mean, variance, clipped = (np.concatenate(part) for part in zip(*pairs, strict=True))
    known = np.isfinite(variance)
    mean, variance, clipped = mean[known], variance[known], clipped[known]
    if np.any(keep := ~clipped & (variance > 0)):
        mean, variance = mean[keep], variance[keep]
    if not np.any(variance > 0):
        raise ValueError("no tile of the images shows any noise")
    m, v, weight = _flattest(mean, variance)
    start = float(np.quantile(mean, 0.01))
    c0, c1, c2 = _nonnegative_fit(np.maximum(m - start, 0), v, weight)
    # A floor under the variance. Where few photons are left the noise nearly vanishes, and
    # coordinates that followed it would tear the single counts (or grey levels) apart.
    floor = max(0.01 * float(np.median(v)), step**2, c1**2)
    return Transform(start, max(c0, floor), c1, c2)


def noise_of_tiles(planes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Measure the variance of the noise in ranges of brightness, as `fit_transform` does.

    Parameters
    ----------
    planes : sequence of 2-D ndarray
        Noisy planes in grey levels; tiles with a pixel that is not finite are left out.

    Returns
    -------
    mean, variance : ndarray
        Brightness and variance of each range; empty where every tile is constant or clipped.

    Examples
    --------
    >>> frame = 100 + 5.0 * np.random.default_rng(0).standard_normal((256, 256))
    >>> mean, variance = noise_of_tiles([frame])
    >>> round(float(np.median(variance) ** 0.5))
    5
    """
    large = [p for p in planes if min(p.shape) > 2]
    if not large:
        return np.empty(0), np.empty(0)
    with np.errstate(invalid="ignore"):
        tiles = [_tiles(np.asarray(p, dtype=np.float64)) for p in large]
    mean, variance, clipped = (np.concatenate(part) for part in zip(*tiles, strict=True))
    keep = ~clipped & (variance > 0) & np.isfinite(mean + variance)
    if not keep.any():
        return np.empty(0), np.empty(0)
    return _flattest(mean[keep], variance[keep])[:2]


def high_pass(plane: np.ndarray) -> np.ndarray:
    """Give what is finest in a plane, one pixel less on each side; white noise keeps its size.

    J. Immerkær, *Fast noise variance estimation*, 1996.
    """
    second = plane[:-2] - 2 * plane[1:-1] + plane[2:]
    return (second[:, :-2] - 2 * second[:, 1:-1] + second[:, 2:]) / 6


def _tiles(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, residual variance and whether clipped, of every tile of a plane."""
    residual = high_pass(plane)
    inner = plane[1:-1, 1:-1]
    ends = np.zeros(inner.shape, bool)
    if np.isfinite(plane).any():
        ends = (inner == np.nanmin(plane)) | (inner == np.nanmax(plane))
    size = max(1, min(TILE, *inner.shape))
    rows, columns = (n // size for n in inner.shape)

    def tiled(a: np.ndarray) -> np.ndarray:
        a = a[: rows * size, : columns * size].reshape(rows, size, columns, size)
        return a.mean(axis=(1, 3)).ravel()

    known = np.isfinite(residual)
    if known.all():
        return tiled(inner), tiled(residual**2), tiled(ends.astype(float)) > 0.1
    share = tiled(known.astype(float))
    counted = np.where(share >= MIN_KNOWN, share, np.nan)
    mean, variance = (tiled(np.where(known, part, 0)) / counted for part in (inner, residual**2))
    return mean, variance, tiled((ends & known).astype(float)) > 0.1 * share


def _flattest(mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, noise variance and weight, for each range of means."""
    edges = np.unique(np.quantile(mean, np.linspace(0, 1, BINS + 1)))
    which = np.clip(np.searchsorted(edges, mean, side="right") - 1, 0, max(len(edges) - 2, 0))
    m, v, weight = [], [], []
    for b in np.unique(which):
        inside = which == b
        m.append(np.median(mean[inside]))
        v.append(np.quantile(variance[inside], FLAT) / FLAT_READS)
        weight.append(np.sqrt(inside.sum()))
    return np.array(m), np.array(v), np.array(weight)


def _nonnegative_fit(
    t: np.ndarray, v: np.ndarray, weight: np.ndarray
) -> tuple[float, float, float]:
    """Fit c0 + c1 t + c2 t² with no coefficient below 0, errors taken relative to v."""
    powers = np.stack([np.ones_like(t), t, t**2], axis=1)
    # but not to the next to nothing that is left of it where there is next to no light
    usual = float(np.median(v)) or float(v.mean())
    if not usual > 0:
        raise ValueError("the flattest tiles of the images show no noise")
    relative = weight / (v + usual)
    best, least = (float(np.median(v)), 0.0, 0.0), np.inf
    for use in product([False, True], repeat=3):
        if not any(use):
            continue
        part, *_ = np.linalg.lstsq(powers[:, use] * relative[:, None], v * relative, rcond=None)
        error = float(np.sum(((powers[:, use] @ part - v) * relative) ** 2))
        # a further coefficient must earn its place
        error *= 1 + 0.1 * sum(use)
        if np.all(part >= 0) and error < least:
            full = np.zeros(3)
            full[list(use)] = part
            best, least = (float(full[0]), float(full[1]), float(full[2])), error
    return best
