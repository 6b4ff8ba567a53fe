"""Find the noise model of images from the images alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import UserError
from ..noise.base import NoiseModel
from ..noise.family import NoiseFamily
from ..noise.kernel import Kernel, autocorrelation, kernel_from_autocorrelation
from ..noise.parameter import round_to_four_digits
from ..solve.quantization import Quantization, estimate_quantization
from ._autocorrelation import TOLD, correlations_of_frames
from ._fit import Fit, fit_families
from ._frames import (
    DEFECT,
    TOO_LITTLE,
    check_scenes,
    look_over,
    moments_of,
    noise_level,
    still_pixels,
    undone,
    valid_sample,
)
from ._moments import FLAT, Moments, blurred, slope
from ._repeats import contrasts

# correlated is what neighbours share more than this of; single frames share some of their picture
SHARED = {True: 0.1, False: TOLD}
REACH = 4
# slow drifts, and what is left of the picture, are taken off over this radius in pixels
SLOW = 3.0
# Grey levels of this range are computed with as they are; others in a unit of their own, as bounds
# and starting points of the fit are absolute.
USUAL_RANGE = 1e-2, 1e7
# What differs by less is lost in double precision as soon as it is squared.
SMALLEST_RANGE = 1e-150
# a gain that may be the distance of grey levels is nearer to it than this, as a share
NEAR = 0.1


@dataclass(frozen=True)
class NoiseEstimate:
    """A noise model read off images, and what speaks for it.

    Attributes
    ----------
    noise : NoiseModel
        The likeliest model.
    fits : tuple of Fit
        Every family, the likeliest first, with the misfit and the confidence intervals of each;
        those of correlated noise are of the noise before it was correlated.
    moments : Moments
        Mean, variance and third moment by brightness, of A⁻¹ y where the noise is correlated.
    correlation : float
        Largest correlation of the noise of neighbouring pixels, as measured.
    recording : Quantization
        What digitisation did to the grey levels: step, floor, saturation.
    source : str
        What it was read off: ``"repeats"`` or ``"single frames"``.
    left_out : tuple of str
        Frames that were left out, one line each.
    """

    noise: NoiseModel
    fits: tuple[Fit, ...]
    moments: Moments
    correlation: float
    recording: Quantization
    source: str
    left_out: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Say it for people and files; values are JSON."""
        best, *rest = self.fits
        step, floor, ceiling = self.recording.step, self.recording.floor, self.recording.saturation
        grey = f"steps of {step:g}" if step else "not rounded"
        grey += f", cut off below {floor:g}" if np.isfinite(floor) else ""
        grey += f", saturated at {ceiling:g}" if np.isfinite(ceiling) else ""
        return {
            "noise": str(self.noise),
            "95 % interval": {k: list(v) for k, v in best.intervals.items()},
            "read off": self.source,
            "grey levels": grey,
            "correlation": self.correlation,
            **({"left out": list(self.left_out)} if self.left_out else {}),
            "rivals": [
                {"noise": str(fit.noise), "behind": fit.misfit - best.misfit} for fit in rest
            ],
            "curve": {
                "mean": self.moments.mean.tolist(),
                "variance": self.moments.variance.tolist(),
            },
        }


def estimate_from_shots(
    scenes: Sequence[np.ndarray], kernel: Kernel | None = None
) -> NoiseEstimate:
    """Find the noise model of a few scenes.

    Parameters
    ----------
    scenes : sequence of ndarray
        Shots of each scene one after the other, in grey levels, shape ``(shots, Y, X)``; one shot
        of each will do. Shots may drift, bleach and move a little. Pixels that are masked, NaN or
        infinite are left out.
    kernel : Kernel, optional
        The correlation of the noise, if it is known.

    Returns
    -------
    NoiseEstimate

    Raises
    ------
    UserError
        If the images cannot tell: too small, constant, saturated, copies of each other, without
        a valid pixel, or filtered so that there is no pixelwise noise left.

    Notes
    -----
    The variance by brightness is told from the picture in patches, see `measure_moments`; the
    family is the one whose variance and third moment fit best for its number of parameters.

    Examples
    --------
    >>> from napari_noise2score.noise import Poisson
    >>> scene = np.kron(np.random.default_rng(0).uniform(20, 200, (8, 8)), np.ones((32, 32)))
    >>> rng = np.random.default_rng(1)
    >>> shots = np.stack([Poisson(4).sample(scene, rng) for _ in range(4)])
    >>> found = estimate_from_shots([shots])
    >>> type(found.noise).__name__, round(found.noise.gain)
    ('Poisson', 4)
    """
    with told_in_one_line():
        values = valid_sample(scenes)
        unit = unit_of(values)
        if unit == 1:
            return _estimate(scenes, kernel)
        # what is wrong is said in the grey levels of the images
        check_scenes(scenes, values, estimate_quantization(values))
        return _in_unit(_estimate([in_units(shots, unit) for shots in scenes], kernel), unit)


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn arithmetic that the data broke down into a `UserError`, and silence its warnings."""
    try:
        with np.errstate(all="ignore"):
            yield
    except (np.linalg.LinAlgError, FloatingPointError, OverflowError, ZeroDivisionError) as error:
        raise UserError(
            f"the noise of these images cannot be told: its equations have no solution ({error}); "
            "give other images of the same kind, or say the noise model"
        ) from None


def unit_of(values: np.ndarray) -> float:
    """Return the unit, a power of ten, in which images of usual grey levels are computed with.

    Parameters
    ----------
    values : ndarray
        Grey levels.

    Returns
    -------
    float
        1 unless their range is below 0.01 or above 10⁷.

    Examples
    --------
    >>> unit_of(np.linspace(0, 300e-12, 100))
    1e-12
    """
    values = values[:: values.size // 200_000 + 1].astype(np.float64)
    low, high = np.quantile(values, [0.001, 0.999])
    span = high - low or float(np.ptp(values))
    if span < SMALLEST_RANGE or USUAL_RANGE[0] <= span <= USUAL_RANGE[1]:
        return 1.0
    return float(f"1e{math.floor(math.log10(span / 100))}")


def in_units(shots: np.ndarray, unit: float) -> np.ndarray:
    """Return shots divided by a unit, in double precision; a masked array stays one."""
    if isinstance(shots, np.ma.MaskedArray):
        return np.ma.MaskedArray(shots.data.astype(np.float64) / unit, shots.mask)
    return shots.astype(np.float64) / unit


def _in_unit(found: NoiseEstimate, unit: float) -> NoiseEstimate:
    """Return an estimate of images that were divided by a unit."""
    fits = []
    for fit in found.fits:
        intervals = {}
        for name, ends in fit.intervals.items():
            factor = unit ** fit.noise.unit_power(name)
            intervals[name] = (ends[0] * factor, ends[1] * factor)
        fits.append(replace(fit, noise=fit.noise.in_unit(unit), intervals=intervals))
    m, r = found.moments, found.recording
    moments = Moments(
        m.mean * unit,
        m.variance * unit**2,
        m.third * unit**3,
        m.variance_error * unit**2,
        m.third_error * unit**3,
        m.spread * unit,
    )
    recording = Quantization(r.step * unit, r.origin * unit, r.floor * unit, r.saturation * unit)
    return replace(
        found, noise=fits[0].noise, fits=tuple(fits), moments=moments, recording=recording
    )


def _estimate(scenes: Sequence[np.ndarray], kernel: Kernel | None) -> NoiseEstimate:
    shots = look_over(scenes)
    cut = [np.where(np.isposinf(c.astype(float)), np.inf, 0.0) for c in shots.cut]
    correlation, measured = _correlation(shots.frames, shots.noises, kernel is None, cut=cut)
    still = still_pixels(shots, kernel or measured)
    if still is not None and measured is not None:
        # all that the shots hold of their noise says more of its kernel than some of it did
        noises = [z for one in shots.scenes for z in np.tensordot(contrasts(len(one)), one, 1)]
        means = [one.mean(0) for one in shots.scenes for _ in one[1:]]
        out = [
            np.where(mask, np.inf, 0.0)
            for one, mask in zip(shots.scenes, shots.invalid, strict=True)
            for _ in one[1:]
        ]
        correlation, measured = _correlation(means, noises, True, 1.0, out)
    kernel = kernel or measured
    moments = moments_of(shots, kernel, still)
    below = None
    # what was clipped or stored without a sign cannot be negative, whatever the noise
    if shots.recording.floor == -np.inf:
        values = shots.values
        if kernel is not None:
            first = undone([one[0] for one in shots.scenes], kernel)
            values = np.concatenate([plane.ravel() for plane in first])
        below = float(np.mean(values < 0))
    fits = fit_families(moments, not shots.repeated, below, kernel is not None, still is not None)
    if kernel is None:
        fits = [_on_the_grid(fit, shots.recording) for fit in fits]
    else:
        # read noise on top of correlated noise cannot be told from it by these moments
        white = [fit for fit in fits if isinstance(fit.noise, NoiseFamily)]
        fits = [replace(fit, noise=fit.noise @ kernel) for fit in white]
    if not fits:
        raise UserError("the noise of these images fits no family: say the noise model")
    source = "repeats" if shots.repeated else "single frames"
    return NoiseEstimate(fits[0].noise, tuple(fits), moments, correlation, shots.recording, source)


def _on_the_grid(fit: Fit, recording: Quantization) -> Fit:
    """Give counts without read noise the gain that their grey levels are apart.

    Counts of any other gain would have others. Where rounding made the steps it may be chance that
    the gain is as large, as far as the moments tell; then it is taken for what it might as well be.
    """
    noise, step = fit.noise, recording.step
    if not (isinstance(noise, NoiseFamily) and noise.is_discrete) or noise.offset:
        return fit
    low, high = fit.intervals["gain"]
    near = low <= step <= high and abs(noise.values["gain"] - step) <= NEAR * step
    return replace(fit, noise=noise.with_values(gain=round_to_four_digits(step))) if near else fit


def _correlation(
    frames: Sequence[np.ndarray],
    noises: Sequence[np.ndarray],
    wanted: bool,
    flat: float = FLAT,
    cut: Sequence[np.ndarray] = (),
) -> tuple[float, Kernel | None]:
    """Measure how neighbouring pixels share their noise, and the kernel if they do.

    Of the noises the share of the pixels counts where the frames are flattest. Where cut is
    infinite, nothing does.
    """
    if noises:
        left, flats = [], []
        for frame, noise, out in zip(frames, noises, cut, strict=True):
            light = blurred(frame, SLOW)
            known = ~np.isposinf(out)
            if not known.any():
                continue
            level = np.ones(light.shape)
            level[known] = noise_level(light[known], noise[known])
            if not level.max() > 0:
                continue
            whole = (np.abs(noise) <= DEFECT * level) & known
            noise = np.where(whole, noise / level, 0)
            left.append(noise - blurred(noise, SLOW))
            steep = slope(frame) / level
            flats.append((steep <= np.quantile(steep[known], flat)) & whole)
        if not left:
            raise UserError("the repeats differ by no noise: there is nothing to estimate")
        shared = without_mean(autocorrelation(left, flats, REACH))
    else:
        try:
            shared = correlations_of_frames(frames, cut)
        except ValueError:
            raise UserError(TOO_LITTLE) from None
    reach = len(shared) // 2
    apart = shared.copy()
    apart[reach, reach] = 0
    largest = float(apart.flat[np.abs(apart).argmax()])
    if not wanted or abs(largest) <= SHARED[bool(noises)]:
        return largest, None
    far = np.argwhere(np.abs(shared) > SHARED[bool(noises)] / 2) - reach
    # of A, noise tells A Aᵀ, which reaches twice as far
    size = 2 * max(1, -(-int(np.abs(far).max()) // 2)) + 1
    try:
        return largest, kernel_from_autocorrelation(shared, size)
    except UserError:
        raise UserError(
            f"the noise of neighbouring pixels is nearly the same (correlation {largest:.2f}): the "
            "images were filtered, compressed or resampled, and the noise of their pixels cannot "
            "be told; use the raw data"
        ) from None


def without_mean(shared: np.ndarray) -> np.ndarray:
    """Undo what taking off a local mean did to correlations."""
    reach = len(shared) // 2
    at = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="ij"), -1).reshape(
        -1, 2
    )
    away = ((at[:, None] - at) ** 2).sum(-1)
    once, twice = (np.exp(-away / (2 * v)) / (2 * np.pi * v) for v in (SLOW**2, 2 * SLOW**2))
    found = np.linalg.solve(np.eye(len(at)) + twice - 2 * once, shared.ravel())
    return found.reshape(shared.shape) / found[len(found) // 2]
