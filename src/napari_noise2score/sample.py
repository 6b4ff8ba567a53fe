"""Simulated cells, so that there is something to denoise before any file is at hand.

A stack of fluorescent cells (round nuclei, curved filaments, a faint haze of cytoplasm) drifts
slowly over time and is seen through a camera that counts few photons. Since the signal is known,
the denoised result can be scored.
"""

from __future__ import annotations

import numpy as np

from .errors import UserError

GAIN = 2.0
OFFSET = 100.0
READ_NOISE = 3.0

#: The noise of the simulated camera, as the rest of the package spells it.
NOISE = f"poisson(gain={GAIN:g}, offset={OFFSET:g}) + gaussian(sigma={READ_NOISE:g})"

#: Pixel size along each axis, in the unit that `UNITS` gives.
SCALE = {"T": 1.0, "Z": 0.5, "Y": 0.1, "X": 0.1}

#: Unit of each axis.
UNITS = {"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}

PIXEL = np.array([SCALE[a] for a in "ZYX"])
BLUR = np.array([0.35, 0.12, 0.12])  # standard deviation of the point-spread function, µm
FIELD_PER_CELL = 45.0  # µm² of the field of view for each cell
FILAMENTS = 14  # for each cell
SPEED = 0.05  # µm per second
BACKGROUND = 8.0  # grey levels of light where there is no cell


def simulate_cells(
    shape: tuple[int, int, int, int] = (4, 8, 128, 128), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate a stack of moving cells as a camera counting few photons records it.

    The camera gives ``gain * Poisson(x / gain) + offset + N(0, read noise)``, rounded, where
    ``x`` is the signal. This is the noise model `NOISE`.

    Parameters
    ----------
    shape : tuple of int
        Time points, planes, rows and columns.
    seed : int
        The same seed gives the same cells and the same noise.

    Returns
    -------
    noisy : numpy.ndarray
        Axes ``TZYX``, uint16, in grey levels.
    truth : numpy.ndarray
        The signal ``x``, float32, of the same shape: without noise and without the offset.

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
    random = np.random.default_rng(seed)
    field = np.array(shape[1:]) * PIXEL
    count = max(1, round(float(field[1] * field[2]) / FIELD_PER_CELL))
    cells = [_Cell(centre, random) for centre in _scatter(count, field, random)]
    truth = np.empty(shape, np.float32)
    for t, frame in enumerate(truth):
        sharp = sum(cell.draw(shape[1:], t * SCALE["T"]) for cell in cells)
        frame[:] = BACKGROUND + _blur(np.asarray(sharp, np.float32), BLUR / PIXEL)
    photons = random.poisson(truth / GAIN)
    read = random.normal(OFFSET, READ_NOISE, shape)
    noisy = np.clip(np.rint(GAIN * photons + read), 0, 65535).astype(np.uint16)
    return noisy, truth


class _Cell:
    """One cell: its fixed shape, and where it is at a time."""

    def __init__(self, centre: np.ndarray, random: np.random.Generator):
        self.centre = centre
        heading = random.uniform(0, 2 * np.pi)
        self.velocity = SPEED * np.array([0, np.sin(heading), np.cos(heading)])
        self.nucleus = random.uniform(0.9, 1.2) * np.array([1.0, 1.2, 1.2])
        self.body = random.uniform(2.6, 3.2) * np.array([0.5, 1.0, 1.0])
        self.brightness = random.uniform(0.6, 1.2)
        # a filament starts on the nucleus, runs outward and bends to one side as it goes
        self.angle = np.linspace(0, 2 * np.pi, FILAMENTS, endpoint=False)
        self.angle += random.normal(0, 0.3, FILAMENTS)
        self.bend = random.normal(0, 0.35, FILAMENTS)
        self.length = random.uniform(2.0, 4.5, FILAMENTS)
        self.height = random.uniform(-1.0, 1.0, (2, FILAMENTS))
        self.wave = random.uniform(0, 2 * np.pi, FILAMENTS)
        self.strength = random.uniform(0.5, 1.5, FILAMENTS)

    def draw(self, shape: tuple[int, ...], seconds: float) -> np.ndarray:
        """Render the cell, not yet blurred, in grey levels."""
        centre = self.centre + self.velocity * seconds
        away = [
            ((np.arange(n) + 0.5) * p - c).astype(np.float32)
            for n, p, c in zip(shape, PIXEL, centre, strict=True)
        ]
        image = 16 * _ball(away, self.nucleus, edge=0.15) + 9 * _ball(away, self.body, edge=0.5)
        points, weights = self._filaments(seconds)
        bins = [np.arange(n + 1) * p for n, p in zip(shape, PIXEL, strict=True)]
        image += np.histogramdd(points + centre, bins, weights=weights)[0]
        return self.brightness * image

    def _filaments(self, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Points along the filaments, relative to the centre, and how bright each is."""
        along = np.linspace(0, 1, 400)[:, None]
        sway = 0.15 * np.sin(self.wave + 0.5 * seconds + 6 * along)
        angle = self.angle + self.bend * along + sway * along
        radius = self.nucleus[1] + self.length * along
        height = self.height[0] * (1 - along) + self.height[1] * along
        points = np.stack([height, radius * np.sin(angle), radius * np.cos(angle)], -1)
        fade = np.minimum(1, 3 * (1 - along))  # so that the ends are not cut off
        return points.reshape(-1, 3), (4.5 * self.length * self.strength * fade).ravel()


def _scatter(count: int, field: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Choose centres well apart: each is the candidate farthest from those before."""
    centres = [field / 2 + random.uniform(-0.2, 0.2, 3) * field * [0, 1, 1]]
    for _ in range(count - 1):
        candidates = random.uniform(0.1, 0.9, (20, 3)) * field
        candidates[:, 0] = field[0] * random.uniform(0.4, 0.6, 20)
        gaps = np.linalg.norm(candidates[:, None] - np.array(centres), axis=-1).min(axis=1)
        centres.append(candidates[gaps.argmax()])
    return np.array(centres)


def _ball(away: list[np.ndarray], radii: np.ndarray, edge: float) -> np.ndarray:
    """Fill an ellipsoid: 1 inside, 0 outside, across an edge that is a share of the radius."""
    z, y, x = (d / r for d, r in zip(away, radii, strict=True))
    distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    return np.clip((1 - distance) / edge + 0.5, 0, 1)


def _blur(volume: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Blur with a Gaussian along each axis, as if nothing shone outside the volume."""
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
