"""Find the noise model of images from the images alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from .base import NoiseModel
from .curve import fit_transform
from .fit import Fit, fit_families
from .kernel import Kernel, correlations, kernel_of
from .moments import FLAT, Moments, blurred, measure_moments, slope
from .neighbours import TOLD, correlations_of_frames
from .recording import Recording, recording_of
from .transform import Transform

SMALLEST = 64
# correlated is what neighbours share more than this of; single frames share some of their picture
SHARED = {True: 0.1, False: TOLD}
REACH = 4
# slow drifts, and what is left of the picture, are taken off over this radius in pixels
SLOW = 3.0
# a pixel so many standard deviations off its neighbours is a defect
DEFECT = 12.0
SATURATED = 0.2
# a shot less the mean of both beside it has 1.5 times the variance of a shot and 0.75 of its third
# moment
SKEW = 0.75 / 1.5**1.5


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
    recording : Recording
        What digitisation did to the grey levels: step, floor, saturation.
    source : str
        What it was read off: ``"repeats"`` or ``"single frames"``.
    """

    noise: NoiseModel
    fits: tuple[Fit, ...]
    moments: Moments
    correlation: float
    recording: Recording
    source: str

    def describe(self) -> dict[str, Any]:
        """Say it for people and files; values are JSON."""
        best, *rest = self.fits
        step, floor, ceiling = self.recording.step, self.recording.floor, self.recording.ceiling
        grey = f"steps of {step:g}" if step else "not rounded"
        grey += f", cut off below {floor:g}" if np.isfinite(floor) else ""
        grey += f", saturated at {ceiling:g}" if np.isfinite(ceiling) else ""
        return {
            "noise": str(self.noise),
            "95 % interval": {k: list(v) for k, v in best.intervals.items()},
            "read off": self.source,
            "grey levels": grey,
            "correlation": self.correlation,
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
        of each will do. Shots may drift, bleach and move a little.
    kernel : Kernel, optional
        The correlation of the noise, if it is known.

    Returns
    -------
    NoiseEstimate

    Raises
    ------
    UserError
        If the images cannot tell: too small, constant, saturated, copies of each other, or
        filtered so that there is no pixelwise noise left.

    Notes
    -----
    The variance by brightness is the smallest eigenvalues of patches, see `measure_moments`; the
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
    repeated = all(len(shots) > 1 for shots in scenes)
    values = np.concatenate([shots.ravel()[:: shots.size // 200_000 + 1] for shots in scenes])
    recording = recording_of(values)
    _check(scenes, values, recording)
    several = all(len(shots) > 2 for shots in scenes)
    frames: list[np.ndarray] = []
    noises: list[np.ndarray] = []
    cut: list[np.ndarray] = []
    for shots in scenes:
        for some in _neighbours(shots.astype(np.float64), 3 if several else 2):
            frames.append(some.mean(0))
            cut.append(np.any((some <= recording.floor) | (some >= recording.ceiling), axis=0))
            if several:
                # what drifts and bleaches evenly is the same in a shot and the mean of both beside
                noises.append((some[1] - (some[0] + some[2]) / 2) / np.sqrt(1.5))
            elif repeated:
                noises.append((some[1] - some[0]) / np.sqrt(2))
    try:
        transform = fit_transform(frames, recording.step)
    except ValueError:
        raise UserError("the images show no noise: there is nothing to estimate") from None
    frames = [_mended(frame, transform) for frame in frames]
    correlation, measured = _correlation(frames, noises, transform, kernel is None)
    kernel = kernel or measured
    if kernel is not None:
        frames, noises = ([kernel.undo_image(a) for a in part] for part in (frames, noises))
        cut = []
    try:
        moments = measure_moments(frames, noises, SKEW if several else 0.0, cut)
    except ValueError:
        raise UserError(
            "too little to tell the noise from: give larger images, or more of them "
            f"(at least {SMALLEST}×{SMALLEST} pixels that are neither black nor saturated)"
        ) from None
    below = None
    # what was clipped or stored without a sign cannot be negative, whatever the noise
    if recording.floor == -np.inf:
        if kernel is not None:
            values = np.concatenate([kernel.undo_image(shots[0]).ravel() for shots in scenes])
        below = float(np.mean(values < 0))
    fits = fit_families(moments, not repeated, below, kernel is not None)
    if kernel is not None:
        fits = [replace(f, noise=f.noise @ kernel) for f in fits if hasattr(f.noise, "__matmul__")]
    source = "repeats" if repeated else "single frames"
    return NoiseEstimate(fits[0].noise, tuple(fits), moments, correlation, recording, source)


def _check(scenes: Sequence[np.ndarray], values: np.ndarray, recording: Recording) -> None:
    height, width = np.max([shots.shape[-2:] for shots in scenes], axis=0)
    if min(height, width) < SMALLEST:
        raise UserError(
            f"images of {height}×{width} pixels are too small to tell their noise: "
            f"give at least {SMALLEST}×{SMALLEST}"
        )
    if not np.isfinite(values).all():
        raise UserError("the images hold pixels that are not numbers (NaN or infinite)")
    if values.min() == values.max():
        raise UserError(f"the images are constant (every pixel is {values.min():g}): no noise")
    if (share := float(np.mean(values >= recording.ceiling))) > SATURATED:
        raise UserError(
            f"{share:.0%} of the pixels are saturated at {recording.ceiling:g}: "
            "their noise cannot be told; record with less light"
        )
    for shots in scenes:
        for first, second in pairwise(shots):
            if np.array_equal(first, second):
                raise UserError(
                    "two of the repeats are identical: copies of one shot, which say nothing "
                    "of its noise; name the axes so that no axis of copies is taken for time"
                )


def _neighbours(shots: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Give each run of so many shots one after the other, or the only shot."""
    count = min(count, len(shots))
    return (shots[i : i + count] for i in range(len(shots) - count + 1))


def _mended(frame: np.ndarray, transform: Transform) -> np.ndarray:
    """Give a frame with hot and dead pixels replaced by the median of their neighbours."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(frame, 1, mode="reflect"), (3, 3))
    median = np.median(around.reshape(*frame.shape, 9), axis=-1)
    width = np.sqrt(transform.variance(torch.from_numpy(median)).numpy())
    return np.where(np.abs(frame - median) > DEFECT * width, median, frame)


def _correlation(
    frames: Sequence[np.ndarray],
    noises: Sequence[np.ndarray],
    transform: Transform,
    wanted: bool,
) -> tuple[float, Kernel | None]:
    """Measure how neighbouring pixels share their noise, and the kernel if they do."""
    if noises:
        left, flats = [], []
        for frame, noise in zip(frames, noises, strict=True):
            level = np.sqrt(transform.variance(torch.from_numpy(blurred(frame, SLOW))).numpy())
            left.append(noise / level - blurred(noise / level, SLOW))
            steep = slope(frame) / level
            flats.append(steep <= np.quantile(steep, FLAT))
        shared = without_mean(correlations(left, flats, REACH))
    else:
        shared = correlations_of_frames(frames)
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
        return largest, kernel_of(shared, size)
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
