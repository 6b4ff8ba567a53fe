"""A head in magnitude MRI: tissues, coil sensitivity, Fourier encoding, noise of the receiver."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from ..image.image import Image

SHAPE = (20, 160, 128)
SIZES = (4.0, 1.4, 1.4)  # mm along Z, Y and X
FINE = 2  # points of the anatomy for each pixel of the image, along Y and X
SIGMA = 60.0  # noise of the real and of the imaginary part, grey levels
FAT, BONE, FLUID, GREY, WHITE = 1000.0, 60.0, 220.0, 560.0, 820.0  # T1-weighted

NOISE = f"rician(sigma={SIGMA:g})"


def mri_images(seed: int = 0) -> tuple[Image, Image]:
    """Simulate the volume; return it with and without noise, in grey levels.

    The scanner measures the lower spatial frequencies of the anatomy, with complex Gaussian noise;
    the image is the magnitude of their Fourier transform. So edges ring, and the noise is Rician.
    """
    from ..image.image import Image

    rng = np.random.default_rng(seed)
    anatomy = _anatomy(rng)
    z, y, x = _grid(anatomy.shape)
    coil = 1.1 - 0.25 * y + 0.1 * x * y - 0.15 * z
    phase = np.exp(1j * (0.8 * x + 0.5 * y**2))
    spectrum = np.fft.fftshift(np.fft.fft2(anatomy * coil * phase), axes=(1, 2))
    first = [(n * FINE - n) // 2 for n in SHAPE[1:]]
    kept = tuple(slice(f, f + n) for f, n in zip(first, SHAPE[1:], strict=True))
    spectrum = spectrum[(slice(None), *kept)] / FINE**2
    clean = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(1, 2)))
    noise = rng.normal(0, SIGMA, SHAPE) + 1j * rng.normal(0, SIGMA, SHAPE)
    noisy = np.rint(np.abs(clean + noise)).astype(np.uint16)
    # to the left, back and top of the patient, from the centre
    affine = np.diag([-SIZES[2], -SIZES[1], SIZES[0], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE[::-1]) - 1) / 2)
    image = Image(
        noisy,
        "ZYX",
        scale=dict(zip("ZYX", SIZES, strict=True)),
        units=dict.fromkeys("ZYX", "millimeter"),
        header={"affine": affine},
    )
    return image, replace(image, data=np.abs(clean).astype(np.float32))


def _grid(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Return coordinates between -1 and 1 along each axis."""
    axes = [np.linspace(-1, 1, n) for n in shape]
    return list(np.meshgrid(*axes, indexing="ij", sparse=True))


def _anatomy(rng: np.random.Generator) -> np.ndarray:
    """Return the signal of the tissues, with `FINE` points for each pixel along Y and X."""
    shape = (SHAPE[0], SHAPE[1] * FINE, SHAPE[2] * FINE)
    z, y, x = _grid(shape)
    r = np.sqrt((0.75 * (z - 0.2)) ** 2 + (y / 0.88) ** 2 + (x / 0.82) ** 2)
    # folds of the cortex: thin at the edge of the brain, along a random field
    folds = gaussian_filter(rng.normal(size=shape), (1.0, 7, 7), mode="wrap")
    folds /= folds.std()
    image = np.zeros(shape)
    image[r < 1.0] = FAT
    image[r < 0.95] = BONE
    image[r < 0.89] = FLUID
    sulcus = (np.abs(folds) < 0.14) & (r > 0.62)
    image[(r < 0.86) & ~sulcus] = GREY
    white = (r < 0.80) & (np.abs(folds) > 0.55 - 1.2 * np.clip(0.72 - r, 0, 1))
    image[white] = WHITE
    for side in (-1, 1):
        ventricle = ((x - side * (0.10 + 0.08 * y**2)) / 0.07) ** 2 + ((y + 0.03) / 0.32) ** 2
        image[ventricle + (z / 0.45) ** 2 < 1] = FLUID
        nucleus = ((x - side * 0.25) / 0.10) ** 2 + ((y + 0.05) / 0.2) ** 2 + (z / 0.4) ** 2
        image[nucleus < 1] = GREY + 60
    inside = image > 0
    texture = gaussian_filter(rng.normal(size=shape), (0, 8, 8))
    image[inside] *= 1 + 0.03 * (texture / texture.std())[inside]
    return image
