"""The noise check: how much of the noise of an image a noise model explains.

A check consists of four tests. The variance by intensity is compared with that of the model
(`_check_variance`); the correlation between pixels of the residual must be that of the model
(`_check_residual`); the assumptions of the estimate itself are tested (`_check_assumptions`); and
if there is a trained score, the information of its training images must not exceed that of the
model's noise (`information`).
The result is a `NoiseCheck` (`goodness_of_fit`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..denoising.denoise import denoise
from ..denoising.job import in_channel
from ..errors import UserError
from ..image.axes import MAX_CHANNELS
from ..image.channel import channel_of, count_channels
from ..image.image import Image, as_images
from ..noise import NoiseModel, PerChannel, parse_noise
from ..noise.kernel import Kernel
from ..progress import Progress, run_to_end
from ..score.correction import corrected_image, corrections_for
from ..score.model import ScoreModel
from ._autocorrelation import MIN_CORRELATION
from ._by_channel import common_channels, images_of_channel, worst
from ._check_assumptions import findings
from ._check_planes import TILES, count_planes, read_compared_planes
from ._check_residual import Residual, compare_residual
from ._check_variance import VarianceCurve, compare_variance, compare_variance_with_read_noise
from ._frames import prepare_frames
from ._from_images import ImageEstimate, estimate_from_frames
from ._read_frames import read_scenes, read_scenes_and_warn
from ._units import arithmetic_as_user_error
from .goodness_of_fit import NoiseCheck
from .information import check_information


def check_noise(
    image: Any,
    noise: NoiseModel | str,
    *,
    axes: str | Sequence[str] | None = None,
    model: ScoreModel | None = None,
    denoised: Any = None,
    repeats: str = "T",
) -> NoiseCheck:
    """Check whether a noise model explains the noise of an image.

    Parameters
    ----------
    image : Image or array-like, or a sequence of them
        Noisy, in grey levels: numpy, dask or zarr. Several are taken as one data set.
    noise : NoiseModel or str
        The noise model to check.
    axes : str or sequence of str, optional
        Axes of the image, or of each; needed for arrays of more than two dimensions.
    model : ScoreModel, optional
        A trained score. The residual is then the image minus the image denoised with it.
    denoised : array-like, optional
        An image denoised by any method, with the shape and grey levels of the noisy one. The
        residual is then the difference of the two.
    repeats : str
        Axis along which the same scene was recorded several times. Without a model and a denoised
        image, the residual is the difference of successive frames along it; where there is no such
        axis, it is the finest structure of flat pixels.

    Returns
    -------
    NoiseCheck
        Its ``summary`` is one line; ``curve`` and ``residual`` hold the measurements for plots.

    Raises
    ------
    UserError
        If the noise of the image cannot be measured, see `estimate_noise`, or if something does not
        fit the image.

    Examples
    --------
    >>> from napari_noise2score.sample import simulate_cells
    >>> noisy, _ = simulate_cells((2, 2, 128, 128))  # a gain of 2, an offset of 100
    >>> print(check_noise(noisy, "poisson(gain=6, offset=100)", axes="TZYX").verdict)
    The noise is ...% weaker than the model says.
    """
    return run_to_end(
        check_steps(image, noise, axes=axes, model=model, denoised=denoised, repeats=repeats)
    )


def check_steps(
    image: Any,
    noise: NoiseModel | str,
    *,
    axes: str | Sequence[str] | None = None,
    model: ScoreModel | None = None,
    denoised: Any = None,
    repeats: str = "T",
) -> Iterator[Progress[NoiseCheck]]:
    """Check a noise model as `check_noise` does, step by step; closing the generator stops.

    Parameters
    ----------
    image, noise, axes, model, denoised, repeats
        As for `check_noise`.

    Yields
    ------
    Progress
        The last one with the `NoiseCheck` as its result.

    Raises
    ------
    UserError
        As for `check_noise`.
    """
    images = as_images(image, axes)
    if denoised is not None and (len(images) > 1 or denoised.shape != images[0].data.shape):
        raise UserError("the denoised image must have the shape of the one image that is checked")
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    corrections = corrections_for(noise, model)
    images = [corrected_image(image, corrections, fills=False) for image in images]
    noise = noise.plain
    if isinstance(noise, PerChannel):
        yield from _check_channels(images, noise, model, denoised, repeats)
        return
    yield Progress(0, 2 + count_planes(images, repeats))
    scenes, _ = read_scenes_and_warn(images, repeats)
    found = estimate_from_frames(scenes, model.kernel if model else None)
    yield from check_against_estimate(
        images,
        noise,
        scenes,
        found,
        model=model,
        denoised=None if denoised is None else [denoised],
        repeats=repeats,
        trained=model,
    )


def _check_channels(
    images: Sequence[Image],
    noise: PerChannel,
    model: ScoreModel | None,
    denoised: Any,
    repeats: str,
) -> Iterator[Progress[NoiseCheck]]:
    """Check the noise model of each channel; the result is that of the worst one."""
    count = common_channels(images)
    checks: list[NoiseCheck] = []
    clean = None if denoised is None else [denoised]
    if model is not None and clean is None:
        clean = [denoise(image, model, noise, tile=TILES[model.ndim]).data for image in images]
    for channel, own in enumerate(noise.for_channels(count)):
        some = images_of_channel(images, channel)
        trained = model.of_channel(channel) if model and model.channel_coordinates else None
        each = None
        if clean is not None:
            pairs = zip(clean, images, strict=True)
            each = [channel_of(Image(data, image.axes), channel).data for data, image in pairs]
        with in_channel(channel, count):
            scenes, _ = read_scenes_and_warn(some, repeats)
            found = estimate_from_frames(scenes, trained.kernel if trained else None)
            for progress in check_against_estimate(
                some, own, scenes, found, denoised=each, repeats=repeats, trained=trained
            ):
                if progress.result is None:
                    yield Progress(channel + progress.fraction, count)
        assert progress.result is not None
        checks.append(progress.result)
    yield Progress(count, count, result=worst(checks))


def check_against_estimate(
    images: Sequence[Image],
    noise: NoiseModel,
    scenes: Sequence[NDArray[Any]],
    found: ImageEstimate,
    *,
    model: ScoreModel | None = None,
    denoised: Sequence[Any] | None = None,
    repeats: str = "T",
    trained: ScoreModel | None = None,
) -> Iterator[Progress[NoiseCheck]]:
    """Check a noise model against images whose frames were already read and estimated.

    Parameters
    ----------
    images : sequence of Image
        The images.
    noise : NoiseModel
        The noise model to check.
    scenes : sequence of ndarray
        Their frames, as `read_scenes` returns them.
    found : ImageEstimate
        The estimate from these frames.
    model, repeats
        As for `check_noise`.
    denoised : sequence of array-like, optional
        Each image, denoised.
    trained : ScoreModel, optional
        A trained score whose information is compared with that of the noise model.

    Yields
    ------
    Progress
        The last one with the `NoiseCheck` as its result.
    """
    total = 2 + count_planes(images, repeats)
    yield Progress(1, total)
    planes = []
    for plane in read_compared_planes(images, noise, model, denoised, repeats, scenes):
        planes.append(plane)
        yield Progress(min(1 + len(planes), total - 1), total)
    if planes[0].x is not None:
        source = "denoised"
    else:
        source = "single frames" if planes[0].other is None else "repeats"
    _, kernel, read = noise.components
    with arithmetic_as_user_error():
        residual = compare_residual(planes, noise, found.quantization)
        if kernel is not None and read:
            curve = compare_variance_with_read_noise(scenes, noise)
        else:
            curve = compare_variance(found, noise)
    check = NoiseCheck(
        noise,
        found.noise,
        found.fits[0].intervals,
        found.correlation,
        curve,
        residual,
        source,
        _findings(images, noise, found, scenes, repeats)
        + _excess_information(trained, noise, found, curve, residual, source),
    )
    yield Progress(total, total, result=check)


def _findings(
    images: Sequence[Image],
    noise: NoiseModel,
    found: ImageEstimate,
    scenes: Sequence[NDArray[Any]],
    repeats: str,
) -> tuple[str, ...]:
    """Return sentences on measured contradictions of the assumptions of an estimate."""
    _, kernel, _ = found.noise.components
    try:
        with arithmetic_as_user_error():
            prepared = prepare_frames(scenes)
            pattern = 1.0
            if prepared.repeated:
                pattern = _strength([scenes[0][:1]], noise, kernel)
            strengths = _strengths_of_channels(images, noise, kernel, repeats)
            return findings(prepared, kernel is None, pattern, strengths)
    except UserError:
        return ()


def _excess_information(
    trained: ScoreModel | None,
    noise: NoiseModel,
    found: ImageEstimate,
    curve: VarianceCurve,
    residual: Residual,
    source: str,
) -> tuple[str, ...]:
    """Return a sentence if the images hold more information than the noise of a model can have."""
    if trained is None:
        return ()
    shared = residual.correlation
    if source == "denoised":
        # what denoising removes may contain some of the picture, which is correlated
        shared = found.correlation if noise.components.kernel is None else 0.0
    if abs(shared) <= MIN_CORRELATION[source != "single frames"]:
        shared = 0.0
    sentence = check_information(trained, noise, curve.strengths(), shared)
    return (sentence,) if sentence else ()


def _strengths_of_channels(
    images: Sequence[Image], noise: NoiseModel, kernel: Kernel | None, repeats: str
) -> list[float]:
    """Return the strength of the noise of each channel; empty unless all are known."""
    counts = set(map(count_channels, images))
    if len(counts) > 1 or not 1 < (count := counts.pop()) <= MAX_CHANNELS:
        return []
    strengths = []
    for channel in range(count):
        scenes, _ = read_scenes(images, repeats, channel)
        strengths.append(_strength(scenes[:1], noise, kernel))
    return [] if 0 in strengths else strengths


def _strength(
    scenes: Sequence[NDArray[np.generic]], noise: NoiseModel, kernel: Kernel | None
) -> float:
    """Return the standard deviation of the noise of scenes in units of a model; 0 if unknown."""
    try:
        own = estimate_from_frames(scenes, kernel)
    except UserError:
        return 0.0
    if kernel is None and own.noise.components.kernel is not None:
        return 0.0  # correlated noise cannot be compared with white noise
    return compare_variance(own, noise).strength
