"""The result of an estimate of noise: the noise model, and the evidence for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..denoising.polish_need import PolishNeed
from ..noise import NoiseModel
from ..solve.quantization import Quantization
from ._fit import Fit
from ._from_images import ImageEstimate
from ._moments import Moments
from .goodness_of_fit import NoiseCheck


@dataclass(frozen=True)
class NoiseReport:
    """A noise model that was estimated, and the evidence for it.

    Attributes
    ----------
    noise : NoiseModel
        The noise model to denoise with.
    method : str
        What decided the choice: ``"images"``, ``"other frames"`` (frames of the same scene, compared
        with a denoised one), ``"likelihood"``, the method that was requested, or ``"images, from
        ..."`` with the noise model whose family was kept.
    check : NoiseCheck or None
        The goodness of fit of the noise model; None if it failed (see `check_error`) and for methods
        that use the score of a model alone.
    check_error : str
        Why the noise could not be checked; empty if it was.
    intervals : mapping of str to (float, float)
        95 % confidence intervals of the parameters of the model that fits the images best.
    rivals : tuple of Fit
        The other families, the best first, with their misfit.
    best_misfit : float
        The misfit of the model that fits the images best.
    curve : Moments or None
        Mean, variance and third moment by intensity, of A⁻¹ y where the noise is correlated.
    correlation : float or None
        Largest measured correlation of the noise of neighbouring pixels.
    quantization : Quantization or None
        Step and limits of the grey levels.
    source : str
        What it was measured from: ``"repeats"`` or ``"single frames"``.
    left_out : tuple of str
        Frames that were left out, one line each.
    polish : PolishNeed or None
        Whether a polish pays for this noise model; None without a model.
    notes : mapping
        Further facts on how the noise was found with a model; values are JSON.
    channels : tuple of NoiseReport
        The report on each channel, if each has its own noise model; `check` is then that of the
        channel that is explained least.
    channels_sentence : str
        Whether the channels have one noise model, and why; empty if there is one channel.

    Examples
    --------
    >>> from napari_noise2score import estimate_noise
    >>> from napari_noise2score.sample import simulate_cells
    >>> noisy, _ = simulate_cells((4, 8, 128, 128))  # poisson(gain=2, offset=100) + gaussian(sigma=3)
    >>> report = estimate_noise(noisy, axes="TZYX")
    >>> low, high = report.intervals["gain"]
    >>> low < 2 < high, report.source, report.check.explains
    (True, 'repeats', True)
    """  # noqa: E501

    noise: NoiseModel
    method: str = "images"
    check: NoiseCheck | None = None
    check_error: str = ""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    rivals: tuple[Fit, ...] = ()
    best_misfit: float = 0.0
    curve: Moments | None = None
    correlation: float | None = None
    quantization: Quantization | None = None
    source: str = ""
    left_out: tuple[str, ...] = ()
    polish: PolishNeed | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[NoiseReport, ...] = ()
    channels_sentence: str = ""

    @property
    def check_sentence(self) -> str:
        """One line on how well the model explains the noise; empty if it was not checked."""
        if self.check is not None:
            return self.check.sentence
        return f"the noise could not be checked: {self.check_error}" if self.check_error else ""

    def describe(self) -> dict[str, Any]:
        """Return the report as a dictionary of JSON values."""
        facts: dict[str, Any] = {}
        if self.intervals and self.curve is not None and self.quantization is not None:
            facts = {
                "noise": str(self.noise),
                "95 % interval": {name: list(ends) for name, ends in self.intervals.items()},
                "measured from": self.source,
                "grey levels": _quantization_text(self.quantization),
                "correlation": self.correlation,
                **({"left out": list(self.left_out)} if self.left_out else {}),
                "rivals": [
                    {"noise": str(fit.noise), "behind": fit.misfit - self.best_misfit}
                    for fit in self.rivals
                ],
                "curve": {
                    "mean": self.curve.mean.tolist(),
                    "variance": self.curve.variance.tolist(),
                },
            }
        if self.check is not None:
            facts["check"] = self.check.describe()
        if self.polish is not None:
            facts["polish"] = self.polish.sentence
        if self.channels_sentence:
            facts["one model or several"] = self.channels_sentence
        if self.channels:
            facts["channels"] = [report.describe() for report in self.channels]
        return {"noise": str(self.noise)} | facts | dict(self.notes)

    def provenance(self) -> dict[str, Any]:
        """Return how the noise was found, to be written with a result; values are JSON."""
        facts = {"noise found by": self.method, **self.notes}
        return facts | {"noise check": sentence} if (sentence := self.check_sentence) else facts


def report_of_estimate(found: ImageEstimate, left_out: tuple[str, ...]) -> NoiseReport:
    """Return the report of an estimate from the images alone, without a check."""
    best, *rest = found.fits
    return NoiseReport(
        found.noise,
        intervals=best.intervals,
        rivals=tuple(rest),
        best_misfit=best.misfit,
        curve=found.moments,
        correlation=found.correlation,
        quantization=found.quantization,
        source=found.source,
        left_out=left_out,
    )


def _quantization_text(quantization: Quantization) -> str:
    step, floor, saturation = quantization.step, quantization.floor, quantization.saturation
    text = f"steps of {step:g}" if step else "not rounded"
    text += f", cut off below {floor:g}" if np.isfinite(floor) else ""
    return text + (f", saturated at {saturation:g}" if np.isfinite(saturation) else "")
