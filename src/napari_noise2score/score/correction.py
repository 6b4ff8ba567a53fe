"""Undo calibration maps and offsets of lines, as a model was trained with or a noise model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import UserError
from ..image.corrected import corrected, is_corrected
from ..image.image import Image
from ..noise import Correction, NoiseModel
from .model import ScoreModel


def corrected_image(image: Image, corrections: Sequence[Correction], *, fills: bool) -> Image:
    """Return an image in which maps and offsets of lines are undone as it is read.

    Parameters
    ----------
    image : Image
        The raw image; one that is corrected already is returned as it is.
    corrections : sequence of Correction
        One for all channels, or one for each; none to undo nothing.
    fills : bool
        Whether defective pixels are filled from their neighbours, as for a result, or not valid,
        as for training and measuring.

    Returns
    -------
    Image

    Raises
    ------
    UserError
        If a map does not have the pixels of the image, or the number of channels differs.

    Examples
    --------
    >>> import numpy as np
    >>> noisy = Image(np.random.default_rng(0).normal(100, 5, (64, 64)), "YX")
    >>> corrected_image(noisy, [Correction(rows=4)], fills=True).data.dtype
    dtype('float32')
    """
    if not any(corrections) or is_corrected(image.data):
        return image
    shape = tuple(int(n) for n in image.data.shape)
    channels = shape[image.axes.index("C")] if "C" in image.axes else 1
    if len(corrections) not in (1, channels):
        raise UserError(
            f"{len(corrections)} corrections are given, and {image.name} has {channels} "
            f"channel{'s' * (channels > 1)}"
        )
    each = [own.pixel_correction(image.axes, shape) for own in corrections]
    return corrected(image, each, fills=fills)


def corrections_for(
    noise: NoiseModel | None, model: ScoreModel | None = None
) -> tuple[Correction, ...]:
    """Return what is undone in the images of a noise model and a score model.

    Parameters
    ----------
    noise : NoiseModel or None
        The noise model.
    model : ScoreModel, optional
        A model. A noise model that names no correction is that of the corrected images of the
        model.

    Returns
    -------
    tuple of Correction
        One for all channels, or one for each; empty if nothing is undone.

    Raises
    ------
    UserError
        If the model was trained with another correction than the noise model names.
    """
    given = noise.corrections if noise is not None else ()
    if model is None:
        return given
    if not given:
        return learned_corrections(model)
    keys = [own.key for own in given]
    known = list(model.provenance.get("correction") or ())
    learned = [own["key"] for own in known]
    if {*keys} != {*learned} or (len(keys) > 1 and len(learned) > 1 and keys != learned):
        named = " ; ".join(own["text"] for own in known) if known else ""
        trained = f"with the correction {named}" if named else "on images without a correction"
        raise UserError(
            f"the model was trained {trained}, and the noise model names "
            f"{' ; '.join(map(str, given))}: train again with this correction, or leave it out"
        )
    # the strength of the offsets of lines is that of training, whatever the noise model names
    return tuple(
        replace(own, rows=float(its["values"]["rows"]), columns=float(its["values"]["columns"]))
        for own, its in zip(given, known * len(given), strict=False)
    )


def learned_corrections(model: ScoreModel) -> tuple[Correction, ...]:
    """Return what was undone in the training images of a model.

    Raises
    ------
    UserError
        If a calibration map is gone or has changed.
    """
    known = model.provenance.get("correction") or ()
    return tuple(Correction.from_json(own["values"]) for own in known)


def describe_corrections(corrections: Sequence[Correction]) -> list[dict[str, Any]]:
    """Return corrections as JSON values, for the provenance of a model."""
    return [{"text": str(own), "key": own.key, "values": own.as_json()} for own in corrections]
