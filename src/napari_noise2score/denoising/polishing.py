"""Polish: teach a network by simulation to remove the noise of one noise model."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError
from ..image.axes import layout
from ..image.channel import channel_of, count_channels
from ..image.identity import identify_image, key_of
from ..image.image import Image, as_images
from ..noise import NoiseModel, PerChannel, parse_noise
from ..progress import Progress, run_to_end
from ..score.model import ScoreModel
from ..score.polish import Polish
from ..score.regression import Regression
from ._clean_images import (
    MAX_NOISE_LEFT,
    Crop,
    context_of,
    denoised_crop,
    median_of,
    noise_left_in,
    read_crops,
    without_bias,
)
from ._polish_gain import compare, measured_crops
from .job import fit_layout, prepare
from .polish_need import is_broad

# Steps for images of up to `PIXELS_FOR_MIN_STEPS` pixels; more for larger ones, which hold more to
# learn from: in proportion to the square root of the number of pixels.
MIN_STEPS, MAX_STEPS = 120, 300
PIXELS_FOR_MIN_STEPS = 2**18
ROUNDS = 3
# Perturbation of the first clean images in units of z, if the model was trained for it: a smaller
# one leaves more noise, a larger one more bias.
SIGMA_A = 0.7
FIRST_RATE = 0.25  # of learning, in units of that of the score; it decreases to 0
STEPS_BETWEEN_VALIDATIONS = 20


class Polishing(NamedTuple):
    """State of a polishing run after a step.

    Attributes
    ----------
    step, steps : int
        Number of steps done and to do.
    seconds, seconds_left : float
        Time used, and an estimate of the remaining time.
    rate : float
        Steps per second.
    loss, val_loss : float
        Smoothed loss of training, and held-out loss, NaN until it is first measured.
    snapshot : callable
        Returns the `Polish` as it is now.
    checkpoint : callable
        Writes everything needed to resume to a path.
    """

    step: int
    steps: int
    seconds: float
    seconds_left: float
    rate: float
    loss: float
    val_loss: float
    snapshot: Callable[[], Polish]
    checkpoint: Callable[[str | os.PathLike[str]], None]


def polish(
    images: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | Sequence[str] | None = None,
    steps: int | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: str | os.PathLike[str] | None = None,
) -> Polish | list[Polish]:
    """Teach a network to remove the noise of one noise model, for `denoise` and `uncertainty`.

    The denoised images count as clean, noise is drawn from the noise model, and the network of the
    score is taught to estimate the clean images; then again with its own results as clean images.
    Pixels of which ``s = f(x, y)`` says little, as in the dark of MRI or in speckle, are then
    estimated from their neighbours. No clean image is needed.

    Parameters
    ----------
    images : Image or array-like, or a list of them
        Noisy images in grey levels; a few crops of large ones are used.
    model : ScoreModel
        A score learned on images like these.
    noise : NoiseModel or str
        The noise model, or its text.
    axes : str or sequence of str, optional
        Axes of the images, as for `train`.
    steps : int, optional
        Number of training steps; by default 120 for small and up to 300 for large images.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    seed : int
        The same seed gives the same result on one kind of CPU.
    resume : path-like, optional
        A checkpoint to resume from, written for the same images, model, noise and seed.

    Returns
    -------
    Polish or list of Polish
        It belongs to this model and noise model only. One for each channel, of as many steps, if
        the channels were learned each by itself.

    Raises
    ------
    UserError
        As for `denoise`, and if the checkpoint belongs to another polish.

    Examples
    --------
    >>> from napari_noise2score import denoise, train
    >>> noisy = np.random.default_rng(0).rayleigh(20, (64, 64))
    >>> model = train(noisy, steps=2)
    >>> polished = polish(noisy, model, "rayleigh(sigma=0.5)", steps=2)
    >>> denoise(noisy, model, "rayleigh(sigma=0.5)", polish=polished).shape
    (64, 64)
    """
    opened = as_images(images, axes)
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    each = polish_inputs(opened, model, noise)
    if len(each) > 1 and resume is not None:
        raise UserError("the polish of each channel has a checkpoint of its own: polish_steps")
    taught = [
        run_to_end(
            polish_steps(*own, steps=steps, device=device, seed=seed, resume=resume)
        ).snapshot()
        for own in each
    ]
    return taught if model.channel_coordinates else taught[0]


def polish_inputs(
    images: Sequence[Image], model: ScoreModel, noise: NoiseModel
) -> list[tuple[list[Image], ScoreModel, NoiseModel]]:
    """Return images, model and noise model of each polish that is needed.

    Parameters
    ----------
    images : sequence of Image
        The images.
    model : ScoreModel
        The score model.
    noise : NoiseModel
        The noise model.

    Returns
    -------
    list of tuple
        One of each channel if the model learned each by itself, otherwise one.

    Raises
    ------
    UserError
        If the numbers of channels differ, or channels that are seen together have noise models of
        their own.
    """
    counts = sorted({count_channels(image) for image in images})
    if not model.channel_coordinates:
        if isinstance(noise, PerChannel):
            raise UserError(
                "a polish of channels that are seen together needs one noise model for all of "
                "them: train with channels='separate'"
            )
        return [(list(images), model, noise)]
    for image in images:
        fit_layout(layout(image.axes, image.data.shape, model.ndim), model)
    noises = noise.for_channels(counts[0])
    return [
        ([channel_of(image, c) for image in images], model.of_channel(c), own)
        for c, own in enumerate(noises)
    ]


def polish_steps(
    images: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | Sequence[str] | None = None,
    steps: int | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: str | os.PathLike[str] | None = None,
) -> Generator[Progress[Polishing]]:
    """Polish step by step; closing the generator stops, and a snapshot keeps what was learned.

    Parameters
    ----------
    images, model, noise, axes, steps, device, seed, resume
        As for `polish`.

    Yields
    ------
    Progress of Polishing
        After every crop that is denoised, without a result, and after every step; the last one
        has a polish whose gain is measured. Channels that were learned each by itself are
        polished each by itself, see `polish_inputs`.

    Raises
    ------
    UserError
        As for `polish`.

    Examples
    --------
    >>> from napari_noise2score import train
    >>> noisy = np.random.default_rng(0).normal(100, 10, (64, 64))
    >>> model = train(noisy, steps=2)
    >>> for progress in polish_steps(noisy, model, "gaussian(sigma=10)", steps=3):
    ...     pass
    >>> progress.result.step, progress.result.snapshot().gain is None
    (3, False)
    """
    if steps is not None and steps < 1:
        raise UserError("polish for at least 1 step")
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    opened = as_images(images, axes)
    if model.channel_coordinates or isinstance(noise, PerChannel):
        raise UserError("polish each channel by itself: with polish, or with model.of_channel")
    low, high = model.sigma_a_range
    sigma_a = min(max(SIGMA_A, low), high)
    jobs = [prepare(image, model, noise, device=device, sigma_a=sigma_a) for image in opened]
    given, noise = noise, jobs[0].noise
    identity = key_of([identify_image(image) for image in opened])
    crops = read_crops(jobs, np.random.default_rng(seed))
    steps = _steps_for(crops) if steps is None else steps
    ends = [round(steps * (n + 1) / ROUNDS) for n in range(ROUNDS)]
    # the residual of broadly correlated noise says too little of what is left in a result
    measured = [] if is_broad(noise) else measured_crops(crops)
    total = steps + ROUNDS * len(crops) + len(measured)
    work = 0

    def denoised(with_polish: Polish | None = None) -> Generator[Progress[Polishing], None, Any]:
        """Denoise every crop, and return the results."""
        nonlocal work
        results = []
        for crop in crops:
            results.append(denoised_crop(crop, with_polish))
            work += 1
            yield Progress(work, total, "denoising")
        return results

    clean = yield from denoised()
    if noise_left_in(clean, noise) > MAX_NOISE_LEFT:
        clean = [median_of(image) for image in clean]
    clean = without_bias(clean, crops)
    contexts = [context_of(crop) for crop in crops]
    trainer = Regression(clean, contexts, model, noise, device, seed, f"{identity}, {steps} steps")
    if resume is not None:
        trainer.restore(resume)
        work += trainer.steps
    for number, end in enumerate(ends):
        begin = ends[number - 1] if number else 0
        if trainer.steps >= end:
            work += len(crops) if number else 0
            continue
        if begin:
            if trainer.steps == begin:
                trainer.set_teacher()
            trainer.replace_clean((yield from denoised(trainer.teacher())))
        while trainer.steps < end:
            began = time.monotonic()
            trainer.step(1 - FIRST_RATE * (1 - trainer.steps / steps))
            if trainer.steps % STEPS_BETWEEN_VALIDATIONS == 0 or trainer.steps == end:
                trainer.validate()
            trainer.seconds += time.monotonic() - began
            work += 1
            yield Progress(work, total, result=_state(trainer, steps))
    taught = trainer.result().to(trainer.device)
    live = [prepare(image, model, given, device=device, compare=False) for image in opened]
    facts = dict(taught.provenance)
    live_of = {id(job): other for job, other in zip(jobs, live, strict=True)}
    rng = np.random.default_rng(seed)
    for comparison in compare(measured, [live_of[id(crop.job)] for crop in measured], taught, rng):
        work += 1
        facts = {**taught.provenance, "gain": comparison.gain}
        yield Progress(work, total, "comparing with the result without a polish")
    taught = replace(taught, provenance=facts)
    yield Progress(work, total, result=_state(trainer, steps)._replace(snapshot=lambda: taught))


def _steps_for(crops: Sequence[Crop]) -> int:
    """Return the number of steps that the pixels of the crops are worth."""
    pixels = sum(crop.pixels for crop in crops)
    steps = round(MIN_STEPS * math.sqrt(pixels / PIXELS_FOR_MIN_STEPS))
    return min(max(steps, MIN_STEPS), MAX_STEPS)


def _state(trainer: Regression, steps: int) -> Polishing:
    rate = trainer.steps / max(trainer.seconds, 1e-9)
    return Polishing(
        step=trainer.steps,
        steps=steps,
        seconds=trainer.seconds,
        seconds_left=(steps - trainer.steps) / rate,
        rate=rate,
        loss=trainer.loss,
        val_loss=trainer.val_loss,
        snapshot=trainer.result,
        checkpoint=trainer.checkpoint,
    )
