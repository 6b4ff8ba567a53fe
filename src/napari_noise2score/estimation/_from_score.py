"""The noise that a trained score implies: noise curve, perturbation test and quality search.

All functions take planes in grey levels and their score, and return the moments of the noise by
intensity, or noise models. Nothing is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..noise import NoiseFamily, NoiseModel
from ..noise.binning import bin_numbers
from ..noise.fitting import FromScore
from ..noise.registry import families
from ..score.model import SLOPE_STEP, ScoreModel
from ..solve.solver import Solver
from ..solve.transform import Transform
from ._flatness import SLOPE_SIGMA, flattest, slope_of, smooth
from ._moments import BINS, Moments

MIN_PIXELS_PER_BIN = 100
# Means within this factor of each other do not determine a power.
MIN_MEAN_RATIO = 1.2
# Number of parameter values to search, within this factor of what the transform suggests.
SEARCH_STEPS, SEARCH_FACTOR = 33, 3.0
# Lower bound of x̂ in logarithms, on the scale of 0 to 1.
MIN_INTENSITY = 1e-3


class Probe(NamedTuple):
    """Planes and their score, all of shape ``(planes, Y, X)``.

    Attributes
    ----------
    y : Tensor
        Noisy grey levels, of A⁻¹ y where the model undoes a correlation.
    score : Tensor
        Score of z = T(y).
    changed : Tensor
        y changed as requested: "perturbed" (z + σ_a u with u standard normal) or "moved" (each
        pixel up or down by a tenth of the noise); otherwise y itself.
    changed_score : Tensor
        Score of the changed planes.
    """

    y: Tensor
    score: Tensor
    changed: Tensor
    changed_score: Tensor


def probe(
    model: ScoreModel,
    y: Tensor,
    inner: Sequence[slice],
    change: str = "",
    context: Tensor | None = None,
) -> Probe:
    """Evaluate the score of a block.

    Parameters
    ----------
    model : ScoreModel
        The trained score.
    y : Tensor
        Grey levels with the surroundings that the network sees, shape ``(1, channels, *space)``.
    inner : sequence of slice
        The part of y without its surroundings, over all axes of y.
    change : {"", "perturbed", "moved"}
        The change of y after which the score is evaluated as well.
    context : Tensor, optional
        The neighbours, see `ScoreModel.score`.

    Returns
    -------
    Probe
        Channels and Z counted as planes.
    """
    rng = torch.Generator().manual_seed(0)
    at = tuple(inner)

    def planes(values: Tensor) -> Tensor:
        return values[at].flatten(0, -3).cpu()

    first = planes(y), planes(model.score(y, context=context))
    if not change:
        return Probe(*first, *first)
    u = torch.randn(y.shape, generator=rng).to(y)
    step = model.sigma_a * u if change == "perturbed" else SLOPE_STEP * torch.sign(u)
    changed = model.transform.inverse(model.transform.forward(y) + step)
    return Probe(*first, planes(changed), planes(model.score(changed, context=context)))


def noise_curve(model: ScoreModel, probes: Sequence[Probe]) -> Moments:
    """Estimate the noise variance by intensity from the size of the score.

    Where the picture is flat, ``s(z + σ_a u) ≈ −n / (v + σ_a²)``, so that
    ``v ≈ 1 / E[s²] − σ_a²``, in coordinates z.

    Parameters
    ----------
    model : ScoreModel
        The trained score.
    probes : sequence of Probe
        As `probe` returns them for the change "perturbed".

    Returns
    -------
    Moments
        Mean and variance; the third moment is not known. The variance is a little too large where
        the picture has fine detail.

    Raises
    ------
    ValueError
        If no bin has a positive variance.
    """
    intensities, slopes, squares = [], [], []
    for one in probes:
        picture = first_solution(model, one.y, one.score)
        deviation = torch.sqrt(model.transform.variance(picture))
        for plane, noise, square in zip(picture, deviation, one.changed_score**2, strict=True):
            # of the neighbourhood, as the intensity of a single pixel has noise, too
            intensities.append(smooth(plane.numpy(), SLOPE_SIGMA).ravel())
            slopes.append((slope_of(plane.numpy()) / noise.numpy()).ravel())
            squares.append(square.numpy().ravel())
    intensity, slope, squared = (np.concatenate(v) for v in (intensities, slopes, squares))
    numbers = bin_numbers(intensity, np.linspace(0, 1, BINS + 1), side="right")
    rows = []
    for b in range(BINS):
        inside = numbers == b
        if inside.sum() < MIN_PIXELS_PER_BIN:
            continue
        flat = flattest(slope, inside)
        v = 1 / squared[flat].mean() - model.sigma_a**2
        if v > 0:
            mean = float(intensity[inside].mean())
            rows.append((mean, v * _variance(model.transform, mean), flat.sum()))
    if not rows:
        raise ValueError("the score contains no information on the noise")
    m, v, count = np.array(rows).T
    zero = np.zeros(len(m))
    return Moments(m, v, zero, v * np.sqrt(2 / count), zero + np.inf)


def first_solution(model: ScoreModel, y: Tensor, score: Tensor) -> Tensor:
    """Return the clean image for noise as strong as the model's transform assumes."""
    z = model.transform.forward(y) + (1 + model.sigma_a**2) * score
    return model.transform.inverse(z)


def perturbation_test(model: ScoreModel, probes: Sequence[Probe]) -> tuple[NoiseModel, float]:
    """Estimate family and parameter from how the score changes with y.

    A clean pixel is the same for y and for y + ε, so the change Δs of the score gives
    ``−ε/Δs = φ y^ρ``, the variance of Tweedie's exponential families: ρ gives the family, and the
    median over the pixels its parameter. σ_a², which the score includes, is subtracted.

    Parameters
    ----------
    model : ScoreModel
        The trained score.
    probes : sequence of Probe
        As `probe` returns them for the change "moved".

    Returns
    -------
    noise : NoiseModel
        Of the family whose powers ρ belongs to, see `FromScore`.
    power : float
        ρ.

    References
    ----------
    K. Kim, T. Kwon, J. C. Ye, *Noise distribution adaptive self-supervised image denoising using
    Tweedie distribution and score matching*, CVPR 2022.
    """
    y = torch.cat([one.y.flatten() for one in probes]).double()
    moved = torch.cat([one.changed.flatten() for one in probes]).double()
    s, changed = (
        model.transform.raw_score(
            at, torch.cat([score.flatten() for score in scores]).double(), model.sigma_a
        )
        for at, scores in (
            (y, [one.score for one in probes]),
            (moved, [one.changed_score for one in probes]),
        )
    )
    reading = -(moved - y) / (changed - s) - model.sigma_a**2 * model.transform.variance(y)
    grey, v = y.numpy(), reading.numpy()
    positive = grey > 0
    power = _power(grey[positive], v[positive])
    family, search = next(
        (family, search) for family, search in searched_families() if power < search.max_power
    )
    return search.model(family, search.from_perturbation(grey, v)), power


def searched_families() -> list[tuple[type[NoiseFamily], FromScore]]:
    """Return the families that can be found from a score alone, by rising power of the mean."""
    found = [(family, family.from_score) for family in families() if family.from_score is not None]
    return sorted(found, key=lambda pair: pair[1].max_power)


def _power(grey: NDArray[np.float64], v: NDArray[np.float64]) -> float:
    """Return the slope of log v against log y, by medians in bins of the middle 90 % of y."""
    # the first and the last bin contain the darkest and the brightest 5 %
    numbers = bin_numbers(grey, (0, *np.linspace(0.05, 0.95, BINS + 1), 1))
    medians = [
        (np.median(grey[numbers == b]), np.median(v[numbers == b]))
        for b in range(1, BINS + 1)
        if (numbers == b).sum() > MIN_PIXELS_PER_BIN
    ]
    m, v = np.array([row for row in medians if row[1] > 0]).reshape(-1, 2).T
    if len(m) < 2 or m.max() < MIN_MEAN_RATIO * m.min():
        return 0.0
    return float(np.polyfit(np.log(m), np.log(v), 1)[0])


def search_quality(
    name: str,
    model: ScoreModel,
    probes: Sequence[Probe],
    solver: Callable[[NoiseModel], Solver],
) -> NoiseModel:
    """Search the one parameter of a family by the quality of the denoised image.

    Parameters
    ----------
    name : str
        Name of the family. Its measure, see `FromScore`, is minimized, with grey levels from 0 to
        1: the total variation TV of x̂ for Gaussian noise, ``0.1 TV + mean(x̂ − y log x̂)`` for
        Poisson and ``TV + mean(log x̂ + y/x̂ + (y/x̂)²)`` for Gamma noise.
    model : ScoreModel
        The trained score.
    probes : sequence of Probe
        As `probe` returns them.
    solver : callable
        Returns the solver of a noise model.

    Returns
    -------
    NoiseModel
        With the best of 33 parameters between a third of and three times the value that the
        transform of the model suggests.

    References
    ----------
    K. Kim, J. C. Ye, *Noise2Score: Tweedie's approach to self-supervised image denoising without
    clean images*, NeurIPS 2021.
    """
    family, search = next(pair for pair in searched_families() if pair[0].name == name)
    median = float(torch.cat([one.y.flatten() for one in probes]).median())
    start = search.from_variance(median, _variance(model.transform, median))
    best, smallest = search.model(family, start), math.inf
    for r in np.geomspace(1 / SEARCH_FACTOR, SEARCH_FACTOR, SEARCH_STEPS):
        noise = search.model(family, start * float(r))
        solve = solver(noise)
        value = sum(
            _quality(search, solve(one.y, one.score) / model.high, one.y / model.high)
            for one in probes
        )
        if value < smallest:
            best, smallest = noise, value
    return best


def _quality(search: FromScore, x: Tensor, y: Tensor) -> float:
    """Return the measure of Kim & Ye, NeurIPS 2021; the smaller, the better."""
    variation = float(x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean())
    if search.fidelity is None:
        return search.variation_weight * variation
    fidelity = search.fidelity(x.clamp(min=MIN_INTENSITY), y)
    return search.variation_weight * variation + float(fidelity.mean())


def _variance(transform: Transform, grey: float) -> float:
    return float(transform.variance(torch.tensor(grey, dtype=torch.float64)))
