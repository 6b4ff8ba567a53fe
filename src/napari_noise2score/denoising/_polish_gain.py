"""Estimate from noisy images alone whether a polish lowers the squared error of the result."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..noise import NoiseModel
from ..score.polish import Polish
from ..score.regression import simulated
from ..solve.bias_correction import MAX_RESIDUAL
from ..solve.quantization import UNQUANTIZED
from ._clean_images import Crop, denoised_crop, variance_at
from .halo import BlockData, solved_region, without_halo
from .job import Job

MAX_PIXELS_COMPARED = 2**19
MAX_DRAWS = 4  # of the noise of a crop, if there are few
# of a pixel and the one whose residual it gets, among all pixels of a crop in order of their mean
MAX_RANK_DISTANCE = 200


def measured_crops(crops: Sequence[Crop]) -> list[Crop]:
    """Return the first crops, up to `MAX_PIXELS_COMPARED` pixels, but at least one.

    If there are fewer pixels, all crops are repeated up to `MAX_DRAWS` times.
    """
    pixels = np.cumsum([crop.pixels for crop in crops])
    first = crops[: max(1, int(np.searchsorted(pixels, MAX_PIXELS_COMPARED, "right")))]
    return list(first) * min(MAX_DRAWS, max(1, MAX_PIXELS_COMPARED // int(pixels[-1])))


class Comparison(NamedTuple):
    """Sums over pixels, in grey levels squared, of which `gain` is made.

    Attributes
    ----------
    fit : float
        Of ``(m_a − m_b) (m_a + m_b − 2 y)``, see `compare`.
    drawn_penalty, resampled_penalty : float
        Of ``2 (m_a − m_b) n`` for noise n that is drawn from the noise model, and for resampled
        residuals.
    variance : float
        Of the variance of the noise as the noise model has it.
    """

    fit: float
    drawn_penalty: float
    resampled_penalty: float
    variance: float

    @property
    def gain(self) -> float:
        """By how much the polish lowers the squared error, in units of the noise's variance.

        The larger of two estimates: noise that is drawn from a model which does not quite fit, and
        residuals that hold texture of the image, both favour the result without a polish.
        """
        penalty = max(self.drawn_penalty, self.resampled_penalty)
        return (self.fit + penalty) / max(self.variance, 1e-30)


def compare(
    crops: Sequence[Crop], live: Sequence[Job], polish: Polish, rng: np.random.Generator
) -> Generator[Comparison]:
    """Compare the squared error with a polish to that without, from noisy images alone.

    Parameters
    ----------
    crops : sequence of Crop
        Crops of noisy images.
    live : sequence of Job
        For each crop, a job that denoises its image without a polish.
    polish : Polish
        The polish.
    rng : numpy.random.Generator
        Draws noise.

    Yields
    ------
    Comparison
        Of the crops so far, after every crop.

    Notes
    -----
    With the result a without and b with the polish, their means m, and y = m(x) + n,

        E(m_a − m(x))² − E(m_b − m(x))² = E[(m_a − m_b)(m_a + m_b − 2 y)] + 2 E[(m_a − m_b) n].

    The last term is the covariance penalty of B. Efron, *The estimation of prediction error*
    (2004). It is measured as the result for one draw of noise times the difference between it
    and another: noise of the noise model around (a + b) / 2, and around b the residuals y − m_b of
    pixels of like intensity, because a follows the noise more closely.
    """
    sums = np.zeros(len(Comparison._fields))
    for crop, job in zip(crops, live, strict=True):
        sums += _compare(crop, job, polish, rng)
        yield Comparison(*sums.tolist())


def _compare(crop: Crop, live: Job, polish: Polish, rng: np.random.Generator) -> NDArray[Any]:
    """Return the sums of a `Comparison` over the valid pixels of one crop."""
    noise = live.noise
    y = without_halo(crop.read, live.model, crop.space, crop.job.reach)
    valid = np.isfinite(y)
    results = _both(crop, live, polish)
    a, b = (_mean(x, noise) for x in results)
    clean = ((results[0] + results[1]) / 2).clip(noise.lowest)
    variance = variance_at(clean, noise)
    limit = MAX_RESIDUAL * np.sqrt(variance)
    y = np.clip(y, (a + b) / 2 - limit, (a + b) / 2 + limit)

    def penalty(drawn: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        again = _both(crop._replace(read=_with_inner(crop, drawn)), live, polish)
        a2, b2 = (_mean(x, noise) for x in again)
        found: NDArray[Any] = 2 * (a2 - b2) * (drawn - other)
        return found

    each = (
        (a - b) * (a + b - 2 * y),
        penalty(*(_simulated(clean, live, rng) for _ in range(2))),
        penalty(*(_resampled(b, y, valid, live, rng) for _ in range(2))),
        variance,
    )
    return np.array([values[valid].sum(dtype=np.float64) for values in each])


def _resampled(
    mean: NDArray[Any], y: NDArray[Any], valid: NDArray[Any], job: Job, rng: np.random.Generator
) -> NDArray[Any]:
    """Return a mean of y with residuals of other pixels of nearly the same mean added."""
    found = mean.copy()
    own = mean[valid]
    order = np.argsort(own)
    ranks = np.arange(len(own))
    others = ranks + rng.integers(-MAX_RANK_DISTANCE, MAX_RANK_DISTANCE + 1, len(own))
    residual = (y[valid] - own)[order]
    own[order] += residual[others.clip(0, len(own) - 1)]
    recorded = job.model.quantization if job.model.kernel is None else UNQUANTIZED
    found[valid] = own.clip(recorded.floor, recorded.saturation)
    return found


def _both(crop: Crop, live: Job, polish: Polish) -> list[NDArray[Any]]:
    """Return a crop denoised without and with the polish."""
    job = replace(live, reach=crop.job.reach)
    results = denoised_crop(crop._replace(job=job)), denoised_crop(crop, polish)
    return [np.ma.getdata(x).astype(np.float64) for x in results]


def _mean(x: NDArray[Any], noise: NoiseModel) -> NDArray[Any]:
    """Return m(x) = E[y | x]."""
    levels = torch.from_numpy(x.clip(noise.lowest))
    mean: NDArray[Any] = noise.components.base.mean(levels).numpy()
    return mean


def _simulated(clean: NDArray[Any], job: Job, rng: np.random.Generator) -> NDArray[Any]:
    """Return noise around the clean grey levels of a crop, as crops are read."""
    reach = job.model.kernel.reach if job.model.kernel else 0
    around = np.pad(clean, [(0, 0)] * (clean.ndim - 2) + [(reach, reach)] * 2, mode="symmetric")
    y: NDArray[Any] = simulated(around, job.noise, job.model, rng).numpy()
    return y


def _with_inner(crop: Crop, inner: NDArray[Any]) -> BlockData:
    """Return what was read of a crop, all valid, with other grey levels inside the halo."""
    y, reach = crop.read.y.clone(), crop.job.reach
    within = slice(reach, -reach or None)
    view = y[solved_region(crop.job.model, crop.space, reach)][0, ..., within, within]
    view[...] = torch.from_numpy(inner)
    return BlockData(y, context=crop.read.context)
