"""Compute the antithetic AR-DAE objective, which learns a score from noisy images alone."""

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
    """Return the objective whose minimizer is the score of ``z + σ_a u``, ``u ~ N(0, 1)``.

    It is the mean over pixels of ``w [ ½ (‖s₊‖² + ‖s₋‖²) + u · (s₊ − s₋) / σ_a ]`` with
    ``s± = s(z ± σ_a u)`` and ``w = 1 + σ_a²``: the AR-DAE objective of Lim et al., ICML 2020,
    ``‖u + σ_a s(z + σ_a u)‖² / σ_a²``, averaged over u and −u, without its constant. The minimizer
    is the same, but the noise of the gradient no longer has a term that grows as 1 / σ_a. Weights
    that depend only on the input of the network do not change the minimizer either.

    Parameters
    ----------
    score : callable
        Maps images ``(2n, channels, *space)`` and σ_a ``(2n,)`` to scores of the shape of the
        images.
    z : Tensor
        Noisy images in coordinates T, float32, shape ``(n, channels, *space)``.
    u : Tensor
        Standard normal, of the shape of z.
    sigma_a : Tensor
        Perturbation of each image in units of z, shape ``(n,)``.
    weight : callable, optional
        Maps perturbed images to the weights of their pixels, about 1, of a shape that broadcasts.

    Returns
    -------
    Tensor
        A scalar; about −1 if the noise has variance 1 and masks the image.

    Examples
    --------
    >>> z, u = torch.randn(2, 4, 1, 64, 64).unbind()
    >>> loss = antithetic_loss(lambda z, a: -z / 1.25, z, u, torch.full((4,), 0.5))
    >>> round(loss.item(), 1)
    -1.0
    """
    direction, sigma_a = torch.cat([u, -u]), torch.cat([sigma_a, sigma_a])
    sigma = sigma_a.reshape(-1, *[1] * (z.ndim - 1))
    # perturbed and summed in float32: bfloat16 would round the perturbation away
    perturbed = torch.cat([z, z]) + sigma * direction
    s = score(perturbed, sigma_a)
    loss: Tensor = (1 + sigma**2) * (s**2 + 2 * direction * s / sigma)
    if weight is not None:
        loss = weight(perturbed) * loss
    return loss.mean()


def balanced_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return standard normal images that are exactly white as a batch.

    At every frequency, the mean of u uᵀ over the images, where u is the vector of channels, is the
    identity, as for infinitely many images. The term ``u · (s₊ − s₋)`` of `antithetic_loss`
    estimates a trace; the component of the network that is the same at all pixels then adds no
    noise to its gradient.

    Parameters
    ----------
    shape : tuple of int
        ``(n, channels, *space)``, with no more channels than images.
    generator : torch.Generator
        Random generator.

    Returns
    -------
    Tensor
        float32, of that shape. Each single image is standard normal within rounding.

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
    spectrum = torch.fft.rfftn(torch.randn(shape, generator=generator), dim=space, norm="ortho")
    # one matrix of images by channels for each frequency
    matrices = spectrum.flatten(2).permute(2, 0, 1).to(torch.complex128)
    root = torch.linalg.cholesky(matrices.mH @ matrices / shape[0])
    white = torch.linalg.solve_triangular(root, matrices.mH, upper=False).mH
    white = white.permute(1, 2, 0).reshape(spectrum.shape).to(spectrum.dtype)
    images: Tensor = torch.fft.irfftn(white, s=shape[2:], dim=space, norm="ortho")
    return images
