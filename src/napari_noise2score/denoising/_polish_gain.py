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
from ._clean_images import Crop, denoised_crop, variance_at
from .halo import BlockData, solved_region, without_halo
from .job import Job

MAX_PIXELS_COMPARED = 2**19


def measured_crops(crops: Sequence[Crop]) -> list[Crop]:
    """Return the first crops, up to `MAX_PIXELS_COMPARED` pixels, but at least one."""
    pixels = np.cumsum([crop.pixels for crop in crops])
    return list(crops[: max(1, int(np.searchsorted(pixels, MAX_PIXELS_COMPARED, "right")))])


class Comparison(NamedTuple):
    """Sums over pixels, in grey levels squared, of which `gain` is made.

    Attributes
    ----------
    fit : float
        Of ``(m_a − m_b) (m_a + m_b − 2 y)``, see `compare`.
    penalty : float
        Of ``2 (m_a − m_b) n`` for simulated noise n.
    residual, simulated_residual : float
        Of ``(y − m)²`` with the mean m of both results, for y and for simulated y.
    variance : float
        Of the variance of the noise as the noise model has it.
    """

    fit: float
    penalty: float
    residual: float
    simulated_residual: float
    variance: float

    @property
    def gain(self) -> float:
        """By how much the polish lowers the squared error, in units of the noise's variance.

        The simulated noise counts by its power in the image, which a noise model that does not
        quite fit may understate.
        """
        power = self.residual / max(self.simulated_residual, 1e-30)
        return (self.fit + power * self.penalty) / max(power * self.variance, 1e-30)


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
    With results a and b, their means m, and y = m(x) + n,

        E(m_a − m(x))² − E(m_b − m(x))² = E[(m_a − m_b)(m_a + m_b − 2 y)] + 2 E[(m_a − m_b) n].

    The last term is the covariance penalty of B. Efron, *The estimation of prediction error*
    (2004). It is measured on noise that is drawn around (a + b) / 2, as the result for one draw
    times the difference between it and another.
    """
    sums = np.zeros(len(Comparison._fields))
    for crop, job in zip(crops, live, strict=True):
        sums += _compare(crop, job, polish, rng)
        yield Comparison(*sums.tolist())


def _compare(crop: Crop, live: Job, polish: Polish, rng: np.random.Generator) -> NDArray[Any]:
    """Return the sums of a `Comparison` over the valid pixels of one crop."""
    noise = live.noise
    y = without_halo(crop.read, live.model, crop.space, crop.job.reach)
    results = _both(crop, live, polish)
    clean = ((results[0] + results[1]) / 2).clip(noise.lowest)
    drawn, other = (_simulated(clean, live, rng) for _ in range(2))
    again = _both(crop._replace(read=_with_inner(crop, drawn)), live, polish)
    a, b = (_mean(x, noise) for x in results)
    a2, b2 = (_mean(x, noise) for x in again)
    variance, valid = variance_at(clean, noise), np.isfinite(y)
    limit = MAX_RESIDUAL * np.sqrt(variance)
    y = np.clip(y, (a + b) / 2 - limit, (a + b) / 2 + limit)
    each = (
        (a - b) * (a + b - 2 * y),
        2 * (a2 - b2) * (drawn - other),
        (y - (a + b) / 2) ** 2,
        (drawn - (a2 + b2) / 2) ** 2,
        variance,
    )
    return np.array([values[valid].sum(dtype=np.float64) for values in each])


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
