"""Tabulate the score f(x, z) of a noise model, make it invertible in x, and invert it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..noise.base import NoiseModel
from .quantization import Quantization
from .transform import Transform

# Largest deviation of a pixel from its mean, in standard deviations, and so the largest score.
MAX_DEVIATION = 12.0

# Difference of the score over which the second derivative of the solution is measured.
CURVATURE_STEP = 0.08
# A lower limit of x further below the grey levels than this, in units of their range, is ignored.
MAX_FLOOR_DISTANCE = 1e3


class TabulatedNoise(NamedTuple):
    """The distribution of recorded pixels z = T(y) for each of many clean values x.

    Attributes
    ----------
    x : Tensor
        Clean values, increasing, float64, shape ``(x,)``.
    masses : Tensor
        Probability of each y given x, shape ``(x, y)``.
    z : Tensor
        T of each y as it is recorded, shape ``(y,)``.
    sigma : Tensor
        Standard deviation of the perturbation σ_a and of rounding, in units of z, shape ``(y,)``.
    """

    x: Tensor
    masses: Tensor
    z: Tensor
    sigma: Tensor


def tabulate_noise(
    noise: NoiseModel,
    transform: Transform,
    sigma_a: float,
    first: float,
    last: float,
    quantization: Quantization,
) -> TabulatedNoise:
    """Tabulate p(y | x) for all x whose noisy mean is between two z, in double precision."""
    # a wider margin for y: a pixel at the end of the range may be an outlier of its x
    margin = MAX_DEVIATION * (1 + sigma_a)
    step = max(sigma_a / 8, 0.05)
    bins = torch.arange(first - margin, last + margin + step, step, dtype=torch.float64)
    edges = transform.inverse(bins)
    # the clean image is no darker or brighter than what can be recorded
    darkest, brightest = (
        float(transform.forward(torch.tensor(level, dtype=torch.float64)))
        if math.isfinite(level)
        else end
        for level, end in ((quantization.floor, first), (quantization.saturation, last))
    )
    x = clean_candidates(noise, transform, max(first, darkest), min(last, brightest))
    y = noise.bin_centers(edges)
    masses = noise.bin_probabilities(edges, x)
    # σ_a hides the grid itself, so only the variance that rounding adds matters. It is 0 for counts
    # that are on the grid already. Counts beside it are not shifted to it: no detector is exact
    # enough for that.
    rounding = (masses.sum(0) * (quantization.rounded(y) - y) ** 2).sum() / masses.sum()
    sigma = torch.sqrt(sigma_a**2 + rounding * transform.slope(y) ** 2)
    z = transform.forward(y.clamp(quantization.floor, quantization.saturation))
    return TabulatedNoise(x, masses, z, sigma)


def clean_candidates(noise: NoiseModel, transform: Transform, low: float, high: float) -> Tensor:
    """Return clean values x, increasing, whose noisy means are evenly spaced in z."""
    z = torch.linspace(low, high, max(256, int(4 * (high - low))), dtype=torch.float64)
    x = noise.clean_from_mean(transform.inverse(z))
    floor = noise.lowest + 1e-6 * float(x[-1] - x[0])
    x = x[x > floor]
    if noise.lowest > float(x[0]) - MAX_FLOOR_DISTANCE * float(x[-1] - x[0]):
        # smaller and smaller steps towards the lowest x, as most pixels of an image are dark
        first = float(x[0]) - noise.lowest
        near = noise.lowest + first * torch.logspace(-4, 0, 33, dtype=torch.float64)[:-1]
        x = torch.cat([near, x])
    return x


def tabulated_scores(
    masses: Tensor, z: Tensor, sigma: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Return f(x, z) and the density of z, both of shape ``(x, row)``.

    The probabilities of y, shape ``(x, y)``, are blurred by σ about z = T(y). f is NaN where the
    density is 0.
    """
    # differences need double precision; single precision is enough, and faster, for the rest
    away = ((z[:, None] - rows) / sigma[:, None]).float()
    sigma = sigma.float()[:, None]
    # e⁻⁸⁰ is as good as 0, but torch.exp takes ten times as long for smaller results
    kernel = torch.exp(away.square().mul_(-0.5).clamp_(min=-80)).mul_(sigma.min() / sigma)
    masses = masses.float()
    density = masses @ kernel
    moment = masses @ away.mul_(kernel).div_(sigma)
    # smaller densities are rounding errors of differences of probabilities in double precision
    return torch.where(density > 1e-13, moment / density, torch.nan), density


def make_increasing(f: Tensor, gaussian_steps: Tensor, outlier: Tensor) -> Tensor:
    """Return f with its decreasing sections removed, so that it can be inverted in x.

    For a pixel far darker than x, f may be almost constant in x, so that a small error of the
    learned score would correspond to any x. There f is made to increase at least half as fast as
    for Gaussian noise of the same variance, whose steps between successive x are given.
    """
    minimum = torch.where(outlier, 0.5 * gaussian_steps.float()[:, None], 0) + 1e-6
    minimum = torch.cumsum(minimum, dim=0)
    return torch.cummax(f - minimum, dim=0).values + minimum


def invert_rows(f: Tensor, targets: Tensor, x: Tensor) -> Tensor:
    """Interpolate x at the target scores, row by row; it is constant beyond its ends."""
    at = torch.searchsorted(f, targets.expand(len(f), -1).contiguous()).clamp(1, len(x) - 1)
    left, right = f.gather(1, at - 1), f.gather(1, at)
    fraction = ((targets - left) / (right - left)).clamp(0, 1)
    return torch.lerp(x.take(at - 1), x.take(at), fraction)


def mean_correction_of(
    f: Tensor, targets: Tensor, x: Tensor, values: Tensor, variance: float
) -> Tensor:
    """Return ``½ ∂²G/∂s² variance``, limited to ``± ∂G/∂s √variance``, for G = `values`."""
    below, above = (invert_rows(f, targets + by, x) for by in (-CURVATURE_STEP, CURVATURE_STEP))
    limit = (above - below) / (2 * CURVATURE_STEP) * math.sqrt(variance)
    correction = (below + above - 2 * values) * (variance / (2 * CURVATURE_STEP**2))
    return correction.clamp(-limit, limit)
