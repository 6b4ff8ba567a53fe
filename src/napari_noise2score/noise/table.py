"""Solve ``s = f(x, z)`` exactly for any noise model, by one look-up per pixel.

The score network knows the score of ``z' = T(y) + σ_a u``. For a pixel of clean value x, the
density of z' is ``Σ_y p(y | x) N(z'; T(y), σ_a²)``; its score f(x, z') is a function of two
numbers that rises with x. So it is tabulated once for a noise setting, inverted once, and then
every pixel is read off as ``x = G(z, s)``. Nothing is expanded or assumed small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import NoiseModel
from .transform import Transform

Solver = Callable[[Tensor, Tensor], Tensor]
"""From y and the score of T(y), both of one shape, to x."""

SCORES = 385
REACH = 12.0


@dataclass(frozen=True)
class Table:
    """The solution x on a regular grid of z = T(y) and score.

    Attributes
    ----------
    values : Tensor
        Solution x in grey levels, float32, shape ``(z, score)``.
    transform : Transform
        Coordinates of z.
    low, high : float
        z of the first and the last row.
    reach : float
        Score of the last column; the first one has its negative.
    """

    values: Tensor
    transform: Transform
    low: float
    high: float
    reach: float

    def __call__(self, y: Tensor, s: Tensor) -> Tensor:
        """Look the solution up.

        Parameters
        ----------
        y, s : Tensor
            Noisy grey levels and the score of T(y), of one shape.

        Returns
        -------
        Tensor
            Solution x, float32, of that shape.
        """
        z = self.transform.forward(y.float())
        row = (z - self.low) * (2 / (self.high - self.low)) - 1
        at = torch.stack([s.float() / self.reach, row], dim=-1).reshape(1, 1, -1, 2)
        x = F.grid_sample(
            self.values.to(y.device)[None, None], at, padding_mode="border", align_corners=True
        ).reshape(y.shape)
        # brighter or darker than the table knows: move with y from the nearest row it has
        edge = self.transform.inverse(z.clamp(self.low, self.high))
        return x + torch.where((z < self.low) | (z > self.high), y - edge, 0)


@lru_cache(maxsize=16)
def make_solver(
    noise: NoiseModel, transform: Transform, sigma_a: float, low: float, high: float
) -> Table:
    """Tabulate the solution of ``s = f(x, T(y))`` for a noise model.

    Parameters
    ----------
    noise : NoiseModel
        The noise p(y | x).
    transform : Transform
        Coordinates T in which the score was learned.
    sigma_a : float
        Noise added in training, in units of z; it is known Gaussian noise and accounted for.
    low, high : float
        Range of the noisy grey levels y to be solved.

    Returns
    -------
    Table
        Called with y and the score of T(y), it gives x. The last few are remembered: the images
        of one job share one.

    Notes
    -----
    The score is written ``f(x, z) = (E[T(y) | x, z] − z) / σ_a²`` (Tweedie), which is bounded,
    and made to rise with x by a running maximum where rounding or bins disturb it.

    Examples
    --------
    >>> from napari_noise2score.noise import Gaussian
    >>> solve = make_solver(Gaussian(10), Transform(c0=100), sigma_a=0.3, low=0, high=255)
    >>> y, s = torch.tensor([100.0]), torch.tensor([-1.0])
    >>> solve(y, s)  # y + (σ² + σ_a²) s, in grey levels: 100 - 10 × 1.09
    tensor([89.0979])
    """
    ends = transform.forward(torch.tensor([low, high], dtype=torch.float64))
    # rows: somewhat beyond the data, which the shots to come may go beyond too
    rows_low, rows_high = (ends + torch.tensor([-2.0, 2.0]) * (1 + sigma_a)).tolist()
    # a bin's mass is taken to lie at its middle: an atom of the density is off by half a bin
    step = max(sigma_a / 8, 0.05)
    # x and y reach further: a pixel at the end of the range may be an outlier of its x
    margin = REACH * (1 + sigma_a)
    z_bins = torch.arange(rows_low - margin, rows_high + margin + step, step, dtype=torch.float64)
    edges = transform.inverse(z_bins)
    x = _candidates(noise, transform, rows_low - margin, rows_high + margin)
    f, z = _tabulate(noise.masses(edges, x), noise, transform, x, z_bins, sigma_a)

    inside = (z >= rows_low) & (z <= rows_high)
    f, z = f[:, inside], z[inside]
    f = torch.cummax(f, dim=0).values + 1e-9 * torch.arange(len(x))[:, None]
    targets = torch.linspace(-REACH, REACH, SCORES, dtype=torch.float64)
    values = _invert(f.T.contiguous(), targets, x)
    return Table(values.float(), transform, float(z[0]), float(z[-1]), REACH)


def _candidates(noise: NoiseModel, transform: Transform, low: float, high: float) -> Tensor:
    """Clean values x whose noisy means are evenly spread in z, and the lowest x there is."""
    z = torch.linspace(low, high, max(256, int(4 * (high - low))), dtype=torch.float64)
    x = noise.clean(transform.inverse(z))
    floor = noise.lowest + 1e-6 * float(x[-1] - x[0])
    x = x[x > floor]
    if noise.lowest > -float("inf"):
        # towards a floor of zero light, ever smaller steps: dark pixels are most pixels
        first = float(x[0]) - noise.lowest
        near = noise.lowest + first * torch.logspace(-4, 0, 33, dtype=torch.float64)[:-1]
        x = torch.cat([near, x])
    return x


def _tabulate(
    masses: Tensor,
    noise: NoiseModel,
    transform: Transform,
    x: Tensor,
    z_bins: Tensor,
    sigma_a: float,
) -> tuple[Tensor, Tensor]:
    """Give f(x, z) of shape ``(x, z)`` and z, from the masses of the bins of y."""
    step = float(z_bins[1] - z_bins[0])
    reach = int(8 * sigma_a / step) + 1
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64) * step
    kernel = torch.exp(-((offsets / sigma_a) ** 2) / 2)
    # a convolution kernel is applied unflipped: weight at +offset looks at a bin above z
    kernels = torch.stack([kernel, kernel * offsets])[:, None]
    every = max(1, int(sigma_a / 3 / step))
    sums = F.conv1d(masses[:, None], kernels, padding=reach, stride=every)
    density, moment = sums.unbind(1)
    z = ((z_bins[1:] + z_bins[:-1]) / 2)[::every]
    # where the model gives z no chance at all, the Gaussian of the same mean and variance does
    mean = noise.mean(x)
    variance = noise.variance(x) * transform.slope(mean) ** 2
    far = (transform.forward(mean)[:, None] - z) / (variance + sigma_a**2)[:, None]
    seen = density > 1e-13
    return torch.where(seen, moment / density.clamp(min=1e-300) / sigma_a**2, far), z


def _invert(f: Tensor, targets: Tensor, x: Tensor) -> Tensor:
    """Interpolate x at the target scores, row by row; beyond the ends x stays at its limit."""
    at = torch.searchsorted(f, targets.expand(len(f), -1).contiguous()).clamp(1, len(x) - 1)
    left, right = f.gather(1, at - 1), f.gather(1, at)
    part = ((targets - left) / (right - left)).clamp(0, 1)
    return x[at - 1] + part * (x[at] - x[at - 1])
