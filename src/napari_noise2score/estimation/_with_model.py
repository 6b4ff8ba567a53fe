"""Estimate the noise with which a trained score denoises best, without further training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..denoising.grey_level_range import check_range
from ..errors import UserError
from ..image.image import Image
from ..noise import NoiseModel
from ..progress import Progress
from ..score.model import ScoreModel
from ._by_likelihood import choose_by_likelihood, is_of_counts
from ._by_other_frames import choose_by_other_frames
from ._fit import fit_families
from ._from_images import ImageEstimate
from ._from_score import Probe, noise_curve, perturbation_test, search_quality, searched_families
from ._score_pieces import (
    choose_pieces,
    evaluate_score,
    read_grey_levels,
    read_valid,
    with_independent,
)

#: The methods that start from the estimate from the images alone.
METHODS_FROM_IMAGES = "auto", "images"
QUALITY = "quality-"
CHANGES = {"curve": "perturbed", "perturbation": "moved"}


def methods() -> list[str]:
    """Return the names of all methods.

    Examples
    --------
    >>> ", ".join(methods())
    'auto, images, curve, perturbation, quality-gaussian, quality-poisson, quality-gamma'
    """
    searched = (QUALITY + family.name for family, _ in searched_families())
    return [*METHODS_FROM_IMAGES, *CHANGES, *searched]


class ScoreEstimate(NamedTuple):
    """The noise for a trained score, the method that found it, and notes with JSON values."""

    noise: NoiseModel
    method: str
    notes: Mapping[str, Any]


def estimate_with_model(
    images: Sequence[Image],
    model: ScoreModel,
    found: ImageEstimate | None,
    repeats: str,
    method: str,
) -> Iterator[Progress[ScoreEstimate]]:
    """Estimate the noise with which a trained score denoises best.

    Parameters
    ----------
    images : sequence of Image
        Noisy images.
    model : ScoreModel
        A score trained on images like these, on the device where it is evaluated.
    found : ImageEstimate or None
        The estimate from the images alone, needed for the methods of `METHODS_FROM_IMAGES`.
    repeats : str
        Axis along which the same scene was recorded several times, in upper case.
    method : str
        One of `methods`.

    Yields
    ------
    Progress
        After each evaluation of the score; the last one with the result.

    Raises
    ------
    UserError
        If the noise cannot be measured, or the images are not like those the score was trained on.
    """
    if found is not None and method == "images":
        yield Progress(1, 1, result=_result(found.noise, "images", {}))
        return
    scenes = choose_pieces(images, repeats, model)
    for first, *_ in scenes:
        check_range(first.data, first.layout, model, first.valid)
    chosen = [pair for scene in scenes for pair in with_independent(scene, model.context)]
    single = not all(others for _, others in chosen)
    if single and found is not None and (model.kernel or not is_of_counts(found.noise)):
        yield Progress(1, 1, result=_result(found.noise, "images", {}))
        return
    total = len(chosen) + 1
    probes: list[Probe] = []
    valid: list[Tensor | None] = []
    for done, (piece, _) in enumerate(chosen, 1):
        probes.append(evaluate_score(piece, model, CHANGES.get(method, "")))
        valid.append(read_valid(piece))
        yield Progress(done, total)
    if found is None:
        result = _result(*_from_score_alone(method, model, probes))
    elif single:
        best = choose_by_likelihood(found, model, probes, valid)
        if best is None:
            result = _result(found.noise, "images", {})
        else:
            result = _result(best[0], "likelihood", best[1])
    else:
        means = []
        for i, (_, others) in enumerate(chosen):
            means.append(torch.stack([read_grey_levels(piece, model) for piece in others]).mean(0))
            for piece in others:
                valid[i] = _both(valid[i], read_valid(piece))
        noise, notes = choose_by_other_frames(found, model, probes, means, valid)
        if noise is None:
            result = _result(found.noise, "images", notes)
        else:
            result = _result(noise, "other frames", notes)
    yield Progress(total, total, result=result)


def _from_score_alone(
    method: str, model: ScoreModel, probes: Sequence[Probe]
) -> tuple[NoiseModel, str, dict[str, Any]]:
    """Estimate the noise by one of the methods that use the score alone."""
    if method == "perturbation":
        noise, power = perturbation_test(model, probes)
        return noise, method, {"power of the mean": power}
    if method == "curve":
        try:
            moments = noise_curve(model, probes)
        except ValueError as error:
            raise UserError(f"{error}: train the model longer") from None
        curve = {"mean": moments.mean.tolist(), "variance": moments.variance.tolist()}
        return fit_families(moments, single_frames=True)[0].noise, method, {"curve": curve}
    return search_quality(method.removeprefix(QUALITY), model, probes, model.solver), method, {}


def _both(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Return where pixels are valid in both of two planes; None if all are."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


def _result(noise: NoiseModel, method: str, notes: Mapping[str, Any]) -> ScoreEstimate:
    return ScoreEstimate(noise, method, {"noise found by": method} | dict(notes))
