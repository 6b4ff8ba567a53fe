"""Train a network to estimate clean images from noise that is drawn from a noise model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..image.axes import Layout, layout
from ..image.valid import ValidPixels
from ..noise import NoiseModel
from ._evaluate import network_with
from ._network import UNet
from ._network_trainer import NetworkTrainer
from ._patch_size import patch_size
from ._trainer import BATCH_SIZE, VALIDATION_PATCHES
from .decorrelation import decorrelated, margins_of
from .device import inner_precision
from .model import ScoreModel
from .patches import Patches
from .polish import MAX_LOG_ERROR_RATIO, CleanLevels, Polish, identify_noise, regress

ERROR_RATE = 0.02  # learning rate of the prediction of the error


class Regression(NetworkTrainer):
    """One training run of a polish; `polish_steps` carries it out.

    Parameters
    ----------
    clean : sequence of ndarray
        Images that count as clean, without the offset of the noise model, shape
        ``(channels, *space)``; masked arrays where pixels are invalid.
    contexts : sequence of ndarray
        What the network sees of the neighbours of each, shape ``(context channels, *space)``,
        without any channel if the model has no context.
    model : ScoreModel
        The score model; its network gives the initial weights.
    noise : NoiseModel
        The noise model.
    device : str
        Device to train on, see `choose_device`.
    seed : int
        Determines patches and noise.
    identity : str
        Digest of what the clean images were made of, so that a training run is resumed with the
        same ones only.
    """

    file_kind = "checkpoint of a polish"

    def __init__(
        self,
        clean: Sequence[Any],
        contexts: Sequence[Any],
        model: ScoreModel,
        noise: NoiseModel,
        device: str,
        seed: int,
        identity: str,
    ):
        like = model.network
        network = UNet.empty(**like.sizes, predicts_error=True)
        generator = torch.Generator().manual_seed(seed)
        network.initialize(generator)
        network.load_state_dict(like.state_dict(), strict=False)
        super().__init__(network, device, np.random.default_rng(seed), generator)
        self.model, self.noise = model.to(self.device), noise
        self._separate_error()
        self.levels = CleanLevels(self.model, noise)
        # one image each with its neighbours, so that they are cut, flipped and rotated together
        self.contexts = list(contexts)
        layouts = [_layout_of(x, around) for x, around in zip(clean, contexts, strict=True)]
        self.layouts = layouts
        self.batch = BATCH_SIZE[model.ndim]
        margins = margins_of(model.kernel, model.ndim)
        inner = patch_size(layouts, network.stride, model.kernel)
        # the noise is drawn before A⁻¹ is applied, which needs pixels around a patch
        self._size = tuple(n + margin for n, margin in zip(inner, margins, strict=True))
        self.settings = {
            "seed": seed,
            "noise": identify_noise(noise),
            "model": model.fingerprint,
            "images": identity,
        }
        self.replace_clean(clean)

    def _separate_error(self) -> None:
        """Let the prediction of the error learn by itself.

        It learns faster, as it begins at 0, and its gradient, which can be large, is clipped
        separately, so that x is learned as without it.
        """
        assert self.network.error_head is not None
        head = list(self.network.error_head.parameters())
        own = {id(p) for p in head}
        group = self.optimizers[-1].param_groups[0]
        group["params"] = [p for p in group["params"] if id(p) not in own]
        self.optimizers.append(torch.optim.AdamW(head, lr=ERROR_RATE, weight_decay=0))
        self.rates = (*self.rates, ERROR_RATE)
        self.clipped = [[p for p in self.network.parameters() if id(p) not in own], head]

    def replace_clean(self, clean: Sequence[Any]) -> None:
        """Train on other clean images of the same shapes from now on."""
        rng = np.random.default_rng(self.settings["seed"])
        valid = [ValidPixels()] * len(clean)
        both = [_joined(x, around) for x, around in zip(clean, self.contexts, strict=True)]
        self.patches = Patches(both, self.layouts, self._size, rng, valid=valid)
        drawn, mask = self.patches.draw_masked(VALIDATION_PATCHES, rng, True)
        self.held_out = self._simulated(drawn, mask, rng)

    def result(self) -> Polish:
        """Return the polish with the averaged weights, see `learned`."""
        return Polish(
            network=self.learned(),
            noise=self.settings["noise"],
            model=self.settings["model"],
            provenance={
                "software": f"napari-noise2score {__version__}",
                "torch": torch.__version__,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                **self.run_facts(),
            },
        )

    def set_teacher(self) -> None:
        """Let the averaged weights make the clean images from now on, see `teacher`."""
        self.teacher_weights = {k: v.clone() for k, v in self.averaged.items()}
        # the held-out loss of other clean images is not to be compared
        self.best, self.best_loss, self.val_loss = {}, math.inf, math.nan

    def teacher(self) -> Polish:
        """Return the polish that makes the clean images."""
        return Polish(
            network_with(self.network, self.teacher_weights, self.device),
            self.settings["noise"],
            self.settings["model"],
        )

    def _draw_loss(self, fraction: float) -> Tensor:
        drawn, mask = self.patches.draw_masked(self.batch, self.rng)
        return torch.add(*self._losses(self.network, *self._simulated(drawn, mask, self.rng)))

    def _trial_loss(self) -> Tensor:
        first = slice(self.batch)
        y, context, x, valid = self.held_out
        mask = None if valid is None else valid[first]
        losses = self._losses(self.network, y[first], context[first], x[first], mask)
        return torch.add(*losses)

    def _held_out_loss(self, network: UNet) -> Tensor:
        # x alone decides which weights are kept
        return self._losses(network, *self.held_out)[0]

    def _simulated(
        self, drawn: np.ndarray, mask: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return noisy patches y, their context, their clean x and which pixels count."""
        kernel, channels = self.model.kernel, self.model.channels
        around = drawn[:, channels:]
        mask = None if mask is None else mask[:, :channels]
        clean = drawn[:, :channels].clip(self.noise.lowest)
        y = simulated(clean, self.noise, self.model, rng)
        if kernel is not None:
            inner = slice(kernel.reach, -kernel.reach or None)
            clean, around = clean[..., inner, inner], around[..., inner, inner]
            mask = None if mask is None else mask[..., inner, inner]
        context, x = (torch.from_numpy(np.ascontiguousarray(v)).float() for v in (around, clean))
        valid = None if mask is None else torch.from_numpy(np.ascontiguousarray(mask))
        return y, context, x, valid

    def _losses(
        self, network: UNet, y: Tensor, context: Tensor, x: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the mean squared error in units of the noise, and the loss of its prediction."""
        y, context, x = (v.to(self.device) for v in (y, context, x))
        with inner_precision(self.device, self.precision):
            found, log_ratio = regress(network, y, self.model, self.levels, context)
        transform = self.model.transform
        squared = (found - x) ** 2
        # the likelihood of the error as Gaussian, so that its variance is predicted
        ratio = log_ratio.clamp(-MAX_LOG_ERROR_RATIO, MAX_LOG_ERROR_RATIO)
        likelihood = torch.exp(-ratio) * squared.detach() * transform.slope(y) ** 2 + ratio
        share = torch.ones_like(y) if valid is None else valid.to(self.device)
        count = share.sum().clamp(min=1)
        error = (squared * share).sum() / count / transform.variance(y).mean()
        return error, (likelihood * share).sum() / count


def simulated(
    clean: np.ndarray, noise: NoiseModel, model: ScoreModel, rng: np.random.Generator
) -> Tensor:
    """Return noise around clean grey levels, digitized as the training images of a model were.

    Parameters
    ----------
    clean : ndarray
        Clean grey levels without offset, shape ``(..., Y, X)``.
    noise : NoiseModel
        The noise model.
    model : ScoreModel
        The score model. If it has a kernel, A⁻¹ is applied, and nothing is digitized.
    rng : numpy.random.Generator
        Draws the noise.

    Returns
    -------
    Tensor
        float32; along Y and X smaller by the reach of the kernel on both sides.
    """
    y = torch.from_numpy(noise.sample(clean.astype(np.float64), rng)).float()
    if model.kernel is not None:
        return torch.from_numpy(decorrelated(y.numpy(), model.kernel))
    q = model.quantization
    return q.rounded(y).clamp(q.floor, q.saturation)


def _joined(clean: Any, around: Any) -> Any:
    """Return a clean image and its neighbours as channels of one, masked where it is."""
    both = np.concatenate([np.ma.getdata(clean), around])
    mask = np.ma.getmask(clean)
    if mask is np.ma.nomask:
        return both
    return np.ma.MaskedArray(both, np.concatenate([mask, np.zeros(np.shape(around), bool)]))


def _layout_of(clean: Any, around: Any) -> Layout:
    """Return the layout of a clean image and its neighbours, all of whose channels are joint."""
    channels, *space = clean.shape
    shape = (channels + len(around), *space)
    return replace(layout("C" + "ZYX"[3 - len(space) :], shape, len(space)), joint=True)
