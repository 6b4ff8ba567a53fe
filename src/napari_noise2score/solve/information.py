"""Compute the Fisher information that the noise of a noise model has in the coordinates z."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..noise.base import NoiseModel
from ..noise.kernel import Kernel
from ._score_grid import tabulate_noise, tabulated_scores
from .quantization import UNQUANTIZED, Quantization
from .table import check_span
from .transform import Transform

IDENTITY = Kernel(((1.0,),))
SPECTRUM_SIZE = 64  # frequencies along Y and X at which correlated noise is evaluated
STEPS_PER_SIGMA_A = 3  # of z, for the integral over the noise of a pixel
MARGIN = 6.0  # of z, in standard deviations of the perturbed noise


class NoiseInformation(NamedTuple):
    """The information of the noise by intensity.

    Attributes
    ----------
    mean : Tensor
        E[T(y) | x], increasing, in units of z, float64, shape ``(x,)``.
    information : Tensor
        ``E[f(x, z')²] (1 + σ_a²)`` with ``z' = T(y) + σ_a u``, float64, of that shape: 1 for
        Gaussian noise whose variance is 1 in z.
    """

    mean: Tensor
    information: Tensor


def noise_information(
    noise: NoiseModel,
    transform: Transform,
    sigma_a: float,
    low: float,
    high: float,
    quantization: Quantization = UNQUANTIZED,
    kernel: Kernel | None = None,
) -> NoiseInformation:
    """Compute the Fisher information of the noise of a pixel, by intensity.

    Parameters
    ----------
    noise : NoiseModel
        The noise p(y | x).
    transform : Transform
        The transform T to the coordinates in which the score was learned.
    sigma_a : float
        Perturbation σ_a, in units of z.
    low, high : float
        Range of the noisy grey levels.
    quantization : Quantization
        How y was digitized; used only if the noise of pixels is independent.
    kernel : Kernel, optional
        Correlation kernel that was undone before the score was learned.

    Returns
    -------
    NoiseInformation

    Raises
    ------
    UserError
        If the grey levels span more standard deviations of the noise than can be tabulated.

    Notes
    -----
    The score of the data is a mean of f over the possible clean images, so that
    ``E[s²] ≤ E[f²]``, whatever the image: the information of the data cannot exceed that of the
    noise. For correlated noise, f² is that of Gaussian noise of the same spectrum, times the factor
    by which the family exceeds Gaussian noise without the correlation.

    Examples
    --------
    >>> from napari_noise2score.noise import Gaussian
    >>> found = noise_information(Gaussian(10), Transform(c0=100), 0.5, 0, 255)
    >>> bool(torch.allclose(found.information, torch.tensor(1.0).double(), atol=0.01))
    True
    """
    base, own, read = noise.components
    correlated = own is not None or kernel is not None
    if correlated:
        quantization = UNQUANTIZED
    ends = transform.forward(torch.tensor([low, high], dtype=torch.float64))
    check_span(ends, low, high)
    margin = MARGIN * (1 + sigma_a)
    pixel = base if correlated else noise
    x, masses, z, sigma = tabulate_noise(
        pixel, transform, sigma_a, float(ends[0]), float(ends[1]), quantization
    )
    count = 2 + int(float(ends[1] - ends[0] + 2 * margin) * STEPS_PER_SIGMA_A / sigma_a)
    rows = torch.linspace(
        float(ends[0]) - margin, float(ends[1]) + margin, count, dtype=torch.float64
    )
    f, density = tabulated_scores(masses, z, sigma, rows)
    f, density = torch.nan_to_num(f.double()), density.double()
    information = (density * f**2).sum(1) / density.sum(1)
    total = masses.sum(1)
    mean = (masses @ z) / total
    if correlated:
        variance = (masses @ z**2) / total - mean**2
        excess = information * (variance + sigma_a**2)
        relative = read**2 * transform.slope(pixel.mean(x)) ** 2
        information = excess * _gaussian_information(
            variance, relative, sigma_a, own or IDENTITY, kernel or IDENTITY
        )
    # clipping makes the means of many x equal
    return NoiseInformation(torch.cummax(mean, 0).values, information * (1 + sigma_a**2))


def _gaussian_information(
    variance: Tensor, read: Tensor, sigma_a: float, own: Kernel, learned: Kernel
) -> Tensor:
    """Return E[f²] of Gaussian noise with a correlation, plus white read noise, for each variance.

    Both variances are in units of z, and `learned` is the kernel that was undone.
    """
    impulse = torch.zeros(SPECTRUM_SIZE, SPECTRUM_SIZE, dtype=torch.float64)
    impulse[0, 0] = 1
    undone = torch.fft.fft2(learned.undo(impulse)).abs().flatten() ** 2
    blurred = torch.fft.fft2(own.apply(learned.undo(impulse))).abs().flatten() ** 2
    power = variance[:, None] * blurred + read[:, None] * undone + sigma_a**2
    mean: Tensor = (1 / power).mean(1)
    return mean
