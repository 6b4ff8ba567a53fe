"""Estimate the error of the score by what it changes if the image is turned around."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .model import ScoreModel

# Ratio of the error of the score to its spread over orientations: most of the error is common to
# all orientations. Measured, see decision 59.
ERROR_PER_SPREAD = 2.5


def measure_score_errors(
    model: ScoreModel, y: Tensor, valid: Tensor | None = None, around: Tensor | None = None
) -> tuple[tuple[float, float], ...]:
    """Return estimates of the error of the score at the ends of its range of perturbations.

    Images and images turned around have the same score, so what differs is error of the network.

    Parameters
    ----------
    model : ScoreModel
        The trained score.
    y : Tensor
        Held-out patches in grey levels, shape ``(n, channels, *space)``.
    valid : Tensor, optional
        1 for valid and 0 for invalid pixels; all are valid by default.
    around : Tensor, optional
        Grey levels of the neighbours of the patches, NaN where they are not known.

    Returns
    -------
    tuple of (float, float)
        σ_a and the error in units of 1 / z, σ_a increasing.
    """
    y = y.to(model.device)
    use = torch.ones_like(y) if valid is None else valid.to(model.device)
    pixels = float(use.sum())
    if not pixels:
        return ()
    context = None if around is None else model.neighbour_input(around.to(model.device))
    turned = None if context is None else context.flip(-2, -1)
    errors = []
    for sigma_a in sorted({model.sigma_a, model.sigma_a_range[1]}):
        other = model.score(y.flip(-2, -1), sigma_a, turned).flip(-2, -1)
        squared = (model.score(y, sigma_a, context) - other).square() / 2
        spread = float((squared * use).sum() / pixels) ** 0.5
        errors.append((float(sigma_a), ERROR_PER_SPREAD * spread))
    return tuple(errors)
