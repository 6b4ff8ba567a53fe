"""The antithetic AR-DAE objective: learn a score from noisy images alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def antithetic_loss(
    score: Callable[[Tensor, Tensor], Tensor],
    z: Tensor,
    u: Tensor,
    sigma_a: Tensor,
    weight: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Objective whose minimiser is the score of ``z + σ_a u``, ``u ~ N(0, 1)``.

    ``w [ ½ (‖s₊‖² + ‖s₋‖²) + u · (s₊ − s₋) / σ_a ]`` with ``s± = s(z ± σ_a u)`` and
    ``w = 1 + σ_a²``, the mean over pixels. It is the AR-DAE objective of Lim et al., ICML 2020,
    ``‖u + σ_a s(z + σ_a u)‖² / σ_a²``, averaged over u and −u and less its constant: the same
    minimiser, but the term that grows as 1/σ_a cancels from the gradient's noise. A weight that
    depends on nothing but what the network sees leaves the minimiser as it is, too.

    Parameters
    ----------
    score : callable
        From images ``(2n, channels, *space)`` and σ_a ``(2n,)`` to scores.
    z : Tensor
        Noisy images in coordinates T, float32, shape ``(n, channels, *space)``.
    u : Tensor
        Standard normal, of the shape of z.
    sigma_a : Tensor
        Perturbation of each image in units of z, shape ``(n,)``.
    weight : callable, optional
        From perturbed images to what their pixels count, about 1, of a shape that broadcasts.

    Returns
    -------
    Tensor
        A number; about −1 where the noise has variance 1 and hides the image.

    Examples
    --------
    >>> z, u = torch.randn(2, 4, 1, 64, 64).unbind()
    >>> loss = antithetic_loss(lambda z, a: -z / 1.25, z, u, torch.full((4,), 0.5))
    >>> round(loss.item(), 1)
    -1.0
    """
    way, sigma_a = torch.cat([u, -u]), torch.cat([sigma_a, sigma_a])
    level = sigma_a.reshape(-1, *[1] * (z.ndim - 1))
    # perturbed and summed in float32: bfloat16 would round the perturbation away
    perturbed = torch.cat([z, z]) + level * way
    s = score(perturbed, sigma_a)
    loss = (1 + level**2) * (s**2 + 2 * way * s / level)
    if weight is not None:
        loss = weight(perturbed) * loss
    return loss.mean()


def balanced_normal(shape: tuple[int, ...], source: torch.Generator) -> Tensor:
    """Draw standard normal images that, as a batch, are exactly white.

    At every frequency the mean of u uᵀ over the images, with channels for rows, is the identity, as
    it would be over infinitely many of them. What the network does to all places alike then puts no
    noise on the gradient of `antithetic_loss`, whose u · (s₊ − s₋) estimates a trace.

    Parameters
    ----------
    shape : tuple of int
        ``(n, channels, *space)``, with no more channels than images.
    source : torch.Generator
        Source of chance.

    Returns
    -------
    Tensor
        float32, of that shape. Each image by itself is a normal one, but for the last digits.

    Examples
    --------
    >>> u = balanced_normal((8, 2, 16, 16), torch.Generator().manual_seed(0))
    >>> bool(torch.allclose((u**2).mean((0, 2, 3)), torch.ones(2)))
    True
    >>> neighbours = (u[:, 0] * u[:, 1].roll(1, -1)).mean()
    >>> bool(neighbours.abs() < 1e-6)
    True
    """
    space = tuple(range(2, len(shape)))
    waves = torch.fft.rfftn(torch.randn(shape, generator=source), dim=space, norm="ortho")
    # of each frequency, images by channels
    matrices = waves.flatten(2).permute(2, 0, 1).to(torch.complex128)
    root = torch.linalg.cholesky(matrices.mH @ matrices / shape[0])
    white = torch.linalg.solve_triangular(root, matrices.mH, upper=False).mH
    white = white.permute(1, 2, 0).reshape(waves.shape).to(waves.dtype)
    return torch.fft.irfftn(white, s=shape[2:], dim=space, norm="ortho")
