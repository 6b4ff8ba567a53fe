"""Estimate the noise model of an image, reading no more of it than is needed."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..denoising.job import in_channel
from ..denoising.polish_need import measure_polish_need
from ..errors import DataWarning, ReadError, UserError
from ..image.image import Image, as_images
from ..noise import (
    Correction,
    NoiseModel,
    PerChannel,
    parse_correction,
    parse_noise,
    with_correction,
)
from ..progress import Progress, run_to_end
from ..score.device import choose_device
from ..score.model import ScoreModel
from ._by_channel import combine, common_channels, have_one_model, images_of_channel
from ._check_planes import count_planes
from ._from_images import ImageEstimate, estimate_from_frames
from ._line_noise import undo
from ._read_frames import read_scenes_and_warn
from ._refine import refine_from_frames
from ._with_model import METHODS_FROM_IMAGES, estimate_with_model, methods
from .noise_check import check_against_estimate
from .noise_report import NoiseReport, report_of_estimate


def estimate_noise(
    image: Any,
    *,
    axes: str | Sequence[str] | None = None,
    model: ScoreModel | None = None,
    noise: NoiseModel | str | None = None,
    correction: Sequence[Correction] | str = (),
    method: str = "auto",
    repeats: str = "T",
    device: str = "auto",
    per_channel: bool | None = None,
) -> NoiseReport:
    """Estimate the noise model of an image: family, parameters and correlation, and check it.

    Parameters
    ----------
    image : Image or array-like, or a sequence of them
        Noisy, in grey levels: numpy, dask or zarr. Several are taken as one data set.
    axes : str or sequence of str, optional
        Axes of the image, or of each; needed for arrays of more than two dimensions.
    model : ScoreModel, optional
        A score trained on images like this one. The noise is then the one with which it denoises
        best; a correlation that it was trained for is kept.
    noise : NoiseModel or str, optional
        A noise model whose family, offset and correlation are known, such as ``poisson(gain=5) @ A
        + gaussian(sigma=10)``: only its strength and, if it has one, its read noise are estimated;
        the values given here do not matter. One frame is enough.
    correction : str or sequence of Correction
        Calibration maps and offsets of rows and columns that are undone first, as for `train`. By
        default those of the noise model or of the model, if either is given; otherwise random
        offsets of rows and columns are looked for.
    method : str
        With a model: ``"auto"``, ``"images"`` (the images alone), ``"curve"`` (the noise curve that
        the score implies), ``"perturbation"`` (family and parameter of Kim, Kwon & Ye, CVPR 2022),
        or ``"quality-gaussian"``, ``"quality-poisson"``, ``"quality-gamma"`` (the parameter
        searches of Kim & Ye, NeurIPS 2021).
    repeats : str
        Axis along which the same scene was recorded several times; it may move and bleach. Without
        such an axis the noise is estimated from single planes.
    device : str
        Where to evaluate the model: ``"auto"``, ``"cpu"``, ``"cuda"``.
    per_channel : bool, optional
        Whether each channel gets a noise model of its own; by default if their estimates from the
        images do not agree within their intervals. The report says which.

    Returns
    -------
    NoiseReport
        Its ``noise`` is the noise model, its ``check`` the goodness of fit.

    Raises
    ------
    UserError
        If the noise cannot be measured: the image is too small, constant, saturated, filtered or
        without a valid pixel, or its repeats are copies. Single frames that are black, saturated or
        copies are left out, with a `DataWarning`.

    Notes
    -----
    ``"auto"`` with a model starts from the images alone. With repeats it then chooses the strength
    of the noise for which a denoised frame is closest to the other frames of the same scene: their
    noise is independent, so the squared difference is the error of the denoised frame plus a
    constant, and no clean image is needed. The best models of up to three families are tried. For
    single frames of counted photons it compares the models that variance and third moment allow
    (with or without multiplication and read noise), and chooses the one with the largest likelihood
    p(y | x̂). Otherwise, or if the sample moves or the score is hardly trained, the images alone
    decide.

    Examples
    --------
    >>> from napari_noise2score.sample import simulate_cells
    >>> noisy, _ = simulate_cells((4, 8, 128, 128))  # poisson(gain=2, offset=100) + gaussian(sigma=3)
    >>> found = estimate_noise(noisy, axes="TZYX").noise
    >>> type(found).__name__, round(found.base.gain)
    ('Sum', 2)
    >>> known = "poisson(gain=5, offset=100) + gaussian(sigma=1)"
    >>> found = estimate_noise(noisy, axes="TZYX", noise=known).noise
    >>> round(found.base.gain), round(found.read.sigma)
    (2, 3)
    """  # noqa: E501
    return run_to_end(
        estimate_steps(
            image,
            axes=axes,
            model=model,
            noise=noise,
            correction=correction,
            method=method,
            repeats=repeats,
            device=device,
            per_channel=per_channel,
        )
    )


def estimate_steps(
    image: Any,
    *,
    axes: str | Sequence[str] | None = None,
    model: ScoreModel | None = None,
    noise: NoiseModel | str | None = None,
    correction: Sequence[Correction] | str = (),
    method: str = "auto",
    repeats: str = "T",
    device: str = "auto",
    per_channel: bool | None = None,
) -> Iterator[Progress[NoiseReport]]:
    """Estimate noise as `estimate_noise` does, step by step; closing the generator stops.

    Parameters
    ----------
    image, axes, model, noise, correction, method, repeats, device, per_channel
        As for `estimate_noise`.

    Yields
    ------
    Progress
        The last one with the `NoiseReport` as its result.

    Raises
    ------
    UserError
        As for `estimate_noise`.
    """
    if method not in methods():
        raise UserError(f"method '{method}' is unknown; there are {', '.join(methods())}")
    if noise is not None and method != "auto":
        raise UserError(
            "a method finds the noise model, and a given one is kept: give only one of the two"
        )
    if model is None and method not in METHODS_FROM_IMAGES:
        raise UserError(f"method '{method}' uses a trained model: give one as well")
    images = as_images(image, axes)
    model = model.to(choose_device(device)) if model and noise is None else model
    known = parse_correction(correction) if isinstance(correction, str) else tuple(correction)
    yield from _estimate_channels(images, model, noise, method, repeats, model, per_channel, known)


def estimate_for_denoising(
    image: Any,
    *,
    axes: str | Sequence[str] | None = None,
    model: ScoreModel | None = None,
    noise: NoiseModel | str | None = None,
    repeats: str = "T",
    device: str = "auto",
) -> Iterator[Progress[NoiseReport]]:
    """Estimate the noise for denoising an image, and warn if the model explains it poorly.

    The check uses the images alone, because a check with a model would denoise the image once more.
    Its findings never stop a job.

    Parameters
    ----------
    image, axes, model, noise, repeats, device
        As for `estimate_noise`.

    Yields
    ------
    Progress
        The last one with the `NoiseReport` as its result. If the model explains less than 0.9 of
        the noise, or something contradicts it, the verdict is also issued as a `DataWarning`.

    Raises
    ------
    UserError
        As for `estimate_noise`.
    """
    images = as_images(image, axes)
    model = model.to(choose_device(device)) if model and noise is None else model
    for progress in _estimate_channels(images, model, noise, "auto", repeats, None, None):
        report = progress.result
        if report is not None and report.check is not None and not report.check.explains:
            warnings.warn(report.check.sentence, DataWarning, stacklevel=2)
        yield progress


def _estimate_channels(
    images: Sequence[Image],
    model: ScoreModel | None,
    noise: NoiseModel | str | None,
    method: str,
    repeats: str,
    check_model: ScoreModel | None,
    per_channel: bool | None,
    correction: Sequence[Correction] = (),
) -> Iterator[Progress[NoiseReport]]:
    """Estimate and check the noise of all channels together, or of each by itself."""
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    images, undone = undo(images, model, noise, correction, repeats.upper())
    noise = None if noise is None else noise.plain
    count, sentence = common_channels(images), ""
    if isinstance(noise, PerChannel):
        if per_channel is False:
            raise UserError("the noise has a model for each channel: give one, or estimate each")
        noise.for_channels(count)
        per_channel = True
    if per_channel and count == 1:
        raise UserError("there is one channel, or the images differ in their number of channels")
    if per_channel is None:
        # a given noise model of all channels is kept as one
        together, sentence = (True, "") if noise else have_one_model(images, repeats.upper())
    else:
        together = not per_channel
        if count > 1:
            which = "all" if together else "each of the"
            sentence = f"one noise model for {which} {count} channels, as requested"
    if together:
        if model is not None and model.channel_coordinates:
            # the score of each channel has its own coordinates: the images alone decide
            model = check_model = None
        for progress in _estimate_and_check(images, model, noise, method, repeats, check_model):
            report = progress.result
            if report is not None:
                each = [with_correction(report.noise, own) for own in undone] or [report.noise]
                named = PerChannel(tuple(each)) if len(each) > 1 else each[0]
                report = replace(report, noise=named, channels_sentence=sentence)
            yield Progress(progress.done, progress.total, progress.message, report)
        return
    reports: list[NoiseReport] = []
    for channel in range(count):
        own, own_check = (
            m.of_channel(channel) if m is not None and m.channel_coordinates else None
            for m in (model, check_model)
        )
        if own is None and method not in METHODS_FROM_IMAGES:
            raise UserError(f"method '{method}' needs a model that learned each channel by itself")
        some = images_of_channel(images, channel)
        known = None if noise is None else noise.for_channels(count)[channel]
        with in_channel(channel, count):
            for progress in _estimate_and_check(some, own, known, method, repeats, own_check):
                if progress.result is None:
                    yield Progress(channel + progress.fraction, count)
        assert progress.result is not None
        of_it = undone[channel if len(undone) > 1 else 0] if undone else None
        named = with_correction(progress.result.noise, of_it)
        reports.append(replace(progress.result, noise=named))
    yield Progress(count, count, result=combine(reports, sentence))


_Estimated = tuple[NoiseReport, list[NDArray[np.generic]], ImageEstimate | None]


def _estimate(
    images: Sequence[Image],
    model: ScoreModel | None,
    noise: NoiseModel | str | None,
    method: str,
    repeats: str,
) -> Iterator[Progress[_Estimated]]:
    """Estimate the noise without a check; the result has the frames and the estimate from them."""
    scenes: list[NDArray[np.generic]] = []
    left_out: tuple[str, ...] = ()
    kernel = model.kernel if model else None
    if method in METHODS_FROM_IMAGES:
        scenes, left_out = read_scenes_and_warn(images, repeats)
    if noise is not None:
        noise = parse_noise(noise) if isinstance(noise, str) else noise
        refined = refine_from_frames(scenes, noise)
        report = NoiseReport(refined, f"images, from {noise}", left_out=left_out)
        try:
            found = estimate_from_frames(scenes, kernel)
        except UserError as error:
            yield Progress(1, 1, result=(replace(report, check_error=str(error)), scenes, None))
            return
        report = replace(
            report,
            curve=found.moments,
            correlation=found.correlation,
            quantization=found.quantization,
            source=found.source,
        )
        yield Progress(1, 1, result=(report, scenes, found))
        return
    estimate = None
    if method in METHODS_FROM_IMAGES:
        estimate = estimate_from_frames(scenes, kernel)
    if model is None:
        assert estimate is not None
        yield Progress(1, 1, result=(report_of_estimate(estimate, left_out), scenes, estimate))
        return
    for progress in estimate_with_model(images, model, estimate, repeats.upper(), method):
        if progress.result is None:
            yield Progress(progress.done, progress.total)
    assert progress.result is not None
    best, how, notes = progress.result
    report = report_of_estimate(estimate, left_out) if estimate else NoiseReport(best)
    report = replace(report, noise=best, method=how, notes=notes)
    yield Progress(progress.total, progress.total, result=(report, scenes, estimate))


def _estimate_and_check(
    images: Sequence[Image],
    model: ScoreModel | None,
    noise: NoiseModel | str | None,
    method: str,
    repeats: str,
    check_model: ScoreModel | None,
) -> Iterator[Progress[NoiseReport]]:
    """Estimate the noise, then check it; with a model, on the residual of denoising."""
    more = 2 + count_planes(images, repeats) if method in METHODS_FROM_IMAGES else 1
    for progress in _estimate(images, model, noise, method, repeats):
        if progress.result is None:
            yield Progress(progress.done, progress.total + more)
    assert progress.result is not None
    report, scenes, found = progress.result
    before, total = progress.total, progress.total + more
    yield Progress(before, total)
    if found is not None:
        try:
            for checking in check_against_estimate(
                images,
                report.noise,
                scenes,
                found,
                model=check_model,
                repeats=repeats,
                trained=model,
            ):
                if checking.result is None:
                    yield Progress(before + checking.done, total)
                else:
                    report = replace(report, check=checking.result)
        except ReadError:
            raise
        except UserError as error:
            report = replace(report, check_error=str(error))
    if model is not None and noise is None:
        # a model that does not fit is reported where the noise is used
        with contextlib.suppress(UserError):
            report = replace(
                report,
                polish=measure_polish_need(images, model, report.noise, device=str(model.device)),
            )
    yield Progress(total, total, result=report)
