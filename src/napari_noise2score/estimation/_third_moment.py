"""Measure the third central moment of noise in flat patches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._dct import DCT_BASIS, FREQUENCY
from ._noise_variance import interpolate_variance

Floats = NDArray[np.floating[Any]]

# The frequencies that motion and drift leave to the noise of subtracted frames.
NOISE_BASIS = DCT_BASIS[:, FREQUENCY > 2]
# Relative error of the third moment that results from a picture and noise that grows with it.
BIAS_ERROR = 0.5


def third_moment(
    patches: Floats,
    intensity: Floats,
    mean: Floats,
    variance: Floats,
    noise_share: float,
    overlap: float,
) -> tuple[float, float]:
    """Estimate the third central moment of the noise of flat patches of one intensity.

    Parameters
    ----------
    patches : ndarray
        In grey levels, shape ``(patches, pixels)``.
    intensity : ndarray
        Of each patch, shape ``(patches,)``.
    mean, variance : ndarray
        The mean-variance curve, shape ``(bins,)``.
    noise_share : float
        The variance of the noise in patches that contain structure, as a share of that of a single
        frame; 0 if the patches contain noise alone.
    overlap : float
        The number of patches that contain each pixel.

    Returns
    -------
    moment, error : float
        In cubed grey levels, with its standard error.

    Notes
    -----
    The picture is removed by projecting the patches onto the subspace in which they have the least
    variance: G. Chen, F. Zhu, P. A. Heng, *An efficient statistical method for image noise level
    estimation*, ICCV 2015. The projection P turns the noise nⱼ of pixel j into Σᵢ Pᵢⱼ nᵢ, whose
    third moment is Σᵢ Pᵢⱼ³ times that of the noise.
    """
    expected = interpolate_variance(mean, variance, np.append(intensity, intensity.mean()))
    projection = _noise_subspace(patches) if noise_share else NOISE_BASIS @ NOISE_BASIS.T
    noise = (patches - patches.mean(0)) @ projection
    weight = (projection**3).sum(0)
    each = (noise * noise * noise) @ (weight / (weight @ weight))
    # in units of the noise at each intensity, as it also changes within the patches
    each = each * (expected[-1] / expected[:-1]) ** 1.5
    error = float(each.std() * np.sqrt(overlap / len(each)))
    bias = bias_error = 0.0
    if noise_share:
        # the variance of the remaining structure, and its covariance with the structure of each
        # pixel
        noise_power = noise_share * expected[-1]
        picture = max(float((noise**2).mean() / (projection**2).sum(0).mean()) - noise_power, 0.0)
        held = noise.T @ (patches - patches.mean(0)) / len(noise) - noise_power * projection
        # noise is stronger where the picture is brighter: E (p + n)³ contains 3 cov(p, n²)
        rise = np.gradient(variance, mean) if len(mean) > 1 else np.zeros(1)
        tripled = 3 * noise_share * float(np.interp(intensity.mean(), mean, rise))
        bias = tripled * float((projection**2 * held).sum(1) @ weight / (weight @ weight))
        bias_error = math.hypot(picture**1.5, BIAS_ERROR * bias)
    return float(each.mean()) - bias, math.hypot(error, bias_error)


def _noise_subspace(patches: Floats) -> NDArray[np.float32]:
    """Return the projection onto the directions in which patches vary least, ``(pixels, pixels)``.

    They are the largest set of the smallest eigenvalues whose mean is at most their median, as the
    eigenvalues of noise alone are not skewed (Chen, Zhu & Heng, ICCV 2015).
    """
    centred = patches - patches.mean(0)
    eigenvalues, directions = np.linalg.eigh(centred.T @ centred / (len(patches) - 1))
    count = len(eigenvalues)
    while count > 1 and eigenvalues[:count].mean() > np.median(eigenvalues[:count]):
        count -= 1
    projection: NDArray[np.float32] = (directions[:, :count] @ directions[:, :count].T).astype(
        np.float32
    )
    return projection
