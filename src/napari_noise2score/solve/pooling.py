"""Pool the solution x with its neighbours where the error of the score would show.

An error ε of the score changes x by c ε, where ``c = |∂x/∂s|`` is the conditioning of the solution
at that pixel (a `Table` leaves out the part of the error that neighbours have in common). Where c ε
exceeds what differs between a pixel and its neighbours, their weighted mean is the better estimate.
Elsewhere x stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..noise import NoiseModel
from .table import GridPosition, Table

WINDOW = 5  # pixels along Y and X, of the mean and of the residuals
POOLING_REACH = 1 + 2 * (WINDOW // 2)  # pixels along Y and X around a pixel that its x depends on
# A pixel is a speck if x is beyond all its neighbours but one by more than this, in standard
# deviations of the noise, although the noise of the neighbours' x explains its y.
MAX_BEYOND_NEIGHBOURS = 0.25
MAX_EXPLAINED_DEVIATION = 4.0  # of y, in standard deviations of the noise

Pairwise = Callable[[Tensor, Tensor], Tensor]


def pooled_solution(
    table: Table, position: GridPosition, y: Tensor, noise: NoiseModel, error: float
) -> Tensor:
    """Return the solution x without specks, and pooled where it is ill-conditioned.

    Parameters
    ----------
    table : Table
        The solution for the noise model.
    position : GridPosition
        Positions of the pixels on the table.
    y : Tensor
        Noisy grey levels, shape ``(..., Y, X)``.
    noise : NoiseModel
        The noise p(y | x).
    error : float
        Error ε of the score in units of 1 / z; 0 returns the solution itself.

    Returns
    -------
    Tensor
        x in grey levels, float32, of the shape of y. Pixels within `POOLING_REACH` of a border
        depend on it.
    """
    if error == 0:
        return table.look_up(position)[0]
    return _pooled(table, position, y, noise, error)[0]


def pooled_solution_and_error(
    table: Table, position: GridPosition, y: Tensor, noise: NoiseModel, error: float
) -> tuple[Tensor, Tensor | float]:
    """Return the pooled solution x, and the variance that the error of the score adds to it.

    Parameters
    ----------
    table, position, y, noise, error
        As for `pooled_solution`.

    Returns
    -------
    x, variance : Tensor
        As from `pooled_solution`, and the variance in grey levels squared; 0 if the error is 0.
    """
    if error == 0:
        return table.look_up(position)[0], 0.0
    x, share, conditioning = _pooled(table, position, y, noise, error)
    # what is left of the pixel's own error, and that of the mean of its neighbours
    left = (1 - share).square() + share.square() / WINDOW**2
    return x, left * (conditioning * error).square()


def _pooled(
    table: Table, position: GridPosition, y: Tensor, noise: NoiseModel, error: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pooled solution, the share of the neighbours in it, and the conditioning."""
    x, conditioning = table.look_up(position)
    return *pool(without_specks(x, y, noise), conditioning, error), conditioning


def pool(x: Tensor, conditioning: Tensor, error: float) -> tuple[Tensor, Tensor]:
    """Return x pooled by conditioning, and the share of the neighbours in it.

    With weights ``w = c⁻²`` and the weighted mean m around a pixel, the result is
    ``x + a (m − x)``, where ``a = min(1, ε² / ⟨w (x − m)²⟩)``: all of the difference from the
    neighbours is removed if it is no more than the error of the score explains.

    Parameters
    ----------
    x : Tensor
        Solution, shape ``(..., Y, X)``.
    conditioning : Tensor
        |∂x/∂s|, of the same shape, greater than 0.
    error : float
        Error ε of the score in units of 1 / z.

    Returns
    -------
    pooled, share : Tensor
        Both float32, of the shape of x.

    Examples
    --------
    >>> x = torch.tensor([[10.0, 10.0, 16.0, 10.0, 10.0]])
    >>> pool(x, torch.full_like(x, 20.0), error=0.5)[0][0, 2].round()
    tensor(11.)
    >>> pool(x, torch.full_like(x, 20.0), error=0.001)[0][0, 2].round()
    tensor(16.)
    """
    weight = conditioning.square().reciprocal()
    mean = _box(weight * x) / _box(weight)
    away = mean - x
    share = (error**2 / _box(weight * away.square()).clamp(min=1e-12)).clamp(max=1)
    return x + share * away, share


def without_specks(x: Tensor, y: Tensor, noise: NoiseModel) -> Tensor:
    """Return x with single pixels, and pairs, limited to the range of their neighbours.

    Only pixels are changed whose y the noise explains if x is in that range. A point that the noise
    cannot explain stays, and so does a line.

    Parameters
    ----------
    x, y : Tensor
        Solution and noisy grey levels, shape ``(..., Y, X)``.
    noise : NoiseModel
        The noise p(y | x).

    Returns
    -------
    Tensor
        Of the shape of x.

    Examples
    --------
    >>> from napari_noise2score.noise import Gaussian
    >>> x = torch.full((3, 3), 100.0)
    >>> x[1, 1] = 60
    >>> without_specks(x, x, Gaussian(20))[1, 1]  # 2 standard deviations away
    tensor(95.)
    >>> without_specks(x, x, Gaussian(8))[1, 1]  # 5
    tensor(60.)
    """
    x = x.float()
    low, high = _neighbours_range(x)
    # few pixels are beyond their neighbours, and the variance of a noise model takes time
    beyond = ((x < low) | (x > high)).flatten().nonzero().flatten()
    own, noisy, lowest, highest = (v.flatten()[beyond] for v in (x, y, low, high))
    near = _limited(own, noisy, lowest, highest, noise)
    found = x.flatten().index_put((beyond,), near)
    return found.reshape(x.shape)


def limited_everywhere(x: Tensor, y: Tensor, noise: NoiseModel) -> Tensor:
    """Return what `without_specks` does, by operations that do not depend on the values of x."""
    return _limited(x, y, *_neighbours_range(x), noise)


def _limited(x: Tensor, y: Tensor, low: Tensor, high: Tensor, noise: NoiseModel) -> Tensor:
    """Return x limited to the range of its neighbours where the noise explains y there."""
    inside = torch.minimum(torch.maximum(x, low), high).clamp(min=noise.lowest)
    spread = noise.variance(inside).sqrt()
    explained = (y - noise.mean(inside)).abs() < MAX_EXPLAINED_DEVIATION * spread
    allowed = MAX_BEYOND_NEIGHBOURS * spread
    near = torch.minimum(torch.maximum(x, low - allowed), high + allowed)
    return torch.where(explained, near, x).float()


def _neighbours_range(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the second lowest and the second highest of the eight neighbours along Y and X.

    The second, because two specks can be neighbours. Sorted pairs are merged.
    """
    padded = _padded(x, 1)
    left, own, right = padded[..., :-2], padded[..., 1:-1], padded[..., 2:]
    more, less = torch.maximum(left, right), torch.minimum(left, right)
    high = _second_of_eight(more, less, own, torch.maximum, torch.minimum)
    low = _second_of_eight(less, more, own, torch.minimum, torch.maximum)
    return low.reshape(x.shape), high.reshape(x.shape)


def _second_of_eight(
    first: Tensor, second: Tensor, own: Tensor, nearer: Pairwise, farther: Pairwise
) -> Tensor:
    """Return the second of the eight neighbours, given those left and right in order."""
    row, row_2 = nearer(first, own), nearer(second, farther(first, own))
    above, below = row[:, :-2], row[:, 2:]
    both = nearer(above, below)
    both_2 = nearer(farther(above, below), nearer(row_2[:, :-2], row_2[:, 2:]))
    return nearer(farther(both, first[:, 1:-1]), nearer(both_2, second[:, 1:-1]))


def _box(values: Tensor) -> Tensor:
    """Return the mean of the window around each pixel.

    Sums of shifted planes are far faster on a CPU than `torch.nn.functional.avg_pool2d`, which
    computes one plane in one thread.
    """
    padded = _padded(values, WINDOW // 2)
    height, width = values.shape[-2:]
    rows = padded[..., :width].clone()
    for i in range(1, WINDOW):
        rows += padded[..., i : i + width]
    box = rows[:, :height].clone()
    for i in range(1, WINDOW):
        box += rows[:, i : i + height]
    return box.div_(WINDOW**2).reshape(values.shape)


def neighbour_mean(y: Tensor) -> Tensor:
    """Return the mean of the window around each pixel, the pixel itself left out.

    Parameters
    ----------
    y : Tensor
        Shape ``(..., Y, X)``.

    Returns
    -------
    Tensor
        Of the shape of y.
    """
    return (WINDOW**2 * _box(y) - y) / (WINDOW**2 - 1)


def _padded(values: Tensor, by: int) -> Tensor:
    """Return planes of shape ``(n, Y, X)``, continued beyond their borders."""
    planes = values.reshape(-1, *values.shape[-2:])
    return F.pad(planes, (by, by, by, by), mode="replicate")
