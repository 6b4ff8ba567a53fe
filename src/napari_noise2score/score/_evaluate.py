"""Evaluate the score network: its weights, its input range, and the score from its output."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..solve.transform import Transform
from ._network import UNet

# Grey levels are clipped where they are beyond the training range by more than this many times its
# width: a camera defect would otherwise affect everything around it.
MAX_RANGES_BEYOND = 10.0


def clip_to_training(y: Tensor, low: float, high: float) -> Tensor:
    """Return grey levels clipped to what the network may see, given the range of training."""
    margin = MAX_RANGES_BEYOND * (high - low)
    return y.clamp(low - margin, high + margin)


def network_with(like: UNet, weights: Mapping[str, Tensor], device: str | torch.device) -> UNet:
    """Return a network of the same architecture with these weights, for evaluation only."""
    network = UNet.empty(**like.sizes)
    network.load_state_dict(weights)
    return network.to(device).eval().requires_grad_(False)


def perturbed_score(
    network: UNet,
    z: Tensor,
    sigma_a: Tensor,
    mean: float | Tensor,
    scale: float | Tensor,
    context: Tensor | None = None,
) -> Tensor:
    """Return the score of images z that are perturbed by σ_a.

    Parameters
    ----------
    network : UNet
        Network whose output is the score in units of ``1 / √(1 + σ_a²)``.
    z : Tensor
        Images in coordinates T, shape ``(n, channels, *space)``.
    sigma_a : Tensor
        Perturbation of each image in units of z, shape ``(n,)``.
    mean, scale : float or Tensor
        Normalization of z, of all images or of each.
    context : Tensor, optional
        Neighbours, as from `context_input`, of each image or of all in turn; if the network sees
        context and there is none, its neighbours are not known.

    Returns
    -------
    Tensor
        Score, float32, of the shape of z.
    """
    out: Tensor = network(network_input(network, z, sigma_a, mean, scale, context))
    return out.float() / torch.sqrt(1 + _like(sigma_a, z) ** 2)


def network_input(
    network: UNet,
    z: Tensor,
    sigma_a: Tensor,
    mean: float | Tensor,
    scale: float | Tensor,
    context: Tensor | None = None,
) -> Tensor:
    """Return what a network sees of images z: normalized, then log σ_a and the context."""
    condition = torch.log(_like(sigma_a, z)).expand(-1, 1, *z.shape[2:])
    seen = [(z - mean) / scale, condition]
    if network.context_channels:
        if context is None:
            context = z.new_zeros((len(z), network.context_channels, *z.shape[2:]))
        # the two perturbations of an image have the same neighbours
        seen.append(context.repeat(len(z) // len(context), *[1] * (z.ndim - 1)))
    return torch.cat(seen, dim=1)


def context_input(
    y: Tensor,
    channels: int,
    transform: Transform,
    low: float,
    high: float,
    mean: float,
    scale: float,
) -> Tensor:
    """Return what a network sees of neighbours: normalized z, and which pixels are known.

    Parameters
    ----------
    y : Tensor
        Means of the neighbours, NaN where they are not known, shape
        ``(n, groups of neighbours * channels, *space)``.
    channels : int
        Channels of each neighbour.
    transform, low, high, mean, scale
        Transform, range of the grey levels of training, and normalization of z.

    Returns
    -------
    Tensor
        float32, shape ``(n, 2 * groups of neighbours * channels, *space)``: the channels of each
        mean, 0 where they are not known, followed by 1 where they are known.
    """
    known = y.isfinite()
    z = transform.forward(clip_to_training(torch.where(known, y, low), low, high))
    z = torch.where(known, (z - mean) / scale, 0)
    shape = (len(y), -1, channels, *y.shape[2:])
    return torch.cat([v.reshape(shape) for v in (z, known.to(z.dtype))], dim=2).flatten(1, 2)


def _like(sigma_a: Tensor, z: Tensor) -> Tensor:
    """Return a number for each image in a shape that is broadcast over its pixels."""
    return sigma_a.reshape(-1, *[1] * (z.ndim - 1))
