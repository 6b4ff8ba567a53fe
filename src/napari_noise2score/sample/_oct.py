"""An OCT B-scan of a retina: coherent speckle, detector noise, and the logarithm of both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from ..image.image import Image

SHAPE = (320, 512)  # depth, and across
SIZES = (3.5, 11.7)  # µm along Y and X
FIELD = (0.45, 0.5)  # standard deviation of the image of a point, pixels along Y and X
FLOOR = 1.0  # intensity of the detector noise
PER_DECIBEL, BLACK = 4.0, 40.0  # grey levels
DECIBELS_OF_E = 4.343  # of an intensity that grows e-fold
# mean of the logarithm of exponentially distributed intensity, relative to that of its mean, in
# decibels
BIAS = -2.507
# layers from the inner limiting membrane down: thickness in µm, reflectivity in decibels
LAYERS = (
    (35, 30), (45, 22), (40, 25), (35, 17), (22, 23), (80, 12), (12, 31), (28, 18), (22, 36),
)  # fmt: skip
CHOROID, DECAY = 24.0, 0.055  # decibels, and decibels lost per µm

NOISE = f"log_gamma(scale={PER_DECIBEL * DECIBELS_OF_E:.4g}, looks=1)"


def oct_images(seed: int = 0) -> tuple[Image, Image]:
    """Simulate the B-scan; return it with and without noise, in grey levels.

    Fields of many scatterers in the volume that the instrument resolves add up: the intensity is
    speckle, and neighbouring pixels are slightly correlated. The logarithm turns it into noise of
    about the same strength at all grey levels, with a tail towards black.
    """
    from ..image.image import Image

    rng = np.random.default_rng(seed)
    reflected = 10 ** (_retina(rng) / 10)
    field = _complex_normal(rng) * np.sqrt(reflected)
    blurred = gaussian_filter(field.real, FIELD) + 1j * gaussian_filter(field.imag, FIELD)
    # the intensity of a point is blurred by the square of the field's profile
    profile = [np.array(gaussian_filter(_impulse(), s)) for s in FIELD]
    gain = float(np.prod([np.sum(p**2) for p in profile]))
    received = blurred / np.sqrt(gain) + np.sqrt(FLOOR) * _complex_normal(rng)
    noisy = _levels(np.abs(received) ** 2)
    mean = gaussian_filter(reflected, [s / np.sqrt(2) for s in FIELD]) + FLOOR
    truth = PER_DECIBEL * (10 * np.log10(mean) + BIAS) + BLACK
    scale = dict(zip("YX", SIZES, strict=True))
    image = Image(noisy, "YX", scale=scale, units=dict.fromkeys("YX", "micrometer"))
    return image, replace(image, data=truth.astype(np.float32))


def _levels(intensity: np.ndarray) -> np.ndarray:
    decibels = 10 * np.log10(np.maximum(intensity, 1e-12))
    levels: np.ndarray = np.clip(np.rint(PER_DECIBEL * decibels + BLACK), 0, 255)
    return levels.astype(np.uint8)


def _complex_normal(rng: np.random.Generator) -> np.ndarray:
    """Return complex normal numbers of mean intensity 1."""
    scale = 1 / np.sqrt(2)
    numbers: np.ndarray = rng.normal(0, scale, SHAPE) + 1j * rng.normal(0, scale, SHAPE)
    return numbers


def _impulse() -> np.ndarray:
    points: np.ndarray = np.arange(33) == 16
    return points.astype(float)


def _retina(rng: np.random.Generator) -> np.ndarray:
    """Return the reflectivity in decibels above the detector noise."""
    depth = (np.arange(SHAPE[0]) * SIZES[0])[:, None]
    across = np.arange(SHAPE[1]) * SIZES[1] / 1000 - 3.0  # mm from the fovea
    pit = np.exp(-0.5 * (across / 0.45) ** 2)
    ripple = gaussian_filter(rng.normal(size=(len(LAYERS), SHAPE[1])), (0.6, 25)) * 60
    outer = 620 + 12 * across**2 + 6 * across  # where the pigment epithelium ends
    thickness = np.array([t for t, _ in LAYERS], float)[:, None] * np.ones_like(across)
    # the inner layers give way in the fovea, and the nerve fibres thicken towards the disc
    thickness[:5] *= 1 - np.array([0.97, 0.9, 0.85, 0.8, 0.5])[:, None] * pit
    thickness[0] *= np.clip(1 + 0.45 * across, 0.3, 3)
    thickness += ripple * (thickness > 15) * 0.3
    top = outer - np.cumsum(np.maximum(thickness, 1)[::-1], axis=0)[::-1]
    image = np.full(SHAPE, -20.0)
    for start, (_, decibels) in zip(top, LAYERS, strict=True):
        image = np.where(depth >= start, decibels, image)
    below = depth - outer
    texture = gaussian_filter(rng.normal(size=SHAPE), (5, 3)) * 25
    image = np.where(below >= 0, CHOROID + texture - DECAY * below, image)
    # vessels scatter where they are and cast a shadow below
    for centre in rng.uniform(-2.9, 2.9, 5):
        width = rng.uniform(0.03, 0.07)
        column = np.exp(-(((across - centre) / width) ** 4))
        image -= 8 * column * (depth > top[1] + 30)
    rough: np.ndarray = gaussian_filter(rng.normal(size=SHAPE), 1.5)
    return image + 2.5 * rough
