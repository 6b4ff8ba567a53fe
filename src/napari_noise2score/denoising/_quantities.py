"""Compute the two quantities of a tile: the clean image and its posterior standard deviation."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..score.model import ScoreModel
from ..score.probes import probes
from ..solve.pooling import neighbour_mean, pooled_solution, pooled_solution_and_error
from ..solve.solver import make_shift
from ..solve.table import Table
from .job import Job, Quantity

PROBE_SPACING = (2, 4, 4)  # pixels between those probed at once, along Z, Y and X
PROBE_AMPLITUDE = 0.3  # change of y under correlated noise, in standard deviations of the noise
AVERAGE_RADIUS = 2  # pixels along Y and X; the slope of a single pixel is too uncertain
# A lower limit of the posterior variance, in units of that of the noise: smaller values are errors
# of the network's slope.
MIN_VARIANCE_RATIO = 0.01


def _compute_denoised(
    job: Job, y: torch.Tensor, region: tuple[slice, ...], context: torch.Tensor | None
) -> torch.Tensor:
    """Return the clean image in a region of a tile."""
    if job.polish is not None:
        return job.polish.clean(y, job.model, job.noise, context)[0][region] + job.noise.offset
    score = job.model.score(y, job.sigma_a, context)[region]
    y = y[region]
    if job.channels:
        each = zip(job.of_channels, _split(y), _split(score), strict=True)
        return torch.cat([_solved(*one) for one in each], dim=1)
    return _solved(job, y, score)


def _solved(job: Job, y: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
    """Return the clean image of channels that have one noise model."""
    if isinstance(job.solve, Table):
        position = job.solve.locate(y, score)
        x = pooled_solution(job.solve, position, y, job.noise, job.score_error)
        if job.bias_correction is not None:
            between = job.bias_correction.locate(neighbour_mean(y))
            x = job.bias_correction.apply(x, between)
    else:
        x = job.solve(y, score)
    # the offset is added, as the result has the grey levels of the image
    return x + job.noise.offset


def _split(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return each channel of a tile, shape ``(1, 1, *space)``."""
    return tuple(values[:, c : c + 1] for c in range(values.shape[1]))


def _compute_uncertainty(
    job: Job, y: torch.Tensor, region: tuple[slice, ...], context: torch.Tensor | None
) -> torch.Tensor:
    """Return the posterior standard deviation in a region of a tile."""
    if job.polish is not None:
        return job.polish.clean(y, job.model, job.noise, context)[1][region]
    # the network's halo is wider than the radius of the average
    plane = (slice(at.start - AVERAGE_RADIUS, at.stop + AVERAGE_RADIUS) for at in region[-2:])
    grown = (*region[:-2], *plane)
    whole = slice(None)
    channels = job.of_channels
    # one channel of a tile, or all of them
    cuts = [slice(c, c + 1) for c in range(len(channels))] if job.channels else [whole]
    score: torch.Tensor | None = None
    deviations = []
    for own, cut in zip(channels, cuts, strict=True):
        here, around = ((whole, cut, *at[2:]) for at in (region, grown))
        if isinstance(own.solve, Table):
            if score is None:
                score, slope = job.model.score_and_slope(y, job.sigma_a, PROBE_SPACING, context)
            variance = own.solve.variance(y[around], score[around], slope[around])
            position = own.solve.locate(y[here], score[here])
            x, error = pooled_solution_and_error(
                own.solve, position, y[here], own.noise, own.score_error
            )
        else:
            clean, variance = _correlated_variance(own, job.model, cut, y, context)
            x, variance, error = clean[:, :, *region[2:]], variance[:, :, *grown[2:]], 0.0
        mean = F.avg_pool2d(variance.flatten(0, -3), 2 * AVERAGE_RADIUS + 1, stride=1)
        lowest = MIN_VARIANCE_RATIO * own.noise.variance(x.clamp(min=own.noise.lowest))
        posterior = mean.reshape(*variance.shape[:-2], *mean.shape[-2:]).maximum(lowest)
        deviations.append(torch.sqrt(posterior + error))
    return torch.cat(deviations, dim=1)


def _correlated_variance(
    job: Job, model: ScoreModel, cut: slice, y: torch.Tensor, context: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x and its posterior variance under correlated noise: ``diag((∂x̂/∂y) Σ B⁻ᵀ)``.

    Both have only the channels of the cut, which the job is of.
    """
    noise = job.noise
    shift = make_shift(noise, job.model.transform, job.sigma_a, job.model.kernel)

    def clean(y: torch.Tensor) -> torch.Tensor:
        return job.solve(y[:, cut], model.score(y, job.sigma_a, context)[:, cut])

    own = y[:, cut]
    x = clean(y)
    added = job.sigma_a**2 * job.model.transform.variance(own)
    # every pixel is changed by the same share of its own noise
    unit = torch.sqrt(noise.variance(x.clamp(min=noise.lowest)) + added)
    variance = torch.zeros_like(x)
    for at, probe in probes(x, PROBE_SPACING):
        along = torch.zeros_like(y)
        along[:, cut] = PROBE_AMPLITUDE * shift(x, own, probe / unit)
        change = (clean(y + along) - clean(y - along)) / (2 * PROBE_AMPLITUDE)
        variance[at] = change[at] * probe[at] * unit[at]
    return x, variance.clamp(min=0)


DENOISED = Quantity("denoised", _compute_denoised)
# where nothing was recorded the deviation is unknown
UNCERTAINTY = Quantity("uncertainty", _compute_uncertainty, float("nan"))
QUANTITIES = {quantity.name: quantity for quantity in (DENOISED, UNCERTAINTY)}
