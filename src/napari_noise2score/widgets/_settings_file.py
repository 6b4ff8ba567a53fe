"""Set the controls of the dock to a file of settings, as the command line reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..noise.parse import parse_noise

if TYPE_CHECKING:
    from ._model_section import ModelSection
    from ._noise_section import NoiseSection
    from ._result_section import ResultSection


def read_settings(
    path: Path, model: ModelSection, result: ResultSection, noise: NoiseSection
) -> list[str]:
    """Set the controls to the settings of a file.

    Parameters
    ----------
    path : Path
        The file.
    model, result, noise
        The sections of the dock.

    Returns
    -------
    list of str
        What is in the file and has no control, one sentence each.

    Raises
    ------
    UserError
        If the file is no file of settings; nothing is changed then.
    """
    # imported here, as checking settings takes time to import
    from ..denoising.settings import DenoiseSettings, TrainSettings

    training, denoising = TrainSettings.read(path, {}), DenoiseSettings.read(path, {})
    text = "" if denoising.noise in (None, "auto") else str(denoising.noise)
    undone = bool(parse_noise(text).corrections) if text else False
    model.settings.set(training)
    if denoising.polish is not None:
        result.polish.setChecked(denoising.polish)
    if text:
        noise.set_text(text)
    remarks = [] if text else ["It names no noise model: Denoise estimates that of the layer."]
    if training.correction and not undone:
        remarks.append(
            f"It undoes {training.correction}: in this window, that is part of the noise model, "
            f"as in gaussian(sigma=10) + {training.correction}."
        )
    if training.reach is not None or training.channels != "auto":
        remarks.append("Its reach and channels are for the command line only.")
    return remarks
