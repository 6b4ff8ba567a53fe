"""Muon, an optimizer for the kernels of convolutions, faster than AdamW in short training runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Gradient descent with momentum in which each update of a kernel is orthogonalized.

    A kernel is treated as a matrix of outputs by inputs and taps. An orthogonal update changes all
    singular directions of this matrix equally, also those with small gradients, which are learned
    slowly otherwise. K. Jordan et al., *Muon: an optimizer for hidden layers*, 2024.

    Parameters
    ----------
    kernels : iterable of Tensor
        Weights of hidden convolutions; not vectors, nor the first and last layer.
    lr : float
        Learning rate: the root mean square change of a square kernel is about ``lr / √width``.
    momentum : float
        Decay of the moving average of the gradients.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.zeros(4, 6))
    >>> (weight * torch.randn(4, 6)).sum().backward()
    >>> Muon([weight], lr=0.1).step()
    >>> singular = torch.linalg.svdvals(weight.detach())
    >>> bool((singular > 0.05).all() and (singular < 0.15).all())
    True
    """

    def __init__(self, kernels: Iterable[Tensor], lr: float, momentum: float = 0.9):
        super().__init__(kernels, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the kernels by their gradients."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for kernel in group["params"]:
                by_shape.setdefault(kernel.shape, []).append(kernel)
            # one call for all kernels of a shape: on a GPU, the time depends on the number of calls
            for kernels in by_shape.values():
                updates = torch.stack([self._update(k, group["momentum"]) for k in kernels])
                matrices = updates.flatten(2)
                stretch = math.sqrt(max(1.0, matrices.shape[1] / matrices.shape[2]))
                changes = orthogonalize(matrices).reshape(updates.shape).movedim(-1, 2)
                for kernel, change in zip(kernels, changes, strict=True):
                    kernel.add_(change, alpha=-group["lr"] * stretch)

    def _update(self, kernel: Tensor, momentum: float) -> Tensor:
        """Return the gradient of a kernel with momentum, before it is orthogonalized."""
        state = self.state[kernel]
        if not state:
            state["momentum"] = torch.zeros_like(kernel)
        assert kernel.grad is not None
        past = state["momentum"].lerp_(kernel.grad, 1 - momentum)
        # inputs last, as in the memory format of the network
        return kernel.grad.lerp(past, momentum).movedim(1, -1)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return approximately the nearest orthogonal matrices; singular values are 0.7 to 1.2.

    Five Newton–Schulz steps with the polynomial of Jordan et al. are applied to the smaller product
    of a matrix and its transpose, so that the matrix itself is multiplied only twice.

    Parameters
    ----------
    matrices : Tensor
        Shape ``(n, rows, columns)``.

    Returns
    -------
    Tensor
        Of the same shape.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonalize(matrices.mT).mT
    matrices = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    gram = matrices @ matrices.mT
    product = torch.eye(gram.shape[-1], device=gram.device)
    for step in range(5):
        factor = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        factor.diagonal(dim1=-2, dim2=-1).add_(3.4445)
        product = factor @ product if step else factor
        if step < 4:
            gram = factor @ gram @ factor
    return product @ matrices
