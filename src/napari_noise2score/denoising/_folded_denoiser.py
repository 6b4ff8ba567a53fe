"""Fold network, normalization and solver for one noise model into one torch module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..solve.folded import FoldedSolver
from ..solve.table import Table
from .halo import halo_of
from .job import Job


class FoldedDenoiser(nn.Module):
    """A job's denoising of images in grey levels, of any size, as one function of pixels.

    Images are continued by reflection, as `denoise` does, so that any size is accepted. Invalid
    pixels are not looked for, and neighbouring planes and time points are not known.

    Parameters
    ----------
    job : Job
        As from `prepare`, for the CPU.

    Raises
    ------
    UserError
        If the noise is correlated between pixels, or the solver is no table.
    """

    def __init__(self, job: Job):
        super().__init__()
        self.jobs = job.channels or (job,)
        for own in self.jobs:
            if own.model.kernel is not None or own.noise.components.kernel is not None:
                raise UserError(
                    f"noise that is correlated between pixels cannot be exported ('{job.noise}'): "
                    "denoise with noise2score"
                )
        # whether each channel is an image of its own for the network
        self.separate = bool(job.channels) and not job.layout.joint
        self.networks = nn.ModuleList(
            [own.model.network if own.polish is None else own.polish.network for own in self.jobs]
        )
        self.solvers = nn.ModuleList(
            [_folded_solver(own) for own in self.jobs if own.polish is None]
        )
        self.reach = max(own.reach for own in self.jobs)
        self.halo = halo_of(job.model, self.reach)
        self.stride = job.model.network.stride

    def forward(self, image: Tensor) -> Tensor:
        """Return the clean image.

        Parameters
        ----------
        image : Tensor
            Noisy grey levels, float32, shape ``(n, channels, *space)``.

        Returns
        -------
        Tensor
            Clean grey levels, float32, of that shape.
        """
        if self.separate:
            channels = [self._denoised(image[:, c : c + 1], [c]) for c in range(len(self.jobs))]
            return torch.cat(channels, dim=1)
        return self._denoised(image, list(range(len(self.jobs))))

    def _denoised(self, image: Tensor, numbers: list[int]) -> Tensor:
        """Return the clean image of the channels of these jobs."""
        y, inner, center = image, [], []
        for axis, (halo, stride) in enumerate(zip(self.halo, self.stride, strict=True), 2):
            size = image.shape[axis]
            y = torch.index_select(y, axis, _reflected(size, halo, stride, image.device))
            more = self.reach if axis >= image.ndim - 2 else 0
            inner.append((halo - more, halo + size + more))
            center.append((more, more + size))
        first = self.jobs[numbers[0]]
        if first.polish is not None:
            x = first.polish.clean(y, first.model, first.noise)[0] + first.noise.offset
            return _cut(_cut(x, inner), center)
        score = _cut(first.model.score(y, first.sigma_a), inner)
        y = _cut(y, inner)
        if len(numbers) == 1:
            return _cut(self.solvers[numbers[0]](y, score), center)
        each = [self.solvers[c](y[:, c : c + 1], score[:, c : c + 1]) for c in numbers]
        return _cut(torch.cat(each, dim=1), center)


def _folded_solver(job: Job) -> FoldedSolver:
    if not isinstance(job.solve, Table):
        raise UserError(f"there is no table for '{job.noise}', so that it cannot be exported")
    return FoldedSolver(job.solve, job.noise, job.score_error, job.bias_correction)


def _reflected(size: Any, halo: int, stride: int, device: torch.device) -> Tensor:
    """Return the pixels along an axis that is continued by reflection, whole strides of them.

    The size is a tensor while the module is recorded.
    """
    padded: Any = torch.div(size + stride - 1, stride, rounding_mode="floor") * stride
    at = torch.arange(-halo, padded + halo, device=device)
    # reflection without repeating the edge has a period of 2 n − 2
    period = (torch.ones_like(at) * (2 * size - 2)).clamp(min=1)
    at = torch.remainder(at, period)
    return torch.minimum(at, (2 * size - 2 - at).abs()).clamp(max=size - 1)


def _cut(image: Tensor, region: list[tuple[int, int]]) -> Tensor:
    """Return a region along the axes of space."""
    for axis, (start, stop) in enumerate(region, 2):
        image = image.narrow(axis, start, stop - start)
    return image
