"""Train a network step by step: optimizers, averaged weights, held-out loss and random generators.

What is learned, the patches and the loss, is left to the subclasses.
"""

from __future__ import annotations

import math
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ._checkpoint import contents, restore_contents
from ._evaluate import network_with
from ._muon import Muon
from ._network import UNet
from ._tensor_file import read_tensors, write_tensors
from .device import PRECISIONS, choose_device, faster_precision

LEARNING_RATE = 4e-3  # of AdamW
KERNEL_LEARNING_RATE = 0.02  # of Muon
WARM_UP_STEPS = 10
# After this step the learning rate decreases with the square root of the number of steps: what is
# left to learn is mostly noise of the gradient.
DECAY_START = 1000
# A shorter training is not worth the steps that show which precision is faster.
STEPS_BEFORE_TIMING = 50
MAX_AVERAGING = 0.995  # decay of the moving average of the weights


class NetworkTrainer(ABC):
    """One training run of a network.

    Parameters
    ----------
    network : UNet
        The network, with its initial weights.
    device : str
        Device to train on, see `choose_device`.
    rng : numpy.random.Generator
        Draws patches.
    generator : torch.Generator
        Draws everything else.

    Attributes
    ----------
    settings : mapping
        What a checkpoint must agree with for a training to be resumed; values are JSON.
    averaged : mapping of str to Tensor
        Moving average of the weights.
    steps : int
        Number of steps done.
    seconds : float
        Time they took, counted by the caller.
    loss, val_loss : float
        Smoothed loss of training, and the last held-out loss of the averaged weights.
    best : mapping of str to Tensor
        Averaged weights at the lowest held-out loss, empty before it is first measured.
    best_loss, best_step : float, int
        That loss, and its step.
    """

    file_kind: ClassVar[str]  # of its checkpoints

    def __init__(
        self, network: UNet, device: str, rng: np.random.Generator, generator: torch.Generator
    ):
        self.device = choose_device(device)
        self.network = network.to(self.device)
        self.rng, self.generator = rng, generator
        self.settings: dict[str, Any] = {}
        self.averaged = {k: v.clone() for k, v in self.network.state_dict().items()}
        kernels, rest = self.network.parameter_groups()
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(kernels, KERNEL_LEARNING_RATE),
            torch.optim.AdamW(rest, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0),
        ]
        self.rates: tuple[float, ...] = (KERNEL_LEARNING_RATE, LEARNING_RATE)
        # parameters whose gradient is clipped together
        self.clipped = [list(self.network.parameters())]
        self.precision = PRECISIONS[0]
        self.steps, self.seconds = 0, 0.0
        self.loss = self.val_loss = math.nan
        self.best: dict[str, Tensor] = {}
        self.best_loss, self.best_step = math.inf, 0
        # further weights that a checkpoint keeps
        self.teacher_weights: dict[str, Tensor] = {}
        # another thread may ask for the weights during a step
        self._lock = threading.Lock()

    @abstractmethod
    def _draw_loss(self, fraction: float) -> Tensor:
        """Draw patches at a share of the budget, and return their loss."""

    @abstractmethod
    def _trial_loss(self) -> Tensor:
        """Return the loss of a batch, without using the random generators."""

    @abstractmethod
    def _held_out_loss(self, network: UNet) -> Tensor:
        """Return the loss of a network on held-out patches."""

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
        for optimizer, highest in zip(self.optimizers, self.rates, strict=True):
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

    def validate(self) -> None:
        """Compute the held-out loss of the averaged weights, and keep them if it is lowest."""
        network = network_with(self.network, self.averaged, self.device)
        with torch.no_grad():
            self.val_loss = self._held_out_loss(network).item()
        if self.val_loss < self.best_loss:
            self.best = {k: v.clone() for k, v in self.averaged.items()}
            self.best_loss, self.best_step = self.val_loss, self.steps

    @property
    def overfitted(self) -> bool:
        """Whether the held-out loss has increased since its minimum."""
        return self.val_loss > self.best_loss

    def learned(self) -> UNet:
        """Return a network with the averaged weights.

        If the held-out loss has increased, which indicates overfitting, the weights are those at
        its minimum, otherwise the current ones.
        """
        with self._lock:
            weights: Mapping[str, Tensor] = self.best if self.overfitted else self.averaged
            return network_with(self.network, weights, self.device)

    def checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write everything needed to resume to a file; an existing one is replaced."""
        header, tensors = contents(self)
        write_tensors(path, tensors, header)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint, see `restore_contents`."""
        restore_contents(self, path, *read_tensors(path, self.file_kind))

    def run_facts(self) -> dict[str, Any]:
        """Return how the training went, for the provenance of what it learned."""
        return {
            "device": str(self.device),
            "precision": self.precision,
            "seed": self.settings["seed"],
            "steps": self.steps,
            "kept_step": self.best_step if self.overfitted else self.steps,
            "seconds": round(self.seconds, 1),
            "loss": self.loss,
            "val_loss": None if math.isnan(self.val_loss) else self.best_loss,
        }

    def _gradient(self, fraction: float) -> Tensor:
        """Draw patches, compute the gradient, and return the loss.

        If this fails, for example because the images cannot be read, the random generators are set
        back, so that the next step draws the same patches.
        """
        states = self.rng.bit_generator.state, self.generator.get_state()
        try:
            loss = self._draw_loss(fraction)
            self.network.zero_grad()
            torch.autograd.backward(loss)
            for parameters in self.clipped:
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        except BaseException:
            self.rng.bit_generator.state = states[0]
            self.generator.set_state(states[1])
            raise
        return loss

    def _try_step(self, precision: str) -> None:
        """Compute a gradient in a precision, without using the random generators."""
        self.precision = precision
        torch.autograd.backward(self._trial_loss())
        self.network.zero_grad()
