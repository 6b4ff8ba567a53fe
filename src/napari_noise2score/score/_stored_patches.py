"""Patches of the training images that a model keeps, to measure the bias of x for any noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..noise import NoiseModel
from ..solve.bias_correction import BiasCorrection, IntensityBins, measure_bias_correction
from ..solve.pooling import POOLING_REACH, pooled_solution
from ..solve.table import Table

MAX_PATCH_PIXELS = 2**24  # of one tensor of a file
PREFIX = "patches."  # of the names of the tensors in a file


class StoredPatches(NamedTuple):
    """Noisy patches of the training images.

    Attributes
    ----------
    y : Tensor
        Grey levels, float32, shape ``(n, channels, *space)``; A⁻¹ y where the model has a kernel.
    valid : Tensor or None
        1 for valid and 0 for invalid pixels, float32, of the same shape; None if all are valid.
    around : Tensor or None
        Means of the neighbours, see `join_neighbours`, float32, shape
        ``(n, groups of neighbours * channels, *space)``, if the network sees any.
    """

    y: Tensor
    valid: Tensor | None = None
    around: Tensor | None = None

    def to(self, device: str | torch.device) -> StoredPatches:
        """Return the patches on a device."""
        return StoredPatches(*(None if t is None else t.to(device) for t in self))  # type: ignore[arg-type]

    def part(self, which: Any) -> StoredPatches:
        """Return some of the patches."""
        return StoredPatches(*(None if t is None else t[which] for t in self))  # type: ignore[arg-type]

    def first_known(self, count: int) -> StoredPatches:
        """Return the first patches, up to a count, whose neighbours are all known."""
        around = self.around
        known = torch.ones(len(self.y), dtype=torch.bool, device=self.y.device)
        if around is not None:
            known = around.isfinite().flatten(1).all(1)
        return self.part(known.nonzero().flatten()[:count])

    def measure_bias(
        self,
        scores: Tensor,
        bins: Sequence[IntensityBins],
        table: Table,
        noise: NoiseModel,
        error: float,
    ) -> BiasCorrection:
        """Return what x lacks for its noise to have the mean of y.

        Parameters
        ----------
        scores : Tensor
            Scores of the patches, of their shape.
        bins : sequence of IntensityBins
            Those of the pixels of y that are `inner`.
        table : Table
            The solution for the noise model.
        noise : NoiseModel
            The noise p(y | x).
        error : float
            Error of the score in units of 1 / z, by which x is pooled.
        """
        with torch.inference_mode():
            x = pooled_solution(table, table.locate(self.y, scores), self.y, noise, error)
            limits = float(table.levels[0]), float(table.levels[-1])
            return measure_bias_correction(bins, [x], noise, limits)

    @property
    def inner(self) -> Tensor:
        """1 for the valid pixels that do not depend on what is beyond the border of a patch."""
        usable = torch.ones_like(self.y) if self.valid is None else self.valid.clone()
        for axis in (-2, -1):
            for start in (0, max(usable.shape[axis] - POOLING_REACH, 0)):
                usable.narrow(axis, start, min(POOLING_REACH, usable.shape[axis])).zero_()
        return usable


def join_patches(each: Sequence[StoredPatches]) -> StoredPatches | None:
    """Return several groups of patches as one, or None if they hold no patch."""
    y = torch.cat([patches.y for patches in each])
    if not len(y):
        return None
    valid = around = None
    if any(patches.valid is not None for patches in each):
        masks = [torch.ones_like(p.y) if p.valid is None else p.valid for p in each]
        valid = torch.cat(masks).to(y.dtype)
    if all(patches.around is not None for patches in each):
        around = torch.cat([patches.around for patches in each if patches.around is not None])
    return StoredPatches(y, valid, around)


def patch_tensors(patches: StoredPatches | None) -> dict[str, Tensor]:
    """Return the tensors of a file that hold the patches, by name."""
    if patches is None:
        return {}
    return {PREFIX + k: t for k, t in patches._asdict().items() if t is not None}


def patch_shapes(patches: StoredPatches) -> dict[str, list[int]]:
    """Return the shapes of the tensors of the patches, for the header of a file."""
    return {k: list(t.shape) for k, t in patches._asdict().items() if t is not None}


def is_patches(name: str) -> bool:
    """Return whether the tensor of this name holds patches."""
    return name.startswith(PREFIX)


def stored_patches(tensors: Mapping[str, Tensor]) -> StoredPatches | None:
    """Return the patches that a file holds, None if it has none."""
    found = {k.removeprefix(PREFIX): tensor for k, tensor in tensors.items() if is_patches(k)}
    return StoredPatches(**found) if found else None


def checked_patch_shapes(header: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of each tensor of patches that a header describes.

    Raises
    ------
    ValueError
        If they do not fit together, or the network.
    """
    shapes = header.get("patches")
    if shapes is None:
        return {}
    if not isinstance(shapes, dict) or "y" not in shapes or set(shapes) - {"y", "valid", "around"}:
        raise ValueError("patches needs the shape of y")
    for shape in shapes.values():
        if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
            raise ValueError("the shape of patches is not a list of numbers above 0")
        size = 1
        for n in shape:
            size *= n
        if size > MAX_PATCH_PIXELS:
            raise ValueError("there are too many patches")
    network, y = header["network"], shapes["y"]
    channels = network["channels"]
    context = network.get("context_channels", 0)
    fits = len(y) == 2 + network["ndim"] and y[1] == channels
    stride = 2 ** network["depth"]
    fits = fits and all(n % stride == 0 for n in y[-2:])
    fits = fits and shapes.get("valid", y) == y and ("around" in shapes) == bool(context)
    # the network has two input channels for each one of a neighbour
    fits = fits and shapes.get("around", y) == [y[0], context // 2 or channels, *y[2:]]
    if not fits:
        raise ValueError("patches do not fit the network")
    return {PREFIX + key: tuple(shape) for key, shape in shapes.items()}
