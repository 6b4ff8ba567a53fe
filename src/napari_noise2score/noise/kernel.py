"""A correlation A of the noise between neighbouring pixels, as a convolution of each plane.

Blocks are convolved by the FFT and so wrap around: pixels within `Kernel.reach` of the border of a
block are valid only if the block wraps around itself. Whole images are extended by reflection at
their edges (without repeating the edge pixel). For kernels with left–right and top–bottom symmetry,
A and its inverse are then exact up to the edge; for others they are inexact within `Kernel.reach`
of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError, quoted
from ._torch import torch
from .base import Array
from .parameter import format_number

if TYPE_CHECKING:
    from torch import Tensor

# the smallest value of the spectrum, as a fraction of the largest, that can be divided by
MIN_SPECTRUM = 0.02
# largest number of rows and columns: a larger kernel would wrap around the grid on which its
# spectrum is computed
MAX_TAPS = 63
MIN_TAP, MAX_TAP = 1e-6, 1e6
# largest number of characters: more than the largest kernel needs
MAX_TEXT_LENGTH = 200_000
# taps of the inverse below this fraction of the largest are neglected
NEGLECTED_TAP = 1e-5
# rows and columns of the grid on which the spectrum is examined, and on which the inverse is
SPECTRUM_SIZE, INVERSE_SIZE = 128, 256
# rows and columns of the grid on which a kernel is computed from an autocorrelation
ROOT_SIZE = 64
DECIMALS = 4
A_TAPS = ((0.05, 0.1, 0.05), (0.1, 0.4, 0.1), (0.05, 0.1, 0.05))


@dataclass(frozen=True)
class Kernel:
    """A convolution of the plane YX: that of noise and image together, or of the noise alone.

    Parameters
    ----------
    taps : tuple of tuple of float
        Rows of the kernel, an odd number of odd length, without unit; the middle one is the
        pixel itself.
    of_noise : bool
        Whether the noise alone is correlated, whatever its family, and the image is as sharp as it
        was recorded. Such a kernel is never undone, and need not be invertible.

    Raises
    ------
    UserError
        If the taps do not form such a matrix, or a convolution that is to be undone cannot be: its
        spectrum falls below 2 % of its largest value.

    Examples
    --------
    >>> import torch
    >>> print(A)
    A
    >>> print(Kernel([[0.2, 0.6, 0.2]]))
    kernel([[0.2, 0.6, 0.2]])
    >>> plane = torch.rand(40, 50, dtype=torch.float64)
    >>> bool(torch.allclose(A.undo(A.apply(plane)), plane))
    True
    """

    taps: Sequence[Sequence[float]]
    of_noise: bool = False

    def __post_init__(self) -> None:
        try:
            rows = tuple(tuple(_tap(v) for v in row) for row in self.taps)
        except (TypeError, ValueError, OverflowError):
            rows = ()
        widths = {len(row) for row in rows}
        if len(widths) != 1 or len(rows) % 2 == 0 or min(widths) % 2 == 0:
            raise UserError(
                "kernel: give an odd number of rows of one odd length, as in "
                "kernel([[0.05, 0.1, 0.05], [0.1, 0.4, 0.1], [0.05, 0.1, 0.05]])"
            )
        if not all(math.isfinite(v) for row in rows for v in row):
            raise UserError("kernel: every tap must be a number")
        if max(len(rows), *widths) > MAX_TAPS:
            raise UserError(f"kernel: give no more than {MAX_TAPS} rows and columns")
        if not MIN_TAP <= max(abs(v) for row in rows for v in row) <= MAX_TAP:
            raise UserError(
                f"kernel: the largest tap must be between {MIN_TAP:g} and {MAX_TAP:g}; "
                "what counts is their ratio, and their sum is usually 1"
            )
        object.__setattr__(self, "taps", rows)
        if self.of_noise:
            return
        smallest, largest = self._ends_of_spectrum()
        if smallest <= MIN_SPECTRUM * largest:
            raise UserError(
                f"kernel: this convolution cannot be undone: its spectrum falls to {smallest:.2g} "
                f"(of {largest:.2g} at most); a larger middle tap would help"
            )

    def __str__(self) -> str:
        if self.taps == A_TAPS and not self.of_noise:
            return "A"
        rows = ", ".join(f"[{', '.join(format_number(v) for v in row)}]" for row in self.taps)
        return f"{'noise_' * self.of_noise}kernel([{rows}])"

    def _ends_of_spectrum(self) -> tuple[float, float]:
        spectrum = np.abs(np.fft.fft2(np.array(self.taps), (SPECTRUM_SIZE, SPECTRUM_SIZE)))
        return float(spectrum.min()), float(spectrum.max())

    @property
    def condition(self) -> float:
        """The smallest value of the spectrum, as a fraction of the largest."""
        smallest, largest = self._ends_of_spectrum()
        return smallest / largest

    @property
    def power(self) -> float:
        """Sum of the squared taps: the factor by which the variance of white noise changes."""
        return sum(v * v for row in self.taps for v in row)

    @property
    def total(self) -> float:
        """Sum of the taps: the factor by which a mean changes."""
        return sum(v for row in self.taps for v in row)

    @cached_property
    def reach(self) -> int:
        """Distance in pixels up to which the inverse depends on the surroundings of a pixel."""
        if self.of_noise:
            # it is applied twice, and never inverted
            return 2 * (max(len(self.taps), len(self.taps[0])) // 2)
        size = INVERSE_SIZE
        taps = torch.fft.ifft2(1 / self._spectrum((size, size))).real.abs()
        rows, columns = torch.nonzero(taps > NEGLECTED_TAP * taps.max(), as_tuple=True)
        distance = torch.cat([rows, columns])
        return int(torch.minimum(distance, size - distance).max())

    def apply(self, block: Tensor) -> Tensor:
        """Return A of every plane of a block, shape ``(..., Y, X)``."""
        return self._filter(block, self._spectrum(block.shape[-2:]))

    def apply_transposed(self, block: Tensor) -> Tensor:
        """Return Aᵀ of every plane of a block."""
        return self._filter(block, self._spectrum(block.shape[-2:]).conj())

    def undo(self, block: Tensor) -> Tensor:
        """Return A⁻¹ of every plane of a block."""
        return self._filter(block, 1 / self._spectrum(block.shape[-2:]))

    def undo_transposed(self, block: Tensor) -> Tensor:
        """Return A⁻ᵀ of every plane of a block."""
        return self._filter(block, 1 / self._spectrum(block.shape[-2:]).conj())

    def apply_to_image(self, image: Array, transposed: bool = False) -> Array:
        """Return A (or Aᵀ) of whole planes, shape ``(..., Y, X)``, reflected at their edges."""
        reach = max(len(self.taps), len(self.taps[0])) // 2
        return _reflected(image, reach, self.apply_transposed if transposed else self.apply)

    def undo_image(self, image: Array) -> Array:
        """Return A⁻¹ of whole planes, reflected at their edges, inexact within `reach` of them."""
        return _reflected(image, self.reach, self.undo)

    def _filter(self, block: Tensor, spectrum: Tensor) -> Tensor:
        """Multiply the spectrum of every plane."""
        half = spectrum[:, : block.shape[-1] // 2 + 1].to(block.device)
        if block.dtype == torch.float32:
            half = half.to(torch.complex64 if half.is_complex() else torch.float32)
        out: Tensor = torch.fft.irfft2(torch.fft.rfft2(block) * half, s=block.shape[-2:])
        return out.to(block.dtype)

    def _spectrum(self, shape: Sequence[int]) -> Tensor:
        """Return the discrete Fourier transform of the kernel, its middle at the origin."""
        taps = torch.tensor(self.taps, dtype=torch.float64)
        y = torch.arange(taps.shape[0]) - taps.shape[0] // 2
        x = torch.arange(taps.shape[1]) - taps.shape[1] // 2
        along_y, along_x = (
            torch.exp(-2j * math.pi * torch.fft.fftfreq(n, dtype=torch.float64)[:, None] * at)
            for n, at in zip(shape, (y, x), strict=True)
        )
        spectrum: Tensor = along_y @ taps.to(along_y.dtype) @ along_x.T
        return spectrum


def _tap(value: Any) -> float:
    """Return a number; raise a TypeError for text, even if it contains a number."""
    if isinstance(value, str | bytes | bool):
        raise TypeError("no number")
    return float(value) + 0.0  # no negative zero, which would be printed as -0


def _reflected(image: Array, margin: int, function: Callable[[Tensor], Tensor]) -> Array:
    """Apply a function to whole planes, extended by a margin of reflected pixels."""
    padding = [(0, 0)] * (image.ndim - 2) + [(margin, margin)] * 2
    block = torch.from_numpy(np.pad(image, padding, mode="reflect"))
    inner = slice(margin, -margin or None)
    result: Array = function(block)[..., inner, inner].numpy()
    return result


def measure_kernel(noise: Array, size: int = 3) -> Kernel:
    """Measure the correlation of a sample of noise.

    Parameters
    ----------
    noise : ndarray
        Noise alone, of one standard deviation, shape ``(..., Y, X)``: such as differences of
        frames of one scene, divided by the standard deviation where it grows with the signal.
    size : int
        Rows and columns of the kernel, odd.

    Returns
    -------
    Kernel
        The kernel that has the autocorrelation of the sample, with taps that sum to 1 and are the
        same on opposite sides: the autocorrelation determines A Aᵀ only.

    Raises
    ------
    UserError
        If that kernel cannot be inverted.

    Examples
    --------
    >>> white = np.random.default_rng(0).standard_normal((400, 400))
    >>> found = measure_kernel(A.apply_to_image(white))
    >>> bool(np.abs(np.array(found.taps) - A.taps).max() < 0.02)
    True
    """
    return kernel_from_autocorrelation(
        autocorrelation([noise - noise.mean()], reach=size - 1), size
    )


def autocorrelation(
    noises: Sequence[Array], where: Sequence[Array] | None = None, reach: int = 2
) -> Array:
    """Return the mean product of pixels at each lag, divided by their mean square.

    Parameters
    ----------
    noises : sequence of ndarray
        Noise of mean 0, shape ``(..., Y, X)``.
    where : sequence of ndarray, optional
        Which pixels to use, bool, of the shapes of the noises; a pair counts if both are used.
    reach : int
        Largest lag in pixels along Y and X.

    Returns
    -------
    ndarray
        Shape ``(2 reach + 1, 2 reach + 1)``, 1 in the middle, the same on opposite sides.

    Examples
    --------
    >>> stripes = np.array([[1.0, -1, 1, -1]])
    >>> autocorrelation([stripes], reach=1)[1].tolist()
    [-1.0, 1.0, -1.0]
    """
    sums = np.zeros((2, 2 * reach + 1, 2 * reach + 1))
    for i, noise in enumerate(noises):
        use = np.ones(noise.shape) if where is None else where[i].astype(float)
        height, width = noise.shape[-2:]
        for dy in range(reach + 1):
            for dx in range(-reach, reach + 1):
                here = (..., slice(dy, height), slice(max(dx, 0), width + min(dx, 0)))
                there = (..., slice(0, height - dy), slice(max(-dx, 0), width - max(dx, 0)))
                both = use[here] * use[there]
                pair = np.sum(noise[here] * noise[there] * both), both.sum()
                sums[:, reach + dy, reach + dx] += pair
                if dy:
                    sums[:, reach - dy, reach - dx] += pair
    means = sums[0] / np.maximum(sums[1], 1)
    correlation: Array = means / means[reach, reach]
    return correlation


def kernel_from_autocorrelation(correlation: Array, size: int) -> Kernel:
    """Return the kernel of noise and image with a given autocorrelation of the noise.

    Parameters
    ----------
    correlation : ndarray
        As returned by `autocorrelation`: odd sizes, 1 in the middle.
    size : int
        Rows and columns of the kernel, odd.

    Returns
    -------
    Kernel
        The zero-phase root: its taps have four decimals, sum to 1 and are the same on opposite
        sides.

    Raises
    ------
    UserError
        If that kernel cannot be inverted.

    Examples
    --------
    >>> print(kernel_from_autocorrelation(np.array([[0.0, 1.0, 0.0]]), 3))
    kernel([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    """
    taps = _root_of(correlation, size)
    taps = (taps / taps.sum()).round(DECIMALS)
    taps[size // 2, size // 2] += 1 - taps.sum()
    return Kernel(taps.round(DECIMALS).tolist())


def noise_kernel_from_autocorrelation(correlation: Array, size: int) -> Kernel:
    """Return the kernel of the noise alone with a given autocorrelation, `Kernel.of_noise`.

    Parameters
    ----------
    correlation, size
        As for `kernel_from_autocorrelation`.

    Returns
    -------
    Kernel
        The zero-phase root, whose squared taps sum to 1: the variance of a pixel is that of the
        family.

    Examples
    --------
    >>> correlation = np.array([[0.2, 0.6, 1.0, 0.6, 0.2]])
    >>> found = noise_kernel_from_autocorrelation(correlation, 3)
    >>> found.of_noise, round(found.power, 3)
    (True, 1.0)
    """
    taps = _root_of(correlation, size)
    return Kernel((taps / np.sqrt((taps**2).sum())).round(DECIMALS).tolist(), of_noise=True)


def _root_of(correlation: Array, size: int) -> Array:
    """Return the taps of the zero-phase root of an autocorrelation."""
    padded = np.zeros((ROOT_SIZE, ROOT_SIZE))
    padded[: correlation.shape[0], : correlation.shape[1]] = correlation
    padded = np.roll(padded, [-(n // 2) for n in correlation.shape], axis=(0, 1))
    root = np.sqrt(np.maximum(np.fft.fft2(padded).real, 0))
    reach = np.arange(size) - size // 2
    taps: Array = np.fft.ifft2(root).real[np.ix_(reach, reach)]
    return taps


def parse_kernel(text: str) -> Kernel:
    """Read a kernel from its text form.

    Parameters
    ----------
    text : str
        ``A``, ``kernel([[...], ...])`` or ``noise_kernel([[...], ...])``.

    Returns
    -------
    Kernel

    Raises
    ------
    UserError
        If it is neither, or the kernel is not valid.

    Examples
    --------
    >>> parse_kernel("kernel([[0.1, 0.8, 0.1]])").taps
    ((0.1, 0.8, 0.1),)
    """
    text = text.strip()
    if text == "A":
        return A
    match = re.fullmatch(r"(noise_)?kernel\s*\((.*)\)", text[:MAX_TEXT_LENGTH], flags=re.DOTALL)
    try:
        # json raises errors of its own for deep nesting and too many digits
        taps = json.loads(match[2] if match else "")
    except (ValueError, RecursionError):
        raise UserError(
            f"correlation {quoted(text)} was not understood; write A or kernel([[0.1, 0.8, 0.1]])"
        ) from None
    return Kernel(taps, of_noise=bool(match and match[1]))


A = Kernel(A_TAPS)
"""The kernel of Xie et al., NeurIPS 2023; its spectrum is between 0.2 and 1."""
