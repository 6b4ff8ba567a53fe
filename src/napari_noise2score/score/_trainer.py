"""Train the score network on noisy patches, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..errors import UserError
from ..image.axes import Layout
from ..noise.kernel import Kernel
from ._evaluate import clip_to_training, context_input, perturbed_score
from ._network import UNet
from ._network_trainer import NetworkTrainer
from ._objective import antithetic_loss, balanced_normal
from ._patch_size import patch_size
from ._score_error import measure_score_errors
from ._stored_patches import StoredPatches, join_patches
from ._survey import survey
from ._valid_of_each import ValidOfEach
from .context import NO_CONTEXT, Context
from .coordinates import MAX_SEPARATE_CHANNELS, Coordinates, apply_each, per_image
from .device import inner_precision
from .information import Information, PatchSample, measure_information
from .model import ScoreModel
from .patches import (
    MIN_PIECES_TO_SPLIT,
    DrawnPatches,
    Patches,
    count_pieces,
    separate_channels,
)

NETWORK_WIDTH = 32
NETWORK_DEPTH = 2
BATCH_SIZE = {2: 8, 3: 4}
# Training on many pieces starts with large perturbations, up to this one, because their gradient is
# less noisy; after this share of the budget only those of the survey are used. Training on few
# pieces would overfit before.
MAX_COARSE_SIGMA_A = 1.5
COARSE_SHARE = 0.8
VALIDATION_PATCHES = 16
MAX_SHAPES_IN_PROVENANCE = 8
MAX_STORED_PIXELS = 2**16  # of the patches that the model keeps
# Share of the training patches of which some neighbours are hidden, so that the network can do
# without those that are missing.
HIDDEN_SHARE = 1 / 16


class Trainer(NetworkTrainer):
    """One training run of a score network; `train_steps` carries it out.

    Parameters
    ----------
    arrays : sequence of array-like
        Noisy images.
    layouts : sequence of Layout
        Layout of each image; all with the same number of channels.
    device : str
        Device to train on, see `choose_device`.
    seed : int
        Determines initial weights, patches and perturbations.
    name : str
        Name of the model.
    kernel : Kernel, optional
        Correlation of the noise, undone first.
    identity : str
        Digest of the images, so that a training run is resumed with the same images only.
    context : Context
        The neighbours that the network sees.
    notes : mapping, optional
        For the provenance of the model; values are JSON.

    Raises
    ------
    UserError
        If there is no such device, or nothing can be learned from the images, see `survey`.
    """

    file_kind = "training checkpoint"

    def __init__(
        self,
        arrays: Sequence[Any],
        layouts: Sequence[Layout],
        device: str,
        seed: int,
        name: str,
        kernel: Kernel | None = None,
        identity: str = "",
        context: Context = NO_CONTEXT,
        notes: Mapping[str, Any] | None = None,
        of_noise: Kernel | None = None,
    ):
        ndim, channels = len(layouts[0].space), layouts[0].channels
        network = UNet.empty(
            ndim, channels, NETWORK_WIDTH, NETWORK_DEPTH,
            context_channels=context.channels(channels),
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        network.initialize(generator)
        super().__init__(network, device, np.random.default_rng(seed), generator)
        self.name, self.context, self.notes = name, context, notes or {}
        self.layout = layouts[0]
        valid = ValidOfEach(arrays, layouts)
        self.facts = survey_channels(arrays, layouts, seed, kernel, valid, of_noise)
        self.each = self.facts.get("channel_coordinates", ()) or (
            Coordinates(**{k: v for k, v in self.facts.items() if k != "kernel"}),
        )
        self.batch = BATCH_SIZE[ndim]
        self.many_pieces = count_pieces(layouts) >= MIN_PIECES_TO_SPLIT
        size = patch_size(layouts, self.network.stride, kernel)
        self.patches = Patches(arrays, layouts, size, self.rng, kernel, valid, context)
        self.validation_patches = max(VALIDATION_PATCHES, 4 * len(self.each))
        drawn = self.patches.draw_with_context(
            self.validation_patches, np.random.default_rng(seed), True
        )
        self.held_out = self._batch(drawn)
        # its own random generator, so that it does not change the training
        self.others = self._batch(
            self.patches.draw_with_context(self.validation_patches, np.random.default_rng(seed))
        )
        self.held_out_u = torch.randn(self.held_out.y.shape, generator=self.generator)
        noise = self._noise_in(self.held_out.y, self.held_out.channel)
        self.typical_noise = [
            float(noise[self.held_out.channel == c].mean()) for c in range(len(self.each))
        ]
        self.settings = {
            "seed": seed,
            "axes": sorted({where.axes for where in layouts}),
            "shapes": [list(s) for s in sorted({where.shape for where in layouts})],
            "patch": list(size),
            "images": identity,
            "kernel": str(of_noise or kernel),
            **({"context": [list(each) for each in context.offsets]} if context.offsets else {}),
            **({"separate channels": len(self.each)} if len(self.each) > 1 else {}),
        }
        # of each channel, and the step it is of
        self._information: tuple[int, list[Information]] | None = None

    def measure(self) -> None:
        """Measure the information of the data, for `model` to record with these weights."""
        held, others = self.patches.count_pixels()
        model = self.model()
        self._information = (
            self.steps,
            [
                measure_information(
                    model.of_channel(channel),
                    self.held_out.of_channel(channel).sample(held),
                    self.others.of_channel(channel).sample(others),
                    self.patches.separate,
                    self.settings["seed"],
                )
                for channel in range(len(self.each))
            ],
        )

    def model(self) -> ScoreModel:
        """Return a model with the averaged weights, see `learned`."""
        model = ScoreModel(
            network=self.learned(),
            axes=self.layout.axes,
            joint=self.layout.joint,
            name=self.name,
            context=self.context,
            patches=self._stored_patches(),
            provenance={
                "software": f"napari-noise2score {__version__}",
                "torch": torch.__version__,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "shapes": self.settings["shapes"][:MAX_SHAPES_IN_PROVENANCE],
                **self.run_facts(),
                **self.notes,
            },
            **self.facts,
        )
        measured: list[Any] = [None] * len(self.each)
        if self._information is not None and self._information[0] == self.steps:
            measured = self._information[1]
        errors = [
            measure_score_errors(
                model.of_channel(c), *self.held_out.of_channel(c).first(self.batch)
            )
            for c in range(len(self.each))
        ]
        if len(self.each) == 1:
            information = {} if measured[0] is None else {"information": measured[0].as_json()}
            provenance = {**model.provenance, **information}
            return replace(model, score_errors=errors[0], provenance=provenance)
        each = zip(self.each, errors, measured, strict=True)
        return replace(
            model,
            channel_coordinates=tuple(
                replace(own, score_errors=error, information=found) for own, error, found in each
            ),
        )

    def _stored_patches(self) -> StoredPatches | None:
        """Return the patches that the model keeps, held out or not, as images are made of both.

        There are as many of each channel, one channel after the other.
        """
        count = max(1, MAX_STORED_PIXELS // (2 * self.held_out.y[0].numel()))
        groups = []
        for channel in range(len(self.each)):
            own = (self.held_out.of_channel(channel), self.others.of_channel(channel))
            both = [StoredPatches(b.y, b.valid, b.around).first_known(count) for b in own]
            groups.append(join_patches(both))
        if any(group is None for group in groups):
            return None
        known = [group for group in groups if group is not None]
        fewest = min(len(group.y) for group in known)
        return join_patches([group.part(slice(fewest)) for group in known])

    def _draw_loss(self, fraction: float) -> Tensor:
        """Draw patches and perturbations at a share of the budget, and return their loss."""
        batch = self._batch(self.patches.draw_with_context(self.batch, self.rng))
        u = balanced_normal(tuple(batch.y.shape), self.generator)
        sigma_a = self._draw_sigma_a(batch.channel, fraction)
        if batch.around is not None:
            batch = batch._replace(around=self._hide_neighbours(batch.around))
        return self._loss(self.network, batch, u, sigma_a)

    def _batch(self, drawn: DrawnPatches) -> _Batch:
        """Return drawn patches as tensors; channels in common coordinates count as one."""
        arrays = (drawn.y, drawn.valid, drawn.context)
        y, valid, around = (None if a is None else torch.from_numpy(a) for a in arrays)
        assert y is not None
        channel = drawn.channel if len(self.each) > 1 else np.zeros_like(drawn.channel)
        return _Batch(y, valid, around, channel)

    def _hide_neighbours(self, around: Tensor) -> Tensor:
        """Hide some neighbours, or all, of a few patches."""
        shape = (len(around), len(self.context.groups))
        chosen = torch.rand(shape[0], generator=self.generator) < HIDDEN_SHARE
        share = torch.rand(shape[0], 1, generator=self.generator)
        hidden = chosen[:, None] & (torch.rand(shape, generator=self.generator) < 2 * share)
        hidden = hidden.repeat_interleave(around.shape[1] // shape[1], dim=1)
        space = [1] * (around.ndim - 2)
        return around.masked_fill(hidden.reshape(*hidden.shape, *space), math.nan)

    def _trial_loss(self) -> Tensor:
        """Return the loss of the first held-out patches."""
        batch = self.held_out.part(slice(self.batch))._replace(valid=None)
        sigma_a = self._default_sigma_a(batch.channel)
        return self._loss(self.network, batch, self.held_out_u[: self.batch], sigma_a)

    def _held_out_loss(self, network: UNet) -> Tensor:
        """Return the loss of a network on held-out patches."""
        sigma_a = self._default_sigma_a(self.held_out.channel)
        return self._loss(network, self.held_out, self.held_out_u, sigma_a)

    def _default_sigma_a(self, channel: np.ndarray) -> Tensor:
        return torch.tensor([self.each[c].sigma_a for c in channel], dtype=torch.float32)

    def _draw_sigma_a(self, channel: np.ndarray, fraction: float) -> Tensor:
        """Draw perturbations at a share of the budget, evenly spread over their range."""
        coarse = max(0.0, 1 - fraction / COARSE_SHARE) if self.many_pieces else 0.0
        ranges = [own.sigma_a_range for own in self.each]
        grown = [high * max(1.0, MAX_COARSE_SIGMA_A / high) ** coarse for _, high in ranges]
        low = per_image([low for low, _ in ranges], channel)
        ratio = per_image(
            [high / low for high, (low, _) in zip(grown, ranges, strict=True)], channel
        )
        count = len(channel)
        even = (torch.arange(count) + torch.rand(count, generator=self.generator)) / count
        drawn: Tensor = low * ratio ** (even ** (1 - 0.75 * coarse))
        return drawn

    def _loss(self, network: UNet, batch: _Batch, u: Tensor, sigma_a: Tensor) -> Tensor:
        """Return the loss of the valid pixels of patches.

        Leaving out invalid pixels does not change the minimizer at valid ones, because the loss is
        a sum over pixels.
        """
        channel, each = batch.channel, self.each
        y, u, sigma_a = (t.to(self.device, non_blocking=True) for t in (batch.y, u, sigma_a))
        # the two perturbations of each patch
        twice = np.concatenate([channel, channel])
        mean = per_image([own.mean for own in each], twice, y)
        scale = per_image([own.scale for own in each], twice, y)
        context = None
        if batch.around is not None:
            around = batch.around.to(self.device, non_blocking=True)
            context = apply_each(
                each,
                channel,
                lambda own, a: context_input(
                    a, y.shape[1], own.transform, own.low, own.high, own.mean, own.scale
                ),
                around,
            )

        def score(z: Tensor, at: Tensor) -> Tensor:
            with inner_precision(self.device, self.precision):
                return perturbed_score(network, z, at, mean, scale, context)

        z = apply_each(
            each,
            channel,
            lambda own, a: own.transform.forward(clip_to_training(a, own.low, own.high)),
            y,
        )
        # weights increase the noise of the gradient, which few pieces cannot afford
        weight = (lambda z: self._weight(z, twice)) if self.many_pieces else None
        if batch.valid is not None:
            # filled pixels are not perturbed, as when the score is evaluated
            share = batch.valid.to(self.device)
            u = u * share
            share = share / share.mean().clamp(min=1e-6)
            share = torch.cat([share, share])
            inner = weight

            def weight(z: Tensor) -> Tensor:
                return share if inner is None else share * inner(z)

        return antithetic_loss(score, z, u, sigma_a, weight)

    def _weight(self, z: Tensor, channel: np.ndarray) -> Tensor:
        """Return the weight of each image and channel, shape ``(n, channels, 1, ...)``."""
        y = apply_each(self.each, channel, lambda own, a: own.transform.inverse(a), z)
        return self._noise_in(y, channel) / per_image(self.typical_noise, channel, z)

    def _noise_in(self, y: Tensor, channel: np.ndarray) -> Tensor:
        """Return the root mean square noise of each image and channel in grey levels."""
        variance = apply_each(self.each, channel, lambda own, a: own.transform.variance(a), y)
        return variance.mean(dim=tuple(range(2, y.ndim)), keepdim=True).sqrt()


class _Batch(NamedTuple):
    """Patches, which pixels are valid, the neighbours, and the channel of each patch."""

    y: Tensor
    valid: Tensor | None
    around: Tensor | None
    channel: np.ndarray

    def part(self, which: Any) -> _Batch:
        """Return some of the patches."""
        valid, around = (None if t is None else t[which] for t in (self.valid, self.around))
        return _Batch(self.y[which], valid, around, self.channel[which])

    def of_channel(self, channel: int) -> _Batch:
        """Return the patches of one channel."""
        return self.part(np.flatnonzero(self.channel == channel))

    def first(self, count: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the first patches, which pixels are valid, and the neighbours."""
        y, valid, around, _ = self.part(slice(count))
        return y, valid, around

    def sample(self, pixels: int) -> PatchSample:
        """Return the patches as a sample of so many pixels."""
        return PatchSample(self.y, self.valid, pixels, self.around)


def survey_channels(
    arrays: Sequence[Any],
    layouts: Sequence[Layout],
    seed: int,
    kernel: Kernel | None,
    valid: ValidOfEach,
    of_noise: Kernel | None = None,
) -> dict[str, Any]:
    """Survey images, see `survey`; each channel by itself if the channels are separate.

    Returns
    -------
    dict
        As from `survey`. If there are `Coordinates` for each channel, the other fields are those of
        the first channel.
    """
    counts = {separate_channels(where) for where in layouts}
    count = counts.pop()
    if counts or not 1 < count <= MAX_SEPARATE_CHANNELS:
        rng = np.random.default_rng(seed)
        return survey(arrays, layouts, rng, kernel, valid, of_noise=of_noise)
    each = []
    for channel in range(count):
        try:
            rng = np.random.default_rng(seed)
            each.append(survey(arrays, layouts, rng, kernel, valid, channel, of_noise))
        except UserError as error:
            raise UserError(f"channel {channel + 1} of {count}: {error}") from None
    coordinates = tuple(
        Coordinates(**{k: v for k, v in facts.items() if k != "kernel"}) for facts in each
    )
    return {**each[0], "channel_coordinates": coordinates}
