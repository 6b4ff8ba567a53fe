"""`ScoreModel`: a trained score with everything needed to evaluate, solve, save and load it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError, is_memory_error
from ..noise import NoiseModel
from ..noise.kernel import Kernel
from ..solve.bias_correction import BiasCorrection, IntensityBins, bins_by_neighbours
from ..solve.quantization import Quantization
from ..solve.solver import Solver, make_solver
from ..solve.table import Table
from ..solve.transform import Transform
from ._channel_models import channel_models
from ._describe import describe_model
from ._evaluate import clip_to_training, context_input, network_with, perturbed_score
from ._model_file import model_fields, model_header, tensor_shapes
from ._network import UNet
from ._stored_patches import StoredPatches, patch_tensors
from ._tensor_file import first_line, read_tensors, write_tensors
from .context import NO_CONTEXT, Context
from .coordinates import Coordinates
from .information import Information
from .probes import probes

# change of z, in units of the noise, by which the slope of the score is measured
SLOPE_STEP = 0.1
# in the provenance: the share of the variance of correlated noise that its finest detail shows
SHARE_SEEN = "share of the noise in its finest detail"


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """The score s(z) of noisy images, learned once and independent of any noise model.

    Attributes
    ----------
    network : UNet
        Gives the score of ``z = T(y) + σ_a u`` in units of ``1 / √(1 + σ_a²)``.
    transform : Transform
        Coordinates T.
    mean, scale : float
        Normalization of z before the network.
    sigma_a : float
        Perturbation at which the score is evaluated by default, in units of z.
    sigma_a_range : tuple of float
        Perturbations the network was trained for.
    low, high : float
        Range of grey levels seen in training.
    quantization : Quantization
        How the training images were digitized.
    kernel : Kernel or None
        Correlation of the noise that is undone before T, None if there is none.
    axes : str
        Axes of the training images.
    joint : bool
        Whether channels were seen together.
    score_errors : tuple of (float, float)
        σ_a and the error of the score there in units of 1 / z, σ_a increasing; empty if it was not
        measured.
    name : str
        A short name.
    provenance : mapping
        Software, device, seed and data of the training; values are JSON.
    context : Context
        The neighbours that the network sees beside the plane or volume itself.
    patches : StoredPatches or None
        Patches of the training images, by which the bias of x is measured for any noise model.
    channel_coordinates : tuple of Coordinates
        Those of each channel, if the network learned each channel by itself; see `of_channel`.
        The other fields are then those of the first channel, the patches those of all in order.
    """

    network: UNet
    transform: Transform
    mean: float
    scale: float
    sigma_a: float
    sigma_a_range: tuple[float, float]
    low: float
    high: float
    quantization: Quantization
    kernel: Kernel | None
    axes: str
    joint: bool
    score_errors: tuple[tuple[float, float], ...] = ()
    name: str = "score"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    context: Context = NO_CONTEXT
    patches: StoredPatches | None = None
    channel_coordinates: tuple[Coordinates, ...] = ()

    @property
    def ndim(self) -> int:
        """Spatial dimensions of the network."""
        return self.network.ndim

    @property
    def channels(self) -> int:
        """Channels of the network."""
        return self.network.channels

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.network.parameters()).device

    def of_channel(self, number: int) -> ScoreModel:
        """Return the model of one channel, if each was learned by itself, otherwise this model.

        Parameters
        ----------
        number : int
            Number of the channel, from 0.

        Returns
        -------
        ScoreModel
            A model of images of this channel alone; its network is shared.
        """
        return self._channel_models[number] if self.channel_coordinates else self

    @cached_property
    def _channel_models(self) -> tuple[ScoreModel, ...]:
        """The model of each channel."""
        return channel_models(self)

    def _check_one(self) -> None:
        """Raise a `UserError` if each channel was learned by itself."""
        if self.channel_coordinates:
            raise UserError(
                f"the model learned {len(self.channel_coordinates)} channels, each by itself: use "
                "model.of_channel(0) for the first"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Digest of everything that results depend on, 16 hexadecimal digits."""
        digest = hashlib.sha256()
        q = self.quantization
        # worded as the first version did, so that a model keeps its fingerprint
        recording = (
            f"Recording(step={q.step!r}, zero={q.origin!r}, floor={q.floor!r}, "
            f"ceiling={q.saturation!r})"
        )
        plain = [self.kernel and self.kernel.taps, self.mean, self.scale, self.sigma_a]
        plain += [self.low, self.high, self.joint]
        # models of the first version have none, and keep their fingerprint
        plain += [self.score_errors] if self.score_errors else []
        context = [repr(self.context.offsets)] if self.context.offsets else []
        # without the information, which results do not depend on
        each = [repr(replace(own, information=None)) for own in self.channel_coordinates]
        text = ", ".join([repr(self.transform), recording, *map(repr, plain), *context, *each])
        digest.update(f"[{text}]".encode())
        for key, weights in sorted(self.network.state_dict().items()):
            digest.update(key.encode() + weights.cpu().contiguous().numpy().tobytes())
        for key, patches in patch_tensors(self.patches).items():
            digest.update(key.encode() + patches.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def information(self) -> Information | None:
        """Fisher information of the training images; None if it was not measured."""
        values = self.provenance.get("information")
        return None if values is None else Information.from_json(values)

    def score_error(self, sigma_a: float) -> float:
        """Return the error of the score at a perturbation in units of 1 / z; 0 if not measured."""
        if not self.score_errors:
            return 0.0
        known, errors = zip(*self.score_errors, strict=True)
        return float(np.interp(sigma_a, known, errors))

    def to(self, device: str | torch.device) -> ScoreModel:
        """Return the model on a device; this one is unchanged."""
        if torch.device(device) == self.device:
            return self
        patches = self.patches and self.patches.to(device)
        return replace(
            self,
            patches=patches,
            network=network_with(self.network, self.network.state_dict(), device),
        )

    def bias_correction(
        self, noise: NoiseModel, sigma_a: float | None = None
    ) -> BiasCorrection | None:
        """Return what x lacks for its noise to have the mean of y, measured on `patches`.

        Parameters
        ----------
        noise : NoiseModel
            The noise p(y | x).
        sigma_a : float, optional
            Perturbation that the score is evaluated at, in units of z; by default `sigma_a`.

        Returns
        -------
        BiasCorrection or None
            For pooled solutions, on the device of the model. None if x is not found by a table, the
            error of the score was not measured, or the model holds no patches.
        """
        at = self.sigma_a if sigma_a is None else sigma_a
        table = self.solver(noise, sigma_a=at)
        if self.patches is None or not self.score_error(at) or not isinstance(table, Table):
            return None
        if at not in self._patch_scores:
            around = self.patches.around
            context = None if around is None else self.neighbour_input(around)
            self._patch_scores[at] = self.score(self.patches.y, at, context)
        known = self._patch_scores[at], self._patch_bins
        return self.patches.measure_bias(*known, table, noise, self.score_error(at))

    @cached_property
    def _patch_scores(self) -> dict[float, Tensor]:
        """Scores of the patches by σ_a."""
        return {}

    @cached_property
    def _patch_bins(self) -> tuple[IntensityBins, ...]:
        """Pixels of the patches in bins of intensity, which are those of every noise model."""
        assert self.patches is not None
        return bins_by_neighbours([(self.patches.y, self.patches.inner)])

    def neighbour_input(self, y: Tensor) -> Tensor:
        """Return what the network sees of the neighbours of planes or volumes.

        Parameters
        ----------
        y : Tensor
            Grey levels of the neighbours (of A⁻¹ y, where there is a `kernel`) as from
            `join_neighbours`, NaN where they are not known, float32, shape
            ``(n, groups of neighbours * channels, *space)``.

        Returns
        -------
        Tensor
            The context of a score, float32, shape
            ``(n, 2 * groups of neighbours * channels, *space)``.
        """
        facts = self.transform, self.low, self.high, self.mean, self.scale
        return context_input(y, self.channels, *facts)

    def score(
        self, y: Tensor, sigma_a: float | None = None, context: Tensor | None = None
    ) -> Tensor:
        """Return the score of z = T(y), given its neighbours if the network sees them.

        Parameters
        ----------
        y : Tensor
            Noisy grey levels (of A⁻¹ y, where there is a `kernel`), float32, shape
            ``(n, channels, *space)`` on the model's device, each size along Y and X a multiple of
            ``network.stride``.
        sigma_a : float, optional
            Perturbation at which the score is evaluated, in units of z; by default `sigma_a`.
        context : Tensor, optional
            The neighbours, see `neighbour_input`; without it they count as not known.

        Returns
        -------
        Tensor
            Score in units of 1 / z, float32, of the same shape. Pixels nearer to a border than
            ``network.radius`` are affected by it.
        """
        self._check_one()
        at = self.sigma_a if sigma_a is None else sigma_a
        with torch.inference_mode():
            levels = torch.full((len(y),), at, dtype=torch.float32, device=y.device)
            z = self.transform.forward(clip_to_training(y, self.low, self.high))
            return perturbed_score(self.network, z, levels, self.mean, self.scale, context)

    def score_and_slope(
        self,
        y: Tensor,
        sigma_a: float,
        spacing: tuple[int, int, int],
        context: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the score of z = T(y), and its derivative at each pixel by the pixel's own z.

        Parameters
        ----------
        y : Tensor
            As for `score`, sizes multiples of the spacing.
        sigma_a : float
            Perturbation at which the score is evaluated, in units of z.
        spacing : tuple of int
            Distance of the pixels that are probed at once, along Z, Y and X.
        context : Tensor, optional
            As for `score`.

        Returns
        -------
        score, slope : Tensor
            Both float32, of the shape of y; the slope is the diagonal of the Jacobian.
        """
        self._check_one()
        levels = torch.full((len(y),), sigma_a, dtype=torch.float32, device=y.device)
        z = self.transform.forward(clip_to_training(y, self.low, self.high))

        def score_of(z: Tensor) -> Tensor:
            return perturbed_score(self.network, z, levels, self.mean, self.scale, context)

        # by differences: torch.func.jvp silently returns zeros in inference mode in torch 2.11
        slope = torch.zeros_like(z)
        for at, probe in probes(z, spacing):
            by = SLOPE_STEP * probe
            change = (score_of(z + by) - score_of(z - by)) / (2 * SLOPE_STEP)
            slope[at] = change[at] * probe[at]
        return score_of(z), slope

    def solver(
        self, noise: NoiseModel, *, sigma_a: float | None = None, exact: bool = True
    ) -> Solver:
        """Return the function that solves ``s = f(x, y)`` for x under a noise model.

        Parameters
        ----------
        noise : NoiseModel
            The noise p(y | x).
        sigma_a : float, optional
            Perturbation σ_a that the score is evaluated at, in units of z; by default `sigma_a`.
        exact : bool
            Solve by a look-up table where possible, otherwise by the closed forms of the papers.

        Returns
        -------
        callable
            Maps y and `score` of y, both of one shape ``(..., Y, X)``, to x in grey levels,
            float32. See `make_solver`.

        Raises
        ------
        UserError
            If no such noise can belong to images of these grey levels, or its correlation is not
            the one that was undone before the score was learned.
        """
        self._check_one()
        return make_solver(
            noise,
            self.transform,
            self.sigma_a if sigma_a is None else sigma_a,
            self.low,
            self.high,
            self.quantization,
            self.kernel,
            exact,
        )

    def describe(self) -> dict[str, Any]:
        """Return a description of the model for people; values are JSON."""
        return describe_model(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, complete or not at all.

        Parameters
        ----------
        path : path-like
            The file, by convention ``NAME.n2s``. An existing one is replaced.
        """
        tensors = dict(self.network.state_dict()) | patch_tensors(self.patches)
        write_tensors(path, tensors, model_header(self))

    @staticmethod
    def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> ScoreModel:
        """Read a model file; nothing is unpickled, and every value is checked.

        Parameters
        ----------
        path : path-like
            The file.
        device : str or torch.device
            Where to put the network.

        Returns
        -------
        ScoreModel

        Raises
        ------
        UserError
            If the file does not exist, is no model, is damaged (its checksum does not match), holds
            an impossible number, or was written by a newer version.
        """
        header, tensors = read_tensors(path, "score model", tensor_shapes)
        try:
            return ScoreModel(**model_fields(header, tensors)).to(device)
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            if is_memory_error(error):
                raise
            raise UserError(f"{path}: not a complete score model ({first_line(error)})") from None
