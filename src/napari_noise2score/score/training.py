"""Train a score model on noisy images, in one call or step by step."""

from __future__ import annotations

import math
import operator
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..budget import MAX_MINUTES, MAX_SEED, MAX_STEPS
from ..errors import UserError, quoted
from ..image.axes import MAX_CHANNELS, Layout, layout
from ..image.corrected import CorrectedArray
from ..image.identity import identify_image, key_of
from ..image.image import Image, as_images
from ..image.pixel import PIXEL, pixel_size
from ..noise import Correction, Kernel, parse_correction
from ..noise.kernel import parse_kernel
from ..progress import Progress, run_to_end
from ._choose_context import choose_context
from ._survey import share_seen
from ._trainer import Trainer
from .context import NAMES, parse_context
from .correction import corrected_image, describe_corrections
from .model import SHARE_SEEN, ScoreModel

STEPS_BETWEEN_VALIDATIONS = 25
DEFAULT_MINUTES = 5.0
CHANNELS = ("auto", "joint", "separate")


@dataclass(frozen=True)
class Training:
    """State of a training run after a step.

    Attributes
    ----------
    step : int
        Number of steps done.
    steps : int or None
        Number of steps requested, None if the budget is a time.
    seconds, seconds_left : float
        Time used, and an estimate of the remaining time.
    rate : float
        Steps per second.
    loss : float
        Smoothed training loss, mean over pixels; about −1 where noise hides the image.
    val_loss : float
        Held-out loss of the averaged weights, NaN until it is first measured.
    learning_rate : float
        Learning rate of this step.
    snapshot : callable
        Returns the `ScoreModel` of the averaged weights as they are now or, if the held-out loss
        has risen, as they were when it was lowest.
    checkpoint : callable
        Writes everything needed to resume the training to a path.
    """

    step: int
    steps: int | None
    seconds: float
    seconds_left: float
    rate: float
    loss: float
    val_loss: float
    learning_rate: float
    snapshot: Callable[[], ScoreModel]
    checkpoint: Callable[[str | os.PathLike[str]], None]


def train(
    images: Any,
    *,
    axes: str | Sequence[str] | None = None,
    ndim: int = 2,
    steps: int | None = None,
    minutes: float | None = None,
    device: str = "auto",
    seed: int = 0,
    name: str = "score",
    context: str = "auto",
    reach: int | None = None,
    correlation: Kernel | str | None = None,
    correction: Sequence[Correction] | Correction | str | None = None,
    channels: str = "auto",
    resume: str | os.PathLike[str] | None = None,
) -> ScoreModel:
    """Learn the score of noisy images, without any clean image or noise model.

    Parameters
    ----------
    images : Image or array-like, or a list of them
        Noisy images in grey levels (numpy, dask, zarr, torch, xarray; integers or floats). They
        may differ in size, not in the number of channels.
    axes : str or sequence of str, optional
        Axes of the images, or of each of them: one letter of ``STCZYX`` per dimension. Required
        unless every image is an `Image` or has the two axes YX.
    ndim : {2, 3}
        Whether the network sees planes or volumes.
    steps : int, optional
        Number of training steps.
    minutes : float, optional
        Training time in minutes, not counting the time between two steps; 5 if neither is given.
        With both, training ends with whichever is reached first.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    seed : int
        The same seed and number of steps give the same weights on one kind of CPU.
    name : str
        Name of the model.
    context : {"auto", "none", "T", "Z", "TZ"}
        Which neighbours the network sees beside a plane or volume: time points, planes along Z, or
        both. The score of a plane given its neighbours satisfies the same equation ``s = f(x, y)``,
        as their noise is independent. ``"auto"`` uses those that the axes of the images allow, if
        the images change little from one to the next; see `describe_context`.
    reach : int, optional
        Number of neighbours on each side, 1 to 7; by default 1. Those 1, 2 to 3 and 4 to 7 away
        are seen as means.
    correlation : Kernel or str, optional
        Correlation of the noise between neighbouring pixels, as ``"A"`` or
        ``"kernel([[0.1, 0.8, 0.1]])"``. It is undone before the score is learned; the model then
        serves noise models ``... @ A``. A ``noise_kernel([[...]])`` is not undone, but the strength
        of the noise, which single pixels do not show, follows from it.
    correction : str, Correction or sequence of Correction, optional
        What is undone before the score is learned, and in every image that the model is used for:
        calibration maps, and the offsets of rows and columns, as
        ``"poisson(gain=map(gain.tif), offset=map(offset.tif))"`` or ``"rows(sigma=4)"``; one for
        each channel separated by ``;``.
    channels : {"auto", "joint", "separate"}
        Whether the network sees the channels of an image together (at most 4), or each by itself,
        normalized and transformed by itself (at most 16; more are normalized together).
        ``"auto"`` sees colours together, which are the last axis or stated by the file, and all
        other channels each by itself.
    resume : path-like, optional
        A checkpoint to resume from, written for the same images, seed and correlation.

    Returns
    -------
    ScoreModel

    Raises
    ------
    UserError
        If the axes do not fit, the images are empty, constant or not finite, or the budget or the
        device is not possible.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> stack = rng.normal(100, 10, (4, 64, 64)).astype("float32")
    >>> model = train(stack, axes="TYX", steps=2)
    >>> model.channels, model.ndim
    (1, 2)
    """
    training = run_to_end(
        train_steps(
            images,
            axes=axes,
            ndim=ndim,
            steps=steps,
            minutes=minutes,
            device=device,
            seed=seed,
            name=name,
            context=context,
            reach=reach,
            correlation=correlation,
            correction=correction,
            channels=channels,
            resume=resume,
        )
    )
    return training.snapshot()


def train_steps(
    images: Any,
    *,
    axes: str | Sequence[str] | None = None,
    ndim: int = 2,
    steps: int | None = None,
    minutes: float | None = None,
    device: str = "auto",
    seed: int = 0,
    name: str = "score",
    context: str = "auto",
    reach: int | None = None,
    correlation: Kernel | str | None = None,
    correction: Sequence[Correction] | Correction | str | None = None,
    channels: str = "auto",
    resume: str | os.PathLike[str] | None = None,
) -> Iterator[Progress[Training]]:
    """Train step by step; closing the generator stops, and a snapshot keeps what was learned.

    Parameters
    ----------
    images, axes, ndim, steps, minutes, device, seed, name
        As for `train`.
    context, reach, correlation, correction, channels, resume
        As for `train`.

    Yields
    ------
    Progress of Training
        After every step: the share of the budget that is used, and the state of the training.

    Raises
    ------
    UserError
        As for `train`.

    Examples
    --------
    >>> stack = np.random.default_rng(0).normal(100, 10, (4, 64, 64))
    >>> for progress in train_steps(stack, axes="TYX", steps=2):
    ...     print(progress.fraction, progress.result.step)
    0.5 1
    1.0 2
    """
    if steps is None and minutes is None:
        minutes = DEFAULT_MINUTES
    _check_budget(steps, minutes, seed)
    opened = as_images(images, axes)
    if isinstance(correction, str):
        correction = parse_correction(correction)
    undone = (correction,) if isinstance(correction, Correction) else tuple(correction or ())
    opened = [corrected_image(image, undone, fills=False) for image in opened]
    layouts = _layouts_of(opened, ndim, channels)
    kernel = parse_kernel(correlation) if isinstance(correlation, str) else correlation
    # a correlation of the noise alone is not undone: it only says how strong the noise is
    of_noise, kernel = (kernel, None) if kernel and kernel.of_noise else (None, kernel)
    choice, reach = parse_context(context, reach)
    arrays = [_with_mask(image) for image in opened]
    identity = key_of([identify_image(image) for image in opened])
    seen, notes = choose_context(arrays, layouts, kernel, choice, reach)
    if of_noise is not None:
        seen_share = round(share_seen(of_noise), 4)
        notes |= {"correlation of the noise": str(of_noise), SHARE_SEEN: seen_share}
    if undone:
        notes = {**notes, "correction": describe_corrections(undone)}
    if pixel := pixel_size(opened[0]):
        notes = {**notes, PIXEL: list(pixel)}
    trainer = Trainer(arrays, layouts, device, seed, name, kernel, identity, seen, notes, of_noise)
    if resume is not None:
        trainer.restore(resume)

    def budget_used() -> float:
        by_steps = trainer.steps / steps if steps else 0.0
        by_time = trainer.seconds / (60 * minutes) if minutes else 0.0
        return min(max(by_steps, by_time), 1.0)

    def progress(learning_rate: float) -> Progress[Training]:
        state = Training(
            step=trainer.steps,
            steps=steps,
            seconds=trainer.seconds,
            seconds_left=trainer.seconds * (1 - fraction) / max(fraction, 1e-9),
            rate=trainer.steps / max(trainer.seconds, 1e-9),
            loss=trainer.loss,
            val_loss=trainer.val_loss,
            learning_rate=learning_rate,
            snapshot=trainer.model,
            checkpoint=trainer.checkpoint,
        )
        return Progress(fraction, 1.0, result=state)

    fraction = budget_used()
    if fraction == 1 and trainer.steps:
        # the checkpoint was written after the last step
        trainer.validate()
        trainer.measure()
        yield progress(0.0)
    while fraction < 1 or trainer.steps == 0:
        # only the time spent here counts: the caller may pause between two steps
        began = time.monotonic()
        learning_rate = trainer.step(fraction)
        trainer.seconds += time.monotonic() - began
        fraction = budget_used()
        if trainer.steps % STEPS_BETWEEN_VALIDATIONS == 0 or fraction == 1:
            began = time.monotonic()
            trainer.validate()
            if fraction == 1:
                trainer.measure()
            trainer.seconds += time.monotonic() - began
        yield progress(learning_rate)
    if math.isnan(trainer.val_loss):
        trainer.validate()


def _check_budget(steps: Any, minutes: Any, seed: Any) -> None:
    """Raise a `UserError` unless the budget is positive and bounded and the seed is valid."""
    try:
        numbers = [operator.index(n) for n in (steps if steps is not None else 1, seed)]
        parsed_minutes = None if minutes is None else float(minutes)
    except (TypeError, ValueError, OverflowError):
        raise UserError("steps and seed must be whole numbers, and minutes a number") from None
    if numbers[0] < 1 or (parsed_minutes is not None and not parsed_minutes > 0):
        raise UserError("train for at least 1 step, or for more than 0 minutes")
    if numbers[0] > MAX_STEPS:
        raise UserError(f"train for at most {MAX_STEPS} steps")
    if parsed_minutes is not None and parsed_minutes > MAX_MINUTES:
        raise UserError(f"train for at most {MAX_MINUTES:g} minutes")
    if not 0 <= numbers[-1] <= MAX_SEED:
        raise UserError(f"the seed must be a whole number from 0 to {MAX_SEED}")


def describe_kept(model: ScoreModel) -> str:
    """Return a sentence if a model's weights are not those of its last step, else ``""``."""
    step = model.provenance["kept_step"]
    if step == model.provenance["steps"]:
        return ""
    return f"Its weights are of step {step}: later ones did worse on held-out pieces of the images."


def describe_context(model: ScoreModel) -> str:
    """Return a sentence on the neighbours that a model uses, and why; ``""`` if there are none."""
    facts = model.provenance
    changes: Mapping[str, float] = facts.get("context change", {})
    sentences = [f"It uses {model.context}."] if model.context.offsets or changes else []
    if changes:
        measured = " and ".join(f"from {NAMES[a]} to {NAMES[a]} by {changes[a]}" for a in changes)
        sentences.append(f"The images change {measured} of the variance of the noise.")
    sentences.append(str(facts.get("context refused", "")))
    return " ".join(filter(None, sentences))


def _layouts_of(images: Sequence[Image], ndim: int, channels: str) -> list[Layout]:
    """Return the layout of each image; raise a `UserError` unless one network fits them all."""
    if channels not in CHANNELS:
        raise UserError(f"channels {quoted(str(channels))}: choose {', '.join(CHANNELS)}")
    layouts = [layout(image.axes, image.data.shape, ndim) for image in images]
    counts = sorted({where.channels for where in layouts})
    several = [where.all_channels for where in layouts]
    if channels == "joint" and max(several) > MAX_CHANNELS:
        raise UserError(
            f"the images have {max(several)} channels, and at most {MAX_CHANNELS} can be seen "
            "together: use channels='separate'"
        )
    if len(counts) > 1:
        raise UserError(f"the images differ in their number of channels: {counts}")
    if channels == "auto":
        colours = all(image.rgb or image.axes.endswith("C") for image in images)
        channels = "joint" if colours else "separate"
    if channels == "joint" or max(several) == 1:
        return layouts
    return [replace(where, joint=False) for where in layouts]


def _with_mask(image: Image) -> Any:
    """Return the pixels of an image, as a masked array if some were masked."""
    if isinstance(image.data, CorrectedArray):
        return image.data
    mask: Any = None if image.valid is None else image.valid.excluded
    return image.data if mask is None else np.ma.MaskedArray(image.data, mask)
