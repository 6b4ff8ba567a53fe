"""A two-channel z-stack: nuclei and actin in a widefield microscope with an sCMOS camera."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ._cells import FIELD_PER_CELL, PIXEL_SIZE, SCALE, Cell, ball, scatter

if TYPE_CHECKING:
    from ..image.image import Image

SHAPE = (16, 160, 160)  # Z, Y, X of each channel
CHANNELS = ("DAPI", "actin")
COLOURS = ("0000FF", "00FF00")
EXPECTED = (40.0, 60.0)  # photoelectrons in bright pixels of each channel
BACKGROUND = 6.0  # photoelectrons
GAIN, OFFSET = 2.17, 100.0  # grey levels per photoelectron, grey levels
READ_NOISE = 1.4  # median of the pixels, photoelectrons
HOT = 5e-4  # part of the pixels
MARGIN = 32  # pixels around the field, as light from outside is seen out of focus
FOCUS = 0.11  # standard deviation of the image of a point in focus, µm
CONE = 0.45  # how much it widens with each µm out of focus

NOISE = f"poisson(gain={GAIN:g}, offset={OFFSET:g}) + gaussian(sigma=3.6)"


def scmos_images(seed: int = 0) -> tuple[Image, Image]:
    """Simulate the z-stack; return it with and without noise, in grey levels.

    Every pixel of the camera has an offset, a gain and a read noise of its own, the same in all
    planes and both channels; the read noise has the long tail of such cameras, and few pixels are
    hot.
    """
    from ..image.image import Image

    rng = np.random.default_rng(seed)
    signal = _scene(rng)
    plane = SHAPE[1:]
    offset = OFFSET + rng.normal(0, 1.0, plane) + rng.normal(0, 0.5, (1, plane[1]))
    gain = GAIN * rng.normal(1, 0.007, plane)
    read = READ_NOISE * rng.lognormal(0, 0.3, plane)
    dark = np.where(rng.random(plane) < HOT, rng.exponential(30, plane), 0)
    electrons = rng.poisson(signal + dark) + read * rng.normal(size=signal.shape)
    noisy = np.clip(np.rint(gain * electrons + offset), 0, 65535).astype(np.uint16)
    truth = (GAIN * signal + OFFSET).astype(np.float32)
    image = Image(
        noisy,
        "CZYX",
        scale={axis: SCALE[axis] for axis in "ZYX"},
        units=dict.fromkeys("ZYX", "micrometer"),
        channels=CHANNELS,
        omero={
            "channels": [
                {"label": name, "color": colour, "active": True}
                for name, colour in zip(CHANNELS, COLOURS, strict=True)
            ]
        },
    )
    return image, replace(image, data=truth)


def _scene(rng: np.random.Generator) -> np.ndarray:
    """Return the expected photoelectrons, of shape (C, Z, Y, X)."""
    wide = (SHAPE[0], *(n + 2 * MARGIN for n in SHAPE[1:]))
    field = np.array(wide) * PIXEL_SIZE
    count = round(float(field[1] * field[2]) / FIELD_PER_CELL)
    cells = [Cell(centre, rng) for centre in scatter(count, field, rng)]
    nuclei = np.zeros(wide, np.float32)
    actin = np.zeros(wide, np.float32)
    bins = [np.arange(n + 1) * p for n, p in zip(wide, PIXEL_SIZE, strict=True)]
    for cell in cells:
        away = [(b[:-1] + p / 2 - c) for b, p, c in zip(bins, PIXEL_SIZE, cell.centre, strict=True)]
        nuclei += cell.brightness * ball(away, cell.nucleus, edge=0.15)
        points, weights = cell.filaments(0.0)
        actin += cell.brightness * np.histogramdd(points + cell.centre, bins, weights=weights)[0]
        actin += 2.0 * cell.brightness * ball(away, cell.body, edge=0.5)
    grain = rng.normal(1, 0.5, wide)  # chromatin
    inner = slice(MARGIN, -MARGIN)
    channels = []
    for sharp, expected in zip((nuclei * np.maximum(grain, 0), actin), EXPECTED, strict=True):
        seen = _widefield(sharp)[:, inner, inner]
        channels.append(BACKGROUND + expected * seen / np.quantile(seen, 0.995))
    return np.stack(channels)


def _widefield(sharp: np.ndarray) -> np.ndarray:
    """Return a volume as a widefield microscope shows it: every plane, out of focus, in all."""
    planes, rows, columns = sharp.shape
    spectrum = np.fft.rfft2(sharp)
    frequency = np.fft.fftfreq(rows, PIXEL_SIZE[1])[:, None] ** 2
    frequency = frequency + np.fft.rfftfreq(columns, PIXEL_SIZE[2]) ** 2
    seen = np.zeros_like(spectrum)
    for distance in range(planes):
        width = FOCUS**2 + (CONE * distance * PIXEL_SIZE[0]) ** 2
        blurred = spectrum * np.exp(-2 * np.pi**2 * width * frequency)
        seen[distance:] += blurred[: planes - distance]
        if distance:
            seen[:-distance] += blurred[distance:]
    image: np.ndarray = np.maximum(np.fft.irfft2(seen, s=(rows, columns)), 0)
    return image
