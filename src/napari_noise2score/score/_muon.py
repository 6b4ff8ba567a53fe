"""Muon, an optimiser for the kernels of convolutions: AdamW learns less in a short time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Momentum, with each update of a kernel made orthogonal before it is applied.

    A kernel is taken as a matrix of outputs by inputs and taps. Its update then moves all
    directions of that matrix alike, rare ones as much as common ones, which is what short
    trainings lack. K. Jordan et al., *Muon: an optimizer for hidden layers*, 2024.

    Parameters
    ----------
    kernels : iterable of Tensor
        Weights of hidden convolutions; vectors, first and last layers are not for it.
    lr : float
        Size of a step: the root mean square change of a square kernel is about ``lr / √width``.
    momentum : float
        Share of the past in the momentum.

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
        """Take one step along the gradients that the kernels hold."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for kernel in group["params"]:
                alike.setdefault(kernel.shape, []).append(kernel)
            # kernels of one shape together: on a GPU the number of calls is what takes time
            for kernels in alike.values():
                updates = torch.stack([self._update(k, group["momentum"]) for k in kernels])
                matrices = updates.flatten(2)
                stretch = math.sqrt(max(1.0, matrices.shape[1] / matrices.shape[2]))
                changes = orthogonal(matrices).reshape(updates.shape).movedim(-1, 2)
                for kernel, change in zip(kernels, changes, strict=True):
                    kernel.add_(change, alpha=-group["lr"] * stretch)

    def _update(self, kernel: Tensor, momentum: float) -> Tensor:
        state = self.state[kernel]
        if not state:
            state["momentum"] = torch.zeros_like(kernel)
        assert kernel.grad is not None
        past = state["momentum"].lerp_(kernel.grad, 1 - momentum)
        # inputs last, as convolutions keep them in memory
        return kernel.grad.lerp(past, momentum).movedim(1, -1)


def orthogonal(matrices: Tensor) -> Tensor:
    """Give about the nearest matrices with equal singular values, between 0.7 and 1.2.

    Five Newton–Schulz steps with the polynomial of Jordan et al., taken on the smaller product
    of a matrix with itself, so that the matrix is multiplied only twice.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonal(matrices.mT).mT
    matrices = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    gram = matrices @ matrices.mT
    whole = torch.eye(gram.shape[-1], device=gram.device)
    for step in range(5):
        factor = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        factor.diagonal(dim1=-2, dim2=-1).add_(3.4445)
        whole = factor @ whole if step else factor
        if step < 4:
            gram = factor @ gram @ factor
    return whole @ matrices
