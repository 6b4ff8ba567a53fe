"""Denoise images of any size, lazily or tile by tile, and say how certain the result is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dask.array as da
import torch
from torch.nn import functional as F

from .. import __version__
from ..image.image import Image
from ..noise import NoiseModel
from ..score.model import ScoreModel, probes
from ..solve.solver import make_shift
from ..solve.table import Table
from ._pipeline import one_by_one
from .tiles import Compute, Job, TileProgress, lazily, prepare

# pixels probed at once are this far apart along Z, Y and X
APART = (2, 4, 4)
# of correlated noise y is moved by so much, in units of the noise, to see how x moves
MOVED = 0.3
# one pixel's slope is too uncertain: the variance is the mean over so many to each side in Y and X
AROUND = 2
# nor is a pixel told better than the mean of a hundred noisy ones would tell it: where a network
# seems surer, it errs by as much
LEAST = 0.01


def denoise(
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
    exact: bool = True,
) -> da.Array:
    """Denoise an image lazily: nothing is computed until a part of the result is.

    Parameters
    ----------
    image : Image or array-like
        Noisy image in grey levels: numpy, dask or zarr, of any size.
    model : ScoreModel
        A score learned on images like this one.
    noise : NoiseModel or str
        The noise, as a model or in the one spelling, as ``"gaussian(sigma=25)"``.
    axes : str, optional
        Axes of the image; needed where it is not an `Image`, but for a plain YX one.
    tile : sequence of int, optional
        Size of a tile along the spatial axes of the network.
    device : str
        Where to compute: ``"auto"``, ``"cpu"``, ``"cuda"``.
    sigma_a : float, optional
        Perturbation to ask the score for, in units of the noise; the model's own by default.
        Larger is safer, smaller is sharper.
    exact : bool
        Solve by the table, or by the closed forms of the papers, to compare.

    Returns
    -------
    dask.array.Array
        The clean image in the grey levels of the noisy one, offset included, float32, of the
        shape and axes of the image. Pixels that were never recorded (NaN, padding, see
        `ValidPixels`) stay as they are.

    Raises
    ------
    UserError
        If the model does not fit the image; when computed, if it holds no valid pixel, or the grey
        levels are of another unit or gain than those the model was trained on.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_noise2score import train
    >>> stack = np.random.default_rng(0).normal(100, 10, (4, 64, 64))
    >>> result = denoise(stack, train(stack, "TYX", steps=2), "gaussian(sigma=10)", axes="TYX")
    >>> result.shape, result.dtype
    ((4, 64, 64), dtype('float32'))
    """
    job = prepare(
        image, model, noise, axes=axes, tile=tile, device=device, sigma_a=sigma_a, exact=exact,
        compare=False,
    )  # fmt: skip
    return lazily(job, denoised)


def denoise_into(
    target: Any,
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
) -> Iterator[TileProgress]:
    """Denoise an image tile by tile into an array; closing the generator stops.

    Parameters
    ----------
    target : array-like
        Of the shape of the image; written as ``target[index] = values``. For an integer type
        the values are rounded and clipped to it.
    image, model, noise, axes, tile, device, sigma_a
        As for `denoise`.

    Yields
    ------
    TileProgress
        After every tile.

    Raises
    ------
    UserError
        If the model does not fit the image, or the image holds no valid pixel.
    """
    job = prepare(image, model, noise, axes=axes, tile=tile, device=device, sigma_a=sigma_a)
    yield from one_by_one(target, job, denoised)


def result_of(
    image: Image,
    data: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    found: Mapping[str, Any] | None = None,
) -> Image:
    """Give the image that holds a result: all the source says, what made it, how it was found."""
    notes = {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "noise": str(noise),
        "version": __version__,
    } | dict(found or {})
    return replace(image, data=data, name=f"{image.name} denoised", notes=notes)


def uncertainty(
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
) -> da.Array:
    """Give the posterior standard deviation of every pixel of the denoised image, lazily.

    It says how far the clean image may still lie from the denoised one, if the noise model is
    right and the score well learned: about 68 % of the pixels lie within one of it.

    Parameters
    ----------
    image, model, noise, axes, tile, device, sigma_a
        As for `denoise`.

    Returns
    -------
    dask.array.Array
        Standard deviation in grey levels, float32, of the shape and axes of the image; NaN where
        nothing was recorded.

    Raises
    ------
    UserError
        As for `denoise`.

    Notes
    -----
    For Gaussian noise of variance v the posterior variance is ``v ∂x̂/∂y`` (second-order Tweedie).
    In general ``Var[x | z] ≈ (∂G/∂s) dx̂/dz``, x̂ = G(z, s(z)), with the two slopes of G from the
    table and the diagonal of ∂s/∂z from differences of s, one pixel in 16 (in 3-D one voxel in
    32) moved at once, up and down by a tenth of its noise. Of correlated noise it is the diagonal
    of ``(∂x̂/∂y) Σ B⁻ᵀ``, see `make_shift`, from differences of x̂ probed in the same way. The
    variance is averaged over 5×5 pixels. It takes about 30 (in 3-D 65) times as long as
    denoising.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_noise2score import train
    >>> stack = np.random.default_rng(0).normal(100, 10, (4, 64, 64))
    >>> std = uncertainty(stack, train(stack, "TYX", steps=2), "gaussian(sigma=10)", axes="TYX")
    >>> std.shape
    (4, 64, 64)
    """
    job = prepare(
        image, model, noise, axes=axes, tile=tile, device=device, sigma_a=sigma_a, compare=False
    )
    return lazily(job, spread)


def uncertainty_into(
    target: Any,
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
) -> Iterator[TileProgress]:
    """Write what `uncertainty` gives into an array; closing the generator stops.

    Parameters
    ----------
    target, image, model, noise, axes, tile, device, sigma_a
        As for `denoise_into`.

    Yields
    ------
    TileProgress
        After every tile.

    Raises
    ------
    UserError
        As for `uncertainty`.
    """
    job = prepare(image, model, noise, axes=axes, tile=tile, device=device, sigma_a=sigma_a)
    yield from one_by_one(target, job, spread)


def _denoised(job: Job, y: torch.Tensor, wide: tuple[slice, ...]) -> torch.Tensor:
    """Give the clean tile."""
    score = job.model.score(y, job.sigma_a)
    # back in the grey levels of the image, where the offset belongs to what one sees
    return job.solve(y[wide], score[wide]) + job.noise.offset


def _spread(job: Job, y: torch.Tensor, wide: tuple[slice, ...]) -> torch.Tensor:
    """Give the posterior standard deviation of a tile."""
    # the network's halo has room for what the mean takes from around the tile
    plane = (slice(at.start - AROUND, at.stop + AROUND) for at in wide[-2:])
    grown = (*wide[:-2], *plane)
    if isinstance(job.solve, Table):
        score, own = job.model.score_and_slope(y, job.sigma_a, APART)
        variance = job.solve.variance(y[grown], score[grown], own[grown])
        x = job.solve(y[wide], score[wide])
    else:
        clean, variance = _variance(job, y)
        x, variance = clean[wide], variance[grown]
    mean = F.avg_pool2d(variance.flatten(0, -3), 2 * AROUND + 1, stride=1)
    least = LEAST * job.noise.variance(x.clamp(min=job.noise.lowest))
    return torch.sqrt(mean.reshape(*variance.shape[:-2], *mean.shape[-2:]).maximum(least))


def _variance(job: Job, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give every pixel and its posterior variance under correlated noise."""
    model, noise = job.model, job.noise
    shift = make_shift(noise, model.transform, job.sigma_a, model.kernel)

    def clean(y: torch.Tensor) -> torch.Tensor:
        return job.solve(y, model.score(y, job.sigma_a))

    x = clean(y)
    added = job.sigma_a**2 * model.transform.variance(y)
    # dark and bright pixels alike are moved by a share of their own noise
    unit = torch.sqrt(noise.variance(x.clamp(min=noise.lowest)) + added)
    variance = torch.zeros_like(x)
    for at, probe in probes(x, APART):
        along = MOVED * shift(x, y, probe / unit)
        change = (clean(y + along) - clean(y - along)) / (2 * MOVED)
        variance[at] = change[at] * probe[at] * unit[at]
    return x, variance.clamp(min=0)


denoised = Compute("denoised", _denoised)
# where nothing was recorded nothing is known
spread = Compute("uncertainty", _spread, float("nan"))
