"""Measure how sigma of magnitude MRI varies across the image, from the images themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import UserError
from ..image.image import as_images
from ..noise import parse_noise
from ..solve.stabilization import high_pass, tile_means
from ._robust_fit import robust_deviation

Floats = NDArray[np.float64]

TILE_SIDE = 8  # pixels
MIN_PLANES, MIN_FLAT_PLANES = 8, 6
# The planes in which a tile is flattest, by this filter, show its noise; in pixels.
FLAT_SHARE, FLATNESS_SIGMA = 0.15, 1.2
# Sigma varies smoothly: its logarithm is a polynomial of this order along Y and X.
ORDER = 3
FIT_ITERATIONS = 20
# Structure makes a tile too noisy: beyond so many deviations it counts less.
MAX_DEVIATION = 3.0
MAX_SNR, SNRS = 20.0, 500  # of the table by which the ratio of mean and deviation gives sigma
MIN_NOISY_SHARE = 0.5  # of the tiles


def estimate_sigma_map(
    images: Any, *, axes: str | Sequence[str] | None = None, coils: float = 1
) -> NDArray[np.float32]:
    """Measure sigma at each position of magnitude MRI whose noise varies across the plane.

    Parallel imaging amplifies noise, most in the middle of the object. All planes must have the
    same noise: repetitions, diffusion directions, or slices that were recorded alike.

    Parameters
    ----------
    images : Image or array-like
        Magnitude images, at least eight planes ``YX``.
    axes : str or sequence of str, optional
        Axes of the images, as for `train`.
    coils : float
        Number of coils whose squares were added; 1 for Rician noise.

    Returns
    -------
    ndarray
        Sigma in grey levels, float32, shape ``(Y, X)``. Write it as a TIFF file, and name that in a
        noise model: ``rician(sigma=map(sigma.tif))``.

    Raises
    ------
    UserError
        If there are fewer than eight planes, they are smaller than 64×64 pixels or differ in size,
        or contain no noise.

    Notes
    -----
    In tiles of 8×8 pixels, the high-pass residual of the planes that are flattest there gives the
    variance of y, and its ratio to their mean gives sigma (as in Koay & Basser, J. Magn. Reson.
    179, 2006). A smooth surface is fitted to all tiles, those with structure counting less.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sigma = np.linspace(5, 15, 96) * np.ones((96, 1))
    >>> noise = sigma * rng.standard_normal((2, 12, 96, 96))
    >>> found = estimate_sigma_map(np.hypot(100 + noise[0], noise[1]), axes="ZYX")
    >>> bool(np.median(np.abs(found / sigma - 1)) < 0.05)
    True
    """
    planes = [plane for image in as_images(images, axes) for plane in _planes_of(image)]
    shapes = {plane.shape for plane in planes}
    if len(planes) < MIN_PLANES or len(shapes) > 1 or min(planes[0].shape) < 8 * TILE_SIDE:
        raise UserError(
            f"a map of sigma needs at least {MIN_PLANES} planes of one size, "
            f"{8 * TILE_SIDE}×{8 * TILE_SIDE} pixels or larger"
        )
    means, variances, rough = (np.stack(a) for a in zip(*map(_tiles, planes), strict=True))
    snr = torch.linspace(0, MAX_SNR, SNRS, dtype=torch.float64)
    family = parse_noise(f"noncentral_chi(sigma=1, coils={coils:g})")
    mean, deviation = family.mean(snr).numpy(), family.variance(snr).sqrt().numpy()
    # that of one tile is too noisy for a ratio, which without signal can only err upwards
    grid = [-1, *((n - 2) // TILE_SIDE for n in planes[0].shape)]
    near = ndimage.median_filter(variances.reshape(grid), (1, 3, 3)).reshape(variances.shape)
    seen = means / np.sqrt(near).clip(1e-30)
    squares = variances / np.interp(seen, mean / deviation, deviation) ** 2
    count = max(MIN_FLAT_PLANES, round(FLAT_SHARE * len(planes)))
    flattest = np.argsort(rough, axis=0)[:count]
    square = np.take_along_axis(squares, flattest, 0).mean(0)
    if not np.all(np.isfinite(square)) or np.mean(square > 0) < MIN_NOISY_SHARE:
        raise UserError("the images show no noise, or hold pixels that are not finite")
    return _surface(square, planes[0].shape)


def _planes_of(image: Any) -> list[Floats]:
    if image.axes[-2:] != "YX":
        raise UserError(f"a map of sigma needs axes that end with YX, not {image.axes}")
    data = np.asarray(image.data, dtype=np.float64)
    return list(data.reshape(-1, *data.shape[-2:]))


def _tiles(plane: Floats) -> tuple[Floats, Floats, Floats]:
    """Return mean, variance of the noise and roughness of the tiles of a plane, ``(tiles,)``."""
    smooth = ndimage.gaussian_filter(plane, FLATNESS_SIGMA)[1:-1, 1:-1]
    values = plane[1:-1, 1:-1], high_pass(plane) ** 2, smooth, smooth**2
    mean, variance, low, square = (tile_means(a, TILE_SIDE) for a in values)
    return mean, variance, square - low**2


def _surface(square: Floats, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return sigma at every pixel, a smooth surface through its squares in tiles."""
    counts = [(n - 2) // TILE_SIDE for n in shape]
    # the middle of each tile, and every pixel, from −1 to 1
    at = [
        2 * ((np.arange(n) + 0.5) * TILE_SIDE + 0.5) / s - 1
        for n, s in zip(counts, shape, strict=True)
    ]
    # a polynomial is not continued beyond the tiles
    everywhere = [
        np.clip(2 * np.arange(s) / s - 1, a[0], a[-1]) for s, a in zip(shape, at, strict=True)
    ]
    basis, whole = (
        np.einsum("ya,xb->yxab", *(legendre.legvander(a, ORDER) for a in ends))
        for ends in (at, everywhere)
    )
    used = square > 0
    columns = basis.reshape(len(square), -1)[used]
    target, weight = np.log(square[used]), np.ones(used.sum())
    for _ in range(FIT_ITERATIONS):
        root = np.sqrt(weight)
        found = np.linalg.lstsq(columns * root[:, None], target * root, rcond=None)[0]
        away = target - columns @ found
        scale = robust_deviation(away) + 1e-9
        weight = 1 / np.maximum(1, np.abs(away) / (MAX_DEVIATION * scale)) ** 2
    log = whole.reshape(*shape, -1) @ found
    sigma: NDArray[np.float32] = np.exp(log / 2).astype(np.float32)
    return sigma
