"""The result of a noise check: how well a noise model explains the noise of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..noise.base import NoiseModel
from ..noise.kernel import kernel_from_autocorrelation
from ..noise.per_channel import PerChannel
from ._autocorrelation import MIN_CORRELATION, kernel_size
from ._check_residual import Residual
from ._check_variance import VarianceCurve

__all__ = ["NoiseCheck", "Residual", "VarianceCurve"]

#: A model that explains less of the noise is wrong.
MIN_EXPLAINED = 0.9


@dataclass(frozen=True)
class NoiseCheck:
    """How well a noise model explains the noise of images.

    Attributes
    ----------
    noise : NoiseModel
        The model that was checked.
    found : NoiseModel
        The model that fits the images best.
    intervals : mapping of str to (float, float)
        95 % confidence intervals of the parameters of the model that fits best.
    correlation : float
        Largest measured correlation of the noise of neighbouring pixels.
    curve : VarianceCurve
        Variance by intensity, measured and predicted by the model.
    residual : Residual
        The image minus its estimated noise-free content, in standard deviations of the model.
    source : str
        How the residual was computed: ``"denoised"`` (y minus the denoised image), ``"repeats"``
        (the difference of successive frames) or ``"single frames"`` (the finest structure of y).
    findings : tuple of str
        Sentences on what contradicts the assumptions of the estimate, and what to do.
    channel : int or None
        The channel, from 0, if each has its own noise model: the one that is explained least.
    channels : int
        Number of channels.
    of_channels : tuple of NoiseModel
        The noise models of all channels, empty if they were checked together.

    Examples
    --------
    >>> from napari_noise2score import check_noise
    >>> from napari_noise2score.sample import simulate_cells
    >>> noisy, _ = simulate_cells((2, 2, 128, 128))  # poisson(gain=2, offset=100) + read noise
    >>> check_noise(noisy, "poisson(gain=2, offset=100) + gaussian(sigma=3)", axes="TZYX").explains
    True
    """

    noise: NoiseModel
    found: NoiseModel
    intervals: Mapping[str, tuple[float, float]]
    correlation: float
    curve: VarianceCurve
    residual: Residual
    source: str
    findings: tuple[str, ...] = ()
    channel: int | None = None
    channels: int = 1
    of_channels: tuple[NoiseModel, ...] = ()

    @property
    def image_noise(self) -> NoiseModel:
        """The noise model of the image: that which was checked, or those of all channels."""
        return PerChannel(self.of_channels) if self.of_channels else self.noise

    @property
    def explains(self) -> bool:
        """Whether nothing in the images contradicts the model."""
        enough = self.curve.explained >= MIN_EXPLAINED
        return enough and not self._is_correlated and not self.findings

    @property
    def summary(self) -> str:
        """Both numbers, as in ``explains the noise: 0.97; residual correlation: 0.02``."""
        return (
            f"explains the noise: {self.curve.explained:.2f}; "
            f"residual correlation: {self.residual.correlation:.2f}"
        )

    @property
    def verdict(self) -> str:
        """Sentences on whether the model is right, and what is wrong if it is not."""
        if self.channel is None:
            return self._verdict
        return f"Channel {self.channel + 1}, the worst of {self.channels}: {self._verdict}"

    @property
    def _verdict(self) -> str:
        if self.explains:
            return "The model explains the noise."
        faults = []
        if self.curve.explained < MIN_EXPLAINED:
            faults.append(_variance_fault(self.curve))
        if self._is_correlated:
            faults.append(self._correlation_fault())
        if not faults:
            faults.append("The model predicts the measured variance, but:")
        return " ".join([*faults, *self.findings])

    @property
    def sentence(self) -> str:
        """Summary and verdict in one line."""
        return f"{self.summary}. {self.verdict}"

    def describe(self) -> dict[str, Any]:
        """Return the check as a dictionary of JSON values."""
        return {
            "noise": str(self.noise),
            "explains the noise": self.curve.explained,
            "residual correlation": self.residual.correlation,
            "residual variance": self.residual.variance,
            "residual of": self.source,
            "strength": self.curve.strength,
            "verdict": self.verdict,
            "findings": list(self.findings),
            **({} if self.channel is None else {"channel": self.channel + 1}),
        }

    @property
    def _is_correlated(self) -> bool:
        return abs(self.residual.correlation) > MIN_CORRELATION[self.source != "single frames"]

    def _correlation_fault(self) -> str:
        shared = f"{self.residual.correlation:.2f}"
        if self.source == "denoised" and abs(self.correlation) <= MIN_CORRELATION[True]:
            return (
                f"What denoising removes has structure (correlation {shared}), but the noise has "
                "none: some of the picture is removed with it. Train for longer."
            )
        if self.source == "single frames":
            more = "more" if self.residual.correlation > 0 else "less"
            return (
                f"Neighbouring pixels are {more} correlated than the model says (correlation "
                f"{shared}): by noise or by fine structure, which are hard to separate in a single "
                "frame."
            )
        advice = "set the correlation, or use images that were not filtered"
        if not _has_kernel(self.residual.correlations):
            advice = "no kernel has this correlation; use images that were not filtered"
        return (
            "The noise of neighbouring pixels is not correlated as the model says (correlation "
            f"{shared}): {advice}."
        )


def _has_kernel(shared: NDArray[np.float64]) -> bool:
    """Return whether a kernel can have these correlations.

    Parameters
    ----------
    shared : ndarray
        Correlations by distance less those of white noise, so 0 in the middle.
    """
    middle = len(shared) // 2
    shared = shared.copy()
    shared[middle, middle] = 1
    try:
        kernel_from_autocorrelation(shared, kernel_size(shared, repeated=True))
    except UserError:
        return False
    return True


def _variance_fault(curve: VarianceCurve) -> str:
    dark, bright = curve.strengths()
    if (dark - 1) * (bright - 1) >= 0:
        return f"The noise is {_compared(curve.strength)} than the model says."
    return (
        f"The noise is {_compared(dark)} than the model says where the image is dark, and "
        f"{_compared(bright)} where it is bright."
    )


def _compared(strength: float) -> str:
    return f"{abs(strength - 1):.0%} {'stronger' if strength > 1 else 'weaker'}"
