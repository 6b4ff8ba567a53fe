"""Correct the bias of the solution x, which need not have the mean of the clean grey levels.

The noise of a pixel is independent of its neighbours' y. Among pixels whose neighbours have the
same mean, the mean of y is therefore that of the noise model at the true x, and what it differs
from that at the estimated x is a bias of the estimate. Removing it cannot increase the squared
error, except for the statistical error of the means.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ..noise import NoiseModel
from .pooling import WINDOW, neighbour_mean

MAX_BINS = 12
MIN_PIXELS_PER_BIN = 200
# Larger residuals, in standard deviations of the noise, are limited: they are defects of the
# detector. Single photoelectrons of an EMCCD reach several.
MAX_RESIDUAL = 10.0


class BiasCorrection(NamedTuple):
    """What is added to x at each mean of the neighbours' y.

    Attributes
    ----------
    at, shift : tuple of Tensor
        For each channel, means of the neighbours in grey levels, increasing, and what is added to
        x there, both float32 and 1-D. Between them the shift is linear, beyond them constant.
    lowest, highest : float
        x is not moved beyond them.
    """

    at: tuple[Tensor, ...]
    shift: tuple[Tensor, ...]
    lowest: float
    highest: float

    def of_channel(self, number: int) -> BiasCorrection:
        """Return the correction of one channel alone."""
        one = slice(number, number + 1)
        return self._replace(at=self.at[one], shift=self.shift[one])

    def apply(self, x: Tensor, around: Tensor) -> Tensor:
        """Return x without the bias.

        Parameters
        ----------
        x : Tensor
            Solution, shape ``(n, channels, ..., Y, X)``, on the device of the correction.
        around : Tensor
            Mean of the neighbours in grey levels, of the same shape, see `neighbour_mean`.

        Returns
        -------
        Tensor
            Of the shape of x.
        """
        curves = zip(self.at, self.shift, strict=True)
        shifts = [_interpolate(around[:, i], *curve) for i, curve in enumerate(curves)]
        return self.moved(x, torch.stack(shifts, dim=1))

    def moved(self, x: Tensor, shift: Tensor) -> Tensor:
        """Return x plus a shift, which does not move it beyond the limits.

        Parameters
        ----------
        x, shift : Tensor
            Solution, and what is added to it, of one shape.

        Returns
        -------
        Tensor
            Of the shape of x.
        """
        # an x that is beyond a limit already, as that of a defective pixel, stays
        highest, lowest = x.clamp(min=self.highest), x.clamp(max=self.lowest)
        return torch.maximum(torch.minimum(x + shift, highest), lowest)


def measure_bias_correction(
    each: Iterable[tuple[Tensor, Tensor, Tensor | None]],
    noise: NoiseModel,
    limits: tuple[float, float],
) -> BiasCorrection:
    """Measure the bias of solutions by the mean of y at each mean of the neighbours' y.

    Parameters
    ----------
    each : iterable of (Tensor, Tensor, Tensor or None)
        Solutions without offset, noisy grey levels, both of shape ``(n, channels, ..., Y, X)``, and
        1 for valid and 0 for invalid pixels, or None if all are valid.
    noise : NoiseModel
        The noise p(y | x), independent between pixels.
    limits : tuple of float
        The lowest and the highest x to which the correction may lead.

    Returns
    -------
    BiasCorrection
        In each of up to `MAX_BINS` bins b of equally many pixels, the shift is
        ``m⁻¹(E[y | b]) − m⁻¹(E[m(x) | b])``, where m(x) = E[y | x]. It is reduced by what may be
        statistical error, and 0 if there are too few pixels.

    Examples
    --------
    >>> from napari_noise2score.noise import Gaussian
    >>> y = 100 + 10 * torch.randn(8, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    >>> x = torch.full_like(y, 98.0)
    >>> found = measure_bias_correction([(x, y, None)], Gaussian(10), (0, 255))
    >>> round(float(found.apply(x, neighbour_mean(y)).mean()))
    100
    """
    pixels = [_pixels_of(x, y, valid, noise) for x, y, valid in each]
    channels = [
        [torch.cat(values) for values in zip(*of_channel, strict=True)]
        for of_channel in zip(*pixels, strict=True)
    ]
    base = noise.components.base
    curves = [_measure_curve(around, mean, rest, base) for around, mean, rest in channels]
    at, shift = zip(*curves, strict=True)
    return BiasCorrection(at, shift, *limits)


def _pixels_of(
    x: Tensor, y: Tensor, valid: Tensor | None, noise: NoiseModel
) -> list[tuple[Tensor, ...]]:
    """Return the mean of the neighbours, m(x) and y − m(x) of the valid pixels of each channel."""
    x = x.clamp(min=noise.lowest)
    mean = noise.components.base.mean(x)
    limit = MAX_RESIDUAL * noise.variance(x).sqrt()
    residual = torch.minimum(torch.maximum(y - mean, -limit), limit)
    usable = torch.zeros_like(y, dtype=torch.bool)
    # at the border a pixel is among its own neighbours
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    usable[..., inner, inner] = True if valid is None else valid[..., inner, inner] > 0
    values = neighbour_mean(y), mean, residual
    return [tuple(v[:, i][usable[:, i]] for v in values) for i in range(y.shape[1])]


def _measure_curve(
    around: Tensor, mean: Tensor, residual: Tensor, base: NoiseModel
) -> tuple[Tensor, Tensor]:
    """Return the means of the bins and their shifts, from values of pixels in one dimension."""
    bins = min(MAX_BINS, len(around) // MIN_PIXELS_PER_BIN)
    if not bins:
        return around.new_zeros(1), around.new_zeros(1)
    at, predicted, bias = (around.new_zeros(bins, dtype=torch.float64) for _ in range(3))
    for i, chosen in enumerate(around.argsort().tensor_split(bins)):
        at[i], predicted[i] = around[chosen].mean(), mean[chosen].mean()
        found, error = residual[chosen].mean(), residual[chosen].var() / len(chosen)
        bias[i] = found * (1 - error / found.square().clamp(min=1e-30)).clamp(min=0)
    before, after = base.clean_from_mean(torch.stack([predicted, predicted + bias]))
    shift = after.clamp(min=base.lowest) - before.clamp(min=base.lowest)
    return at.float(), shift.float()


def _interpolate(key: Tensor, at: Tensor, values: Tensor) -> Tensor:
    """Return values between points by linear interpolation, constant beyond the ends."""
    if len(at) == 1:
        return values.expand(key.shape)
    cell = torch.bucketize(key, at[1:-1])
    slope = torch.diff(values) / torch.diff(at).clamp(min=1e-12)
    inside = key.clamp(at[0], at[-1])
    return values[cell] + slope[cell] * (inside - at[cell])
