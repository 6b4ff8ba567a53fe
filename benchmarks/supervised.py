"""Train the same network on clean targets, as an upper bound for self-supervised learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from napari_noise2score.image.axes import layout
from napari_noise2score.noise import NoiseModel
from napari_noise2score.score._evaluate import perturbed_score
from napari_noise2score.score._trainer import Trainer
from napari_noise2score.score.device import choose_device, inner_precision
from napari_noise2score.score.model import ScoreModel
from napari_noise2score.score.patches import Patches


class Supervised(Trainer):
    """Train with the same patches, batches, schedule, seed and averaging, but a clean target.

    Given z = T(y), the network returns the difference of x and y in units of the noise.
    """

    def __init__(self, noisy, clean, axes: str, noise: NoiseModel, seed: int = 0):
        super().__init__(noisy, [layout(axes, a.shape) for a in noisy], "auto", seed, "supervised")
        self.noise_model = noise
        has_channels = [axes.index(a) for a in axes if a == "C"]
        pairs = [
            np.concatenate([np.moveaxis(np.atleast_3d(a) if has_channels else a[..., None], -1, 0)
                            for a in pair]).astype(np.float32)
            for pair in zip(noisy, clean, strict=True)
        ]  # fmt: skip
        layouts = [replace(layout("CYX", p.shape), joint=True) for p in pairs]
        self.patches = Patches(pairs, layouts, self.patches.size, np.random.default_rng(seed))

    def _loss(self, network, batch, u, sigma_a):
        y = batch.y
        if y.shape[1] == self.layout.channels:
            # the precision is chosen by timing the training of the score, which has no target
            return super()._loss(network, batch, u, sigma_a)
        noisy, clean = y.to(self.device).chunk(2, dim=1)
        # lower precision in training only, as for the score
        with inner_precision(self.device, self.precision):
            error = estimate(network, noisy, self.noise_model, self.facts) - clean
        return (error**2).mean() / float(self.facts["transform"].variance(noisy).mean())


def estimate(network, y: torch.Tensor, noise: NoiseModel, facts: dict[str, Any]) -> torch.Tensor:
    """Return the estimates of x for a batch of y, float32."""
    transform = facts["transform"]
    sigma_a = torch.full((len(y),), facts["sigma_a"], device=y.device)
    z = transform.forward(y)
    out = perturbed_score(network, z, sigma_a, facts["mean"], facts["scale"])
    return noise.clean_from_mean(y) + out / transform.slope(y)


def train_supervised(
    noisy: Sequence[np.ndarray], clean: Sequence[np.ndarray], axes: str, noise: NoiseModel,
    steps: int,
) -> ScoreModel:  # fmt: skip
    """Train a model for `apply_supervised` on pairs of images ``(Y, X)`` or ``(Y, X, C)``."""
    trainer = Supervised(noisy, clean, axes, noise)
    for step in range(steps):
        trainer.step(step / steps)
    return trainer.model()


def apply_supervised(model: ScoreModel, noise: NoiseModel, image: np.ndarray) -> np.ndarray:
    """Return the estimate of a noisy image."""
    planes = np.moveaxis(np.atleast_3d(image), -1, 0).astype(np.float32)
    height, width = planes.shape[1:]
    halo = [(40, -n % 8 + 40) for n in (height, width)]
    y = torch.from_numpy(np.pad(planes, [(0, 0), *halo], mode="reflect"))[None]
    model = model.to(choose_device())
    with torch.inference_mode():
        x = estimate(model.network, y.to(model.device), noise, vars(model))[0].cpu().numpy()
    x = np.moveaxis(x[:, 40 : 40 + height, 40 : 40 + width], 0, -1)
    return x.reshape(image.shape)
