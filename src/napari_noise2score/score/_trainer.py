"""Train the score network on noisy patches, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
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
from .device import inner_precision
from .information import Information, PatchSample, measure_information
from .model import ScoreModel
from .patches import MIN_PIECES_TO_SPLIT, DrawnPatches, Patches, count_pieces

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
    facts : mapping, optional
        As from `survey`, if the images were surveyed before.

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
        facts: Mapping[str, Any] | None = None,
    ):
        ndim, channels = len(layouts[0].space), layouts[0].channels
        network = UNet.empty(
            ndim, channels, NETWORK_WIDTH, NETWORK_DEPTH,
            context_channels=context.channels(channels),
        )  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        network.initialize(generator)
        super().__init__(network, device, np.random.default_rng(seed), generator)
        self.name, self.context = name, context
        self.layout = layouts[0]
        valid = ValidOfEach(arrays, layouts)
        self.facts = facts or survey(arrays, layouts, np.random.default_rng(seed), kernel, valid)
        self.batch = BATCH_SIZE[ndim]
        self.many_pieces = count_pieces(layouts) >= MIN_PIECES_TO_SPLIT
        size = patch_size(layouts, self.network.stride, kernel)
        self.patches = Patches(arrays, layouts, size, self.rng, kernel, valid, context)
        held_out = self.patches.draw_with_context(
            VALIDATION_PATCHES, np.random.default_rng(seed), True
        )
        self.held_out, self.held_out_valid, self.held_out_context = _as_tensors(held_out)
        # its own random generator, so that it does not change the training
        self.others = _as_tensors(
            self.patches.draw_with_context(VALIDATION_PATCHES, np.random.default_rng(seed))
        )
        self.held_out_u = torch.randn(self.held_out.shape, generator=self.generator)
        self.typical_noise = float(self._noise_in(self.held_out).mean())
        self.settings = {
            "seed": seed,
            "axes": sorted({where.axes for where in layouts}),
            "shapes": [list(s) for s in sorted({where.shape for where in layouts})],
            "patch": list(size),
            "images": identity,
            "kernel": str(kernel),
            **({"context": [list(each) for each in context.offsets]} if context.offsets else {}),
        }
        self._information: tuple[int, Information] | None = None  # and the step it is of

    def measure(self) -> None:
        """Measure the information of the data, for `model` to record with these weights."""
        y, valid, around = self.others
        held, others = self.patches.count_pixels()
        found = measure_information(
            self.model(),
            PatchSample(self.held_out, self.held_out_valid, held, self.held_out_context),
            PatchSample(y, valid, others, around),
            self.patches.separate,
            self.settings["seed"],
        )
        self._information = self.steps, found

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
                **self._information_facts(),
            },
            **self.facts,
        )
        few, valid = self.held_out[: self.batch], self.held_out_valid
        around = self.held_out_context
        errors = measure_score_errors(
            model,
            few,
            None if valid is None else valid[: self.batch],
            None if around is None else around[: self.batch],
        )
        return replace(model, score_errors=errors)

    def _stored_patches(self) -> StoredPatches | None:
        """Return the patches that the model keeps, held out or not, as images are made of both."""
        count = max(1, MAX_STORED_PIXELS // (2 * self.held_out[0].numel()))
        held = self.held_out, self.held_out_valid, self.held_out_context
        both = [StoredPatches(*each) for each in (held, self.others)]
        return join_patches([patches.first_known(count) for patches in both])

    def _information_facts(self) -> dict[str, Any]:
        """Return the information for the provenance, if it was measured after the last step."""
        if self._information is None or self._information[0] != self.steps:
            return {}
        return {"information": self._information[1].as_json()}

    def _draw_loss(self, fraction: float) -> Tensor:
        """Draw patches and perturbations at a share of the budget, and return their loss."""
        y, valid, around = _as_tensors(self.patches.draw_with_context(self.batch, self.rng))
        u = balanced_normal(tuple(y.shape), self.generator)
        sigma_a = self._draw_sigma_a(len(y), fraction)
        if around is not None:
            around = self._hide_neighbours(around)
        return self._loss(self.network, y, u, sigma_a, valid, around)

    def _hide_neighbours(self, around: Tensor) -> Tensor:
        """Hide some neighbours, or all, of a few patches."""
        shape = (len(around), len(self.context.offsets))
        chosen = torch.rand(shape[0], generator=self.generator) < HIDDEN_SHARE
        share = torch.rand(shape[0], 1, generator=self.generator)
        hidden = chosen[:, None] & (torch.rand(shape, generator=self.generator) < 2 * share)
        hidden = hidden.repeat_interleave(around.shape[1] // shape[1], dim=1)
        space = [1] * (around.ndim - 2)
        return around.masked_fill(hidden.reshape(*hidden.shape, *space), math.nan)

    def _trial_loss(self) -> Tensor:
        """Return the loss of the first held-out patches."""
        first = slice(self.batch)
        y, u = (held_out[first] for held_out in (self.held_out, self.held_out_u))
        around = None if self.held_out_context is None else self.held_out_context[first]
        return self._loss(self.network, y, u, self._default_sigma_a(len(y)), None, around)

    def _held_out_loss(self, network: UNet) -> Tensor:
        """Return the loss of a network on held-out patches."""
        sigma_a = self._default_sigma_a(len(self.held_out))
        return self._loss(
            network,
            self.held_out,
            self.held_out_u,
            sigma_a,
            self.held_out_valid,
            self.held_out_context,
        )

    def _default_sigma_a(self, count: int) -> Tensor:
        return torch.full((count,), self.facts["sigma_a"])

    def _draw_sigma_a(self, count: int, fraction: float) -> Tensor:
        """Draw perturbations at a share of the budget, evenly spread over their range."""
        coarse = max(0.0, 1 - fraction / COARSE_SHARE) if self.many_pieces else 0.0
        low, high = self.facts["sigma_a_range"]
        high *= max(1.0, MAX_COARSE_SIGMA_A / high) ** coarse
        even = (torch.arange(count) + torch.rand(count, generator=self.generator)) / count
        drawn: Tensor = low * (high / low) ** (even ** (1 - 0.75 * coarse))
        return drawn

    def _loss(
        self,
        network: UNet,
        y: Tensor,
        u: Tensor,
        sigma_a: Tensor,
        valid: Tensor | None,
        around: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of the valid pixels of patches.

        Leaving out invalid pixels does not change the minimizer at valid ones, because the loss is
        a sum over pixels.
        """
        y, u, sigma_a = (t.to(self.device, non_blocking=True) for t in (y, u, sigma_a))
        mean, scale = self.facts["mean"], self.facts["scale"]
        low, high, transform = (self.facts[key] for key in ("low", "high", "transform"))
        context = None
        if around is not None:
            around = around.to(self.device, non_blocking=True)
            context = context_input(around, y.shape[1], transform, low, high, mean, scale)

        def score(z: Tensor, at: Tensor) -> Tensor:
            with inner_precision(self.device, self.precision):
                return perturbed_score(network, z, at, mean, scale, context)

        z = transform.forward(clip_to_training(y, low, high))
        # weights increase the noise of the gradient, which few pieces cannot afford
        weight = self._weight if self.many_pieces else None
        if valid is not None:
            # filled pixels are not perturbed, as when the score is evaluated
            share = valid.to(self.device)
            u = u * share
            share = share / share.mean().clamp(min=1e-6)
            share = torch.cat([share, share])
            inner = weight

            def weight(z: Tensor) -> Tensor:
                return share if inner is None else share * inner(z)

        return antithetic_loss(score, z, u, sigma_a, weight)

    def _weight(self, z: Tensor) -> Tensor:
        """Return the weight of each image and channel, shape ``(n, channels, 1, ...)``."""
        return self._noise_in(self.facts["transform"].inverse(z)) / self.typical_noise

    def _noise_in(self, y: Tensor) -> Tensor:
        """Return the root mean square noise of each image and channel in grey levels."""
        variance: Tensor = self.facts["transform"].variance(y)
        return variance.mean(dim=tuple(range(2, y.ndim)), keepdim=True).sqrt()


def _as_tensors(drawn: DrawnPatches) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return patches, which pixels are valid, and the neighbours."""
    y, *rest = drawn
    valid, around = (None if part is None else torch.from_numpy(part) for part in rest)
    return torch.from_numpy(y), valid, around
