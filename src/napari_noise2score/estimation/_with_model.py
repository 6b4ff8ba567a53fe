"""Find the noise that serves a trained score best, with nothing trained again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..denoising.grey_level_range import check_range
from ..errors import UserError
from ..image.image import as_images
from ..noise import NoiseModel
from ..noise.parameter import round_to_four_digits
from ..score.device import choose_device
from ..score.model import ScoreModel
from ..solve.solver import Solver
from ._fit import fit_families
from ._from_images import NoiseEstimate, estimate_from_shots
from ._from_score import Probe, noise_curve, perturbation_test, search_quality
from ._sampling import View, grey_levels, look, shots_of, valid_pixels, views_of

METHODS = (
    "auto", "images", "curve", "perturbation",
    "quality-gaussian", "quality-poisson", "quality-gamma",
)  # fmt: skip
CHANGES = {"curve": "perturbed", "perturbation": "moved"}
# powers of two that the variance is tried at, and how near to the best one looks again
FACTORS = np.arange(-2, 2.1, 0.5)
NEAR = 0.25
# models that fit the moments of the images so much worse than the best are out of the question
PLAUSIBLE = 30.0
# log-likelihoods of a pixel tell no models apart that differ by less, as x̂ is made of the same y
ALIKE = 0.03
# classes of y, and what lies beyond them, and of x that likelihoods are told by
CLASSES, BEYOND, LEVELS = 1024, 256, 129
# a score that takes less than this share off the squared difference of two shots is not trained
LEARNED = 0.15
# tiles in which shots differ by more than noise do not count; where there are many of them,
# the sample moves
TILE = 32
MOVED = 2.0
STILL = 0.5


@dataclass(frozen=True)
class Calibration:
    """The noise that was found for a trained score.

    Attributes
    ----------
    noise : NoiseModel
        The noise to denoise with.
    method : str
        What decided: ``"other shots"``, ``"likelihood"``, ``"images"``, or the method asked for.
    notes : mapping
        What was found, for people and files; values are JSON.
    estimate : NoiseEstimate or None
        What the images say by themselves, where they were asked: `check_noise` takes it.
    """

    noise: NoiseModel
    method: str
    notes: Mapping[str, Any] = field(default_factory=dict)
    estimate: NoiseEstimate | None = None


@dataclass(frozen=True)
class CalibrationProgress:
    """How many of the steps are done; after the last one, what was found."""

    done: int
    total: int
    found: Calibration | None = None


def calibrate(
    image: Any,
    model: ScoreModel,
    axes: str | None = None,
    *,
    repeats: str = "T",
    method: str = "auto",
    device: str = "auto",
) -> Calibration:
    """Find the noise model that serves a trained score best.

    Parameters
    ----------
    image : Image or array-like, or a sequence of `Image`
        Noisy, in grey levels: numpy, dask or zarr. Several are taken as one data set.
    model : ScoreModel
        A score trained on images like this one.
    axes : str, optional
        Axes of the image; needed where it is not an `Image`, but for a plain YX one.
    repeats : str
        Axis along which the same scene was recorded several times.
    method : str
        ``"auto"``, or one of these by itself: ``"images"`` (what `estimate_noise` finds without a
        model), ``"curve"`` (the noise curve read off the score), ``"perturbation"`` (family and
        level of Kim, Kwon & Ye, CVPR 2022), ``"quality-gaussian"``, ``"quality-poisson"``,
        ``"quality-gamma"`` (the parameter searches of Kim & Ye, NeurIPS 2021).
    device : str
        Where to compute: ``"auto"``, ``"cpu"``, ``"cuda"``.

    Returns
    -------
    Calibration

    Raises
    ------
    UserError
        If the image cannot tell, or the model does not fit it.

    Notes
    -----
    ``"auto"`` starts from what the images say. With repeats it then takes the level at which a
    denoised shot is nearest to the other shots of the same place: their noise is independent, so
    that the squared difference is the error of the picture plus a constant, and no clean image is
    needed. The likeliest models of up to three families are tried. Of single shots of
    counted photons it is the likeliest p(y | x̂), multiplied or not, with read noise or not, among
    those whose variance and third moment the images do not rule out. Else, or where the sample
    moves or the score is hardly trained, it is what the images say.

    Examples
    --------
    >>> from napari_noise2score import train
    >>> stack = np.random.default_rng(0).normal(100, 10, (4, 128, 128))
    >>> found = calibrate(stack, train(stack, "TYX", steps=2), "TYX")
    >>> type(found.noise).__name__
    'Gaussian'
    """
    steps = calibrate_steps(image, model, axes, repeats=repeats, method=method, device=device)
    for progress in steps:
        pass
    assert progress.found is not None
    return progress.found


def calibrate_steps(
    image: Any,
    model: ScoreModel,
    axes: str | None = None,
    *,
    repeats: str = "T",
    method: str = "auto",
    device: str = "auto",
) -> Iterator[CalibrationProgress]:
    """Find the noise as `calibrate` does, step by step; closing the generator stops.

    Parameters
    ----------
    image, model, axes, repeats, method, device
        As for `calibrate`.

    Yields
    ------
    CalibrationProgress
        After every look at the images; the last one holds what was found.

    Raises
    ------
    UserError
        As for `calibrate`.
    """
    if method not in METHODS:
        raise UserError(f"method '{method}': there are {', '.join(METHODS)}")
    images, repeats = as_images(image, axes), repeats.upper()
    model = model.to(choose_device(device))
    found: NoiseEstimate | None = None
    if method in ("auto", "images"):
        found = estimate_from_shots(shots_of(images, axes, repeats), model.kernel)
        if method == "images":
            best = replace(_result(found.noise, "images", {}), estimate=found)
            yield CalibrationProgress(1, 1, best)
            return
    views = views_of(images, axes, repeats, model)
    for first, *_ in views:
        check_range(first.data, first.where, model, first.valid)
    scenes = [middle_of(scene) for scene in views]
    seen = [pair for scene in scenes for pair in scene]
    single = not all(near for _, near in seen)
    if single and found is not None and (model.kernel or not _counts(found.noise)):
        best = replace(_result(found.noise, "images", {}), estimate=found)
        yield CalibrationProgress(1, 1, best)
        return
    total = len(seen) + 1
    probes, known = [], []
    for done, (view, _) in enumerate(seen, 1):
        probes.append(look(view, model, CHANGES.get(method, "")))
        known.append(valid_pixels(view))
        yield CalibrationProgress(done, total)
    if found is None:
        noise, notes = _by_score(method, model, probes)
        best = _result(noise, method, notes)
    elif single:
        best = _by_likelihood(found, model, probes, known)
    else:
        others = [torch.stack([grey_levels(v, model) for v in near]).mean(0) for _, near in seen]
        for i, (_, near) in enumerate(seen):
            for view in near:
                known[i] = _both(known[i], valid_pixels(view))
        best = _by_other_shots(found, model, probes, others, known)
    yield CalibrationProgress(total, total, replace(best, estimate=found))


def middle_of(scene: Sequence[View]) -> list[tuple[View, list[View]]]:
    """Give shots of a scene to be looked at, each with those beside it.

    Of three or more they are the inner ones: what moves or bleaches evenly is the same in a shot
    and in the mean of both beside it.
    """
    if len(scene) < 3:
        return [(view, [*scene[:i], *scene[i + 1 :]]) for i, view in enumerate(scene)]
    return [(scene[i], [scene[i - 1], scene[i + 1]]) for i in range(1, len(scene) - 1)]


def solver_of(noise: NoiseModel, model: ScoreModel) -> Solver:
    """Return what solves for the clean image."""
    return model.solver(noise)


def _by_score(
    method: str, model: ScoreModel, probes: Sequence[Probe]
) -> tuple[NoiseModel, dict[str, Any]]:
    """Find the noise by one of the named methods that read the score alone."""
    if method == "perturbation":
        noise, power = perturbation_test(model, probes)
        return noise, {"power of the mean": power}
    if method == "curve":
        try:
            moments = noise_curve(model, probes)
        except ValueError as error:
            raise UserError(f"{error}: train the model longer") from None
        curve = {"mean": moments.mean.tolist(), "variance": moments.variance.tolist()}
        return fit_families(moments, single_frames=True)[0].noise, {"curve": curve}
    family = method.removeprefix("quality-")
    return search_quality(family, model, probes, lambda noise: solver_of(noise, model)), {}


def _both(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Return where pixels are valid in both of two planes; None if all are."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


def _picked(values: Tensor, known: Tensor | None) -> Tensor:
    return values.flatten() if known is None else values[known]


def _by_likelihood(
    found: NoiseEstimate,
    model: ScoreModel,
    probes: Sequence[Probe],
    known: Sequence[Tensor | None],
) -> Calibration:
    """Of counts, multiplied or not, choose by p(y | x̂) among those that the moments allow.

    They give each x nearly the same variance, so that what is compared is the shape: one that puts
    counts where there are none, or no grey level where there are many, is not it.
    """
    most = found.fits[0].misfit + PLAUSIBLE
    rivals = [fit.noise for fit in found.fits if fit.misfit <= most and _counts(fit.noise)]
    y = torch.cat([_picked(p.y, k) for p, k in zip(probes, known, strict=True)]).double()
    if not len(y):
        return _result(found.noise, "images", {})
    chances = {}
    for noise in rivals:
        solve = solver_of(noise, model)
        x = torch.cat(
            [_picked(solve(p.y, p.score), k) for p, k in zip(probes, known, strict=True)]
        ).double()
        chances[noise] = _likelihood(noise, x, y, model.quantization.step)
    # of those that are alike the moments decide
    enough = max(chances.values()) - ALIKE
    best = next(noise for noise, chance in chances.items() if chance >= enough)
    notes = {
        "from the images": str(found.noise),
        "log-likelihood of a pixel": {str(noise): chance for noise, chance in chances.items()},
    }
    return _result(best, "likelihood", notes)


def _counts(noise: NoiseModel) -> bool:
    """Whether the noise is of counted photons, and white."""
    base, kernel, _ = noise.components
    return base.is_counting and kernel is None


def _likelihood(noise: NoiseModel, x: Tensor, y: Tensor, step: float) -> float:
    """Give the mean logarithm of p(y | x), by classes of both.

    Parameters
    ----------
    noise : NoiseModel
        The noise.
    x, y : Tensor
        Clean and noisy grey levels, 1-D.
    step : float
        Step of the recorded grey levels, 0 if they are not rounded.
    """
    low, range_ = float(y.min()), float(y.max() - y.min())
    width = max(1, math.ceil(range_ / CLASSES / step)) * step if step else range_ / CLASSES
    at = ((y - low) / width).round().long()
    count = int(at.max()) + 1
    # what is recorded at either end may have been beyond it
    edges = low + width * (torch.arange(-BEYOND, count + BEYOND + 1, dtype=torch.float64) - 0.5)
    levels = torch.quantile(x[:: len(x) // 100_000 + 1], torch.linspace(0, 1, LEVELS).to(x))
    middles = ((levels[1:] + levels[:-1]) / 2).clamp(min=noise.lowest + 1e-6)
    masses = noise.bin_probabilities(edges, middles)
    inner = masses[:, BEYOND:-BEYOND].clone()
    inner[:, 0] += masses[:, :BEYOND].sum(1)
    inner[:, -1] += masses[:, -BEYOND:].sum(1)
    chance = inner[torch.bucketize(x, levels[1:-1].contiguous()), at]
    # a pixel in a thousand may be anything
    return float(torch.log(0.999 * chance + 0.001 / count).mean())


def _by_other_shots(
    found: NoiseEstimate,
    model: ScoreModel,
    probes: Sequence[Probe],
    others: Sequence[Tensor],
    known: Sequence[Tensor | None],
) -> Calibration:
    """Choose level and family by the other shots, if they can tell."""
    own = None if model.kernel else found.noise.components.kernel
    seen = [
        (p, other, _still(own.undo(other - p.y) if own else other - p.y, valid))
        for p, other, valid in zip(probes, others, known, strict=True)
    ]

    def measure(noise: NoiseModel) -> float:
        solve, kernel = solver_of(noise, model), noise.components.kernel
        reach = kernel.reach if kernel else 0
        return float(np.mean([_unlike(solve(p.y, p.score), o, s, reach) for p, o, s in seen]))

    def unchanged(why: str) -> Calibration:
        return _result(found.noise, "images", {"other shots": why})

    if np.mean([float(still.float().mean()) for _, _, still in seen]) < STILL:
        return unchanged("not used: the sample moves")
    nothing = float(np.mean([_unlike(p.y, o, s, 0) for p, o, s in seen]))
    # undoing a correlation takes its time
    rivals = _rivals(found)[: 1 if own else 3]
    tried = [(*_best_level(measure, noise), noise) for noise in rivals]
    least, factor, noise = min(tried, key=lambda row: row[0])
    # a score that wants far more or less noise than there is has not learned it yet
    sure = 2.0 ** FACTORS[1] <= factor <= 2.0 ** FACTORS[-2]
    if least > (1 - LEARNED) * nothing or not sure:
        return unchanged("not used: the score is hardly trained")
    notes = {
        "level": factor,
        "from the images": str(found.noise),
        "squared difference from other shots": {"noisy": nothing, "denoised": least},
    }
    return _result(noise.scaled(factor), "other shots", notes)


def _rivals(found: NoiseEstimate) -> list[NoiseModel]:
    """Give the likeliest model of each family, the likeliest family first."""
    each: dict[tuple[type, type], NoiseModel] = {}
    for fit in found.fits:
        base, _, read = fit.noise.components
        each.setdefault((type(base), type(read) if read else type(None)), fit.noise)
    return list(each.values())


def _best_level(measure: Callable[[NoiseModel], float], noise: NoiseModel) -> tuple[float, float]:
    """Give the least measure over the level of a noise model, and its factor of the variance."""
    values = {float(k): measure(noise.scaled(2.0**k)) for k in FACTORS}
    best = min(values, key=values.__getitem__)
    for k in (best - NEAR, best + NEAR):
        values[k] = measure(noise.scaled(2.0**k))
    best = min(values, key=values.__getitem__)
    left, middle, right = (values.get(best + d, np.inf) for d in (-NEAR, 0, NEAR))
    bend = left + right - 2 * middle
    if np.isfinite(bend) and bend > 0:
        best += NEAR * (left - right) / (2 * bend)
    return values[min(values, key=values.__getitem__)], round_to_four_digits(2.0**best)


def _unlike(x: Tensor, other: Tensor, still: Tensor, reach: int) -> float:
    """Mean squared difference of a picture, fitted in scale and offset, from another shot."""
    inner = (..., slice(reach, -reach or None), slice(reach, -reach or None))
    x, other = x[inner][still[inner]].double(), other[inner][still[inner]].double()
    x, other = x - x.mean(), other - other.mean()
    if not len(x):
        return 0.0
    slope = (x @ other) / (x @ x).clamp(min=torch.finfo(x.dtype).tiny)
    return float(((other - slope * x) ** 2).mean())


def _still(away: Tensor, valid: Tensor | None) -> Tensor:
    """Say for each pixel whether a difference of shots is no more than white noise, tile by tile.

    Noise has as much power in the mean of a tile as in its pixels; what moves has more. Where a
    pixel is not valid nothing can be said.
    """
    away = away.double()
    if valid is not None and valid.any():
        away = torch.where(valid, away, away[valid].mean())
    away = away - away.mean()
    height, width = (n // TILE * TILE for n in away.shape[-2:])
    whole = torch.ones(away.shape, dtype=torch.bool)
    if not height or not width:
        return whole if valid is None else whole & valid
    cells = away[..., :height, :width].unfold(-2, 4, 4).unfold(-2, 4, 4)
    noise = cells.var((-2, -1)).unfold(-2, TILE // 4, TILE // 4).unfold(-2, TILE // 4, TILE // 4)
    means = cells.mean((-2, -1)).unfold(-2, TILE // 4, TILE // 4).unfold(-2, TILE // 4, TILE // 4)
    calm = 16 * means.var((-2, -1)) <= MOVED * noise.mean((-2, -1))
    calm = calm.repeat_interleave(TILE, -2).repeat_interleave(TILE, -1)
    whole[..., :height, :width] = calm
    return whole if valid is None else whole & valid


def _result(noise: NoiseModel, method: str, notes: Mapping[str, Any]) -> Calibration:
    return Calibration(noise, method, {"noise found by": method} | dict(notes))
