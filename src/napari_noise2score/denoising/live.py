"""Denoise single planes of an image repeatedly, for one noise model after another.

The score of a plane is computed once; solving for another noise model takes milliseconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..image.axes import Layout, layout, read_block
from ..image.corrected import CorrectedArray
from ..image.image import Image
from ..image.valid import valid_of
from ..noise import NoiseModel, PerChannel, parse_noise
from ..progress import Progress
from ..score.correction import corrected_image, corrections_for, learned_corrections
from ..score.device import choose_device
from ..score.model import ScoreModel
from ..solve.bias_correction import BiasCorrection
from ..solve.pooling import POOLING_REACH
from ..solve.solver import Solver, reach_of
from ..solve.table import Table
from ._blocks import round_to_dtype
from ._one_core import map_on_cores
from ._recent import RecentFrames
from ._strips import Strip, make_strips, solve_strips
from .grey_level_range import check_block
from .halo import read_with_halo, solved_region, without_halo
from .job import fit_layout
from .tile_size import cut_axis

TILE_SIDE = 512  # pixels; small, so that work on a plane that is no longer shown stops soon
# Pixels of score around a plane. For noise of a larger reach, the score is computed again.
MIN_MARGIN = 16
MAX_PLANES = 8
MAX_PIXELS = 4096**2  # of all channels of a plane, and of all cached planes; about 32 bytes each


class PlaneScore(NamedTuple):
    """The score of one plane of an image, with a margin around it, and its invalid pixels."""

    y: Tensor
    score: Tensor
    margin: int
    block: np.ndarray
    invalid: np.ndarray | None


class LivePlanes:
    """The last planes of an image that were shown, ready to be solved for any noise model.

    Parameters
    ----------
    image : array-like
        Noisy image in grey levels: numpy, dask or zarr; only the requested planes are read.
    model : ScoreModel
        A score learned on images like this one.
    axes : str
        Axes of the image.
    device : str
        Where to compute: ``"auto"``, ``"cpu"``, ``"cuda"``.

    Raises
    ------
    UserError
        If the model does not fit the image.

    Examples
    --------
    >>> from napari_noise2score import train
    >>> stack = np.random.default_rng(0).normal(100, 10, (4, 64, 64))
    >>> planes = LivePlanes(stack, train(stack, axes="TYX", steps=2), "TYX")
    >>> place = planes.place((3, 0, 0))
    >>> for progress in planes.prepare(place):  # the slow part, once for each plane
    ...     pass
    >>> [planes.solve(place, f"gaussian(sigma={sigma})").shape for sigma in (5, 10)]
    [(1, 64, 64), (1, 64, 64)]
    """

    def __init__(self, image: Any, model: ScoreModel, axes: str, device: str = "auto"):
        raw = Image(image, axes)
        undone = corrected_image(raw, learned_corrections(model), fills=True)
        self.image, self._raw = undone.data, raw.data
        self.model = model.to(choose_device(device))
        self.layout: Layout = fit_layout(layout(axes, image.shape, model.ndim), model)
        self.valid = valid_of(undone)
        self._scores: OrderedDict[tuple[int, ...], PlaneScore] = OrderedDict()
        # by channel, where each has a noise model of its own
        self._strips: dict[int | None, tuple[PlaneScore, Any, list[Strip]]] = {}
        self._compared: set[int] = set()  # identities of the models of the channels
        self._recent = RecentFrames()

    def place(self, at: Sequence[int]) -> tuple[int, ...]:
        """Return the index of the plane through a pixel.

        Parameters
        ----------
        at : sequence of int
            Index of a pixel along each axis of the image.

        Returns
        -------
        tuple of int
            Index of the first pixel of the plane: 0 along the axes that it spans.
        """
        spans = "YX" + ("C" if self.layout.joint else "")
        return tuple(0 if a in spans else i for a, i in zip(self.layout.axes, at, strict=True))

    def is_ready(self, place: Sequence[int], noise: NoiseModel | str) -> bool:
        """Return whether a plane can be solved for a noise model without computing its score."""
        known = self._scores.get(tuple(place))
        return known is not None and known.margin >= self._reach(noise)

    def prepare(
        self, place: Sequence[int], noise: NoiseModel | str = ""
    ) -> Iterator[Progress[None]]:
        """Compute the score of a plane, tile by tile; closing the generator stops.

        Parameters
        ----------
        place : sequence of int
            As from `place`.
        noise : NoiseModel or str
            Needed only if its correlation has a larger reach than `MIN_MARGIN`.

        Yields
        ------
        Progress
            After every tile.

        Raises
        ------
        UserError
            If the plane has more than `MAX_PIXELS` pixels.
        """
        height, width = self.layout.space_shape[-2:]
        pixels = height * width * self.layout.channels
        if pixels > MAX_PIXELS:
            raise UserError(
                f"a plane of {height} × {width} pixels is too large for the live preview"
            )
        position, whole = self._whole(place)
        model = self._model_at(place)
        stride = model.network.stride[-1]
        margin = -(-max(MIN_MARGIN, self._reach(noise) if noise else 0) // stride) * stride
        cuts = [_cuts(n, margin) for n in self.layout.space_shape[-2:]]
        deep = whole[:-2]
        total = len(cuts[0]) * len(cuts[1])
        rows: list[list[tuple[Tensor, Tensor]]] = []
        for i, y_cut in enumerate(cuts[0]):
            rows.append([])
            for j, x_cut in enumerate(cuts[1]):
                rows[-1].append(self._score(model, position, [*deep, y_cut, x_cut]))
                yield Progress(i * len(cuts[1]) + j + 1, total)
        y, score = (
            torch.cat([torch.cat([tile[k] for tile in row], dim=-1) for row in rows], dim=-2)
            for k in (0, 1)
        )
        block, invalid = self.valid.read(self.image, self.layout, position, whole)
        if isinstance(self.image, CorrectedArray) and invalid is not None:
            # invalid pixels keep the value that was recorded
            block = read_block(self._raw, self.layout, position, whole)
        self._scores[tuple(place)] = PlaneScore(y, score, margin, block, invalid)
        while len(self._scores) > min(MAX_PLANES, MAX_PIXELS // pixels):
            self._scores.popitem(last=False)

    def solve(
        self, place: Sequence[int], noise: NoiseModel | str, dtype: np.dtype | None = None
    ) -> np.ndarray:
        """Return a denoised plane; its score must have been computed by `prepare`.

        Parameters
        ----------
        place : sequence of int
            As from `place`.
        noise : NoiseModel or str
            The noise.
        dtype : numpy.dtype, optional
            Type of the result, float32 by default; integers are rounded and clipped.

        Returns
        -------
        numpy.ndarray
            Clean grey levels, offset included, with all axes of the image, of length 1 along those
            that the plane does not span. They are equal to those that `denoise` returns.

        Raises
        ------
        UserError
            If the noise does not fit the model.
        """
        plane, reach = self._scores[tuple(place)], self._reach(noise)
        model, noises = self._model_at(place), self._noises_at(place, noise)
        cut = slice(plane.margin - reach, -(plane.margin - reach) or None)
        # all channels at once, or each by itself
        size = plane.y.shape[1] // len(noises)
        solved = []
        with torch.inference_mode():
            for number, own in enumerate(noises):
                at = (slice(None), slice(number * size, (number + 1) * size), ..., cut, cut)
                channel = number if len(noises) > 1 else None
                x = self._solved(plane, at, reach, model, own, channel)
                solved.append(x + own.offset)
            found = torch.cat(solved, dim=1)[0].cpu().numpy()
        if isinstance(self.image, CorrectedArray):
            found = found / self.image.factor_at(self.layout, *self._whole(place))
        if plane.invalid is not None:
            # invalid pixels keep their value
            found = np.where(plane.invalid, plane.block, found)
        where = self.layout
        found = where.from_block(found)[
            tuple(None if a in where.loop else slice(None) for a in where.axes)
        ]
        return found if dtype is None else round_to_dtype(found, dtype)

    def _whole(self, place: Sequence[int]) -> tuple[list[int], list[slice]]:
        """Return the index of a plane along the looped axes, and its slices in space."""
        at = dict(zip(self.layout.axes, place, strict=True))
        deep = [slice(at["Z"], at["Z"] + 1)] if len(self.layout.space) == 3 else []
        plane = [slice(0, n) for n in self.layout.space_shape[-2:]]
        return [at[a] for a in self.layout.loop], deep + plane

    def _score(
        self, model: ScoreModel, position: Sequence[int], space: Sequence[slice]
    ) -> tuple[Tensor, Tensor]:
        """Return the grey levels of a tile and their score."""
        read = read_with_halo(
            self.image, self.layout, model, position, space, 0, self.valid, self._recent
        )
        if id(model) not in self._compared:
            check_block(without_halo(read, model, space), model)
            self._compared.add(id(model))
        y, wide = read.y.to(model.device), solved_region(model, space)
        context = None if read.context is None else read.context.to(model.device)
        return y[wide], model.score(y, context=context)[wide]

    def _model_at(self, place: Sequence[int]) -> ScoreModel:
        """Return the model of the channel of a plane, or that of all channels."""
        return self.model.of_channel(self._channel_at(place))

    def _noises_at(self, place: Sequence[int], noise: NoiseModel | str) -> tuple[NoiseModel, ...]:
        """Return the noise model of each channel of a plane, or a single one of all channels."""
        noise = parse_noise(noise) if isinstance(noise, str) else noise
        corrections_for(noise, self.model)
        noise = noise.plain
        noises = noise.for_channels(self.layout.all_channels)
        if "C" in self.layout.loop:
            return (noises[self._channel_at(place)],)
        return noises if isinstance(noise, PerChannel) else noises[:1]

    def _channel_at(self, place: Sequence[int]) -> int:
        where = self.layout
        return place[where.axes.index("C")] if "C" in where.loop else 0

    def _reach(self, noise: NoiseModel | str) -> int:
        """Return how many pixels around a pixel solving and pooling use."""
        noise = (parse_noise(noise) if isinstance(noise, str) else noise).plain
        models = noise.models if isinstance(noise, PerChannel) else (noise,)
        reaches = [reach_of(own, self.model.kernel) for own in models]
        return max(*reaches, POOLING_REACH)

    def _solved(
        self,
        plane: PlaneScore,
        at: tuple[Any, ...],
        reach: int,
        model: ScoreModel,
        noise: NoiseModel,
        channel: int | None,
    ) -> Tensor:
        """Return the solution at channels of a plane, without offset and the margin that is cut."""
        solve, correction = self._for_noise(model, noise)
        if not isinstance(solve, Table):
            inner = slice(reach, -reach or None)
            return solve(plane.y[at], plane.score[at])[..., inner, inner]
        if correction is not None and channel is not None:
            correction = correction.of_channel(channel)
        last, grid = self._strips.get(channel), (solve.grid, reach)
        if last is None or last[0] is not plane or last[1] != grid:
            strips = make_strips(plane.y[at], plane.score[at], reach, solve, correction)
            self._strips[channel] = last = plane, grid, strips
        error = model.score_error(model.sigma_a)
        return solve_strips(last[2], reach, solve, noise, error, correction)

    def _for_noise(
        self, model: ScoreModel, noise: NoiseModel
    ) -> tuple[Solver, BiasCorrection | None]:
        """Return the solver and the bias correction for a noise model."""

        def compute(noise: NoiseModel) -> tuple[Solver, BiasCorrection | None]:
            return model.solver(noise), model.bias_correction(noise)

        if model.device.type == "cpu":
            return map_on_cores(compute, [noise])[0]
        return compute(noise)


def _cuts(size: int, margin: int) -> list[slice]:
    """Cut an axis into tiles; the first and the last include the margin."""
    cuts = cut_axis(size, TILE_SIDE)
    first, last = cuts[0], cuts[-1]
    cuts[0] = slice(-margin, first.stop)
    cuts[-1] = slice(cuts[-1].start, last.stop + margin)
    return cuts
