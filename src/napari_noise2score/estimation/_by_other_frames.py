"""Choose the noise model for which a denoised frame is closest to the other frames of its scene.

The noise of the other frames is independent. The mean squared difference from them is therefore the
error of the denoised frame plus a constant, and no clean image is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..noise import NoiseModel
from ..noise.parameter import round_to_four_digits
from ..score.model import ScoreModel
from ._from_images import ImageEstimate
from ._from_score import Probe
from ._repeats import MOTION_CELL

# Exponents of the powers of two by which the variance is multiplied, and the distance from the best
# one at which two more are tried.
FACTORS = np.arange(-2, 2.1, 0.5)
FINE_STEP = 0.25
# A score is not trained if it reduces the squared difference of two frames by less than this share.
MIN_REDUCTION = 0.15
# Size of tiles in pixels. A tile moves if the means of its cells vary by more than this, in units
# of the noise; the sample moves if less than this share of the pixels is still.
MOTION_TILE = 32
MAX_CELL_VARIANCE = 2.0
MIN_STILL_SHARE = 0.5
MAX_RIVALS = 3


def choose_by_other_frames(
    found: ImageEstimate,
    model: ScoreModel,
    probes: Sequence[Probe],
    others: Sequence[Tensor],
    valid: Sequence[Tensor | None],
) -> tuple[NoiseModel | None, dict[str, Any]]:
    """Choose the strength and the family of the noise by comparison with the other frames.

    Parameters
    ----------
    found : ImageEstimate
        The estimate from the images alone; its best models are the candidates.
    model : ScoreModel
        The trained score.
    probes : sequence of Probe
        As `probe` returns them.
    others : sequence of Tensor
        Mean of the other frames of each, shape ``(planes, Y, X)``.
    valid : sequence of Tensor or None
        Which pixels are valid in all of these; None if all are.

    Returns
    -------
    noise : NoiseModel or None
        None if the sample moves, or if the score is hardly trained.
    notes : dict
        The result, or why there is none; values are JSON.
    """
    own = None if model.kernel else found.noise.components.kernel
    seen = [
        (p, other, still_mask(own.undo(other - p.y) if own else other - p.y, known))
        for p, other, known in zip(probes, others, valid, strict=True)
    ]

    def measure(noise: NoiseModel) -> float:
        solve, kernel = model.solver(noise), noise.components.kernel
        reach = kernel.reach if kernel else 0
        return float(
            np.mean([_squared_difference(solve(p.y, p.score), o, s, reach) for p, o, s in seen])
        )

    if np.mean([float(still.float().mean()) for _, _, still in seen]) < MIN_STILL_SHARE:
        return None, {"other frames": "not used: the sample moves"}
    noisy = float(np.mean([_squared_difference(p.y, o, s, 0) for p, o, s in seen]))
    # undoing a correlation takes longer: then the best family alone is tried
    rivals = _best_of_each_family(found)[: 1 if own else MAX_RIVALS]
    tried = [(*_best_factor(measure, noise), noise) for noise in rivals]
    smallest, factor, noise = min(tried, key=lambda row: row[0])
    # if the best noise is far stronger or weaker than measured, the score is not trained yet
    plausible = 2.0 ** FACTORS[1] <= factor <= 2.0 ** FACTORS[-2]
    if smallest > (1 - MIN_REDUCTION) * noisy or not plausible:
        return None, {"other frames": "not used: the score is hardly trained"}
    return noise.scaled(factor), {
        "variance factor": factor,
        "from the images": str(found.noise),
        "squared difference from other frames": {"noisy": noisy, "denoised": smallest},
    }


def _best_of_each_family(found: ImageEstimate) -> list[NoiseModel]:
    """Return the model of each family that fits best, the best family first."""
    each: dict[tuple[type, type], NoiseModel] = {}
    for fit in found.fits:
        base, _, read = fit.noise.components
        each.setdefault((type(base), type(read) if read else type(None)), fit.noise)
    return list(each.values())


def _best_factor(measure: Callable[[NoiseModel], float], noise: NoiseModel) -> tuple[float, float]:
    """Minimize a measure over a factor of the variance; return the minimum and the factor."""
    values = {float(k): measure(noise.scaled(2.0**k)) for k in FACTORS}
    best = min(values, key=values.__getitem__)
    for k in (best - FINE_STEP, best + FINE_STEP):
        values[k] = measure(noise.scaled(2.0**k))
    best = min(values, key=values.__getitem__)
    left, middle, right = (values.get(best + d, np.inf) for d in (-FINE_STEP, 0, FINE_STEP))
    curvature = left + right - 2 * middle
    if np.isfinite(curvature) and curvature > 0:
        # the minimum of the parabola through the three
        best += FINE_STEP * (left - right) / (2 * curvature)
    return values[min(values, key=values.__getitem__)], round_to_four_digits(2.0**best)


def _squared_difference(x: Tensor, other: Tensor, still: Tensor, reach: int) -> float:
    """Return the mean squared difference of two frames after a fit of scale and offset."""
    inner = (..., slice(reach, -reach or None), slice(reach, -reach or None))
    x, other = x[inner][still[inner]].double(), other[inner][still[inner]].double()
    x, other = x - x.mean(), other - other.mean()
    if not len(x):
        return 0.0
    scale = (x @ other) / (x @ x).clamp(min=torch.finfo(x.dtype).tiny)
    return float(((other - scale * x) ** 2).mean())


def still_mask(difference: Tensor, valid: Tensor | None) -> Tensor:
    """Return a mask of the tiles in which a difference of frames is white noise alone.

    White noise has as much power in the mean of a cell as in its pixels; moving structure has more.

    Parameters
    ----------
    difference : Tensor
        In grey levels, shape ``(..., Y, X)``.
    valid : Tensor or None
        Which pixels are valid; the others are not still.

    Returns
    -------
    Tensor
        Bool, of the same shape.
    """
    difference = difference.double()
    if valid is not None and valid.any():
        difference = torch.where(valid, difference, difference[valid].mean())
    difference = difference - difference.mean()
    height, width = (n // MOTION_TILE * MOTION_TILE for n in difference.shape[-2:])
    still = torch.ones(difference.shape, dtype=torch.bool)
    if not height or not width:
        return still if valid is None else still & valid
    cells = (
        difference[..., :height, :width]
        .unfold(-2, MOTION_CELL, MOTION_CELL)
        .unfold(-2, MOTION_CELL, MOTION_CELL)
    )
    per_tile = MOTION_TILE // MOTION_CELL

    def tiles(values: Tensor) -> Tensor:
        return values.unfold(-2, per_tile, per_tile).unfold(-2, per_tile, per_tile)

    noise, means = tiles(cells.var((-2, -1))), tiles(cells.mean((-2, -1)))
    calm = MOTION_CELL**2 * means.var((-2, -1)) <= MAX_CELL_VARIANCE * noise.mean((-2, -1))
    calm = calm.repeat_interleave(MOTION_TILE, -2).repeat_interleave(MOTION_TILE, -1)
    still[..., :height, :width] = calm
    return still if valid is None else still & valid
