"""Compare the residual of images with noise drawn from a noise model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import UserError
from ..image.valid import fill
from ..noise.base import NoiseModel
from ..noise.kernel import autocorrelation
from ..solve.quantization import Quantization
from ..solve.stabilization import high_pass
from ._autocorrelation import (
    LOCAL_MEAN_SIGMA,
    REACH,
    correlations_of_frames,
    restore_local_mean,
)
from ._dct_power import kernel_autocorrelation
from ._flatness import flattest, slope_of, smooth
from ._frames import MAX_DEVIATION, TOO_LITTLE_DATA

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

# Edges of the histogram, in standard deviations of the model.
HISTOGRAM_EDGES = np.linspace(-5, 5, 41)
# Draws of noise from the model for each plane: with three, their own scatter is small.
DRAWS = 3
# Lower bound of the variance, as a share of its median: a model may predict none without signal.
MIN_MODEL_VARIANCE_SHARE = 0.01


class ComparedPlane(NamedTuple):
    """A plane of an image, and the data that its noise-free content is estimated from.

    Attributes
    ----------
    y : ndarray
        Noisy plane in grey levels, shape ``(Y, X)``; a masked array if pixels are not valid.
    other : ndarray or None
        The next repeat of the same plane.
    x : ndarray or None
        The clean plane without the offset, as denoising returns it.
    """

    y: Floats
    other: Floats | None = None
    x: Floats | None = None


@dataclass(frozen=True)
class Residual:
    """The residual of flat pixels of images, in units of the noise of a model.

    Attributes
    ----------
    edges : ndarray
        Edges of the bins of the histogram, in standard deviations of the model, shape ``(41,)``.
    measured, expected : ndarray
        Share of the pixels in each bin: of the images, and of noise drawn from the model, shape
        ``(40,)``.
    variance : float
        In units of that of noise drawn from the model; 1 if the model is right.
    correlations : ndarray
        Correlation of pixels by their distance, less that of the model, shape ``(9, 9)``, of single
        frames ``(5, 5)``; the pixel itself is in the middle.
    """

    edges: NDArray[np.float64]
    measured: NDArray[np.float64]
    expected: NDArray[np.float64]
    variance: float
    correlations: NDArray[np.float64]

    @property
    def correlation(self) -> float:
        """The correlation that is furthest from that of the model."""
        return float(self.correlations.flat[np.abs(self.correlations).argmax()])


def compare_residual(
    planes: Iterable[ComparedPlane], noise: NoiseModel, quantization: Quantization, seed: int = 0
) -> Residual:
    """Compare the residual of images with noise drawn from a model.

    Parameters
    ----------
    planes : iterable of ComparedPlane
        Either all or none of them have a clean plane; the same applies to a next repeat.
    noise : NoiseModel
        The model.
    quantization : Quantization
        That of the images; the drawn noise is quantized alike.
    seed : int
        Seed of the drawn noise.

    Returns
    -------
    Residual

    Raises
    ------
    UserError
        If no pixel is valid, or if single frames are too small.

    Notes
    -----
    Images drawn from the model are processed like the measured ones, in the same places, so that
    neither quantization nor the subtraction of a local mean, the correlation of the model or the
    selection of pixels counts against the model. Only the flattest 30 % of the pixels are used,
    where there is no detail for a denoiser to miss. In single frames even these contain enough
    structure to look correlated; their correlation is therefore computed by
    `correlations_of_frames`, which separates noise from structure.

    Examples
    --------
    >>> from napari_noise2score.noise import A, Gaussian
    >>> x = np.full((128, 128), 50.0)
    >>> y = (Gaussian(5) @ A).sample(x, np.random.default_rng(0))
    >>> left = compare_residual([ComparedPlane(y, x=x)], Gaussian(5), Quantization())
    >>> round(left.correlation, 1)
    0.5
    """
    rng = np.random.default_rng(seed)
    residuals: list[Floats] = []
    drawn: list[Floats] = []
    masks: list[Mask] = []
    frames: list[Floats] = []
    invalid: list[Floats] = []
    for masked in planes:
        plane, out = _filled(masked)
        if out.all():
            continue
        if plane.x is None and plane.other is None:
            frames.append(plane.y)
            invalid.append(np.where(out, np.inf, 0.0))
        x, mean, deviation = _model_at(plane, noise, quantization)
        residuals.append(_residual_of(plane, mean, deviation, out))
        for _ in range(DRAWS):
            y, other = (_quantized(noise.sample(x, rng), quantization) for _ in range(2))
            twin = ComparedPlane(y, None if plane.other is None else other, plane.x)
            drawn.append(_residual_of(twin, mean, deviation, out))
        known = ~ndimage.binary_dilation(out, iterations=2) if out.any() else ~out
        if not known.any():
            known = ~out
        flat = flattest(slope_of(mean) / deviation, known)
        masks.append(flat & (np.abs(residuals[-1]) < MAX_DEVIATION))
    if not residuals:
        raise UserError("the planes that were read hold no valid pixel: there is nothing to check")
    drawn_masks = [mask for mask in masks for _ in range(DRAWS)]
    measured, expected = (
        np.concatenate([values[mask] for values, mask in zip(of, where, strict=True)])
        for of, where in ((residuals, masks), (drawn, drawn_masks))
    )
    if frames:
        try:
            shared = correlations_of_frames(
                frames, invalid if any(plane.any() for plane in invalid) else ()
            )
        except ValueError:
            raise UserError(TOO_LITTLE_DATA) from None
        grey = float(np.median([np.median(y) for y in frames]))
        shared -= _model_correlations(noise, grey, quantization, len(shared) // 2)
    else:
        shared, predicted = (
            restore_local_mean(autocorrelation(of, where, REACH))
            for of, where in ((residuals, masks), (drawn, drawn_masks))
        )
        shared -= predicted
    # the subtraction of the local mean has made both smaller
    unit = float(np.sqrt(np.mean(expected**2)))
    measured, expected = measured / unit, expected / unit
    shares, drawn_shares = (
        np.histogram(values, HISTOGRAM_EDGES)[0] / max(len(values), 1)
        for values in (measured, expected)
    )
    variance = float(np.mean(measured**2))
    return Residual(HISTOGRAM_EDGES, shares, drawn_shares, variance, shared)


def _filled(masked: ComparedPlane) -> tuple[ComparedPlane, Mask]:
    """Return planes with invalid pixels filled, and where any of them is not valid."""
    planes = [p for p in (masked.y, masked.other, masked.x) if p is not None]
    out: Mask = np.zeros(np.shape(masked.y), bool)
    for plane in planes:
        out |= np.ma.getmaskarray(plane) | ~np.isfinite(np.ma.getdata(plane))

    def filled(plane: Floats) -> Floats:
        data: Floats = np.ma.getdata(plane)
        if not out.any() or out.all():
            return data
        return fill(data, out, max(data.shape), float(np.median(data[~out])))

    other, x = (None if p is None else filled(p) for p in (masked.other, masked.x))
    return ComparedPlane(filled(masked.y), other, x), out


def _model_at(
    plane: ComparedPlane, noise: NoiseModel, quantization: Quantization
) -> tuple[Floats, Floats, Floats]:
    """Return the clean plane, and the mean and the standard deviation of y that follow from it."""
    if plane.x is not None:
        x = np.asarray(plane.x, dtype=np.float64)
        x = np.maximum(x, noise.lowest)
        base, kernel, _ = noise.components
        mean = base.mean(torch.from_numpy(x)).numpy()
        if kernel is not None and not noise.additive:
            mean = kernel.apply_to_image(mean)  # what blurs the noise blurs the picture, too
    else:
        scene = plane.y if plane.other is None else (plane.y + plane.other) / 2
        mean = smooth(scene, LOCAL_MEAN_SIGMA)
        x = noise.clean_from_mean(torch.from_numpy(mean)).numpy()
        x = np.maximum(x, noise.lowest)
    variance = noise.variance(torch.from_numpy(x)).numpy() + quantization.step**2 / 12
    smallest = MIN_MODEL_VARIANCE_SHARE * float(np.median(variance)) or 1e-12
    return x, mean, np.sqrt(np.maximum(variance, smallest))


def _model_correlations(
    noise: NoiseModel, grey: float, quantization: Quantization, reach: int
) -> NDArray[np.float64]:
    """Return the correlation of pixels by distance that a model predicts at a grey level."""
    base, kernel, read = noise.components
    x = noise.clean_from_mean(torch.tensor([grey], dtype=torch.float64)).clamp(min=noise.lowest)
    shared = float(base.variance(x)) * kernel_autocorrelation(kernel, reach)
    # read noise and quantization are white
    shared[reach, reach] += read**2 + quantization.step**2 / 12
    normalized: NDArray[np.float64] = shared / (float(shared[reach, reach]) or 1.0)
    return normalized


def _residual_of(plane: ComparedPlane, mean: Floats, deviation: Floats, out: Mask) -> Floats:
    """Return the residual of y, in standard deviations of the model; 0 where not valid."""
    if plane.x is not None:
        residual = (plane.y - mean) / deviation
    elif plane.other is not None:
        residual = (plane.other - plane.y) / np.sqrt(2) / deviation
    else:
        # pictures have little of the finest structure
        return np.pad(high_pass(plane.y / deviation), 1, mode="edge")
    residual = np.where(out, 0, residual)
    return residual - smooth(residual, LOCAL_MEAN_SIGMA)


def _quantized(y: Any, quantization: Quantization) -> Floats:
    rounded = quantization.rounded(torch.from_numpy(np.asarray(y, dtype=np.float64)))
    quantized: Floats = rounded.clamp(quantization.floor, quantization.saturation).numpy()
    return quantized
