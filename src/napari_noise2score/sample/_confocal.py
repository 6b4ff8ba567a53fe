"""A confocal time-lapse: vesicles and mitochondria, scanned, seen by a photomultiplier."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from ..image.image import Image

SHAPE = (12, 192, 192)
PIXEL = 0.08  # µm
INTERVAL = 2.0  # s
PSF = 0.1  # standard deviation across, µm
GAIN, OFFSET, EXCESS = 60.0, 40.0, 1.25
ELECTRONICS = 6.0  # standard deviation, grey levels
TOP = 4095  # of the 12-bit digitizer
BLEACHED = 0.3  # part of the fluorescence that is lost over the recording
DARK = 0.05  # counts per pixel without fluorescence

NOISE = f"emccd(gain={GAIN:g}, offset={OFFSET:g}, excess={EXCESS:g})"


def confocal_images(seed: int = 0) -> tuple[Image, Image]:
    """Simulate the time-lapse; return it with and without noise, in grey levels.

    Each counted photon gives a pulse of Gamma-distributed height; their sum in the dwell time of a
    pixel, the offset and the noise of the electronics are digitized with 12 bits.
    """
    from ..image.image import Image

    rng = np.random.default_rng(seed)
    counts = _scene(rng)
    photons = rng.poisson(counts)
    shape = 1 / (EXCESS - 1)  # of the pulse heights
    pulses = rng.gamma(np.maximum(shape * photons, 1e-9), GAIN / shape)
    levels = np.where(photons > 0, pulses, 0) + rng.normal(OFFSET, ELECTRONICS, SHAPE)
    noisy = np.clip(np.rint(levels), 0, TOP).astype(np.uint16)
    truth = (GAIN * counts + OFFSET).astype(np.float32)
    scale = {"T": INTERVAL, "Y": PIXEL, "X": PIXEL}
    units = {"T": "second", "Y": "micrometer", "X": "micrometer"}
    image = Image(noisy, "TYX", scale=scale, units=units)
    return image, replace(image, data=truth)


def _scene(rng: np.random.Generator) -> np.ndarray:
    """Return the expected photons in each pixel at each time."""
    size = SHAPE[1]
    field = size * PIXEL
    count = 45
    start = rng.uniform(0, field, (count, 2))
    heading = rng.uniform(0, 2 * np.pi, count)
    bend = rng.normal(0, 0.5, count)  # per µm
    length = rng.uniform(1.0, 4.0, count)
    along = np.linspace(-0.5, 0.5, 300)[:, None] * length
    angle = heading + bend * along
    steps = np.stack([np.sin(angle), np.cos(angle)], -1) * (length / 300)[:, None]
    worms = np.cumsum(steps, axis=0)
    worms += start - worms.mean(axis=0)
    brightness = rng.uniform(0.5, 1.5, count) * length
    vesicles = rng.uniform(0, field, (60, 2))
    speed = rng.normal(0, 0.12, (60, 2))  # µm/s
    cell = gaussian_filter(rng.normal(size=(size, size)), 25, mode="reflect")
    cytoplasm = np.clip(cell / cell.std() + 1.0, 0, 2)
    frames = np.empty(SHAPE)
    edges = np.arange(size + 1) * PIXEL
    drift = rng.normal(0, 0.03, (count, 2))  # µm/s
    for t in range(SHAPE[0]):
        seconds = t * INTERVAL
        points = (worms + drift * seconds).reshape(-1, 2) % field
        weights = np.broadcast_to(brightness / 300, worms.shape[:2]).ravel()
        bright = np.histogramdd(points, (edges, edges), weights=weights)[0] * 130
        spots = (vesicles + speed * seconds) % field
        bright += np.histogramdd(spots, (edges, edges))[0] * 130
        sharp = bright + 0.8 * cytoplasm
        kept = 1 - BLEACHED * (1 - np.exp(-2.0 * t / SHAPE[0]))
        frames[t] = DARK + kept * gaussian_filter(sharp, PSF / PIXEL, mode="wrap")
    return frames
