"""Correct the bias of the solution x, which need not have the mean of the clean grey levels.

The noise of a pixel is independent of its neighbours' y. Among pixels whose neighbours have the
same mean, the mean of y is therefore that of the noise model at the true x, and what it differs
from that at the estimated x is a bias of the estimate. Removing it cannot increase the squared
error, except for the statistical error of the means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


class IntensityBins(NamedTuple):
    """Pixels of one channel in bins of equally many, by the mean of the neighbours of each.

    They do not depend on the noise model.

    Attributes
    ----------
    at : Tensor
        Mean of the neighbours in each bin, in grey levels, increasing, float32, shape ``(bins,)``.
    y : Tensor
        Noisy grey levels of the pixels, bin by bin, float32, 1-D.
    pixels : Tensor
        Which pixels these are, of all images one after the other, int64, 1-D.
    sizes : tuple of int
        Number of pixels of each bin.
    """

    at: Tensor
    y: Tensor
    pixels: Tensor
    sizes: tuple[int, ...]


class BinPosition(NamedTuple):
    """Where pixels are between the bins, for each channel.

    Attributes
    ----------
    first : Tensor
        Number of the bin at or below each pixel, int32, shape ``(channels, pixels)``.
    fraction : Tensor
        Position between that bin and the next, 0 to 1, float32, of the same shape.
    """

    first: Tensor
    fraction: Tensor


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

    def locate(self, around: Tensor) -> BinPosition:
        """Return where pixels are between the bins, for `apply`.

        Parameters
        ----------
        around : Tensor
            Mean of the neighbours in grey levels, see `neighbour_mean`, shape
            ``(n, channels, ..., Y, X)``, on the device of the correction.

        Returns
        -------
        BinPosition
            The same for all corrections of the same bins.
        """
        each = [_locate(around[:, i].flatten(), at) for i, at in enumerate(self.at)]
        return BinPosition(*(torch.stack(values) for values in zip(*each, strict=True)))

    def apply(self, x: Tensor, position: BinPosition) -> Tensor:
        """Return x without the bias.

        Parameters
        ----------
        x : Tensor
            Solution, shape ``(n, channels, ..., Y, X)``, on the device of the correction.
        position : BinPosition
            Of the pixels, as from `locate`.

        Returns
        -------
        Tensor
            Of the shape of x.
        """
        shifts = []
        for first, fraction, shift in zip(*position, self.shift, strict=True):
            # the last bin is followed by itself
            rise = torch.diff(shift, append=shift[-1:])
            found = rise.index_select(0, first).mul_(fraction).add_(shift.index_select(0, first))
            shifts.append(found.reshape(x[:, 0].shape))
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


def bins_by_neighbours(each: Iterable[tuple[Tensor, Tensor | None]]) -> tuple[IntensityBins, ...]:
    """Return the pixels of noisy images in bins of the mean of their neighbours.

    Parameters
    ----------
    each : iterable of (Tensor, Tensor or None)
        Noisy grey levels, shape ``(n, channels, ..., Y, X)``, and 1 for valid and 0 for invalid
        pixels, or None if all are valid.

    Returns
    -------
    tuple of IntensityBins
        For each channel, up to `MAX_BINS` bins. None if there are too few pixels.
    """
    pixels = [_keys_of(y, valid) for y, valid in each]
    found = []
    for channel in range(len(pixels[0])):
        y, around, usable = (
            torch.cat(values) for values in zip(*(p[channel] for p in pixels), strict=True)
        )
        index = usable.nonzero().flatten()
        bins = min(MAX_BINS, len(index) // MIN_PIXELS_PER_BIN)
        if not bins:
            none = around.new_zeros(0)
            found.append(IntensityBins(around.new_zeros(1), none, none.long(), ()))
            continue
        index = index[around[index].argsort()]
        split = around[index].tensor_split(bins)
        at = torch.stack([keys.mean(dtype=torch.float64) for keys in split])
        found.append(IntensityBins(at.float(), y[index], index, tuple(map(len, split))))
    return tuple(found)


def measure_bias_correction(
    bins: Sequence[IntensityBins],
    solutions: Sequence[Tensor],
    noise: NoiseModel,
    limits: tuple[float, float],
) -> BiasCorrection:
    """Measure the bias of solutions by the mean of y at each mean of the neighbours' y.

    Parameters
    ----------
    bins : sequence of IntensityBins
        Of the noisy images, as from `bins_by_neighbours`.
    solutions : sequence of Tensor
        Solutions of these images without offset, shape ``(n, channels, ..., Y, X)``.
    noise : NoiseModel
        The noise p(y | x), independent between pixels.
    limits : tuple of float
        The lowest and the highest x to which the correction may lead.

    Returns
    -------
    BiasCorrection
        In each bin b, the shift is ``m⁻¹(E[y | b]) − m⁻¹(E[m(x) | b])``, where m(x) = E[y | x]. It
        is reduced by what may be statistical error, and 0 if there are too few pixels.

    Examples
    --------
    >>> from napari_noise2score.noise import Gaussian
    >>> y = 100 + 10 * torch.randn(8, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    >>> x = torch.full_like(y, 98.0)
    >>> bins = bins_by_neighbours([(y, None)])
    >>> found = measure_bias_correction(bins, [x], Gaussian(10), (0, 255))
    >>> round(float(found.apply(x, found.locate(neighbour_mean(y))).mean()))
    100
    """
    shifts = []
    for channel, own in enumerate(bins):
        x = torch.cat([solution[:, channel].flatten() for solution in solutions])[own.pixels]
        shifts.append(_measure_shift(own, x, noise))
    return BiasCorrection(tuple(own.at for own in bins), tuple(shifts), *limits)


def _keys_of(y: Tensor, valid: Tensor | None) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return y, the mean of its neighbours, and whether it counts, of each channel, 1-D."""
    usable = torch.zeros_like(y, dtype=torch.bool)
    # at the border a pixel is among its own neighbours
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    usable[..., inner, inner] = True if valid is None else valid[..., inner, inner] > 0
    values = y, neighbour_mean(y), usable
    return [tuple(v[:, i].flatten() for v in values) for i in range(y.shape[1])]  # type: ignore[misc]


def _measure_shift(bins: IntensityBins, x: Tensor, noise: NoiseModel) -> Tensor:
    """Return the shift of each bin, given the solution at its pixels."""
    if not bins.sizes:
        return x.new_zeros(1)
    base = noise.components.base
    x = x.clamp(min=noise.lowest)
    mean = base.mean(x)
    limit = MAX_RESIDUAL * noise.variance(x).sqrt()
    residual = torch.minimum(torch.maximum(bins.y - mean, -limit), limit)
    predicted, bias = (x.new_zeros(len(bins.sizes), dtype=torch.float64) for _ in range(2))
    each = zip(*(torch.split(v, list(bins.sizes)) for v in (mean, residual)), strict=True)
    for i, (own_mean, own_residual) in enumerate(each):
        predicted[i] = own_mean.mean()
        found, error = own_residual.mean(), own_residual.var() / len(own_residual)
        bias[i] = found * (1 - error / found.square().clamp(min=1e-30)).clamp(min=0)
    before, after = base.clean_from_mean(torch.stack([predicted, predicted + bias]))
    shift: Tensor = after.clamp(min=base.lowest) - before.clamp(min=base.lowest)
    return shift.float()


def _locate(key: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of the point at or below each key, and the position up to the next."""
    first = torch.bucketize(key, at[1:-1], out_int32=True)
    width = torch.diff(at, append=at[-1:]).clamp(min=1e-12)
    return first, ((key - at[first]) / width[first]).clamp(0, 1)
