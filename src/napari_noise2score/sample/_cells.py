"""Simulate an image of cells, to try the package without a file.

Fluorescent cells (round nuclei, curved filaments, faint cytoplasm) drift slowly over time and are
recorded by a camera that counts few photons. As the signal is known, the error of a denoised image
can be measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError

if TYPE_CHECKING:
    from ..image.image import Image

GAIN = 2.0
OFFSET = 100.0
READ_NOISE = 3.0

#: The noise model of the simulated camera, as text.
NOISE = f"poisson(gain={GAIN:g}, offset={OFFSET:g}) + gaussian(sigma={READ_NOISE:g})"

#: Pixel size along each axis, in the units of `UNITS`.
SCALE = {"T": 1.0, "Z": 0.5, "Y": 0.1, "X": 0.1}

#: Unit of each axis.
UNITS = {"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}

PIXEL_SIZE = np.array([SCALE[a] for a in "ZYX"])  # µm
PSF_DEVIATION = np.array([0.35, 0.12, 0.12])  # standard deviation along Z, Y and X, µm
FIELD_PER_CELL = 45.0  # µm² of the field of view for each cell
FILAMENTS = 14  # per cell
SPEED = 0.05  # µm per second
BACKGROUND = 8.0  # grey levels of the signal where there is no cell


def simulate_cells(
    shape: tuple[int, ...] = (4, 8, 128, 128), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate a stack of moving cells that is recorded by a camera with few photons.

    The grey levels are ``gain * Poisson(x / gain) + offset + N(0, read noise)``, rounded, where x
    is the signal. This is the noise model `NOISE`.

    Parameters
    ----------
    shape : tuple of int
        Sizes along T, Z, Y and X.
    seed : int
        The same seed gives the same cells and the same noise.

    Returns
    -------
    noisy : numpy.ndarray
        Axes ``TZYX``, uint16, in grey levels.
    truth : numpy.ndarray
        The signal x in grey levels, float32, of the same shape, without noise and offset.

    Raises
    ------
    UserError
        If the shape is not four positive numbers.

    Examples
    --------
    >>> noisy, truth = simulate_cells((1, 4, 32, 32))
    >>> noisy.shape, noisy.dtype, truth.dtype
    ((1, 4, 32, 32), dtype('uint16'), dtype('float32'))
    """
    if len(shape) != 4 or min(shape) < 1:
        raise UserError(f"the sample has four sizes (T, Z, Y, X), each at least 1, not {shape}")
    rng = np.random.default_rng(seed)
    field = np.array(shape[1:]) * PIXEL_SIZE
    count = max(1, round(float(field[1] * field[2]) / FIELD_PER_CELL))
    cells = [Cell(centre, rng) for centre in scatter(count, field, rng)]
    truth = np.empty(shape, np.float32)
    for t, frame in enumerate(truth):
        sharp = sum(cell.draw(shape[1:], t * SCALE["T"]) for cell in cells)
        frame[:] = BACKGROUND + _blur(np.asarray(sharp, np.float32), PSF_DEVIATION / PIXEL_SIZE)
    photons = rng.poisson(truth / GAIN)
    read = rng.normal(OFFSET, READ_NOISE, shape)
    noisy = np.clip(np.rint(GAIN * photons + read), 0, 65535).astype(np.uint16)
    return noisy, truth


class Cell:
    """One cell, with its shape and its position at any time."""

    def __init__(self, centre: np.ndarray, rng: np.random.Generator):
        self.centre = centre
        heading = rng.uniform(0, 2 * np.pi)
        self.velocity = SPEED * np.array([0, np.sin(heading), np.cos(heading)])
        self.nucleus = rng.uniform(0.9, 1.2) * np.array([1.0, 1.2, 1.2])
        self.body = rng.uniform(2.6, 3.2) * np.array([0.5, 1.0, 1.0])
        self.brightness = rng.uniform(0.6, 1.2)
        # a filament starts on the nucleus, runs outward and bends to one side as it goes
        self.angle = np.linspace(0, 2 * np.pi, FILAMENTS, endpoint=False)
        self.angle += rng.normal(0, 0.3, FILAMENTS)
        self.bend = rng.normal(0, 0.35, FILAMENTS)
        self.length = rng.uniform(2.0, 4.5, FILAMENTS)
        self.height = rng.uniform(-1.0, 1.0, (2, FILAMENTS))
        self.phase = rng.uniform(0, 2 * np.pi, FILAMENTS)
        self.strength = rng.uniform(0.5, 1.5, FILAMENTS)

    def draw(self, shape: tuple[int, ...], seconds: float) -> np.ndarray:
        """Return an image of the cell in grey levels, not blurred, of a shape ``(Z, Y, X)``."""
        centre = self.centre + self.velocity * seconds
        away = [
            ((np.arange(n) + 0.5) * p - c).astype(np.float32)
            for n, p, c in zip(shape, PIXEL_SIZE, centre, strict=True)
        ]
        image = 16 * ball(away, self.nucleus, edge=0.15) + 9 * ball(away, self.body, edge=0.5)
        points, weights = self.filaments(seconds)
        bins = [np.arange(n + 1) * p for n, p in zip(shape, PIXEL_SIZE, strict=True)]
        image += np.histogramdd(points + centre, bins, weights=weights)[0]
        rendered: np.ndarray = self.brightness * image
        return rendered

    def filaments(self, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Return points along the filaments relative to the centre in µm, and their brightness."""
        along = np.linspace(0, 1, 400)[:, None]
        sway = 0.15 * np.sin(self.phase + 0.5 * seconds + 6 * along)
        angle = self.angle + self.bend * along + sway * along
        radius = self.nucleus[1] + self.length * along
        height = self.height[0] * (1 - along) + self.height[1] * along
        points = np.stack([height, radius * np.sin(angle), radius * np.cos(angle)], -1)
        fade = np.minimum(1, 3 * (1 - along))  # towards the ends of the filaments
        return points.reshape(-1, 3), (4.5 * self.length * self.strength * fade).ravel()


def scatter(count: int, field: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return random centres of cells, each far from the previous ones, in µm."""
    centres = [field / 2 + rng.uniform(-0.2, 0.2, 3) * field * [0, 1, 1]]
    for _ in range(count - 1):
        candidates = rng.uniform(0.1, 0.9, (20, 3)) * field
        candidates[:, 0] = field[0] * rng.uniform(0.4, 0.6, 20)
        gaps = np.linalg.norm(candidates[:, None] - np.array(centres), axis=-1).min(axis=1)
        centres.append(candidates[gaps.argmax()])
    return np.array(centres)


def ball(away: list[np.ndarray], radii: np.ndarray, edge: float) -> np.ndarray:
    """Return an ellipsoid, 1 inside and 0 outside, with a linear edge in units of the radius."""
    z, y, x = (d / r for d, r in zip(away, radii, strict=True))
    distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    ball: np.ndarray = np.clip((1 - distance) / edge + 0.5, 0, 1)
    return ball


def _blur(volume: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return a volume blurred with a Gaussian along each axis, taken as 0 outside."""
    for axis, s in enumerate(sigma):
        reach = int(np.ceil(3 * s))
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / s) ** 2)
        kernel /= kernel.sum()
        size = volume.shape[axis]
        padded = np.pad(volume, [(reach, reach) if a == axis else (0, 0) for a in range(3)])
        volume = np.zeros_like(volume)
        for i, weight in enumerate(kernel.astype(np.float32)):
            volume += weight * padded.take(range(i, i + size), axis)
    return volume


def cells_images() -> tuple[Image, Image]:
    """Return the simulated cells with and without noise."""
    from ..image.image import Image

    noisy, truth = simulate_cells()
    # to the camera's grey levels, so that both compare by eye
    return (
        Image(noisy, "TZYX", scale=SCALE, units=UNITS),
        Image(truth + np.float32(OFFSET), "TZYX", scale=SCALE, units=UNITS),
    )
