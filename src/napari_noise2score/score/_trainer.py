"""The state of one training: network, averaged weights, optimiser, sources of chance."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..errors import UserError, is_memory_error
from ..image.axes import Layout
from ..noise.kernel import Kernel
from ._evaluate import clip_to_training, network_with, perturbed_score
from ._muon import Muon
from ._network import UNet
from ._objective import antithetic_loss, balanced_normal
from ._survey import survey
from ._tensor_file import read_tensors, write_tensors
from .device import choose_device, inner_precision
from .model import ScoreModel
from .patches import (
    MANY,
    Patches,
    ValidOfEach,
    around,
    count_pieces,
)

WIDTH = 32
DEPTH = 2
PATCH = {2: (64, 64), 3: (8, 48, 48)}
BATCH = {2: 8, 3: 4}
LEARNING_RATE = 4e-3
KERNEL_RATE = 0.02
WARM_UP = 10
# from so many steps on the rate falls with the root of their number: noise is what is left to learn
SETTLED = 1000
EMA = 0.995
# Training on many images begins with perturbations of up to so much, most of them large, and comes
# to those that will be asked for after this share of the budget: the larger, the less noisy the
# gradient. Few images would be learned by heart before that.
COARSE = 1.5
COARSE_UNTIL = 0.8
VALIDATION_PATCHES = 16
WHAT = "training checkpoint"
# the smallest patches that images are divided into if a correlation is undone, in pixels
LEAST = 8


class Trainer:
    """One training, step by step; `train_steps` runs it.

    Parameters
    ----------
    arrays : sequence of array-like
        Noisy images.
    layouts : sequence of Layout
        One for each image, of equal channels.
    device : str
        Where to train.
    seed : int
        Fixes initial weights, patches and perturbations.
    name : str
        Name of the model.
    kernel : Kernel, optional
        Correlation of the noise, undone before anything else.
    identity : str
        What tells these images from any others, so that a training is resumed with its own.
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
        self.chance = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(seed)
        ndim = len(self.layout.space)
        self.network = UNet.empty(ndim, self.layout.channels, WIDTH, DEPTH)
        self.network.initialise(self.noise)
        self.network.to(self.device)
        self.batch = BATCH[ndim]
        self.many = count_pieces(layouts) >= MANY
        size = _patch_size(layouts, self.network.stride, kernel)
        self.patches = Patches(arrays, layouts, size, self.chance, kernel, valid)
        held_out, known = self.patches.draw_masked(
            VALIDATION_PATCHES, np.random.default_rng(seed), True
        )
        self.held_out = torch.from_numpy(held_out)
        self.held_out_known = None if known is None else torch.from_numpy(known)
        self.held_out_u = torch.randn(held_out.shape, generator=self.noise)
        self.usual_noise = float(self._noise_in(self.held_out).mean())
        self.same: dict[str, Any] = {
            "seed": seed,
            "axes": sorted({where.axes for where in layouts}),
            "shapes": [list(s) for s in sorted({where.shape for where in layouts})],
            "patch": list(size),
            "images": identity,
            "kernel": str(kernel),
        }
        self.averaged = {k: v.clone() for k, v in self.network.state_dict().items()}
        kernels, rest = self.network.parameter_groups()
        self.optimisers: list[torch.optim.Optimizer] = [
            Muon(kernels, KERNEL_RATE),
            torch.optim.AdamW(rest, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0),
        ]
        self.steps, self.seconds = 0, 0.0
        self.loss = self.val_loss = math.nan
        self.best: dict[str, Tensor] = {}
        self.best_loss, self.best_step = math.inf, 0
        # a window asks for the model while the next step is on its way
        self._lock = threading.Lock()

    def step(self, fraction: float) -> float:
        """Take one step at this share of the budget and give its learning rate."""
        at = self.steps + 1
        share = (1 - fraction) * min(1.0, at / WARM_UP, (SETTLED / at) ** 0.5)
        for optimiser, most in zip(self.optimisers, (KERNEL_RATE, LEARNING_RATE), strict=True):
            optimiser.param_groups[0]["lr"] = share * most
        loss = self._gradient(fraction)
        for optimiser in self.optimisers:
            optimiser.step()
        value = loss.item()
        if not math.isfinite(value):
            raise UserError(
                f"training broke down at step {self.steps + 1}: the images may hold extreme "
                "values; clip them and try again"
            )
        self.steps += 1
        shown = min(self.steps, 20)
        self.loss = value if shown == 1 else self.loss + (value - self.loss) / shown
        keep = min(EMA, self.steps / (self.steps + 9))
        with self._lock, torch.no_grad():
            now = self.network.state_dict()
            torch._foreach_lerp_([self.averaged[k] for k in now], list(now.values()), 1 - keep)
        return share * LEARNING_RATE

    def _gradient(self, fraction: float) -> Tensor:
        """Draw patches and perturbations, and compute the loss and its gradient.

        A step that fails here, as where the images cannot be read, has never been begun: the next
        one draws the same.
        """
        states = self.chance.bit_generator.state, self.noise.get_state()
        try:
            drawn, mask = self.patches.draw_masked(self.batch, self.chance)
            y = torch.from_numpy(drawn)
            known = None if mask is None else torch.from_numpy(mask)
            u = balanced_normal(tuple(y.shape), self.noise)
            sigma_a = self._draw_sigma_a(len(y), fraction)
            loss = self._loss(self.network, y, u, sigma_a, known)
            self.network.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        except BaseException:
            self.chance.bit_generator.state = states[0]
            self.noise.set_state(states[1])
            raise
        return loss

    def validate(self) -> None:
        """Measure the loss of the averaged weights on held-out noisy patches; keep the best."""
        sigma_a = torch.full((len(self.held_out),), self.facts["sigma_a"])
        network = network_with(self.network, self.averaged, self.device)
        with torch.no_grad():
            self.val_loss = self._loss(
                network, self.held_out, self.held_out_u, sigma_a, self.held_out_known
            ).item()
        if self.val_loss < self.best_loss:
            self.best = {k: v.clone() for k, v in self.averaged.items()}
            self.best_loss, self.best_step = self.val_loss, self.steps

    def model(self) -> ScoreModel:
        """Give the averaged weights as a model of their own.

        They are those of now, or, if the held-out loss has risen, those at which it was lowest:
        few images are learned by heart sooner or later.
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
                "seed": self.same["seed"],
                "shapes": self.same["shapes"][:8],
                "steps": self.steps,
                "kept_step": self.best_step if risen else self.steps,
                "seconds": round(self.seconds, 1),
                "loss": self.loss,
                "val_loss": None if math.isnan(self.val_loss) else self.best_loss,
            },
            **self.facts,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that is needed to go on later, weights and chance included."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"averaged.{k}": v for k, v in self.averaged.items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for which, optimiser in enumerate(self.optimisers):
            for i, state in optimiser.state_dict()["state"].items():
                at = f"optimiser.{which}.{i}"
                tensors |= {f"{at}.{k}": torch.as_tensor(v) for k, v in state.items()}
        tensors["noise"] = self.noise.get_state()
        header = {
            "same": self.same,
            "steps": self.steps,
            "seconds": self.seconds,
            "loss": self.loss,
            "held_out": None
            if math.isnan(self.val_loss)
            else [self.val_loss, self.best_loss, self.best_step],
            "chance": self.chance.bit_generator.state,
        }
        write_tensors(path, tensors, header)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from what `save` wrote.

        Raises
        ------
        UserError
            If there is no such file, it is damaged, or it was another training.
        """
        header, tensors = read_tensors(path, WHAT)
        same = json.loads(json.dumps(self.same))
        begun = header.get("same")
        if not isinstance(begun, dict):
            raise UserError(f"{path}: not a {WHAT} of noise2score, or damaged")
        if different := [k for k in same if begun.get(k) != same[k]]:
            raise UserError(
                f"{path}: this training was begun with other {', '.join(different)}; "
                "resume with the same images and settings, or begin anew"
            )
        try:
            self._restore(header, tensors)
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError, OverflowError) as error:
            if is_memory_error(error):
                raise
            raise UserError(f"{path}: not a complete {WHAT}") from None

    def _restore(self, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        steps, seconds, loss = (header[key] for key in ("steps", "seconds", "loss"))
        held_out = header.get("held_out")
        known = [seconds, loss, *(held_out or [])]
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in known):
            raise ValueError("not numbers")
        if type(steps) is not int or steps < 1 or seconds < 0:
            raise ValueError("no such step")
        self.network.load_state_dict(part("network."))
        averaged = part("averaged.")
        for key, value in self.averaged.items():
            value.copy_(_like(averaged[key], value))
        for which, optimiser in enumerate(self.optimisers):
            parameters = optimiser.param_groups[0]["params"]
            state: dict[int, dict[str, Tensor]] = {i: {} for i in range(len(parameters))}
            for key, value in part(f"optimiser.{which}.").items():
                index, name = key.split(".")
                at = int(index)
                state[at][name] = value if name == "step" else _like(value, parameters[at])
            if any(not known for known in state.values()):
                raise ValueError("the state of an optimiser is missing")
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        self.noise.set_state(tensors["noise"])
        self.chance.bit_generator.state = header["chance"]
        self.steps, self.seconds, self.loss = steps, seconds, loss
        if held_out is not None:
            self.val_loss, self.best_loss, self.best_step = held_out
            best = part("best.")
            self.best = {k: _like(best[k], v).to(v.device) for k, v in self.averaged.items()}

    def _draw_sigma_a(self, count: int, fraction: float) -> Tensor:
        """Draw perturbations for a share of the budget, spread evenly from least to most."""
        coarse = max(0.0, 1 - fraction / COARSE_UNTIL) if self.many else 0.0
        low, high = self.facts["sigma_a_range"]
        high *= max(1.0, COARSE / high) ** coarse
        even = (torch.arange(count) + torch.rand(count, generator=self.noise)) / count
        return low * (high / low) ** (even ** (1 - 0.75 * coarse))

    def _loss(
        self, network: UNet, y: Tensor, u: Tensor, sigma_a: Tensor, known: Tensor | None
    ) -> Tensor:
        """Give the loss of patches, of their valid pixels alone where some are not.

        The loss is a sum over pixels, each of which has its own minimiser: what the network gives
        for a valid pixel is still its score given all that it sees.
        """
        y, u, sigma_a = (part.to(self.device, non_blocking=True) for part in (y, u, sigma_a))
        mean, scale = self.facts["mean"], self.facts["scale"]
        low, high = self.facts["low"], self.facts["high"]

        def score(z: Tensor, at: Tensor) -> Tensor:
            with inner_precision(self.device):
                return perturbed_score(network, z, at, mean, scale)

        z = self.facts["transform"].forward(clip_to_training(y, low, high))
        # few images have nothing to spare
        weight = self._weight if self.many else None
        if known is not None:
            # filled pixels are not perturbed where the score is asked for, either
            share = known.to(self.device)
            u = u * share
            share = share / share.mean().clamp(min=1e-6)
            share = torch.cat([share, share])
            inner = weight

            def weight(z: Tensor) -> Tensor:
                return share if inner is None else share * inner(z)

        return antithetic_loss(score, z, u, sigma_a, weight)

    def _weight(self, z: Tensor) -> Tensor:
        """Give what the pixels of each image and channel count, shape ``(n, channels, 1, ...)``."""
        return self._noise_in(self.facts["transform"].inverse(z)) / self.usual_noise

    def _noise_in(self, y: Tensor) -> Tensor:
        """Give the root mean square noise of each image and channel, in grey levels."""
        variance = self.facts["transform"].variance(y)
        return variance.mean(dim=tuple(range(2, y.ndim)), keepdim=True).sqrt()


def _like(value: Tensor, other: Tensor) -> Tensor:
    """Return a tensor of a file, which must have shape and type of another."""
    if value.shape != other.shape or value.dtype != other.dtype:
        raise ValueError("a tensor does not fit")
    return value


def _patch_size(
    layouts: Sequence[Layout], stride: tuple[int, ...], kernel: Kernel | None
) -> tuple[int, ...]:
    """Give the usual patch, or a smaller one that the largest image fills, in whole strides.

    It fills such a patch twice along Y and X if a corner of it is to be held out.
    """
    largest = [max(n) for n in zip(*(where.space_shape for where in layouts), strict=True)]
    if count_pieces(layouts) < MANY:
        inner = [n - m for n, m in zip(largest, around(kernel, len(stride)), strict=True)]
        # of less than that nothing can be learned: what is held out is then trained on as well
        if min(inner[-2:]) >= 2 * LEAST:
            largest = inner
        halves = zip(largest[-2:], stride[-2:], strict=True)
        largest[-2:] = [max(n // 2 // s, 1) * s for n, s in halves]
    usual = PATCH[len(stride)]
    return tuple(min(p, -(-n // s) * s) for p, n, s in zip(usual, largest, stride, strict=True))
