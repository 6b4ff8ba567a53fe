"""Choose among noise models of counts by the likelihood p(y | x̂) of single frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..noise import NoiseModel
from ..score.model import ScoreModel
from ._from_images import ImageEstimate
from ._from_score import Probe

# Models whose misfit to the moments of the images is larger than the best by this are excluded.
MAX_MISFIT_BEHIND = 30.0
# Smaller differences of the log-likelihood per pixel do not distinguish models, because x̂ is
# computed from y.
MIN_LIKELIHOOD_GAIN = 0.03
# Bins of y, additional bins below and above the range of y, and quantiles of x̂.
Y_CLASSES, OUTER_CLASSES, X_QUANTILES = 1024, 256, 129
MAX_QUANTILE_SAMPLE = 100_000
# Share of the pixels that may be anything, such as defects.
OUTLIER_SHARE = 0.001


def is_of_counts(noise: NoiseModel) -> bool:
    """Return whether a model describes white noise of counted photons, multiplied or not."""
    base, kernel, _ = noise.components
    return base.is_counting and kernel is None


def choose_by_likelihood(
    found: ImageEstimate,
    model: ScoreModel,
    probes: Sequence[Probe],
    valid: Sequence[Tensor | None],
) -> tuple[NoiseModel, dict[str, Any]] | None:
    """Choose the likeliest of the noise models of counts that the moments allow.

    All of them predict nearly the same variance at each x, so only the shapes of their
    distributions are compared: for example, whether a model predicts grey levels that never occur.

    Parameters
    ----------
    found : ImageEstimate
        The estimate from the images alone.
    model : ScoreModel
        The trained score.
    probes : sequence of Probe
        As `probe` returns them.
    valid : sequence of Tensor or None
        Which of their pixels are valid; None if all are.

    Returns
    -------
    noise : NoiseModel
    notes : dict
        The log-likelihoods; values are JSON. None instead of both if no pixel is valid.
    """
    limit = found.fits[0].misfit + MAX_MISFIT_BEHIND
    rivals = [fit.noise for fit in found.fits if fit.misfit <= limit and is_of_counts(fit.noise)]
    y = torch.cat([_selected(p.y, v) for p, v in zip(probes, valid, strict=True)]).double()
    if not len(y):
        return None
    likelihoods = {}
    for noise in rivals:
        solve = model.solver(noise)
        solved = [_selected(solve(p.y, p.score), v) for p, v in zip(probes, valid, strict=True)]
        x = torch.cat(solved).double()
        likelihoods[noise] = mean_log_likelihood(noise, x, y, model.quantization.step)
    # among equally likely models, the moments decide
    enough = max(likelihoods.values()) - MIN_LIKELIHOOD_GAIN
    best = next(noise for noise, value in likelihoods.items() if value >= enough)
    return best, {
        "from the images": str(found.noise),
        "log-likelihood of a pixel": {str(noise): value for noise, value in likelihoods.items()},
    }


def _selected(values: Tensor, valid: Tensor | None) -> Tensor:
    return values.flatten() if valid is None else values[valid]


def mean_log_likelihood(noise: NoiseModel, x: Tensor, y: Tensor, step: float) -> float:
    """Return the mean logarithm of p(y | x), computed from a joint histogram of x and y.

    Parameters
    ----------
    noise : NoiseModel
        The noise.
    x, y : Tensor
        Clean and noisy grey levels, 1-D.
    step : float
        Quantization step of y in grey levels, 0 if it is not quantized.
    """
    low, span = float(y.min()), float(y.max() - y.min())
    width = max(1, math.ceil(span / Y_CLASSES / step)) * step if step else span / Y_CLASSES
    at = ((y - low) / width).round().long()
    count = int(at.max()) + 1
    # what is recorded at either end may have been clipped
    edges = low + width * (
        torch.arange(-OUTER_CLASSES, count + OUTER_CLASSES + 1, dtype=torch.float64) - 0.5
    )
    shares = torch.linspace(0, 1, X_QUANTILES).to(x)
    quantiles = torch.quantile(x[:: len(x) // MAX_QUANTILE_SAMPLE + 1], shares)
    middles = ((quantiles[1:] + quantiles[:-1]) / 2).clamp(min=noise.lowest + 1e-6)
    masses = noise.bin_probabilities(edges, middles)
    inner = masses[:, OUTER_CLASSES:-OUTER_CLASSES].clone()
    inner[:, 0] += masses[:, :OUTER_CLASSES].sum(1)
    inner[:, -1] += masses[:, -OUTER_CLASSES:].sum(1)
    probability = inner[torch.bucketize(x, quantiles[1:-1].contiguous()), at]
    mixed = (1 - OUTLIER_SHARE) * probability + OUTLIER_SHARE / count
    return float(torch.log(mixed).mean())
