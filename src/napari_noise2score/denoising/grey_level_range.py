"""Compare the grey levels of an image with those that a model was trained on."""

from __future__ import annotations

import math
import warnings
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import DataWarning, UserError
from ..image.axes import Layout
from ..image.valid import ValidPixels
from ..noise import NoiseModel
from ..score.model import ScoreModel
from ..score.patches import decorrelated
from ..solve.quantization import find_quantization_step
from ..solve.stabilization import noise_of_tiles
from ..solve.transform import Transform

# what is looked at: so many blocks in all, of so many pixels along Y and X
BLOCKS = 9
SIDE = 128
# and of a block that was read anyhow, pixels along Y and X
WIDEST = 512
# pixels beyond the grey levels of training, in standard deviations of the noise there, and the
# share of them that is worth a warning
MARGIN = 3.0
OUTSIDE = 0.01
# a factor between image and training that no difference in brightness or focus explains; one
# between images of the same grid of grey levels; and by how much the noise must differ besides
MIN_FACTOR = 6.0
MIN_FACTOR_ON_SAME_GRID = 16.0
MIN_NOISE_FACTOR = 2.5
# so many times the range of training above its darkest, nothing is known of an image
MAX_RANGES = 8.0
# noise that differs by more, at the same grey levels, is worth a warning
NOISE_FACTOR_TO_SAY = 4.0
# factors that are tried, from a millionth to a million
FACTORS = np.geomspace(1e-6, 1e6, 721)
# what a factor costs that puts the image beyond the range of training by the whole of that range,
# and one that makes it e times flatter
COST_OF_RANGE, COST_OF_FLAT = 4.0, 0.25
# factors between bit depths and units, one of which is likelier than another number
USUAL = (10, 16, 64, 100, 255, 257, 1000, 4095, 65535)
NEAR_USUAL = 1.6


class Sample(NamedTuple):
    """A few blocks of an image.

    Attributes
    ----------
    low, middle, high : float
        1st, 50th and 99th percentile of the grey levels.
    values : ndarray
        Finite grey levels, float64, 1-D.
    mean, variance : ndarray
        Of the noise, by ranges of brightness, in grey levels and grey levels squared; empty if
        no noise is seen.
    step : float
        Quantization step, 0 if there is none.
    """

    low: float
    middle: float
    high: float
    values: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    step: float


def check_range(
    data: Any, where: Layout, model: ScoreModel, valid: ValidPixels | None = None
) -> None:
    """Compare the grey levels of an image with those that a model was trained on.

    Parameters
    ----------
    data : array-like
        The image; a few blocks of it are read.
    where : Layout
        How it lies.
    model : ScoreModel
        The model.
    valid : ValidPixels, optional
        Which pixels count.

    Raises
    ------
    UserError
        If image and training differ in unit or gain: both grey levels and noise are a factor away.

    Warns
    -----
    DataWarning
        If some grey levels lie beyond those of the training, or the noise is far stronger or weaker
        at the same grey levels.

    Notes
    -----
    A darker or brighter image of the same kind is not refused: its noise is that which the model
    knows at these grey levels.
    """
    _compare(look_at(data, where, model, valid), model)


def check_noise_level(noise: NoiseModel, model: ScoreModel) -> None:
    """Compare the strength of a noise model with the noise of the images a model was trained on.

    Parameters
    ----------
    noise : NoiseModel
        What the images are to be denoised by.
    model : ScoreModel
        The model; its transform holds the variance of its images' noise by grey level.

    Warns
    -----
    DataWarning
        If they are more than a factor of four apart in the middle of the range. Of correlated
        noise nothing is said: what the transform holds is then of something else.
    """
    _, kernel, _ = noise.components
    if kernel is not None or model.kernel is not None:
        return
    level = torch.tensor((model.low + model.high) / 2, dtype=torch.float64)
    x = noise.clean_from_mean(level).clamp(min=noise.lowest)
    told = math.sqrt(float(noise.variance(x)))
    seen = math.sqrt(float(model.transform.variance(level)))
    if not seen / NOISE_FACTOR_TO_SAY < told < NOISE_FACTOR_TO_SAY * seen:
        warnings.warn(
            f"the noise model says a standard deviation of {told:.3g} at grey level "
            f"{float(level):.4g}, where the images that the model was trained on show {seen:.3g}: "
            "check it by the noise check, or with --noise auto",
            DataWarning,
            stacklevel=3,
        )


def check_block(y: torch.Tensor, model: ScoreModel) -> None:
    """Compare the grey levels of a block, of which more is not to be read, as `check_range` does.

    Parameters
    ----------
    y : Tensor
        Grey levels as the model sees them, shape ``(1, channels, *space)``.
    model : ScoreModel
        The model.
    """
    planes = y[0].flatten(0, -3).double().cpu().numpy()
    planes = planes[len(planes) // 2 :][:BLOCKS]
    inner = (slice(None), *(middle_of(n, WIDEST) for n in planes.shape[-2:]))
    planes = planes[inner]
    _compare(_sample([planes[np.isfinite(planes)]], list(planes)), model)


def _compare(sample: Sample | None, model: ScoreModel) -> None:
    if sample is None or sample.values.min() == sample.values.max():
        return
    ranges = (
        f"the grey levels of the image, {sample.low:.4g} to {sample.high:.4g}, with those that "
        f"the model was trained on, {model.low:.4g} to {model.high:.4g}"
    )
    if (factor := factor_between(sample, model)) is not None:
        raise UserError(
            f"the image's grey levels are {factor:.2g} times those the model was trained on "
            f"(compare {ranges}): {_remedy(factor)}, or train a model on it"
        )
    outside = _share_outside(sample, model)
    if outside > OUTSIDE:
        warnings.warn(
            f"{100 * outside:.0f} % of the pixels are darker or brighter than all that the model "
            f"was trained on (compare {ranges}): they may be denoised less well",
            DataWarning,
            stacklevel=4,
        )
    elif len(sample.mean):
        noise = math.exp(_noise_factors(sample, model.transform, np.ones(1))[0])
        if not 1 / NOISE_FACTOR_TO_SAY < noise < NOISE_FACTOR_TO_SAY:
            warnings.warn(
                f"the image's noise is {noise:.2g} times as strong as that of the images the model "
                "was trained on, at the same grey levels: a model trained on this image may serve "
                "better",
                DataWarning,
                stacklevel=4,
            )


def look_at(
    data: Any, where: Layout, model: ScoreModel, valid: ValidPixels | None = None
) -> Sample | None:
    """Read a few blocks that are spread over an image; None if there is nothing in them."""
    sizes = [where.shape[where.axes.index(a)] for a in where.loop]
    ends = where.space_shape[-2:]
    shares = [min(3, -(-n // SIDE)) for n in ends]
    places = list(product(*(_starts(n, count) for n, count in zip(ends, shares, strict=True))))
    total = math.prod(sizes)
    # a block of each of several planes says more than several of one
    count = min(total, BLOCKS)
    planes = [i * total // count for i in range(count)]
    picks = [
        (plane, place)
        for number, plane in enumerate(planes)
        for place in _turned(places, number)[: max(1, BLOCKS // len(planes))]
    ]
    deep = (
        [slice(where.space_shape[0] // 2, where.space_shape[0] // 2 + 1)]
        if len(where.space) == 3
        else []
    )
    known = valid or ValidPixels()
    values, planes_read = [], []
    for plane, place in picks:
        position = [int(i) for i in np.unravel_index(plane, sizes)] if sizes else []
        read, invalid = known.read(data, where, position, [*deep, *place])
        block = np.asarray(read, dtype=np.float64)
        if invalid is not None:
            block = np.where(invalid, np.nan, block)
        values.append(block[np.isfinite(block)])
        if model.kernel is not None:
            if min(block.shape[-2:]) <= 2 * model.kernel.reach + 8 or not np.isfinite(block).all():
                continue
            block = decorrelated(block, model.kernel)
        planes_read += list(block.reshape(-1, *block.shape[-2:]))
    return _sample(values, planes_read)


def middle_of(size: int, most: int) -> slice:
    """Return the middle of an axis, no longer than this."""
    start = max(0, (size - most) // 2)
    return slice(start, min(size, start + most))


def _sample(values: list[np.ndarray], planes: list[np.ndarray]) -> Sample | None:
    found = np.concatenate(values)
    if not len(found):
        return None
    low, center, high = (float(v) for v in np.quantile(found, [0.01, 0.5, 0.99]))
    mean, variance = noise_of_tiles(planes)
    step = find_quantization_step(found[:: len(found) // 50_000 + 1])
    return Sample(low, center, high, found, mean, variance, step)


def factor_between(sample: Sample, model: ScoreModel) -> float | None:
    """Return by how much an image is another unit or gain than the training, None if it is not.

    The factor is that which takes both the grey levels and their noise to where the model has them.
    """
    span = model.high - model.low
    own, known = sample.step, model.quantization.step
    same_grid = own > 0 and math.isclose(own, known, rel_tol=1e-3)
    least = MIN_FACTOR_ON_SAME_GRID if same_grid else MIN_FACTOR
    too_bright = sample.high > model.low + MAX_RANGES * span
    if not len(sample.mean):
        # nothing but the grey levels themselves to go by
        apart = too_bright or sample.low > model.high or sample.high < model.low
        factor = sample.high / model.high if model.high else 0.0
        far = factor > 0 and not 1 / least < factor < least
        return _likely(factor, sample, model) if apart and far else None
    noise = _noise_factors(sample, model.transform, FACTORS)
    beyond = np.maximum(model.low - sample.low / FACTORS, sample.high / FACTORS - model.high)
    flat = np.log(span * FACTORS / max(sample.high - sample.low, 1e-300))
    cost = (
        np.abs(noise)
        + COST_OF_RANGE * np.minimum(np.maximum(beyond, 0) / span, 10)
        + COST_OF_FLAT * np.maximum(flat, 0)
    )
    factor = float(FACTORS[cost.argmin()])
    if too_bright:
        factor = max(factor, (sample.high - model.low) / span)
    elif not _is_elsewhere(sample, model):
        return None
    else:
        differs = abs(float(_noise_factors(sample, model.transform, np.ones(1))[0]))
        if differs < math.log(MIN_NOISE_FACTOR) or 1 / least < factor < least:
            return None
    return _likely(factor, sample, model)


def _is_elsewhere(sample: Sample, model: ScoreModel) -> bool:
    """Return whether the grey levels themselves are others, whatever their noise is."""
    ratio = (sample.high - sample.low) / (model.high - model.low)
    apart = sample.low > model.high or sample.high < model.low
    return apart or not 1 / MIN_FACTOR < ratio < MIN_FACTOR


def _noise_factors(sample: Sample, curve: Transform, factors: np.ndarray) -> np.ndarray:
    """Return the logarithm of the noise of an image divided by factors, in units of a model's."""
    at = torch.from_numpy(sample.mean / factors[:, None])
    known = curve.variance(at).numpy()
    own = sample.variance / factors[:, None] ** 2
    return np.median(np.log(own / known), axis=1) / 2


def _share_outside(sample: Sample, model: ScoreModel) -> float:
    ends = torch.tensor([model.low, model.high], dtype=torch.float64)
    below, above = (MARGIN * model.transform.variance(ends).sqrt()).tolist()
    values = sample.values
    return float(np.mean((values < model.low - below) | (values > model.high + above)))


def _likely(factor: float, sample: Sample, model: ScoreModel) -> float:
    """Return a factor more exactly, if it is nearly that of two grids or between usual units."""
    own, known = sample.step, model.quantization.step
    nearby = [own / known] if own and known and not math.isclose(own, known) else []
    nearby += [f for n in USUAL for f in (float(n), 1 / n)]
    for candidate in nearby:
        if abs(math.log(candidate / factor)) < math.log(NEAR_USUAL):
            return candidate
    return factor


def _remedy(factor: float) -> str:
    if factor < 1:
        return f"multiply the image by {1 / factor:.3g}"
    return f"divide the image by {factor:.3g}"


def _starts(size: int, count: int) -> list[slice]:
    """Return slices that lie evenly along an axis."""
    side = min(size, SIDE)
    return [slice(int(a), int(a) + side) for a in np.linspace(0, size - side, count)]


def _turned(items: list[Any], by: int) -> list[Any]:
    by %= len(items)
    return items[by:] + items[:by]
