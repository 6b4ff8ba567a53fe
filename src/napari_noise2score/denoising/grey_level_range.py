"""Compare the grey levels of an image with those that a model was trained on."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import DataWarning, UserError
from ..image.axes import Layout
from ..image.valid import ValidPixels
from ..noise import NoiseModel
from ..score.decorrelation import decorrelated
from ..score.model import SHARE_SEEN, ScoreModel
from ..solve.quantization import find_quantization_step
from ..solve.stabilization import measure_noise_by_intensity
from ..solve.transform import Transform
from .halo import Array

MAX_BLOCKS = 9  # that are read from an image
BLOCK_SIDE = 128  # pixels along Y and X of such a block
MAX_SIDE = 512  # pixels along Y and X that are used of a block that has been read already
# A pixel is outside the range of training if it exceeds it by this many standard deviations of the
# noise. There is a warning if more than this share of the pixels is outside.
MAX_DEVIATIONS_OUTSIDE = 3.0
MAX_SHARE_OUTSIDE = 0.01
# A different unit or gain is assumed only for larger factors between the image and the training
# images: smaller ones can be differences in brightness or focus. The noise must differ as well.
MIN_FACTOR = 6.0
MIN_FACTOR_ON_SAME_GRID = 16.0  # if both have the same quantization step
MIN_NOISE_FACTOR = 2.5
# An image that exceeds the lowest grey level of training by more, in units of the range of
# training, is always refused.
MAX_RANGES = 8.0
MAX_NOISE_FACTOR = 4.0  # there is a warning if the noise differs by more at the same grey levels
TRIED_FACTORS = np.geomspace(1e-6, 1e6, 721)
# costs of a factor that shifts the image beyond the range of training by that range, and of one
# that reduces its contrast by a factor e
COST_OF_RANGE, COST_OF_CONTRAST = 4.0, 0.25
# Factors between bit depths and units. A factor within this ratio of one of them is replaced by it.
COMMON_FACTORS = (10, 16, 64, 100, 255, 257, 1000, 4095, 65535)
MAX_RATIO_TO_COMMON = 1.6


class Sample(NamedTuple):
    """Grey levels and noise of a few blocks of an image.

    Attributes
    ----------
    low, middle, high : float
        1st, 50th and 99th percentile of the grey levels.
    values : ndarray
        Finite grey levels, float64, 1-D.
    mean, variance : ndarray
        Intensity and variance of the noise in intensity bins, in grey levels and grey levels
        squared; empty if no noise is found.
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
    data: Any,
    where: Layout,
    model: ScoreModel,
    valid: ValidPixels | None = None,
    channel: int | None = None,
) -> None:
    """Compare the grey levels of an image with those that a model was trained on.

    Parameters
    ----------
    data : array-like
        The image; a few blocks of it are read.
    where : Layout
        Layout of the image.
    model : ScoreModel
        The model.
    valid : ValidPixels, optional
        Which pixels are valid; all by default.
    channel : int, optional
        The one channel that is compared; all by default.

    Raises
    ------
    UserError
        If the image has another unit or gain than the training images: grey levels and noise differ
        by a large factor.

    Warns
    -----
    DataWarning
        If some grey levels are outside the range of training, or the noise is much stronger or
        weaker at the same grey levels.

    Notes
    -----
    A darker or brighter image of the same kind is accepted, because its noise agrees with that of
    the training images at the same grey levels.
    """
    _compare(sample_blocks(data, where, model, valid, channel), model)


def check_noise_level(noise: NoiseModel, model: ScoreModel) -> None:
    """Compare the strength of a noise model with the noise of the images a model was trained on.

    Parameters
    ----------
    noise : NoiseModel
        The noise model for denoising.
    model : ScoreModel
        The model, whose transform contains the variance of the noise at each grey level.

    Warns
    -----
    DataWarning
        If they differ by more than a factor of four in the middle of the range. Noise that is
        correlated by a kernel which can be undone is not compared, because the transform does not
        contain its variance. Or if a kernel of the noise alone was not named in training.
    """
    _, kernel, _ = noise.components
    if kernel is not None and kernel.of_noise and SHARE_SEEN not in model.provenance:
        warnings.warn(
            "the noise is correlated over several pixels, and the model was trained without that: "
            f"it takes it for much weaker noise; train with --correlation '{kernel}'",
            DataWarning,
            stacklevel=3,
        )
        return
    if kernel is not None or model.kernel is not None:
        return
    middle = torch.tensor((model.low + model.high) / 2, dtype=torch.float64)
    x = noise.clean_from_mean(middle).clamp(min=noise.lowest)
    predicted = math.sqrt(float(noise.variance(x)))
    measured = math.sqrt(float(model.transform.variance(middle)))
    if not measured / MAX_NOISE_FACTOR < predicted < MAX_NOISE_FACTOR * measured:
        warnings.warn(
            f"the noise model predicts a standard deviation of {predicted:.3g} at grey level "
            f"{float(middle):.4g}, but it is {measured:.3g} in the images that the model was "
            "trained on: run the noise check, or estimate the noise (--noise auto)",
            DataWarning,
            stacklevel=3,
        )


def check_block(y: Array, model: ScoreModel) -> None:
    """Compare the grey levels of a block that has been read already, as `check_range` does.

    Parameters
    ----------
    y : ndarray
        Grey levels of the block, decorrelated if the model requires it, NaN where a pixel is
        invalid, shape ``(channels, *space)``, see `without_halo`.
    model : ScoreModel
        The model.

    Raises
    ------
    UserError
        As `check_range`.
    """
    planes = y.reshape(-1, *y.shape[-2:])
    planes = planes[len(planes) // 2 :][:MAX_BLOCKS]
    inner = (slice(None), *(middle_of(n, MAX_SIDE) for n in planes.shape[-2:]))
    planes = planes[inner]
    _compare(_sample([planes[np.isfinite(planes)]], list(planes)), model)


def _compare(sample: Sample | None, model: ScoreModel) -> None:
    """Warn, or raise a `UserError`, if an image differs from the training images."""
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
    if outside > MAX_SHARE_OUTSIDE:
        warnings.warn(
            f"{100 * outside:.0f} % of the pixels are darker or brighter than all that the model "
            f"was trained on (compare {ranges}): they may be denoised less well",
            DataWarning,
            stacklevel=4,
        )
    elif len(sample.mean):
        noise = math.exp(_noise_factors(sample, _seen_transform(model), np.ones(1))[0])
        if not 1 / MAX_NOISE_FACTOR < noise < MAX_NOISE_FACTOR:
            warnings.warn(
                f"the image's noise is {noise:.2g} times as strong as that of the images the model "
                "was trained on, at the same grey levels: a model trained on this image may be "
                "better",
                DataWarning,
                stacklevel=4,
            )


def sample_blocks(
    data: Any,
    where: Layout,
    model: ScoreModel,
    valid: ValidPixels | None = None,
    channel: int | None = None,
) -> Sample | None:
    """Read a few blocks that are spread over an image; None if they contain no valid pixel."""
    sizes = [
        1 if a == "C" and channel is not None else where.shape[where.axes.index(a)]
        for a in where.loop
    ]
    ends = where.space_shape[-2:]
    counts = [min(3, -(-n // BLOCK_SIDE)) for n in ends]
    places = list(product(*(_starts(n, count) for n, count in zip(ends, counts, strict=True))))
    total = math.prod(sizes)
    # blocks of different planes are more representative than several blocks of one
    count = min(total, MAX_BLOCKS)
    planes = [i * total // count for i in range(count)]
    picks = [
        (plane, place)
        for number, plane in enumerate(planes)
        for place in _rotated(places, number)[: max(1, MAX_BLOCKS // len(planes))]
    ]
    deep = (
        [slice(where.space_shape[0] // 2, where.space_shape[0] // 2 + 1)]
        if len(where.space) == 3
        else []
    )
    valid = valid or ValidPixels()
    values, planes_read = [], []
    for plane, place in picks:
        position = [int(i) for i in np.unravel_index(plane, sizes)] if sizes else []
        if channel is not None and "C" in where.loop:
            position[where.loop.index("C")] = channel
        read, invalid = valid.read(data, where, position, [*deep, *place])
        block = np.asarray(read, dtype=np.float64)
        if invalid is not None:
            block = np.where(invalid, np.nan, block)
        if channel is not None and where.joint:
            block = block[channel : channel + 1]
        values.append(block[np.isfinite(block)])
        if model.kernel is not None:
            if min(block.shape[-2:]) <= 2 * model.kernel.reach + 8 or not np.isfinite(block).all():
                continue
            block = decorrelated(block, model.kernel)
        planes_read += list(block.reshape(-1, *block.shape[-2:]))
    return _sample(values, planes_read)


def middle_of(size: int, length: int) -> slice:
    """Return the middle of an axis, of at most a given length."""
    start = max(0, (size - length) // 2)
    return slice(start, min(size, start + length))


def _sample(values: list[np.ndarray], planes: list[np.ndarray]) -> Sample | None:
    """Return the sample of grey levels and of planes in which the noise is measured."""
    found = np.concatenate(values)
    if not len(found):
        return None
    low, center, high = (float(v) for v in np.quantile(found, [0.01, 0.5, 0.99]))
    mean, variance = measure_noise_by_intensity(planes)
    step = find_quantization_step(found[:: len(found) // 50_000 + 1])
    return Sample(low, center, high, found, mean, variance, step)


def factor_between(sample: Sample, model: ScoreModel) -> float | None:
    """Return the factor of unit or gain between an image and the training images.

    It is the factor by which the image must be divided so that grey levels and noise agree with
    those of the training images; None if unit and gain are the same.
    """
    span = model.high - model.low
    own, known = sample.step, model.quantization.step
    same_grid = own > 0 and math.isclose(own, known, rel_tol=1e-3)
    lowest = MIN_FACTOR_ON_SAME_GRID if same_grid else MIN_FACTOR
    too_bright = sample.high > model.low + MAX_RANGES * span
    if not len(sample.mean):
        # without noise, only the grey levels can be compared
        apart = too_bright or sample.low > model.high or sample.high < model.low
        factor = sample.high / model.high if model.high else 0.0
        far = factor > 0 and not 1 / lowest < factor < lowest
        return _likely(factor, sample, model) if apart and far else None
    noise = _noise_factors(sample, _seen_transform(model), TRIED_FACTORS)
    beyond = np.maximum(
        model.low - sample.low / TRIED_FACTORS, sample.high / TRIED_FACTORS - model.high
    )
    contrast_loss = np.log(span * TRIED_FACTORS / max(sample.high - sample.low, 1e-300))
    cost = (
        np.abs(noise)
        + COST_OF_RANGE * np.minimum(np.maximum(beyond, 0) / span, 10)
        + COST_OF_CONTRAST * np.maximum(contrast_loss, 0)
    )
    factor = float(TRIED_FACTORS[cost.argmin()])
    if too_bright:
        factor = max(factor, (sample.high - model.low) / span)
    elif not _is_elsewhere(sample, model):
        return None
    else:
        differs = abs(float(_noise_factors(sample, _seen_transform(model), np.ones(1))[0]))
        if differs < math.log(MIN_NOISE_FACTOR) or 1 / lowest < factor < lowest:
            return None
    return _likely(factor, sample, model)


def _is_elsewhere(sample: Sample, model: ScoreModel) -> bool:
    """Return whether the range of the grey levels differs from that of the training images."""
    ratio = (sample.high - sample.low) / (model.high - model.low)
    apart = sample.low > model.high or sample.high < model.low
    return apart or not 1 / MIN_FACTOR < ratio < MIN_FACTOR


def _seen_transform(model: ScoreModel) -> Transform:
    """Return the transform for the variance that the finest detail of the images shows."""
    share, t = model.provenance.get(SHARE_SEEN, 1.0), model.transform
    return t if share == 1.0 else replace(t, c0=share * t.c0, c1=share * t.c1, c2=share * t.c2)


def _noise_factors(sample: Sample, curve: Transform, factors: np.ndarray) -> np.ndarray:
    """Return the logarithm of the noise of an image divided by factors, in units of a model's."""
    at = torch.from_numpy(sample.mean / factors[:, None])
    known = curve.variance(at).numpy()
    own = sample.variance / factors[:, None] ** 2
    factor: np.ndarray = np.median(np.log(own / known), axis=1) / 2
    return factor


def _share_outside(sample: Sample, model: ScoreModel) -> float:
    """Return the share of the pixels outside the range of training."""
    ends = torch.tensor([model.low, model.high], dtype=torch.float64)
    below, above = (MAX_DEVIATIONS_OUTSIDE * model.transform.variance(ends).sqrt()).tolist()
    values = sample.values
    return float(np.mean((values < model.low - below) | (values > model.high + above)))


def _likely(factor: float, sample: Sample, model: ScoreModel) -> float:
    """Return the ratio of quantization steps or the common factor near a factor, else itself."""
    own, known = sample.step, model.quantization.step
    nearby = [own / known] if own and known and not math.isclose(own, known) else []
    nearby += [f for n in COMMON_FACTORS for f in (float(n), 1 / n)]
    for candidate in nearby:
        if abs(math.log(candidate / factor)) < math.log(MAX_RATIO_TO_COMMON):
            return candidate
    return factor


def _remedy(factor: float) -> str:
    """Return how to correct an image that differs by a factor."""
    if factor < 1:
        return f"multiply the image by {1 / factor:.3g}"
    return f"divide the image by {factor:.3g}"


def _starts(size: int, count: int) -> list[slice]:
    """Return slices that are evenly spaced along an axis."""
    side = min(size, BLOCK_SIDE)
    return [slice(int(a), int(a) + side) for a in np.linspace(0, size - side, count)]


def _rotated(items: list[Any], by: int) -> list[Any]:
    """Return a list that starts at another of its items."""
    by %= len(items)
    return items[by:] + items[:by]
