"""A correlation A of the noise between neighbouring pixels, as a convolution of each plane.

Blocks are convolved through the FFT, and so wrap around: what lies within `Kernel.reach` of the
border of a block must be given away, or be the true surroundings. Images go on by reflection
beyond their edges (without repeating the edge pixel). For kernels that are the same left and
right, top and bottom, that makes A and its inverse exact up to the edge; others are
inexact within `Kernel.reach` of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError, quoted
from .base import spell_number

SMALLEST = 0.02
# rows and columns: a wider one would reach around the grid its spectrum is computed on
MAX_TAPS = 63
MIN_TAP, MAX_TAP = 1e-6, 1e6
# characters: more than the largest kernel takes
MAX_TEXT = 200_000
# beyond the reach of the inverse its taps are below this share of the largest
NOTHING = 1e-5


@dataclass(frozen=True)
class Kernel:
    """An invertible convolution of the plane YX.

    Parameters
    ----------
    taps : tuple of tuple of float
        Rows of the kernel, an odd number of odd length, without unit; the middle one is the
        pixel itself.

    Raises
    ------
    UserError
        If the taps are no such matrix, or the convolution cannot be undone: its spectrum comes
        nearer to zero than 2 % of its largest value.

    Examples
    --------
    >>> print(A)
    A
    >>> print(Kernel([[0.2, 0.6, 0.2]]))
    kernel([[0.2, 0.6, 0.2]])
    >>> plane = torch.rand(40, 50, dtype=torch.float64)
    >>> bool(torch.allclose(A.undo(A.apply(plane)), plane))
    True
    """

    taps: Sequence[Sequence[float]]

    def __post_init__(self):
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
        smallest = float(self._spectrum((128, 128)).abs().min())
        if smallest <= SMALLEST * self.largest:
            raise UserError(
                f"kernel: this convolution cannot be undone: its spectrum falls to {smallest:.2g} "
                f"(of {self.largest:.2g} at most); a stronger middle tap would help"
            )

    def __str__(self) -> str:
        if self.taps == A.taps:
            return "A"
        rows = ", ".join(f"[{', '.join(spell_number(v) for v in row)}]" for row in self.taps)
        return f"kernel([{rows}])"

    @property
    def power(self) -> float:
        """Sum of the squared taps: what A makes of the variance of white noise."""
        return sum(v * v for row in self.taps for v in row)

    @property
    def total(self) -> float:
        """Sum of the taps: what A makes of a mean."""
        return sum(v for row in self.taps for v in row)

    @cached_property
    def largest(self) -> float:
        """Largest value of the spectrum of A, without unit."""
        return float(self._spectrum((128, 128)).abs().max())

    @cached_property
    def reach(self) -> int:
        """How far, in pixels, the inverse takes from a pixel's surroundings."""
        size = 256
        taps = torch.fft.ifft2(1 / self._spectrum((size, size))).real.abs()
        rows, columns = torch.nonzero(taps > NOTHING * taps.max(), as_tuple=True)
        away = torch.cat([rows, columns])
        return int(torch.minimum(away, size - away).max())

    def apply(self, block: Tensor) -> Tensor:
        """Give A of every plane of a block, shape ``(..., Y, X)``."""
        return self._filter(block, self._spectrum(block.shape[-2:]))

    def transposed(self, block: Tensor) -> Tensor:
        """Give Aᵀ of every plane of a block."""
        return self._filter(block, self._spectrum(block.shape[-2:]).conj())

    def undo(self, block: Tensor) -> Tensor:
        """Give A⁻¹ of every plane of a block."""
        return self._filter(block, 1 / self._spectrum(block.shape[-2:]))

    def transposed_undo(self, block: Tensor) -> Tensor:
        """Give A⁻ᵀ of every plane of a block."""
        return self._filter(block, 1 / self._spectrum(block.shape[-2:]).conj())

    def apply_to_image(self, image: np.ndarray, transposed: bool = False) -> np.ndarray:
        """Give A (or Aᵀ) of whole planes, shape ``(..., Y, X)``, reflected at their edges."""
        reach = max(len(self.taps), len(self.taps[0])) // 2
        return _reflected(image, reach, self.transposed if transposed else self.apply)

    def undo_image(self, image: np.ndarray) -> np.ndarray:
        """Give A⁻¹ of whole planes, reflected at their edges, inexact within `reach` of them."""
        return _reflected(image, self.reach, self.undo)

    def _filter(self, block: Tensor, spectrum: Tensor) -> Tensor:
        half = spectrum[:, : block.shape[-1] // 2 + 1].to(block.device)
        if block.dtype == torch.float32:
            half = half.to(torch.complex64 if half.is_complex() else torch.float32)
        out = torch.fft.irfft2(torch.fft.rfft2(block) * half, s=block.shape[-2:])
        return out.to(block.dtype)

    def _spectrum(self, shape: Sequence[int]) -> Tensor:
        taps = torch.tensor(self.taps, dtype=torch.float64)
        y = torch.arange(taps.shape[0]) - taps.shape[0] // 2
        x = torch.arange(taps.shape[1]) - taps.shape[1] // 2
        waves = [
            torch.exp(-2j * math.pi * torch.fft.fftfreq(n, dtype=torch.float64)[:, None] * at)
            for n, at in zip(shape, (y, x), strict=True)
        ]
        return waves[0] @ taps.to(waves[0].dtype) @ waves[1].T


def _tap(value: Any) -> float:
    """Return a number; texts that read as numbers are none."""
    if isinstance(value, str | bytes | bool):
        raise TypeError("no number")
    return float(value)


def _reflected(image: np.ndarray, reach: int, act: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Act on whole planes, continued so far by reflection."""
    around = [(0, 0)] * (image.ndim - 2) + [(reach, reach)] * 2
    block = torch.from_numpy(np.pad(image, around, mode="reflect"))
    inner = slice(reach, -reach or None)
    return act(block)[..., inner, inner].numpy()


def measure_kernel(noise: np.ndarray, size: int = 3) -> Kernel:
    """Measure the correlation of a sample of noise.

    Parameters
    ----------
    noise : ndarray
        Noise alone, of one level, shape ``(..., Y, X)``: such as the differences of shots of one
        scene, divided by their standard deviation where the noise grows with the signal.
    size : int
        Rows and columns of the kernel, odd.

    Returns
    -------
    Kernel
        The kernel of taps that sum to 1 and are the same on opposite sides, which has the
        autocorrelation of the sample: of A, noise tells A Aᵀ and no more.

    Raises
    ------
    UserError
        If that kernel cannot be undone.

    Examples
    --------
    >>> white = np.random.default_rng(0).standard_normal((400, 400))
    >>> found = measure_kernel(A.apply_to_image(white))
    >>> bool(np.abs(np.array(found.taps) - A.taps).max() < 0.02)
    True
    """
    return kernel_of(correlations([noise - noise.mean()], reach=size - 1), size)


def correlations(
    noises: Sequence[np.ndarray], where: Sequence[np.ndarray] | None = None, reach: int = 2
) -> np.ndarray:
    """Give the mean product of pixels at each distance, divided by their mean square.

    Parameters
    ----------
    noises : sequence of ndarray
        Noise of mean 0, shape ``(..., Y, X)``.
    where : sequence of ndarray, optional
        Which pixels count, bool, of the shapes of the noises: both of a pair must.
    reach : int
        Largest distance in pixels.

    Returns
    -------
    ndarray
        Shape ``(2 reach + 1, 2 reach + 1)``, 1 in the middle, the same on opposite sides.
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
    return means / means[reach, reach]


def kernel_of(shared: np.ndarray, size: int) -> Kernel:
    """Give the kernel with the correlations that `correlations` gave.

    Parameters
    ----------
    shared : ndarray
        Correlation of pixels by their distance, odd sizes, the middle one 1.
    size : int
        Rows and columns of the kernel, odd.

    Returns
    -------
    Kernel
        Its taps have four decimals, sum to 1 and are the same on opposite sides.

    Raises
    ------
    UserError
        If that kernel cannot be undone.
    """
    padded = np.zeros((64, 64))
    padded[: shared.shape[0], : shared.shape[1]] = shared
    padded = np.roll(padded, [-(n // 2) for n in shared.shape], axis=(0, 1))
    root = np.sqrt(np.maximum(np.fft.fft2(padded).real, 0))
    reach = np.arange(size) - size // 2
    taps = np.fft.ifft2(root).real[np.ix_(reach, reach)]
    taps = (taps / taps.sum()).round(4)
    taps[size // 2, size // 2] += 1 - taps.sum()
    return Kernel(taps.round(4).tolist())


def parse_kernel(text: str) -> Kernel:
    """Read a kernel from its text.

    Parameters
    ----------
    text : str
        ``A`` or ``kernel([[...], ...])``.

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
    match = re.fullmatch(r"kernel\s*\((.*)\)", text[:MAX_TEXT], flags=re.DOTALL)
    try:
        # json refuses deep nesting and absurd digits by errors of its own
        taps = json.loads(match[1] if match else "")
    except (ValueError, RecursionError):
        raise UserError(
            f"correlation {quoted(text)} was not understood; write A or kernel([[0.1, 0.8, 0.1]])"
        ) from None
    return Kernel(taps)


A = Kernel(((0.05, 0.1, 0.05), (0.1, 0.4, 0.1), (0.05, 0.1, 0.05)))
"""The kernel of Xie et al., NeurIPS 2023; its spectrum lies within 0.2 and 1."""
