"""Estimate the noise model of images from the images alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import UserError
from ..noise.base import NoiseModel
from ..noise.family import NoiseFamily
from ..noise.kernel import Kernel
from ..noise.parameter import round_to_four_digits
from ..solve.quantization import Quantization, estimate_quantization
from ._autocorrelation import LOCAL_MEAN_SIGMA, measure_correlation
from ._clipped_moments import PixelsAtFloor
from ._dct_power import kernel_dct_power
from ._fit import Fit, fit_families
from ._flatness import FLAT_SHARE, flattest, slope_of, smooth
from ._frames import (
    PreparedFrames,
    check_scenes,
    decorrelated,
    deviation_by_intensity,
    infinite_where_invalid,
    moments_of,
    prepare_frames,
    still_pixels,
    valid_sample,
)
from ._moments import Moments
from ._repeats import contrasts
from ._units import arithmetic_as_user_error, in_units, unit_of

# A gain that may be the quantization step differs from it by less than this share.
MAX_STEP_DIFFERENCE = 0.1
# Of the largest variance by intensity: reconstructed images may have a background without noise.
MIN_VARIANCE_SHARE = 1e-3
# Of a pixel, along Y and X, without the pixel itself.
NEIGHBOURS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)


@dataclass(frozen=True)
class ImageEstimate:
    """A noise model estimated from images.

    Attributes
    ----------
    noise : NoiseModel
        The model that fits best.
    fits : tuple of Fit
        Every family, the best first, with its misfit and confidence intervals; for correlated
        noise, they describe the noise before correlation.
    moments : Moments
        Mean, variance and third moment by intensity, of A⁻¹ y where the noise is correlated.
    correlation : float
        Largest measured correlation of the noise of neighbouring pixels.
    quantization : Quantization
        Step and limits of the grey levels.
    source : str
        What it was measured from: ``"repeats"`` or ``"single frames"``.
    """

    noise: NoiseModel
    fits: tuple[Fit, ...]
    moments: Moments
    correlation: float
    quantization: Quantization
    source: str


def estimate_from_frames(
    scenes: Sequence[NDArray[Any]], kernel: Kernel | None = None
) -> ImageEstimate:
    """Estimate the noise model of a few scenes.

    Parameters
    ----------
    scenes : sequence of ndarray
        Repeats of each scene in grey levels, shape ``(repeats, Y, X)``; one of each is enough.
        They may drift, bleach and move a little. Pixels that are masked, NaN or infinite are left
        out.
    kernel : Kernel, optional
        The correlation of the noise, if it is known.

    Returns
    -------
    ImageEstimate

    Raises
    ------
    UserError
        If the noise cannot be measured: images too small, constant, saturated, copies of each
        other, without a valid pixel, or filtered so that no noise of single pixels is left.

    Notes
    -----
    The variance of the noise by intensity is separated from the picture in patches, see
    `measure_moments`; the family is the one that fits variance and third moment best for its
    number of parameters.

    Examples
    --------
    >>> from napari_noise2score.noise import Poisson
    >>> scene = np.kron(np.random.default_rng(0).uniform(20, 200, (8, 8)), np.ones((32, 32)))
    >>> rng = np.random.default_rng(1)
    >>> repeats = np.stack([Poisson(4).sample(scene, rng) for _ in range(4)])
    >>> found = estimate_from_frames([repeats])
    >>> type(found.noise).__name__, round(found.noise.gain)
    ('Poisson', 4)
    """
    with arithmetic_as_user_error():
        sample = valid_sample(scenes)
        unit = unit_of(sample)
        if unit == 1:
            return _estimate(scenes, kernel)
        # messages give the grey levels of the images, not those in the unit
        check_scenes(scenes, sample, estimate_quantization(sample))
        return _in_unit(_estimate([in_units(frames, unit) for frames in scenes], kernel), unit)


def _in_unit(found: ImageEstimate, unit: float) -> ImageEstimate:
    """Return an estimate of images that were divided by a unit, in grey levels."""
    fits = []
    for fit in found.fits:
        intervals = {}
        for name, ends in fit.intervals.items():
            factor = unit ** fit.noise.unit_power(name)
            intervals[name] = (ends[0] * factor, ends[1] * factor)
        fits.append(replace(fit, noise=fit.noise.in_unit(unit), intervals=intervals))
    m, q = found.moments, found.quantization
    moments = Moments(
        m.mean * unit,
        m.variance * unit**2,
        m.third * unit**3,
        m.variance_error * unit**2,
        m.third_error * unit**3,
        m.spread * unit,
    )
    quantization = Quantization(q.step * unit, q.origin * unit, q.floor * unit, q.saturation * unit)
    return replace(
        found, noise=fits[0].noise, fits=tuple(fits), moments=moments, quantization=quantization
    )


def _estimate(scenes: Sequence[NDArray[Any]], kernel: Kernel | None) -> ImageEstimate:
    prepared = prepare_frames(scenes)
    correlation, measured = measure_correlation(
        prepared.means,
        prepared.noises,
        infinite_where_invalid(prepared.clipped),
        with_kernel=kernel is None,
    )
    still = still_pixels(prepared, undone_of(kernel or measured))
    if still is not None and measured is not None:
        correlation, measured = _correlation_of_still_repeats(prepared)
    kernel = kernel or measured
    power = None
    if kernel is not None and kernel.of_noise and not prepared.repeated:
        power = kernel_dct_power(kernel) / kernel.power
    moments = moments_of(prepared, undone_of(kernel), still, power)
    if kernel is not None and kernel.of_noise:
        moments = _of_correlated(moments, kernel, still is not None, prepared)
    fits = fit_families(
        moments,
        not prepared.repeated,
        _negative_share(prepared, undone_of(kernel)),
        kernel is not None,
        still is not None,
        _at_floor(prepared) if kernel is None else None,
    )
    if kernel is None:
        fits = [_with_quantized_gain(fit, prepared.quantization) for fit in fits]
    else:
        # these moments cannot distinguish read noise on top of correlated noise
        white = [fit for fit in fits if isinstance(fit.noise, NoiseFamily)]
        fits = [replace(fit, noise=fit.noise @ kernel) for fit in white]
    if not fits:
        raise UserError("no family fits the noise of these images: state the noise model")
    source = "repeats" if prepared.repeated else "single frames"
    return ImageEstimate(
        fits[0].noise, tuple(fits), moments, correlation, prepared.quantization, source
    )


def undone_of(kernel: Kernel | None) -> Kernel | None:
    """Return the kernel that is undone before moments are measured, if any is."""
    return None if kernel is not None and kernel.of_noise else kernel


def _of_correlated(
    moments: Moments, kernel: Kernel, still: bool, prepared: PreparedFrames
) -> Moments:
    """Return the moments of noise that is correlated by a kernel which is not undone.

    Those of still repeats are the moments of single pixels, except that the third moment of a sum
    of independent terms is smaller than that of one term. Those of other repeats are measured in
    the finest detail, of which correlated noise has little: the differences show how little.
    """
    if still:
        skewness = sum(v**3 for row in kernel.taps for v in row) / kernel.power**1.5
        third, error = moments.third / skewness, moments.third_error / abs(skewness)
        return replace(moments, third=third, third_error=error)
    factor = _strength_of_repeats(moments, prepared) if prepared.repeated else 1.0
    seen = moments.variance > MIN_VARIANCE_SHARE * moments.variance.max()
    found = Moments(*(getattr(moments, field.name)[seen] for field in fields(Moments)[:5]))
    return replace(
        found,
        variance=factor * found.variance,
        variance_error=factor * found.variance_error,
        # a detail of correlated noise is nearly normal, whatever the family
        third=np.zeros_like(found.third),
        third_error=np.full_like(found.third_error, np.inf),
    )


def _strength_of_repeats(moments: Moments, prepared: PreparedFrames) -> float:
    """Return the variance of differences of repeats, in units of that of their finest detail."""
    ratios = []
    invalid = infinite_where_invalid(prepared.clipped)
    for frame, noise, out in zip(prepared.means, prepared.noises, invalid, strict=True):
        intensity, valid = smooth(frame, LOCAL_MEAN_SIGMA), ~np.isposinf(out)
        if not valid.any():
            continue
        flat = flattest(slope_of(frame), valid, FLAT_SHARE)
        deviation = deviation_by_intensity(intensity[flat], noise[flat])
        ratios.append(deviation**2 / np.interp(intensity[flat], moments.mean, moments.variance))
    return float(np.median(np.concatenate(ratios)))


def _correlation_of_still_repeats(prepared: PreparedFrames) -> tuple[float, Kernel | None]:
    """Measure the correlation again from all contrasts of the repeats, which is more exact."""
    noises, means, invalid = [], [], []
    for frames, mask in zip(prepared.scenes, prepared.invalid, strict=True):
        for noise in np.tensordot(contrasts(len(frames)), frames, 1):
            noises.append(noise)
            means.append(frames.mean(0))
            invalid.append(np.where(mask, np.inf, 0.0))
    return measure_correlation(means, noises, invalid, flat_share=1.0)


def _negative_share(prepared: PreparedFrames, kernel: Kernel | None) -> float | None:
    """Return the share of negative pixels of y or A⁻¹ y; None if none can be negative.

    Pixels that were clipped or stored without a sign are not negative even where their noise is.
    """
    if prepared.quantization.floor != -np.inf:
        return None
    values = prepared.sample
    if kernel is not None:
        first = decorrelated([frames[0] for frames in prepared.scenes], kernel)
        values = np.concatenate([plane.ravel() for plane in first])
    return float(np.mean(values < 0))


def _at_floor(prepared: PreparedFrames) -> PixelsAtFloor | None:
    """Return the pixels at the floor whose neighbours along Y and X are above it, if it is known.

    Areas at the floor, such as a masked background, are no noise.
    """
    q = prepared.quantization
    if q.floor == -np.inf:
        return None
    alone = valid = 0
    for frames, mask in zip(prepared.scenes, prepared.invalid, strict=True):
        at_floor = (frames[0] <= q.floor) & ~mask
        beside = ndimage.binary_dilation(at_floor, NEIGHBOURS)
        alone += int(np.sum(at_floor & ~beside))
        valid += int(np.sum(~mask))
    return PixelsAtFloor(q.floor + q.step / 2, alone / max(valid, 1), q.floor)


def _with_quantized_gain(fit: Fit, quantization: Quantization) -> Fit:
    """Return counts without read noise with a gain equal to the step of their grey levels.

    Counts of any other gain would have other grey levels. If the steps are due to rounding, the
    gain may equal the step by accident; the moments cannot distinguish the two cases.
    """
    noise, step = fit.noise, quantization.step
    if not (isinstance(noise, NoiseFamily) and noise.is_discrete) or noise.offset:
        return fit
    low, high = fit.intervals["gain"]
    near = low <= step <= high and abs(noise.values["gain"] - step) <= MAX_STEP_DIFFERENCE * step
    return replace(fit, noise=noise.with_values(gain=round_to_four_digits(step))) if near else fit
