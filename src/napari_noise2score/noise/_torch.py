"""Import torch only when it is first used: declaring and parsing noise models does not need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch as torch
    from torch import Tensor
else:
    from importlib import import_module

    class _LazyTorch:
        """Import torch at the first access to one of its attributes."""

        def __getattr__(self, name):
            value = getattr(import_module("torch"), name)
            setattr(self, name, value)
            return value

    torch = _LazyTorch()


def broadcast(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tensors as views of one shape."""
    first, second = torch.broadcast_tensors(first, second)  # type: ignore[no-untyped-call, unused-ignore]
    return first, second


__all__ = ["broadcast", "torch"]
