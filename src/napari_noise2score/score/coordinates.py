"""Coordinates: what training found for one channel, if every channel is learned by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..solve.quantization import Quantization
from ..solve.transform import Transform
from .information import Information

# A network learns up to so many channels each in its own coordinates, more in common ones.
MAX_SEPARATE_CHANNELS = 16


@dataclass(frozen=True)
class Coordinates:
    """Transform, normalization and perturbation of one channel, and the grey levels it was seen in.

    Attributes
    ----------
    transform, mean, scale, sigma_a, sigma_a_range, low, high, quantization, score_errors
        As of `ScoreModel`, for this channel.
    information : Information or None
        Fisher information of this channel of the training images; None if it was not measured.
    """

    transform: Transform
    mean: float
    scale: float
    sigma_a: float
    sigma_a_range: tuple[float, float]
    low: float
    high: float
    quantization: Quantization
    score_errors: tuple[tuple[float, float], ...] = ()
    information: Information | None = None


def apply_each(
    each: Sequence[Coordinates],
    channel: np.ndarray,
    function: Callable[[Coordinates, Tensor], Tensor],
    images: Tensor,
) -> Tensor:
    """Return a function of images, each evaluated with the coordinates of its own channel.

    Parameters
    ----------
    each : sequence of Coordinates
        Those of each channel; a single one serves all images.
    channel : ndarray
        Channel of each image, int, shape ``(n,)``.
    function : callable
        Maps coordinates and some of the images to as many results.
    images : Tensor
        Shape ``(n, ...)``.

    Returns
    -------
    Tensor
        Shape ``(n, ...)``.
    """
    if len(each) == 1:
        return function(each[0], images)
    result: Tensor | None = None
    for number in np.unique(channel):
        at = torch.from_numpy(channel == number).to(images.device)
        found = function(each[number], images[at])
        if result is None:
            result = found.new_empty((len(images), *found.shape[1:]))
        result[at] = found
    assert result is not None
    return result


def per_image(
    values: Sequence[float], channel: np.ndarray, like: Tensor | None = None
) -> float | Tensor:
    """Return the value of the channel of each image, to be broadcast over its pixels.

    Parameters
    ----------
    values : sequence of float
        The value of each channel; a single one serves all images and is returned itself.
    channel : ndarray
        Channel of each image, int, shape ``(n,)``.
    like : Tensor, optional
        Images of shape ``(n, ...)``; without them the values have the shape ``(n,)``.
    """
    if len(values) == 1:
        return values[0]
    found = torch.tensor([values[number] for number in channel], dtype=torch.float32)
    if like is None:
        return found
    return found.reshape(-1, *[1] * (like.ndim - 1)).to(like.device)
