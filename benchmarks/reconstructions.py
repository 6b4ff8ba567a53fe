"""Simulate reconstructed images, whose noise is correlated: CT, PET and demosaiced green.

The truth of each is the same reconstruction of data without noise, as a denoiser removes the noise
and not what the reconstruction does to the object.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.transform import iradon, radon
from tifffile import imread

# CT: as 1 mm pixels of water; photons of one detector element without an object.
ATTENUATION, PHOTONS = 0.02, 2e3
CT_ANGLES = 288
# PET: counts of a plane, OSEM, and the usual filter after it (5 mm FWHM for pixels of 2.7 mm).
COUNTS, PET_ANGLES, SUBSETS, ITERATIONS, FILTER_SIGMA = 4e5, 144, 8, 3, 0.8
# A camera: grey levels per photoelectron, black level, read noise in grey levels.
GAIN, BLACK, READ_NOISE = 4.0, 100.0, 6.0


def brain(data: Path, planes: int, side: int) -> np.ndarray:
    """Return planes of the brain template, 0 to 1, in a circle in the middle of a square."""
    volume = imread(data / "mri" / "truth.tif").astype(np.float64)
    chosen = volume[np.linspace(4, 27, planes).round().astype(int)]
    height, width = chosen.shape[1:]
    margin = max(height, width) + 24
    square = np.zeros((planes, margin, margin))
    y, x = (margin - height) // 2, (margin - width) // 2
    square[:, y : y + height, x : x + width] = chosen
    zoomed = ndimage.zoom(square, (1, side / margin, side / margin), order=1)
    return np.asarray(zoomed.clip(0) / 872)


def ct(data: Path, planes: int = 8, side: int = 224) -> tuple[np.ndarray, np.ndarray]:
    """Return CT by filtered back-projection (Hann) in Hounsfield-like units, and the truth."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 180, CT_ANGLES, endpoint=False)
    noisy, truth = [], []
    for plane in brain(data, planes, side):
        integral = radon(ATTENUATION * plane, angles, circle=False)
        counts = rng.poisson(PHOTONS * np.exp(-integral)).clip(1)
        for found, projections in ((truth, integral), (noisy, np.log(PHOTONS / counts))):
            image = iradon(projections, angles, side, filter_name="hann", circle=False)
            found.append(1000 * (image / ATTENUATION - 1))
    return np.array(noisy), np.array(truth)


def pet(data: Path, planes: int = 8, side: int = 144) -> tuple[np.ndarray, np.ndarray]:
    """Return PET by OSEM and a Gaussian filter, and the truth."""
    rng = np.random.default_rng(1)
    angles = np.linspace(0, 180, PET_ANGLES, endpoint=False)
    noisy, truth = [], []
    for plane in brain(data, planes, side):
        sinogram = radon(plane, angles)
        sinogram *= COUNTS / sinogram.sum()
        for found, counts in ((truth, sinogram), (noisy, rng.poisson(sinogram).astype(float))):
            found.append(1000 * ndimage.gaussian_filter(osem(counts, angles, side), FILTER_SIGMA))
    return np.array(noisy), np.array(truth)


def osem(counts: np.ndarray, angles: np.ndarray, side: int) -> np.ndarray:
    """Reconstruct by maximum likelihood over ordered subsets (Hudson & Larkin 1994)."""
    image = np.ones((side, side))
    y, x = np.mgrid[:side, :side] - side // 2
    image[y**2 + x**2 > (side // 2 - 1) ** 2] = 0
    inside = image > 0
    for _ in range(ITERATIONS):
        for first in range(SUBSETS):
            subset = angles[first::SUBSETS]
            expected = radon(image, subset).clip(1e-6)
            ratio = counts[:, first::SUBSETS] / expected
            up, norm = (iradon(p, subset, filter_name=None) for p in (ratio, np.ones(ratio.shape)))
            image[inside] *= (up / norm.clip(1e-6))[inside].clip(0)
    return image


def camera(data: Path, planes: int = 6, side: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Return the green of Bayer pictures after bilinear demosaicing, and the truth."""
    rng = np.random.default_rng(2)
    noisy, truth = [], []
    for path in sorted((data / "natural" / "Kodak24").glob("*.png"))[:planes]:
        green = np.asarray(Image.open(path).convert("RGB"), dtype=np.float64)[..., 1]
        top, left = ((n - side) // 2 for n in green.shape)
        # linear light, up to 60 photoelectrons
        electrons = 60 * (green[top : top + side, left : left + side] / 255) ** 2.2
        drawn = GAIN * rng.poisson(electrons) + READ_NOISE * rng.standard_normal(electrons.shape)
        truth.append(demosaiced(GAIN * electrons + BLACK))
        noisy.append(demosaiced(drawn + BLACK))
    return np.array(noisy), np.array(truth)


def demosaiced(green: np.ndarray) -> np.ndarray:
    """Keep the pixels with a green filter (RGGB), and interpolate the others linearly."""
    y, x = np.indices(green.shape)
    mask = (y + x) % 2 == 1
    near = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    sums, weights = (
        ndimage.convolve(a * mask, near, mode="mirror") for a in (green, np.ones(mask.shape))
    )
    return np.where(mask, green, sums / weights.clip(1))


SIMULATIONS = {"CT": ct, "PET": pet, "demosaiced": camera}
