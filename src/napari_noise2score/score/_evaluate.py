"""Evaluate the score network: its weights, its input range, and the score from its output."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

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


def perturbed_score(network: UNet, z: Tensor, sigma_a: Tensor, mean: float, scale: float) -> Tensor:
    """Return the score of images z that are perturbed by σ_a.

    Parameters
    ----------
    network : UNet
        Network whose output is the score in units of ``1 / √(1 + σ_a²)``.
    z : Tensor
        Images in coordinates T, shape ``(n, channels, *space)``.
    sigma_a : Tensor
        Perturbation of each image in units of z, shape ``(n,)``.
    mean, scale : float
        Normalization of z.

    Returns
    -------
    Tensor
        Score, float32, of the shape of z.
    """
    out: Tensor = network(network_input(z, sigma_a, mean, scale))
    return out.float() / torch.sqrt(1 + _like(sigma_a, z) ** 2)


def network_input(z: Tensor, sigma_a: Tensor, mean: float, scale: float) -> Tensor:
    """Return what a network sees of images z: normalized, with log σ_a as a further channel."""
    condition = torch.log(_like(sigma_a, z)).expand(-1, 1, *z.shape[2:])
    return torch.cat([(z - mean) / scale, condition], dim=1)


def _like(sigma_a: Tensor, z: Tensor) -> Tensor:
    """Return a number for each image in a shape that is broadcast over its pixels."""
    return sigma_a.reshape(-1, *[1] * (z.ndim - 1))
