"""Check image, model and noise model, and hold the inputs that every block of a job shares."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch

from ..errors import DataWarning, ReadError, UserError
from ..image.axes import Layout, layout
from ..image.corrected import CorrectedArray, is_corrected
from ..image.image import as_image
from ..image.valid import LazyValid
from ..noise import NoiseModel, PerChannel, parse_noise
from ..score.context import NAMES
from ..score.correction import corrected_image, corrections_for
from ..score.device import choose_device
from ..score.model import ScoreModel
from ..score.polish import Polish
from ..solve.bias_correction import BiasCorrection
from ..solve.pooling import POOLING_REACH
from ..solve.solver import Solver, reach_of
from ..solve.table import Table
from ._recent import RecentFrames
from .grey_level_range import check_noise_level, check_range
from .tile_size import choose_tile, cut_axis


@dataclass(frozen=True)
class Job:
    """The inputs that every block shares: image, model, noise model, solver and sizes.

    A tile passes through the network at once; a block, of one tile or more, is read and written
    at once.

    Attributes
    ----------
    data : array-like
        The noisy image.
    valid : LazyValid
        Its valid pixels, determined when they are first needed.
    layout : Layout
        Layout of the image.
    model : ScoreModel
        The model, on the device that evaluates it.
    noise : NoiseModel
        The noise p(y | x) of the data.
    given_noise : NoiseModel
        The noise model as it was given, with the correction of the data.
    grey_levels : CorrectedArray or None
        By what results are divided, if their grey levels differ from those of the data.
    solve : callable
        Maps y and its score to x.
    reach : int
        Pixels along Y and X that solving and pooling need around each pixel.
    sigma_a : float
        Perturbation that the score is evaluated at, in units of z.
    exact : bool
        Whether the solver is the look-up table where possible.
    score_error : float
        Error of the score in units of 1 / z, by which x is pooled; 0 if it is not.
    bias_correction : BiasCorrection or None
        What is added to pooled x.
    tile, block : tuple of int
        Sizes along the axes of space.
    polish : Polish or None
        Estimates x in place of the solver if there is one; on the same device.
    recent : RecentFrames
        What was read last, for the neighbours of the next blocks.
    channels : tuple of Job
        The job of each channel where they differ in noise model or coordinates; otherwise empty.
    """

    data: Any
    valid: LazyValid
    layout: Layout
    model: ScoreModel
    noise: NoiseModel
    given_noise: NoiseModel
    grey_levels: CorrectedArray | None
    solve: Solver
    reach: int
    sigma_a: float
    exact: bool
    score_error: float
    bias_correction: BiasCorrection | None
    tile: tuple[int, ...]
    block: tuple[int, ...]
    polish: Polish | None = None
    recent: RecentFrames = field(default_factory=RecentFrames)
    channels: tuple[Job, ...] = ()

    def at(self, position: Sequence[int]) -> Job:
        """Return the job of the channel at a position, where channels are looped over."""
        if not self.channels or "C" not in self.layout.loop:
            return self
        return self.channels[position[self.layout.loop.index("C")]]

    @property
    def of_channels(self) -> tuple[Job, ...]:
        """The jobs of the channels that a block holds: those of each, or this one for all."""
        return self.channels if self.channels and self.layout.joint else (self,)


Block = tuple[tuple[int, ...], tuple[slice, ...]]
"""Index along the looped axes, and the slices along the axes of space."""


@dataclass(frozen=True)
class Quantity:
    """A quantity that is computed for each pixel.

    Attributes
    ----------
    name : str
        ``"denoised"`` or ``"uncertainty"``.
    compute : callable
        From a job, a tile with its halo, shape ``(1, channels, *space)``, the region of it to
        solve, and its context (see `BlockData`), to the values in that region.
    invalid : float or None
        Value of invalid pixels; None leaves them as they are in the image.
    """

    name: str
    compute: Callable[[Job, torch.Tensor, tuple[slice, ...], torch.Tensor | None], torch.Tensor]
    invalid: float | None = None


def prepare(
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
    exact: bool = True,
    block_unit: Sequence[int] | None = None,
    compare: bool = True,
    polish: Polish | Sequence[Polish | None] | None = None,
) -> Job:
    """Check that image, model and noise fit together, and return what every block needs.

    Parameters
    ----------
    image, model, noise, axes, tile, device, sigma_a, exact
        As for `denoise`.
    block_unit : sequence of int, optional
        A block is a multiple of it along the axes of space; by default a block is one tile.
    compare : bool
        Whether to read a few blocks and compare their grey levels with those of the training
        images, see `check_range`.
    polish : Polish, optional
        As for `denoise`.

    Returns
    -------
    Job

    Raises
    ------
    UserError
        If the model does not fit the image or the noise, the polish belongs to others, or the
        device, tile or perturbation is not possible.
    """
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    given, raw = noise, as_image(image, axes)
    undone = () if is_corrected(raw.data) else corrections_for(noise, model)
    image = corrected_image(raw, undone, fills=True)
    noise, data = noise.plain, image.data
    where = fit_layout(layout(image.axes, data.shape, model.ndim), model)
    count = where.all_channels
    noises = noise.for_channels(count)
    differ = isinstance(noise, PerChannel) or bool(model.channel_coordinates)
    polishes = polishes_of(polish, count, differ)
    if polish is not None and differ and where.joint:
        raise UserError(
            "a polish of channels that are seen together needs one noise model for all of them: "
            "train with channels='separate'"
        )
    if compare:
        _warn_without_neighbours(where, model)
    valid = LazyValid(image, image.axes)
    model = model.to(choose_device(device))
    size = choose_tile(tile, where, model)
    block = tuple(-(-n // u) * u for n, u in zip(size, block_unit or size, strict=True))
    first = Job(
        data=data,
        valid=valid,
        layout=where,
        model=model,
        noise=noise,
        given_noise=given,
        grey_levels=data if isinstance(data, CorrectedArray) and data is not raw.data else None,
        solve=_unsolved,
        reach=0,
        sigma_a=0.0,
        exact=exact,
        score_error=0.0,
        bias_correction=None,
        tile=size,
        block=block,
    )
    if not differ:
        return _completed(first, model, noise, polishes[0], sigma_a, compare)
    each = []
    for channel, (own_noise, own_polish) in enumerate(zip(noises, polishes, strict=True)):
        own = model.of_channel(channel)
        with in_channel(channel, count):
            each.append(_completed(first, own, own_noise, own_polish, sigma_a, compare, channel))
    # the channels of a block are read with one halo
    reach = max(job.reach for job in each)
    each = [replace(job, reach=reach) for job in each]
    return replace(each[0], model=model, noise=noise, polish=None, channels=tuple(each))


def _completed(
    job: Job,
    model: ScoreModel,
    noise: NoiseModel,
    polish: Polish | None,
    sigma_a: float | None,
    compare: bool,
    channel: int | None = None,
) -> Job:
    """Return a job with all that depends on model and noise, of one channel if they differ."""
    if polish is not None:
        polish.check(model, noise)
    low, high = model.sigma_a_range
    sigma_a = model.sigma_a if sigma_a is None else sigma_a
    if not low <= sigma_a <= high:
        raise UserError(
            f"sigma_a={sigma_a:g} is outside the range that the model was trained for, "
            f"{low:g} to {high:g}"
        )
    solve = model.solver(noise, sigma_a=sigma_a, exact=job.exact)
    if compare:
        check_range(job.data, job.layout, model, job.valid(), channel)
        check_noise_level(noise, model)
    # the solution of correlated noise, and that of closed forms, has no conditioning per pixel
    pools = isinstance(solve, Table) and polish is None
    error = model.score_error(sigma_a) if pools else 0.0
    correction = model.bias_correction(noise, sigma_a) if error else None
    if correction is not None and channel is not None and job.layout.joint:
        correction = correction.of_channel(channel)
    return replace(
        job,
        model=model,
        noise=noise,
        solve=solve,
        reach=POOLING_REACH if error else reach_of(noise, model.kernel),
        sigma_a=sigma_a,
        score_error=error,
        bias_correction=correction,
        polish=polish and polish.to(model.device),
        recent=RecentFrames(),
    )


def _unsolved(y: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Stand for a solver that is not made yet."""
    raise NotImplementedError


@contextmanager
def in_channel(channel: int, count: int) -> Iterator[None]:
    """Let the message of a `UserError` begin with the channel that it is about."""
    try:
        yield
    except ReadError:
        raise
    except UserError as error:
        raise UserError(f"channel {channel + 1} of {count}: {error}") from None


def polishes_of(
    polish: Polish | Sequence[Polish | None] | None, count: int, differ: bool
) -> list[Polish | None]:
    """Return the polish of each channel, or of all in one if the channels do not differ.

    Raises
    ------
    UserError
        If their number does not fit.
    """
    wanted = count if differ else 1
    given: list[Polish | None]
    given = [polish] * wanted if polish is None or isinstance(polish, Polish) else [*polish]
    if len(given) != wanted:
        raise UserError(f"{len(given)} polishes are given, and {wanted} are needed: polish again")
    return given


def fit_layout(where: Layout, model: ScoreModel) -> Layout:
    """Return the layout with channels joint or looped, as the model was trained.

    Raises
    ------
    UserError
        If the image has another number of channels than the model.
    """
    if learned := len(model.channel_coordinates):
        count = where.all_channels
        if count != learned:
            raise UserError(
                f"the model was trained on {learned} channels, each by itself, but the image "
                f"(axes {where.axes}) has {count}: give it with all channels in their order, or "
                "train on it"
            )
    if "C" in where.axes and not model.joint and "C" in model.axes:
        return replace(where, joint=False)
    if where.channels != model.channels:
        raise UserError(
            f"the model was trained on {model.channels} channel{'s' * (model.channels > 1)}, "
            f"but the image (axes {where.axes}) has {where.channels}"
        )
    return where


def blocks_of(job: Job) -> Iterator[Block]:
    """Yield the position and the place in space of every block, in order.

    With context, the neighbours of a block follow one another, so that each is read once.
    """
    cuts = [cut_axis(n, b) for n, b in zip(job.layout.space_shape, job.block, strict=True)]
    axes = job.model.context.axes
    if not axes:
        yield from product(job.layout.positions(), product(*cuts))
        return
    loop = job.layout.loop
    order = sorted(range(len(loop)), key=lambda i: loop[i] in axes)
    positions = sorted(job.layout.positions(), key=lambda at: [at[i] for i in order])
    for place, position in product(product(*cuts), positions):
        yield position, place


def _warn_without_neighbours(where: Layout, model: ScoreModel) -> None:
    """Warn if an image has no neighbours along an axis of a model's context."""
    for axis in model.context.axes:
        if axis not in where.loop or where.shape[where.axes.index(axis)] < 2:
            warnings.warn(
                f"the model was trained to use neighbouring {NAMES[axis]}s, which this image does "
                "not have: a model trained on this image may be better",
                DataWarning,
                stacklevel=3,
            )
