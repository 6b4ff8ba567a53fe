"""Train a score on noisy images: a generator of steps that whoever runs it may stop at any time."""

from __future__ import annotations

import math
import operator
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..budget import MAX_MINUTES, MAX_SEED, MAX_STEPS
from ..errors import UserError
from ..image.axes import Layout, layout
from ..image.identity import identify_image, key_of
from ..image.image import Image, as_images
from ..noise.kernel import Kernel, parse_kernel
from ._trainer import Trainer
from .model import ScoreModel

VALIDATE_EVERY = 25
DEFAULT_MINUTES = 5.0


@dataclass(frozen=True)
class TrainProgress:
    """Where training stands after a step.

    Attributes
    ----------
    step : int
        Steps done.
    steps : int or None
        Steps asked for, None if a time was.
    fraction : float
        Share of the budget that is used, 0 to 1.
    seconds, seconds_left : float
        Time used, and an estimate of the time to go.
    rate : float
        Steps per second.
    loss : float
        Smoothed training loss, per pixel; about −1 where noise hides the image.
    val_loss : float
        Loss of the averaged weights on held-out noisy patches, NaN until first measured.
    learning_rate : float
        Of this step.
    snapshot : callable
        Gives the `ScoreModel` of the averaged weights as they are now, or, if val_loss has
        risen, as they were when it was lowest.
    checkpoint : callable
        Writes all that is needed to go on later to a file.
    """

    step: int
    steps: int | None
    fraction: float
    seconds: float
    seconds_left: float
    rate: float
    loss: float
    val_loss: float
    learning_rate: float
    snapshot: Callable[[], ScoreModel]
    checkpoint: Callable[[str | os.PathLike[str]], None]


def train(images: Any, axes: str | Sequence[str] | None = None, **settings: Any) -> ScoreModel:
    """Learn the score of noisy images, without any clean image or noise model.

    Parameters
    ----------
    images : Image or array-like, or a list of them
        Noisy images in grey levels (numpy, dask, zarr, torch, xarray; integers or floats).
    axes : str or sequence of str, optional
        Axes of the images, or of each of them: one letter of ``TCZYX`` per dimension. Needed where
        an image does not say, but for a plain YX one.
    **settings
        As for `train_steps`.

    Returns
    -------
    ScoreModel

    Raises
    ------
    UserError
        If the axes do not fit, or the images are empty, constant or not finite.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> stack = rng.normal(100, 10, (4, 64, 64)).astype("float32")
    >>> model = train(stack, "TYX", steps=2)
    >>> model.channels, model.ndim
    (1, 2)
    """
    for progress in train_steps(images, axes, **settings):
        pass
    return progress.snapshot()


def train_steps(
    images: Any,
    axes: str | Sequence[str] | None = None,
    *,
    ndim: int = 2,
    steps: int | None = None,
    minutes: float | None = None,
    device: str = "auto",
    seed: int = 0,
    name: str = "score",
    correlation: Kernel | str | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> Iterator[TrainProgress]:
    """Train step by step; closing the generator stops, and what was learned can be kept.

    Parameters
    ----------
    images : Image or array-like, or a list of them
        Noisy images in grey levels; they may differ in size, not in channels.
    axes : str or sequence of str, optional
        Axes of the images, or of each of them; needed where an image does not say.
    ndim : {2, 3}
        Whether the network sees planes or volumes.
    steps : int, optional
        Number of steps.
    minutes : float, optional
        Time to train, in minutes, not counting what passes between two steps; 5 if neither is
        given. With both, whichever ends first.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    seed : int
        The same seed and steps give the same weights on one kind of CPU.
    name : str
        Name of the model.
    correlation : Kernel or str, optional
        Correlation of the noise between neighbouring pixels, as ``"A"`` or
        ``"kernel([[0.1, 0.8, 0.1]])"``: it is undone before the score is learned, and the model
        then serves the noise models ``... @ A``.
    resume : path-like, optional
        A checkpoint to go on from; it was written for the same images and seed.

    Yields
    ------
    TrainProgress
        After every step.

    Raises
    ------
    UserError
        If the axes do not fit, the images are empty, constant or not finite, or there is no
        such budget or device.
    """
    if steps is None and minutes is None:
        minutes = DEFAULT_MINUTES
    _check_budget(steps, minutes, seed)
    found = as_images(images, axes)
    layouts = _arrange(found, ndim)
    kernel = parse_kernel(correlation) if isinstance(correlation, str) else correlation
    arrays = [_with_mask(image) for image in found]
    identity = key_of([identify_image(image) for image in found])
    trainer = Trainer(arrays, layouts, device, seed, name, kernel, identity)
    if resume is not None:
        trainer.restore(resume)

    def used() -> float:
        """Share of the budget that is used."""
        by_steps = trainer.steps / steps if steps else 0.0
        by_time = trainer.seconds / (60 * minutes) if minutes else 0.0
        return min(max(by_steps, by_time), 1.0)

    def progress(rate: float) -> TrainProgress:
        return TrainProgress(
            step=trainer.steps,
            steps=steps,
            fraction=fraction,
            seconds=trainer.seconds,
            seconds_left=trainer.seconds * (1 - fraction) / max(fraction, 1e-9),
            rate=trainer.steps / max(trainer.seconds, 1e-9),
            loss=trainer.loss,
            val_loss=trainer.val_loss,
            learning_rate=rate,
            snapshot=trainer.model,
            checkpoint=trainer.save,
        )

    fraction = used()
    if fraction == 1 and trainer.steps:
        # it was cut off after its last step
        trainer.validate()
        yield progress(0.0)
    while fraction < 1 or trainer.steps == 0:
        # only what is spent here is counted: whoever runs this may pause between two steps
        began = time.monotonic()
        rate = trainer.step(fraction)
        trainer.seconds += time.monotonic() - began
        fraction = used()
        if trainer.steps % VALIDATE_EVERY == 0 or fraction == 1:
            began = time.monotonic()
            trainer.validate()
            trainer.seconds += time.monotonic() - began
        yield progress(rate)
    if math.isnan(trainer.val_loss):
        trainer.validate()


def _check_budget(steps: Any, minutes: Any, seed: Any) -> None:
    """Raise a `UserError` unless there is something to do, and an end to it."""
    try:
        whole = [operator.index(n) for n in (steps if steps is not None else 1, seed)]
        time_given = None if minutes is None else float(minutes)
    except (TypeError, ValueError, OverflowError):
        raise UserError("steps and seed must be whole numbers, and minutes a number") from None
    if whole[0] < 1 or (time_given is not None and not time_given > 0):
        raise UserError("train for at least 1 step, or for more than 0 minutes")
    if whole[0] > MAX_STEPS:
        raise UserError(f"train for at most {MAX_STEPS} steps")
    if time_given is not None and time_given > MAX_MINUTES:
        raise UserError(f"train for at most {MAX_MINUTES:g} minutes")
    if not 0 <= whole[-1] <= MAX_SEED:
        raise UserError(f"the seed must be a whole number from 0 to {MAX_SEED}")


def describe_kept(model: ScoreModel) -> str:
    """Say it if a model's weights are not those of its last step; else nothing."""
    step = model.provenance["kept_step"]
    if step == model.provenance["steps"]:
        return ""
    return f"Its weights are of step {step}: later ones did worse on held-out pieces of the images."


def _arrange(images: Sequence[Image], ndim: int) -> list[Layout]:
    """Return the layout of each image; all must be fit for one network."""
    layouts = [layout(image.axes, image.data.shape, ndim) for image in images]
    counts = sorted({where.channels for where in layouts})
    if len(counts) > 1:
        raise UserError(f"the images differ in their number of channels: {counts}")
    return layouts


def _with_mask(image: Image) -> Any:
    """Return the pixels of an image, as a masked array if some were masked."""
    mask: Any = None if image.valid is None else image.valid.excluded
    return image.data if mask is None else np.ma.MaskedArray(image.data, mask)
