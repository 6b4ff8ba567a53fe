"""Hold the state of training: network, averaged weights, optimizers and random generators."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..errors import UserError
from ..image.axes import Layout
from ..noise.kernel import Kernel
from ._evaluate import clip_to_training, network_with, perturbed_score
from ._muon import Muon
from ._network import UNet
from ._objective import antithetic_loss, balanced_normal
from ._patch_size import patch_size
from ._survey import survey
from .device import PRECISIONS, choose_device, faster_precision, inner_precision
from .model import ScoreModel
from .patches import MIN_PIECES_TO_SPLIT, Patches, ValidOfEach, count_pieces

NETWORK_WIDTH = 32
NETWORK_DEPTH = 2
BATCH_SIZE = {2: 8, 3: 4}
LEARNING_RATE = 4e-3  # of AdamW
KERNEL_LEARNING_RATE = 0.02  # of Muon
WARM_UP_STEPS = 10
# After this step the learning rate decreases with the square root of the number of steps: what is
# left to learn is mostly noise of the gradient.
DECAY_START = 1000
# A shorter training is not worth the steps that show which precision is faster.
STEPS_BEFORE_TIMING = 50
MAX_AVERAGING = 0.995  # decay of the moving average of the weights
# Training on many pieces starts with large perturbations, up to this one, because their gradient is
# less noisy; after this share of the budget only those of the survey are used. Training on few
# pieces would overfit before.
MAX_COARSE_SIGMA_A = 1.5
COARSE_SHARE = 0.8
VALIDATION_PATCHES = 16
MAX_SHAPES_IN_PROVENANCE = 8


class Trainer:
    """One training run, step by step; `train_steps` carries it out.

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

    Raises
    ------
    UserError
        If there is no such device, or nothing can be learned from the images, see `survey`.
    """

    def __init__(
        self,
        arrays: Sequence[Any],
        layouts: Sequence[Layout],
        device: str,
        seed: int,
        name: str,
        kernel: Kernel | None = None,
        identity: str = "",
    ):
        self.device = choose_device(device)
        self.name = name
        self.layout = layouts[0]
        valid = ValidOfEach(arrays, layouts)
        self.facts = survey(arrays, layouts, np.random.default_rng(seed), kernel, valid)
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        ndim = len(self.layout.space)
        self.network = UNet.empty(ndim, self.layout.channels, NETWORK_WIDTH, NETWORK_DEPTH)
        self.network.initialize(self.generator)
        self.network.to(self.device)
        self.batch = BATCH_SIZE[ndim]
        self.many_pieces = count_pieces(layouts) >= MIN_PIECES_TO_SPLIT
        size = patch_size(layouts, self.network.stride, kernel)
        self.patches = Patches(arrays, layouts, size, self.rng, kernel, valid)
        held_out, mask = self.patches.draw_masked(
            VALIDATION_PATCHES, np.random.default_rng(seed), True
        )
        self.held_out = torch.from_numpy(held_out)
        self.held_out_valid = None if mask is None else torch.from_numpy(mask)
        self.held_out_u = torch.randn(held_out.shape, generator=self.generator)
        self.typical_noise = float(self._noise_in(self.held_out).mean())
        self.settings: dict[str, Any] = {
            "seed": seed,
            "axes": sorted({where.axes for where in layouts}),
            "shapes": [list(s) for s in sorted({where.shape for where in layouts})],
            "patch": list(size),
            "images": identity,
            "kernel": str(kernel),
        }
        self.averaged = {k: v.clone() for k, v in self.network.state_dict().items()}
        kernels, rest = self.network.parameter_groups()
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(kernels, KERNEL_LEARNING_RATE),
            torch.optim.AdamW(rest, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0),
        ]
        self.precision = PRECISIONS[0]
        self.steps, self.seconds = 0, 0.0
        self.loss = self.val_loss = math.nan
        self.best: dict[str, Tensor] = {}
        self.best_loss, self.best_step = math.inf, 0
        # another thread may call `model` during a step
        self._lock = threading.Lock()

    def step(self, fraction: float) -> float:
        """Take one step, and return its learning rate.

        Parameters
        ----------
        fraction : float
            Share of the budget that is used, 0 to 1.

        Returns
        -------
        float

        Raises
        ------
        UserError
            If the loss is not finite.
        """
        if self.steps == STEPS_BEFORE_TIMING:
            self.precision = faster_precision(self.device, self._try_step)
        at = self.steps + 1
        share = (1 - fraction) * min(1.0, at / WARM_UP_STEPS, (DECAY_START / at) ** 0.5)
        rates = (KERNEL_LEARNING_RATE, LEARNING_RATE)
        for optimizer, highest in zip(self.optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = share * highest
        loss = self._gradient(fraction)
        for optimizer in self.optimizers:
            optimizer.step()
        value = float(loss.item())
        if not math.isfinite(value):
            raise UserError(
                f"training failed at step {self.steps + 1}, as the loss is not a finite number: "
                "the images may contain extreme values; clip them and try again"
            )
        self.steps += 1
        averaged = min(self.steps, 20)
        self.loss = value if averaged == 1 else self.loss + (value - self.loss) / averaged
        keep = min(MAX_AVERAGING, self.steps / (self.steps + 9))
        with self._lock, torch.no_grad():
            now = self.network.state_dict()
            torch._foreach_lerp_([self.averaged[k] for k in now], list(now.values()), 1 - keep)
        rate: float = share * LEARNING_RATE
        return rate

    def _gradient(self, fraction: float) -> Tensor:
        """Draw patches and perturbations, compute the gradient, and return the loss.

        If this fails, for example because the images cannot be read, the random generators are set
        back, so that the next step draws the same patches.
        """
        states = self.rng.bit_generator.state, self.generator.get_state()
        try:
            drawn, mask = self.patches.draw_masked(self.batch, self.rng)
            y = torch.from_numpy(drawn)
            valid = None if mask is None else torch.from_numpy(mask)
            u = balanced_normal(tuple(y.shape), self.generator)
            sigma_a = self._draw_sigma_a(len(y), fraction)
            loss = self._loss(self.network, y, u, sigma_a, valid)
            self.network.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        except BaseException:
            self.rng.bit_generator.state = states[0]
            self.generator.set_state(states[1])
            raise
        return loss

    def _try_step(self, precision: str) -> None:
        """Compute a gradient in a precision, without using the random generators."""
        self.precision = precision
        y, u = (held_out[: self.batch] for held_out in (self.held_out, self.held_out_u))
        sigma_a = torch.full((len(y),), self.facts["sigma_a"])
        torch.autograd.backward(self._loss(self.network, y, u, sigma_a, None))
        self.network.zero_grad()

    def validate(self) -> None:
        """Compute the held-out loss of the averaged weights, and keep them if it is lowest."""
        sigma_a = torch.full((len(self.held_out),), self.facts["sigma_a"])
        network = network_with(self.network, self.averaged, self.device)
        with torch.no_grad():
            self.val_loss = self._loss(
                network, self.held_out, self.held_out_u, sigma_a, self.held_out_valid
            ).item()
        if self.val_loss < self.best_loss:
            self.best = {k: v.clone() for k, v in self.averaged.items()}
            self.best_loss, self.best_step = self.val_loss, self.steps

    def model(self) -> ScoreModel:
        """Return a model with the averaged weights.

        If the held-out loss has increased, which indicates overfitting, the weights are those at
        its minimum, otherwise the current ones.
        """
        with self._lock:
            risen = self.val_loss > self.best_loss
            network = network_with(self.network, self.best if risen else self.averaged, self.device)
        return ScoreModel(
            network=network,
            axes=self.layout.axes,
            joint=self.layout.joint,
            name=self.name,
            provenance={
                "software": f"napari-noise2score {__version__}",
                "torch": torch.__version__,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "device": str(self.device),
                "precision": self.precision,
                "seed": self.settings["seed"],
                "shapes": self.settings["shapes"][:MAX_SHAPES_IN_PROVENANCE],
                "steps": self.steps,
                "kept_step": self.best_step if risen else self.steps,
                "seconds": round(self.seconds, 1),
                "loss": self.loss,
                "val_loss": None if math.isnan(self.val_loss) else self.best_loss,
            },
            **self.facts,
        )

    def _draw_sigma_a(self, count: int, fraction: float) -> Tensor:
        """Draw perturbations at a share of the budget, evenly spread over their range."""
        coarse = max(0.0, 1 - fraction / COARSE_SHARE) if self.many_pieces else 0.0
        low, high = self.facts["sigma_a_range"]
        high *= max(1.0, MAX_COARSE_SIGMA_A / high) ** coarse
        even = (torch.arange(count) + torch.rand(count, generator=self.generator)) / count
        drawn: Tensor = low * (high / low) ** (even ** (1 - 0.75 * coarse))
        return drawn

    def _loss(
        self, network: UNet, y: Tensor, u: Tensor, sigma_a: Tensor, valid: Tensor | None
    ) -> Tensor:
        """Return the loss of the valid pixels of patches.

        Leaving out invalid pixels does not change the minimizer at valid ones, because the loss is
        a sum over pixels.
        """
        y, u, sigma_a = (t.to(self.device, non_blocking=True) for t in (y, u, sigma_a))
        mean, scale = self.facts["mean"], self.facts["scale"]
        low, high = self.facts["low"], self.facts["high"]

        def score(z: Tensor, at: Tensor) -> Tensor:
            with inner_precision(self.device, self.precision):
                return perturbed_score(network, z, at, mean, scale)

        z = self.facts["transform"].forward(clip_to_training(y, low, high))
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
