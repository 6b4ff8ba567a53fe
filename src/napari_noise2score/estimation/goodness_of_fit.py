"""Whether a noise model explains the noise of images: its level, and that it has no pattern."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import ndimage

from ..errors import UserError
from ..image.valid import fill
from ..noise.base import NoiseModel
from ..noise.kernel import autocorrelation, kernel_from_autocorrelation
from ..solve.quantization import Quantization
from ..solve.stabilization import high_pass
from ._autocorrelation import correlations_of_frames
from ._dct_power import variances_with_read
from ._frames import DEFECT, TOO_LITTLE, look_over, powers_of
from ._from_images import REACH, SHARED, SLOW, NoiseEstimate, without_mean
from ._moments import FLAT, blurred, slope

# less of the noise explained than this, and the model is called wrong
ENOUGH = 0.9
# of the residual, in standard deviations that the model says
EDGES = np.linspace(-5, 5, 41)
LINE = 100
# how often noise is drawn from the model for every plane, so that its own chance hardly counts
DRAWS = 3


class Sight(NamedTuple):
    """One place that the noise is looked at: a plane, and what is known of it besides.

    Attributes
    ----------
    y : ndarray
        Noisy plane in grey levels, shape ``(Y, X)``; a masked array if pixels are not valid.
    other : ndarray or None
        The next shot of the same place.
    x : ndarray or None
        The clean plane, without the offset, as a denoiser has it.
    """

    y: np.ndarray
    other: np.ndarray | None = None
    x: np.ndarray | None = None


@dataclass(frozen=True)
class Curve:
    """The variance of pixels by brightness, measured and as a noise model says it.

    Attributes
    ----------
    mean, variance, error : ndarray
        Measured mean and variance of y and standard error of the variance, in grey levels and
        grey levels squared, shape ``(bins,)``.
    said : ndarray
        The model's variance in the same ranges of brightness.
    line_mean, line_variance : ndarray
        The model's curve, to be drawn, shape ``(100,)``.
    """

    mean: np.ndarray
    variance: np.ndarray
    error: np.ndarray
    said: np.ndarray
    line_mean: np.ndarray
    line_variance: np.ndarray

    @property
    def explained(self) -> float:
        """The part of the noise that the model explains: 1 if all, and no more than there is.

        The smaller of both variances over the larger one, averaged over brightness.
        """
        low, high = np.minimum(self.variance, self.said), np.maximum(self.variance, self.said)
        return float(np.mean(low / high))

    @property
    def level(self) -> float:
        """How strong the noise is, in units of what the model says, as a standard deviation."""
        return _level(self.variance, self.said)

    def levels(self) -> tuple[float, float]:
        """Give the same of the darker and of the brighter half."""
        half = (len(self.mean) + 1) // 2
        dark, bright = slice(None, half), slice(-half, None)
        return (
            _level(self.variance[dark], self.said[dark]),
            _level(self.variance[bright], self.said[bright]),
        )


@dataclass(frozen=True)
class Residual:
    """What is left of flat parts of an image without its picture, in units of the model's noise.

    Attributes
    ----------
    edges : ndarray
        Of the bins of the histogram, in standard deviations that the model says.
    found, expected : ndarray
        Share of the pixels in each bin: of the image, and of noise drawn from the model.
    spread : float
        Variance, in units of that of noise drawn from the model.
    shared : ndarray
        Correlation of pixels by their distance, less that which the model says, shape ``(9, 9)``,
        of single frames ``(5, 5)``; the middle is the pixel itself.
    """

    edges: np.ndarray
    found: np.ndarray
    expected: np.ndarray
    spread: float
    shared: np.ndarray

    @property
    def correlation(self) -> float:
        """The correlation farthest from what the model says."""
        return float(self.shared.flat[np.abs(self.shared).argmax()])


@dataclass(frozen=True)
class NoiseCheck:
    """How well a noise model explains the noise of images.

    Attributes
    ----------
    noise : NoiseModel
        The model that is checked.
    estimate : NoiseEstimate
        What the images themselves say of their noise.
    curve : Curve
        Variance by brightness, measured and as the model says it.
    residual : Residual
        What is left without the picture.
    source : str
        What the residual is of: ``"denoised"`` (of y less the denoised image), ``"repeats"`` (of
        shots less the next) or ``"single frames"`` (of what is finest in y).
    findings : tuple of str
        What contradicts the assumptions of the estimate, and what to do, see `findings`.
    """

    noise: NoiseModel
    estimate: NoiseEstimate
    curve: Curve
    residual: Residual
    source: str
    findings: tuple[str, ...] = ()

    @property
    def explains(self) -> bool:
        """Whether the model is right as far as can be told."""
        enough = self.curve.explained >= ENOUGH
        return enough and not self._is_correlated and not self.findings

    @property
    def summary(self) -> str:
        """Both numbers as text, as ``explains the noise: 0.97; residual correlation: 0.02``."""
        return (
            f"explains the noise: {self.curve.explained:.2f}; "
            f"residual correlation: {self.residual.correlation:.2f}"
        )

    @property
    def verdict(self) -> str:
        """Say in plain words whether the model is right, and if not what is wrong."""
        if self.explains:
            return "The model explains the noise."
        faults = []
        if self.curve.explained < ENOUGH:
            faults.append(_level_fault(self.curve))
        if self._is_correlated:
            faults.append(self._correlation_fault())
        if not faults:
            faults.append("The model has the variance that is seen, but:")
        return " ".join([*faults, *self.findings])

    def describe(self) -> dict[str, Any]:
        """Say it for files; values are JSON."""
        return {
            "noise": str(self.noise),
            "explains the noise": self.curve.explained,
            "residual correlation": self.residual.correlation,
            "residual variance": self.residual.spread,
            "residual of": self.source,
            "level": self.curve.level,
            "verdict": self.verdict,
            "findings": list(self.findings),
        }

    @property
    def _is_correlated(self) -> bool:
        return abs(self.residual.correlation) > SHARED[self.source != "single frames"]

    def _correlation_fault(self) -> str:
        shared = f"{self.residual.correlation:.2f}"
        if self.source == "denoised" and abs(self.estimate.correlation) <= SHARED[True]:
            return (
                f"What denoising takes away has structure (correlation {shared}), and the noise "
                "has none: some of the picture goes with it. Train for longer."
            )
        if self.source == "single frames":
            more = "more" if self.residual.correlation > 0 else "less"
            return (
                f"Neighbouring pixels share {more} than the model says (correlation {shared}): "
                "noise, or fine structure, which one shot cannot quite tell apart."
            )
        advice = "set the correlation, or use images that were not filtered"
        if not _can_be_undone(self.residual.shared):
            advice = "no correlation that can be set is like it; use images that were not filtered"
        return (
            f"Neighbouring pixels share noise in another way than the model says (correlation "
            f"{shared}): {advice}."
        )


def _can_be_undone(shared: np.ndarray) -> bool:
    """Say whether there is a kernel of correlations, which were less those of white noise."""
    middle = len(shared) // 2
    shared = shared.copy()
    shared[middle, middle] = 1
    far = np.argwhere(np.abs(shared) > SHARED[True] / 2) - middle
    try:
        kernel_from_autocorrelation(shared, 2 * max(1, -(-int(np.abs(far).max()) // 2)) + 1)
    except UserError:
        return False
    return True


def check_curve(found: NoiseEstimate, noise: NoiseModel) -> Curve:
    """Compare the variance by brightness of images with that of a noise model.

    Parameters
    ----------
    found : NoiseEstimate
        What was read off the images.
    noise : NoiseModel
        The model.

    Returns
    -------
    Curve

    Examples
    --------
    >>> from napari_noise2score.noise import Poisson
    >>> from napari_noise2score.estimation._from_images import estimate_from_shots
    >>> scene = np.kron(np.random.default_rng(0).uniform(20, 200, (8, 8)), np.ones((32, 32)))
    >>> rng = np.random.default_rng(1)
    >>> found = estimate_from_shots([np.stack([Poisson(4).sample(scene, rng) for _ in range(4)])])
    >>> [round(check_curve(found, Poisson(gain)).explained, 1) for gain in (2, 4, 8)]
    [0.5, 1.0, 0.5]
    """
    moments, kernel = found.moments, found.noise.components.kernel
    # with a kernel they are those of A⁻¹ y
    total, power = (kernel.total, kernel.power) if kernel else (1.0, 1.0)
    mean, variance, error = (
        moments.mean * total, moments.variance * power, moments.variance_error * power,
    )  # fmt: skip
    said = moments.over(lambda m: _variance(noise, m * total))
    line = _line(mean, noise)
    return Curve(mean, variance, error, said, line, _variance(noise, line))


def check_mixed_curve(scenes: Sequence[np.ndarray], noise: NoiseModel) -> Curve:
    """Compare the same, of noise that is correlated but for read noise on top.

    Parameters
    ----------
    scenes : sequence of ndarray
        Shots of each scene one after the other, in grey levels, shape ``(shots, Y, X)``.
    noise : NoiseModel
        The model, of both.

    Returns
    -------
    Curve
        The variance is that which the power of waves shows under the model's correlation.

    Raises
    ------
    UserError
        If the images cannot tell.
    """
    kernel = noise.components.kernel
    assert kernel is not None
    powers = powers_of(look_over(scenes))
    variance, error = variances_with_read(powers, kernel)
    line = _line(powers.mean, noise)
    said, drawn = _variance(noise, powers.mean), _variance(noise, line)
    return Curve(powers.mean, variance, error, said, line, drawn)


def _line(mean: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Give the brightness where a curve is drawn, which these means lie on."""
    line = np.linspace(min(0.0, mean.min()), 1.05 * mean.max(), LINE)
    return line[line >= noise.offset] if noise.offset < mean.min() else line


def check_residual(
    sights: Iterable[Sight], noise: NoiseModel, recording: Quantization, seed: int = 0
) -> Residual:
    """Compare what is left of images without their picture with noise drawn from a model.

    Parameters
    ----------
    sights : iterable of Sight
        What is looked at; either all or none know the clean plane, or the next shot.
    noise : NoiseModel
        The model.
    recording : Quantization
        What digitisation did to the images; it is done to the drawn noise, too.
    seed : int
        Of the noise that is drawn.

    Returns
    -------
    Residual

    Notes
    -----
    Whatever is done to the image is done, at the same places, to one drawn from the model, so
    that neither digitisation nor the local mean that is taken off, the model's own correlation or
    what the selection of pixels brings about counts against the model. Only the flattest 30 % of
    the pixels are looked at, where a denoiser has no detail to miss. Of single frames even these
    hold enough of a picture to look correlated: there the correlation is that of
    `correlations_of_frames`, which tells noise and picture apart.

    Examples
    --------
    >>> from napari_noise2score.noise import A, Gaussian
    >>> x = np.full((128, 128), 50.0)
    >>> y = (Gaussian(5) @ A).sample(x, np.random.default_rng(0))
    >>> left = check_residual([Sight(y, x=x)], Gaussian(5), Quantization())
    >>> round(left.correlation, 1)
    0.5
    """
    chance = np.random.default_rng(seed)
    images: list[np.ndarray] = []
    drawn, flats, alone, cut = [], [], [], []
    for masked in sights:
        sight, out = _whole(masked)
        if out.all():
            continue
        if sight.x is None and sight.other is None:
            alone.append(sight.y)
            cut.append(np.where(out, np.inf, 0.0))
        x, mean, width = _model_at(sight, noise, recording)
        images.append(_left(sight, mean, width, out))
        for _ in range(DRAWS):
            y, other = (_recorded(noise.sample(x, chance), recording) for _ in range(2))
            twin = Sight(y, None if sight.other is None else other, sight.x)
            drawn.append(_left(twin, mean, width, out))
        steep = slope(mean) / width
        known = ~ndimage.binary_dilation(out, iterations=2) if out.any() else ~out
        if not known.any():
            known = ~out
        flat = (steep <= np.quantile(steep[known], FLAT)) & known
        flats.append(flat & (np.abs(images[-1]) < DEFECT))
    if not images:
        raise UserError("the planes looked at hold no valid pixel: there is nothing to check")
    places = [flat for flat in flats for _ in range(DRAWS)]
    found, expected = (
        np.concatenate([n[flat] for n, flat in zip(kept, where, strict=True)])
        for kept, where in ((images, flats), (drawn, places))
    )
    if alone:
        try:
            shared = correlations_of_frames(alone, cut if any(c.any() for c in cut) else ())
        except ValueError:
            raise UserError(TOO_LITTLE) from None
        level = float(np.median([np.median(y) for y in alone]))
        shared -= _said_correlations(noise, level, recording, len(shared) // 2)
    else:
        shared, said = (
            without_mean(autocorrelation(kept, where, REACH))
            for kept, where in ((images, flats), (drawn, places))
        )
        shared -= said
    # what was taken off with the picture has made both smaller
    unit = float(np.sqrt(np.mean(expected**2)))
    found, expected = found / unit, expected / unit
    shares, drawn_shares = (np.histogram(n, EDGES)[0] / max(len(n), 1) for n in (found, expected))
    spread = float(np.mean(found**2))
    return Residual(EDGES, shares, drawn_shares, spread, shared)


def _whole(sight: Sight) -> tuple[Sight, np.ndarray]:
    """Fill what is not valid of any plane of a sight, and say where that is."""
    planes = [p for p in (sight.y, sight.other, sight.x) if p is not None]
    out = np.zeros(np.shape(sight.y), bool)
    for plane in planes:
        out |= np.ma.getmaskarray(plane) | ~np.isfinite(np.ma.getdata(plane))

    def filled(plane: np.ndarray | None) -> np.ndarray | None:
        if plane is None:
            return None
        data = np.ma.getdata(plane)
        if not out.any() or out.all():
            return data
        return fill(data, out, max(data.shape), float(np.median(data[~out])))

    y = filled(sight.y)
    assert y is not None
    return Sight(y, filled(sight.other), filled(sight.x)), out


def _model_at(
    sight: Sight, noise: NoiseModel, recording: Quantization
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the clean plane, and the mean and the standard deviation of y that it makes."""
    if sight.x is not None:
        x = np.asarray(sight.x, dtype=np.float64)
        x = np.maximum(x, noise.lowest)
        base, kernel, _ = noise.components
        mean = base.mean(torch.from_numpy(x)).numpy()
        if kernel is not None and not base.additive:
            mean = kernel.apply_to_image(mean)  # what blurs the noise blurred the picture
    else:
        scene = sight.y if sight.other is None else (sight.y + sight.other) / 2
        mean = blurred(scene, SLOW)
        x = noise.clean_from_mean(torch.from_numpy(mean)).numpy()
        x = np.maximum(x, noise.lowest)
    variance = noise.variance(torch.from_numpy(x)).numpy() + recording.step**2 / 12
    # a model may know of no noise at all where there is no light
    variance = np.maximum(variance, 0.01 * float(np.median(variance)) or 1e-12)
    return x, mean, np.sqrt(variance)


def _said_correlations(
    noise: NoiseModel, level: float, recording: Quantization, reach: int
) -> np.ndarray:
    """Give the correlation of pixels by their distance that a model says, where y is so bright."""
    base, kernel, read = noise.components
    x = noise.clean_from_mean(torch.tensor([level], dtype=torch.float64)).clamp(min=noise.lowest)
    taps = np.array(kernel.taps if kernel else [[1.0]])
    size = 2 * (max(taps.shape) + reach)
    product = np.fft.ifft2(np.abs(np.fft.fft2(taps, (size, size))) ** 2).real
    near = np.arange(-reach, reach + 1)
    shared = float(base.variance(x)) * product[np.ix_(near, near)]
    # what is white on top
    shared[reach, reach] += read**2 + recording.step**2 / 12
    return shared / (float(shared[reach, reach]) or 1.0)


def _left(sight: Sight, mean: np.ndarray, width: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Give what is left without the picture, in standard deviations of the model; 0 where out."""
    if sight.x is not None:
        left = (sight.y - mean) / width
    elif sight.other is not None:
        left = (sight.other - sight.y) / np.sqrt(2) / width
    else:
        # only of what is finest do pictures hold little
        return np.pad(high_pass(sight.y / width), 1, mode="edge")
    left = np.where(out, 0, left)
    return left - blurred(left, SLOW)


def _recorded(y: np.ndarray, recording: Quantization) -> np.ndarray:
    rounded = recording.rounded(torch.from_numpy(np.asarray(y, dtype=np.float64)))
    return rounded.clamp(recording.floor, recording.saturation).numpy()


def _variance(noise: NoiseModel, mean: np.ndarray) -> np.ndarray:
    x = noise.clean_from_mean(torch.from_numpy(np.asarray(mean, dtype=np.float64)))
    return noise.variance(x.clamp(min=noise.lowest)).numpy()


def _level(variance: np.ndarray, said: np.ndarray) -> float:
    # a model may say that there is none at all, where there is no light
    return float(np.exp(np.median(np.log(variance / np.maximum(said, 1e-6 * variance))) / 2))


def _level_fault(curve: Curve) -> str:
    dark, bright = curve.levels()
    if (dark - 1) * (bright - 1) >= 0:
        return f"The noise is {_compared(curve.level)} than the model says."
    return (
        f"The noise is {_compared(dark)} than the model says where the image is dark, and "
        f"{_compared(bright)} where it is bright."
    )


def _compared(level: float) -> str:
    return f"{abs(level - 1):.0%} {'stronger' if level > 1 else 'weaker'}"
