"""Denoise images of any size, lazily, into an array or into a file, with their uncertainty."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import numpy as np

from ..image.image import Image
from ..noise import NoiseModel
from ..progress import Progress, run_to_end
from ..score.model import ScoreModel
from ..score.polish import Polish
from ._lazy import lazy_array
from ._pipeline import fill_array
from ._quantities import DENOISED, UNCERTAINTY
from .job import Quantity, prepare
from .jobs import write_steps
from .provenance import result_image, result_notes


class FileOptions(TypedDict, total=False):
    """Options of a result that is written to a file or store.

    Attributes
    ----------
    overwrite : bool
        Replace an existing result, or the remains of an interrupted job.
    resume : bool
        Resume an interrupted job of the same image, model and noise. If there is none, begin; if
        its result is complete, do nothing.
    ome_zarr : {"0.5", "0.4"}
        Version of OME-Zarr to write.
    client : distributed.Client
        Compute the blocks of a store on its workers, see `cluster.connect`.
    inputs : iterable of path-like
        Other files that the job reads, as the model's; they are never replaced.
    """

    overwrite: bool
    resume: bool
    ome_zarr: str
    client: Any
    inputs: Iterable[str | os.PathLike[str]]


def denoise(
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    out: Any = None,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
    exact: bool = True,
    dtype: Any = "float32",
    noise_notes: Mapping[str, Any] | None = None,
    polish: Polish | Sequence[Polish | None] | None = None,
    **file_options: Unpack[FileOptions],
) -> Any:
    """Denoise an image of any size: lazily, into an array, or into a file.

    Parameters
    ----------
    image : Image or array-like
        Noisy image in grey levels: numpy, dask or zarr, of any size.
    model : ScoreModel
        A score learned on images like this one.
    noise : NoiseModel or str
        The noise model, or its text, as ``"gaussian(sigma=25)"``; for each channel its own with
        ``"gaussian(sigma=25) ; gaussian(sigma=40)"``.
    out : array-like or path-like, optional
        None returns a lazy result: nothing is read or computed until a part of it is needed. An
        array of the shape of the image (numpy, zarr) is filled, rounded and clipped to its type. A
        path ending in .ome.zarr, .zarr, .tif, .tiff, .npy or .png is written: the result grows
        under a hidden name beside it with a journal of finished blocks, and gets its name when it
        is complete. An interrupted job can be resumed, and gives the same bytes.
    axes : str, optional
        Axes of the image, one letter of ``STCZYX`` per dimension; required unless it is an `Image`
        or has the two axes YX.
    tile : sequence of int, optional
        Size of a tile along the axes of space; by default the largest that fits in memory.
    device : str
        Where to compute: ``"auto"``, ``"cpu"``, ``"cuda"``.
    sigma_a : float, optional
        Perturbation σ_a that the score is evaluated at, in units of the noise; by default the
        model's own. Larger is more robust, smaller is sharper.
    exact : bool
        Solve by a look-up table, or by the closed forms of the papers for comparison.
    dtype : dtype-like
        Type of the pixels of a lazy result or a file; integers are rounded and clipped.
    noise_notes : mapping, optional
        How the noise model was found; kept in the provenance of an `Image` or a file. Values are
        JSON.
    polish : Polish, optional
        A network that `polish` taught for this model and noise model. It estimates x in place of
        the solver. One for each channel if the channels have noise models of their own, or were
        learned each by itself.
    **file_options
        For a path only, see `FileOptions`: ``overwrite``, ``resume``, ``ome_zarr``, ``client``,
        ``inputs``.

    Returns
    -------
    dask.array.Array, Image, or `out`
        The clean image in the grey levels of the noisy one, offset included, of its shape and
        axes. Without `out`, an `Image` gives a lazy `Image` and an array a dask array. Pixels that
        were never recorded (NaN, padding, see `ValidPixels`) stay as they are.

    Raises
    ------
    UserError
        If the model does not fit the image or the noise; when computed, if the image holds no
        valid pixel, or its grey levels have another unit or gain than the training images. For a
        path, if the result exists, is an input, cannot be written or is being written by another
        job, or if the job to resume is another one. Finished blocks are kept.

    Examples
    --------
    >>> from napari_noise2score import train
    >>> stack = np.random.default_rng(0).normal(100, 10, (4, 64, 64))
    >>> model = train(stack, axes="TYX", steps=2)
    >>> result = denoise(stack, model, "gaussian(sigma=10)", axes="TYX")
    >>> result.shape, result.dtype
    ((4, 64, 64), dtype('float32'))
    >>> clean = denoise(stack, model, "gaussian(sigma=10)", np.empty((4, 64, 64)), axes="TYX")
    >>> bool((clean == result.compute()).all())
    True
    """
    return _compute(
        DENOISED, image, model, noise, out, axes=axes, tile=tile, device=device, sigma_a=sigma_a,
        exact=exact, dtype=dtype, noise_notes=noise_notes, polish=polish, **file_options,
    )  # fmt: skip


def denoise_steps(
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    out: Any,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
    exact: bool = True,
    dtype: Any = "float32",
    noise_notes: Mapping[str, Any] | None = None,
    polish: Polish | Sequence[Polish | None] | None = None,
    **file_options: Unpack[FileOptions],
) -> Generator[Progress[Any]]:
    """Denoise an image into an array or a file, block by block; closing the generator stops.

    Parameters
    ----------
    image, model, noise, out, axes, tile, device, sigma_a, exact, dtype, noise_notes, polish
        As for `denoise`; `out` is required.
    **file_options
        As for `denoise`.

    Yields
    ------
    Progress
        After every block, those of a pyramid included. The last one, whose result is `out`, comes
        once the result is complete.

    Raises
    ------
    UserError
        As for `denoise`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from napari_noise2score import read_image, train
    >>> noisy = Image(np.random.default_rng(0).normal(100, 10, (4, 64, 64)), "TYX")
    >>> file = Path(tempfile.mkdtemp()) / "clean.ome.zarr"
    >>> model = train(noisy, steps=2)
    >>> for progress in denoise_steps(noisy, model, "gaussian(sigma=10)", file):
    ...     pass
    >>> progress.done, progress.total, read_image(file).data.shape
    (4, 4, (4, 64, 64))
    """
    yield from _steps(
        DENOISED, image, model, noise, out, axes=axes, tile=tile, device=device, sigma_a=sigma_a,
        exact=exact, dtype=dtype, noise_notes=noise_notes, polish=polish, **file_options,
    )  # fmt: skip


def uncertainty(
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    out: Any = None,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
    dtype: Any = "float32",
    noise_notes: Mapping[str, Any] | None = None,
    polish: Polish | Sequence[Polish | None] | None = None,
    **file_options: Unpack[FileOptions],
) -> Any:
    """Compute the posterior standard deviation of every pixel of the denoised image.

    It bounds the error of the denoised image if the noise model is right and the score well
    learned: about 68 % of the pixels of the clean image lie within one standard deviation.

    Parameters
    ----------
    image, model, noise, out, axes, tile, device, sigma_a, dtype, noise_notes, polish
        As for `denoise`.
    **file_options
        As for `denoise`.

    Returns
    -------
    dask.array.Array, Image, or `out`
        Standard deviation in grey levels, of the shape and axes of the image; NaN where nothing
        was recorded.

    Raises
    ------
    UserError
        As for `denoise`.

    Notes
    -----
    For Gaussian noise of variance v the posterior variance is ``v ∂x̂/∂y`` (second-order Tweedie).
    In general ``Var[x | z] ≈ (∂G/∂s) dx̂/dz``, x̂ = G(z, s(z)), with the two slopes of G from the
    table and the diagonal of ∂s/∂z from differences of s, one pixel in 16 (in 3-D one voxel in
    32) changed at once, up and down by a tenth of its noise. For correlated noise it is the
    diagonal of ``(∂x̂/∂y) Σ B⁻ᵀ``, see `make_shift`, from differences of x̂ probed in the same way.
    The variance is averaged over 5×5 pixels. It takes about 30 (in 3-D 65) times as long as
    denoising.

    Examples
    --------
    >>> from napari_noise2score import train
    >>> stack = np.random.default_rng(0).normal(100, 10, (4, 64, 64))
    >>> model = train(stack, axes="TYX", steps=2)
    >>> uncertainty(stack, model, "gaussian(sigma=10)", axes="TYX").shape
    (4, 64, 64)
    """
    return _compute(
        UNCERTAINTY, image, model, noise, out, axes=axes, tile=tile, device=device, sigma_a=sigma_a,
        dtype=dtype, noise_notes=noise_notes, polish=polish, **file_options,
    )  # fmt: skip


def uncertainty_steps(
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    out: Any,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
    dtype: Any = "float32",
    noise_notes: Mapping[str, Any] | None = None,
    polish: Polish | Sequence[Polish | None] | None = None,
    **file_options: Unpack[FileOptions],
) -> Generator[Progress[Any]]:
    """Write `uncertainty` into an array or a file; closing the generator stops.

    Parameters
    ----------
    image, model, noise, out, axes, tile, device, sigma_a, dtype, noise_notes, polish
        As for `denoise_steps`.
    **file_options
        As for `denoise`.

    Yields
    ------
    Progress
        As from `denoise_steps`.

    Raises
    ------
    UserError
        As for `denoise`.

    Examples
    --------
    >>> from napari_noise2score import train
    >>> noisy = np.random.default_rng(0).normal(100, 10, (32, 32))
    >>> steps = uncertainty_steps(
    ...     noisy, train(noisy, steps=2), "gaussian(sigma=10)", np.empty((32, 32))
    ... )
    >>> [progress.fraction for progress in steps]
    [1.0]
    """
    yield from _steps(
        UNCERTAINTY, image, model, noise, out, axes=axes, tile=tile, device=device,
        sigma_a=sigma_a, dtype=dtype, noise_notes=noise_notes, polish=polish, **file_options,
    )  # fmt: skip


def _compute(
    quantity: Quantity,
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    out: Any,
    **options: Any,
) -> Any:
    """Return a quantity of an image: lazily without `out`, or else `out` once it is complete."""
    if out is None:
        return _lazy(quantity, image, model, noise, **options)
    return run_to_end(_steps(quantity, image, model, noise, out, **options))


def _lazy(
    quantity: Quantity,
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    dtype: Any,
    sigma_a: float | None,
    noise_notes: Mapping[str, Any] | None,
    polish: Polish | Sequence[Polish | None] | None,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    exact: bool = True,
    **file_options: Unpack[FileOptions],
) -> Any:
    """Return a lazy quantity of an image, as an `Image` if it is one."""
    _check_no_options(file_options)
    job = prepare(
        image, model, noise, axes=axes, tile=tile, device=device, sigma_a=sigma_a, exact=exact,
        compare=False, polish=polish,
    )  # fmt: skip
    data = lazy_array(job, quantity, np.dtype(dtype))
    if not isinstance(image, Image):
        return data
    notes = result_notes(
        model, job.given_noise, sigma_a=sigma_a, noise_notes=noise_notes, polish=polish
    )
    return result_image(image, data, quantity.name, notes)


def _steps(
    quantity: Quantity,
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    out: Any,
    *,
    dtype: Any,
    noise_notes: Mapping[str, Any] | None,
    polish: Polish | Sequence[Polish | None] | None,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
    exact: bool = True,
    **file_options: Unpack[FileOptions],
) -> Generator[Progress[Any]]:
    """Write a quantity of an image into an array or a file."""
    if isinstance(out, str | os.PathLike):
        yield from write_steps(
            out, quantity, image, model, noise, axes=axes, tile=tile, device=device,
            sigma_a=sigma_a, exact=exact, dtype=dtype, noise_notes=noise_notes, polish=polish,
            **file_options,
        )  # fmt: skip
        return
    _check_no_options(file_options)
    job = prepare(
        image, model, noise, axes=axes, tile=tile, device=device, sigma_a=sigma_a, exact=exact,
        polish=polish,
    )  # fmt: skip
    yield from fill_array(out, job, quantity)


def _check_no_options(file_options: Mapping[str, Any]) -> None:
    if file_options:
        raise TypeError(f"{', '.join(file_options)}: only for a result that is written to a path")
