"""Compare the information that a trained score finds in the data with that of a noise model.

Independent noise leaves at most its own Fisher information in the data, whatever the image. What
exceeds it is structure that such noise cannot have, or an error of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UserError
from ..noise.base import NoiseModel
from ..score.information import Information
from ..score.model import ScoreModel
from ..solve.information import noise_information

# The information exceeds that of the noise if it is larger by this factor, and by this many
# standard errors. The parameters of the noise are known to a few percent only.
MIN_EXCESS, MIN_EXCESS_OF_HALF = 1.1, 1.15
MIN_ERRORS = 4.0
# A network has overfitted if its loss on held-out pixels is higher than on those of the training by
# this share of the information.
MIN_OVERFITTING = 0.15
# The noise of neighbouring pixels is correlated if their partial correlation is larger.
MIN_PARTIAL_CORRELATION = 0.2
# Grey levels further apart than this, in units of σ_a, are not hidden by the perturbation.
MAX_STEP = 1.5

DARK, BRIGHT = " where they are dark", " where they are bright"


@dataclass(frozen=True)
class Excess:
    """Information of the data, in units of that of the noise, in one range of intensity.

    Attributes
    ----------
    where : str
        The range, as the end of a sentence; empty if it is the whole image.
    structure : float
        Information that the held-out pixels have at least; above 1 it is not that of the noise.
    score : float
        Information that the learned score has; it is larger than `structure` by its own error.
    error : float
        Standard error of both.
    """

    where: str
    structure: float
    score: float
    error: float

    @property
    def limit(self) -> float:
        """What neither errors of the measurement nor those of the parameters explain above 1."""
        return (MIN_EXCESS_OF_HALF if self.where else MIN_EXCESS) + MIN_ERRORS * self.error

    @property
    def is_structure(self) -> bool:
        """Whether the data hold more information than the noise can have."""
        return self.structure > self.limit

    @property
    def is_error(self) -> bool:
        """Whether the score is larger than that of the noise, but the data do not justify it."""
        return not self.is_structure and self.score > self.limit


def compare_information(
    model: ScoreModel, noise: NoiseModel, strengths: tuple[float, float] | None = None
) -> list[Excess]:
    """Compare the information of the training images with that of a noise model.

    Parameters
    ----------
    model : ScoreModel
        A trained score.
    noise : NoiseModel
        The noise model.
    strengths : tuple of float, optional
        Measured standard deviation of the noise in units of the model's, for the darker and the
        brighter half of the intensities. Weaker noise has more information; this is no structure.

    Returns
    -------
    list of Excess
        Of the whole image, and of its darker and brighter half; empty if the information was not
        measured, or the noise model does not belong to such images.
    """
    found = model.information
    if found is None:
        return []
    try:
        own = noise_information(
            noise,
            model.transform,
            found.sigma_a,
            model.low,
            model.high,
            model.quantization,
            model.kernel,
        )
    except UserError:
        return []

    def at(grey_levels: Sequence[Any]) -> NDArray[np.float64]:
        z = model.transform.forward(torch.tensor(grey_levels, dtype=torch.float64)).numpy()
        values: NDArray[np.float64] = np.interp(z, own.mean.numpy(), own.information.numpy())
        return values

    # Where the information of the noise changes rapidly, the mean of a bin is not typical for its
    # pixels, and denoised pixels scatter: the larger of the two raises no false alarm.
    bound = np.maximum(at(found.grey_levels), at(found.denoised).mean(1))
    share = np.array(found.share)
    dark = np.cumsum(share) - share / 2 < 0.5
    variance = found.sigma_a**2
    for half, strength in zip((dark, ~dark), strengths or (1.0, 1.0), strict=True):
        weaker = min(strength, 1.0) ** 2
        bound[half] *= (1 + variance) / (weaker + variance)
    if not (np.isfinite(bound).all() and bound.min() > 0):
        return []
    groups = [("", np.ones_like(dark))]
    if 0 < dark.sum() < len(dark):
        groups += [(DARK, dark), (BRIGHT, ~dark)]
    return [_excess(found, bound, where, group) for where, group in groups]


def check_information(
    model: ScoreModel,
    noise: NoiseModel,
    strengths: tuple[float, float] | None = None,
    correlation: float = 0.0,
) -> str:
    """Describe what the training images hold that noise of a model cannot have.

    Parameters
    ----------
    model, noise, strengths
        As for `compare_information`.
    correlation : float
        Significant correlation of neighbouring pixels that the noise model does not describe, or 0.

    Returns
    -------
    str
        A sentence on the structure and its cause, or on the error of the score; empty if the
        information is not above that of the noise, or was not measured.

    Examples
    --------
    >>> from napari_noise2score import Gaussian, train
    >>> stack = np.random.default_rng(0).normal(100, 10, (1, 128, 128))
    >>> check_information(train(stack, axes="TYX", steps=2), Gaussian(10))
    ''
    """
    compared = compare_information(model, noise, strengths)
    found = model.information
    if found is None:
        return ""
    described = noise.components.kernel not in (None, model.kernel)
    if not (correlation or described) and abs(found.correlation) > MIN_PARTIAL_CORRELATION:
        correlation = found.correlation
    if structure := [part for part in compared if part.is_structure]:
        worst = _worst(structure, compared)
        return (
            "The training images hold structure that independent noise of this model cannot have "
            f"({worst.structure:.1f} times its information{worst.where}): "
            f"{_cause(model, found, worst.where, correlation, strengths is not None)}."
        )
    if errors := [part for part in compared if part.is_error]:
        worst = _worst(errors, compared)
        reason = (
            "it has memorized single pixels (overfitting). Train on more images, or shorter"
            if has_overfitted(found)
            else "it has not learned these pixels well, or they are rare. Train for longer"
        )
        return (
            f"The learned score has {worst.score:.1f} times the information that noise of this "
            f"model can have{worst.where}, and held-out pixels do not confirm it: {reason}."
        )
    return ""


def has_overfitted(found: Information) -> bool:
    """Return whether the loss of held-out pixels is far above that of the training."""
    gap = found.overall_loss - found.training_loss
    scale = max(found.training_information, found.overall, 1e-9)
    error = _error(np.array(found.share), np.array(found.error))
    return gap > MIN_OVERFITTING * scale + MIN_ERRORS * error


def _excess(
    found: Information, bound: NDArray[np.float64], where: str, group: NDArray[np.bool_]
) -> Excess:
    share = np.where(group, found.share, 0.0)
    share /= share.sum()
    noise = float(share @ bound)
    return Excess(
        where,
        -float(share @ np.array(found.loss)) / noise,
        float(share @ np.array(found.information)) / noise,
        _error(share, np.array(found.error)) / noise,
    )


def _error(share: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.sum((share * errors) ** 2)))


def _worst(those: list[Excess], compared: list[Excess]) -> Excess:
    """Return the one half that is among those, or the whole image."""
    halves = [part for part in those if part.where]
    return halves[0] if len(halves) == 1 else compared[0]


def _cause(
    model: ScoreModel, found: Information, where: str, correlation: float, measured: bool
) -> str:
    """Return the cause of structure that is evident from the pixels.

    `measured` says whether the strength of the noise was taken into account.
    """
    middle = float(np.interp(0.5, np.cumsum(found.share), found.grey_levels))
    levels = [
        (level, share)
        for level, share in found.levels
        if not where or (level <= middle) == (where == DARK)
    ]
    if correlation:
        return (
            f"neighbouring pixels are correlated ({correlation:.2f}). Train with the correlation "
            "of the noise, or use images that were not filtered"
        )
    if levels:
        shares = [f"{share:.1%} of the pixels are exactly {level:g}" for level, share in levels]
        return f"{' and '.join(shares)}. Do not trust the result where such pixels are frequent"
    lowest = torch.tensor(found.grey_levels[0], dtype=torch.float64)
    step = model.quantization.step * float(model.transform.slope(lowest)) / found.sigma_a
    if step > MAX_STEP:
        return (
            f"their grey levels are {model.quantization.step:g} apart, which is coarse for such "
            "weak noise. Use images that were not rescaled to fewer grey levels"
        )
    if not found.held_out:
        return (
            "they are too small for pixels to be held out, so that the network may have memorized "
            "single pixels. Train on larger images, or shorter"
        )
    weaker = "" if measured else "weaker than the model says, or "
    return (
        f"clipping, rounding and correlation do not explain it. The noise is {weaker}of another "
        "family, or the images were processed"
    )
