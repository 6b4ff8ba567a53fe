"""Make the notes that state how a result was made, for files, layers and lazy images alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .. import __version__
from ..image.image import Image
from ..noise import NoiseModel
from ..score.model import ScoreModel
from ..score.polish import Polish


def result_notes(
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    sigma_a: float | None = None,
    noise_notes: Mapping[str, Any] | None = None,
    polish: Polish | Sequence[Polish | None] | None = None,
) -> dict[str, Any]:
    """Return the provenance of a result, the same whatever holds the result.

    Parameters
    ----------
    model : ScoreModel
        The model that was evaluated.
    noise : NoiseModel or str
        The noise model that was removed.
    sigma_a : float, optional
        Perturbation σ_a that the score was evaluated at, in units of the noise; by default the
        model's own.
    noise_notes : mapping, optional
        How the noise model was found; values are JSON.
    polish : Polish, optional
        The polish that was used.

    Returns
    -------
    dict
        ``model`` (its name), ``fingerprint``, ``noise``, ``sigma_a``, ``version`` (of this
        package), ``polish`` (its fingerprint, if there is one; of each channel if there are
        several), ``correction`` (what the model undoes, if anything), and the noise notes. Values
        are JSON.
    """
    learned = model.provenance.get("correction")
    return {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "noise": str(noise),
        "sigma_a": _sigma_a(model) if sigma_a is None else float(sigma_a),
        "version": __version__,
        **({"polish": fingerprint_of(polish)} if polish else {}),
        **({"correction": [own["text"] for own in learned]} if learned else {}),
        **(noise_notes or {}),
    }


def fingerprint_of(polish: Polish | Sequence[Polish | None]) -> str | list[str | None]:
    """Return the fingerprint of a polish, or those of the polishes of the channels."""
    if isinstance(polish, Polish):
        return polish.fingerprint
    return [each.fingerprint if each else None for each in polish]


def _sigma_a(model: ScoreModel) -> float | list[float]:
    """Return the perturbation of a model, or those of its channels."""
    return [own.sigma_a for own in model.channel_coordinates] or model.sigma_a


def result_image(image: Image, data: Any, quantity: str, notes: Mapping[str, Any]) -> Image:
    """Return the image that holds a result: axes, scale and units of its source, notes of its own.

    Parameters
    ----------
    image : Image
        The noisy image.
    data : array-like
        Pixels of the result.
    quantity : str
        What the pixels are, ``"denoised"`` or ``"uncertainty"``; appended to the name.
    notes : mapping
        As from `result_notes`.

    Returns
    -------
    Image
    """
    return replace(image, data=data, name=f"{image.name} {quantity}", notes=dict(notes))
