"""What a trained score says of the noise, with nothing trained again.

All of it reads planes in grey levels and their score; what is found are moments of the noise by
brightness, or noise models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..noise import Gamma, Gaussian, NoiseModel, Poisson
from ..noise.parameter import round_to_four_digits
from ..score.model import MOVED, ScoreModel
from ..solve.solver import Solver
from ..solve.transform import Transform
from ._moments import FLAT, SMOOTH, Moments, blurred, slope

BINS = 12
# powers of the mean that the variance may grow with, up to which it is Gaussian and Poisson noise
# (Kim, Kwon & Ye, CVPR 2022)
GAUSSIAN_BELOW, POISSON_BELOW = 0.9, 1.9
# a search looks at so many levels, from so many times less to so many times more than T says
LEVELS = 33
SPAN = 3.0
# weight of the total variation for Poisson noise (Kim & Ye, NeurIPS 2021)
SMOOTHNESS = 0.1
DARKEST = 1e-3


class Probe(NamedTuple):
    """Planes and what the network says of them, all of shape ``(planes, Y, X)``.

    Attributes
    ----------
    y : Tensor
        Noisy grey levels, of A⁻¹ y where the model undoes a correlation.
    score : Tensor
        Score of z = T(y).
    changed : Tensor
        y changed as it was asked for: perturbed, z + σ_a u with u standard normal, or moved, each
        pixel up or down by a tenth of the noise; else y itself.
    changed_score : Tensor
        Score there.
    """

    y: Tensor
    score: Tensor
    changed: Tensor
    changed_score: Tensor


def probe(model: ScoreModel, y: Tensor, inner: Sequence[slice], change: str = "") -> Probe:
    """Ask the network of a block.

    Parameters
    ----------
    model : ScoreModel
        The trained score.
    y : Tensor
        Grey levels with all around them that matters, shape ``(1, channels, *space)``.
    inner : sequence of slice
        The part of y that is valid, over all axes of y.
    change : {"", "perturbed", "moved"}
        Where else to ask for the score.

    Returns
    -------
    Probe
        Channels and Z counted as planes.
    """
    chance = torch.Generator().manual_seed(0)
    at = tuple(inner)

    def planes(values: Tensor) -> Tensor:
        return values[at].flatten(0, -3).cpu()

    first = planes(y), planes(model.score(y))
    if not change:
        return Probe(*first, *first)
    u = torch.randn(y.shape, generator=chance).to(y)
    by = model.sigma_a * u if change == "perturbed" else MOVED * torch.sign(u)
    there = model.transform.inverse(model.transform.forward(y) + by)
    return Probe(*first, planes(there), planes(model.score(there)))


def noise_curve(model: ScoreModel, probes: Sequence[Probe]) -> Moments:
    """Read the noise variance by brightness off the size of the score.

    Where the picture is flat, ``s(z + σ_a u) ≈ −n / (v + σ_a²)``, so that
    ``v ≈ 1 / E[s²] − σ_a²``, in coordinates z.

    Parameters
    ----------
    model : ScoreModel
        The trained score.
    probes : sequence of Probe
        As from `probe`, perturbed.

    Returns
    -------
    Moments
        Mean and variance; the third moment is not known. The variance reads a little high where
        detail is fine.
    """
    light, steep, square = [], [], []
    for one in probes:
        picture = first_look(model, one.y, one.score)
        width = torch.sqrt(model.transform.variance(picture))
        for plane, noise, squares in zip(picture, width, one.changed_score**2, strict=True):
            # of its neighbourhood: the brightness of a pixel by itself is noise, too
            light.append(blurred(plane.numpy(), SMOOTH).ravel())
            steep.append((slope(plane.numpy()) / noise.numpy()).ravel())
            square.append(squares.numpy().ravel())
    x, rise, squares = (np.concatenate(part) for part in (light, steep, square))
    edges = np.quantile(x, np.linspace(0, 1, BINS + 1))
    which = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, BINS - 1)
    rows = []
    for b in range(BINS):
        inside = which == b
        if inside.sum() < 100:
            continue
        flat = inside & (rise <= np.quantile(rise[inside], FLAT))
        v = 1 / squares[flat].mean() - model.sigma_a**2
        if v > 0:
            mean = float(x[inside].mean())
            rows.append((mean, v * _variance(model.transform, mean), flat.sum()))
    if not rows:
        raise ValueError("the score says nothing of the noise")
    m, v, count = np.array(rows).T
    nothing = np.zeros(len(m))
    return Moments(m, v, nothing, v * np.sqrt(2 / count), nothing + np.inf)


def first_look(model: ScoreModel, y: Tensor, score: Tensor) -> Tensor:
    """Give what the picture is if the noise is as large as the coordinates assume."""
    z = model.transform.forward(y) + (1 + model.sigma_a**2) * score
    return model.transform.inverse(z)


def perturbation_test(model: ScoreModel, probes: Sequence[Probe]) -> tuple[NoiseModel, float]:
    """Tell family and level from how the score changes with y (Kim, Kwon & Ye, CVPR 2022).

    A clean pixel is the same for y and for y + ε, so the change Δs of the score says
    ``−ε/Δs = φ y^ρ``, the variance of Tweedie's exponential families: ρ tells the family, and the
    median over the pixels its level. σ_a, which the score knows too, is taken off.

    Parameters
    ----------
    model : ScoreModel
        The trained score.
    probes : sequence of Probe
        As from `probe`, moved.

    Returns
    -------
    noise : NoiseModel
        Gaussian for ρ below 0.9, Poisson below 1.9, Gamma above.
    power : float
        ρ.
    """
    y = torch.cat([one.y.flatten() for one in probes]).double()
    moved = torch.cat([one.changed.flatten() for one in probes]).double()
    s, changed = (
        model.transform.raw_score(
            level, torch.cat([part.flatten() for part in parts]).double(), model.sigma_a
        )
        for level, parts in (
            (y, [one.score for one in probes]),
            (moved, [one.changed_score for one in probes]),
        )
    )
    reading = -(moved - y) / (changed - s) - model.sigma_a**2 * model.transform.variance(y)
    level, v = y.numpy(), reading.numpy()
    light = level > 0
    power = _power(level[light], v[light])
    if power < GAUSSIAN_BELOW:
        return Gaussian(round_to_four_digits(math.sqrt(max(float(np.median(v)), 1e-12)))), power
    level, v = level[light], v[light]
    if power < POISSON_BELOW:
        # of (y + ζ/2) exp(ζ s) = (y + ε + ζ/2) exp(ζ (s + Δs)), to first order in ε
        gain = np.sqrt(np.maximum(level**2 + 2 * v, 0)) - level
        return Poisson(round_to_four_digits(max(float(np.median(gain)), 1e-9))), power
    with np.errstate(divide="ignore"):
        looks = 1 + float(np.median(level**2 / v))
    return Gamma(max(1.0, round_to_four_digits(looks))), power


def _power(level: np.ndarray, v: np.ndarray) -> float:
    """Slope of log v against log y, by medians in ranges of y."""
    edges = np.quantile(level, np.linspace(0.05, 0.95, BINS + 1))
    which = np.searchsorted(edges, level) - 1
    middles = [
        (np.median(level[which == b]), np.median(v[which == b]))
        for b in range(BINS)
        if (which == b).sum() > 100
    ]
    m, v = np.array([row for row in middles if row[1] > 0]).reshape(-1, 2).T
    if len(m) < 2 or m.max() < 1.2 * m.min():
        return 0.0
    return float(np.polyfit(np.log(m), np.log(v), 1)[0])


def search_quality(
    family: str,
    model: ScoreModel,
    probes: Sequence[Probe],
    solver: Callable[[NoiseModel], Solver],
) -> NoiseModel:
    """Search the one parameter of a family by the quality of the picture (Kim & Ye, NeurIPS 2021).

    Parameters
    ----------
    family : {"gaussian", "poisson", "gamma"}
        Which family; its measure is the total variation TV of x̂ for Gaussian noise,
        ``0.1 TV + mean(x̂ − y log x̂)`` for Poisson and
        ``TV + mean(log x̂ + y/x̂ + (y/x̂)²)`` for Gamma noise, grey levels from 0 to 1.
    model : ScoreModel
        The trained score.
    probes : sequence of Probe
        As from `probe`.
    solver : callable
        From a noise model to its solver.

    Returns
    -------
    NoiseModel
        With the parameter of least measure, of 33 from a third to three times what the
        coordinates of the model suggest.
    """
    middle = float(torch.cat([one.y.flatten() for one in probes]).median())
    variance = _variance(model.transform, middle)
    make: dict[str, Callable[[float], NoiseModel]] = {
        "gaussian": lambda r: Gaussian(round_to_four_digits(math.sqrt(variance) * r)),
        "poisson": lambda r: Poisson(round_to_four_digits(variance / max(middle, DARKEST) * r)),
        "gamma": lambda r: Gamma(max(1.0, round_to_four_digits(middle**2 / variance * r))),
    }
    best, least = make[family](1.0), math.inf
    for r in np.geomspace(1 / SPAN, SPAN, LEVELS):
        noise = make[family](float(r))
        solve = solver(noise)
        value = sum(
            _quality(family, solve(one.y, one.score) / model.high, one.y / model.high)
            for one in probes
        )
        if value < least:
            best, least = noise, value
    return best


def _quality(family: str, x: Tensor, y: Tensor) -> float:
    variation = float(x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean())
    if family == "gaussian":
        return variation
    x = x.clamp(min=DARKEST)
    if family == "poisson":
        return SMOOTHNESS * variation + float((x - y * torch.log(x)).mean())
    ratio = y / x
    return variation + float((torch.log(x) + ratio + ratio**2).mean())


def _variance(transform: Transform, level: float) -> float:
    return float(transform.variance(torch.tensor(level, dtype=torch.float64)))
