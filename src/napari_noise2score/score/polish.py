"""A polish: a network that was taught, by simulation, to remove the noise of one noise model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import UserError, is_memory_error
from ..image.identity import key_of
from ..noise import NoiseModel
from ..solve.quantization import UNQUANTIZED
from ._evaluate import clip_to_training, network_input, network_with
from ._network import UNet
from ._tensor_file import first_line, read_tensors, write_tensors

if TYPE_CHECKING:
    from .model import ScoreModel

FILE_KIND = "polish"
SUFFIX = ".polish"
# of the predicted error to the noise, as logarithms of squares; beyond it the prediction is wrong
MAX_LOG_ERROR_RATIO = 10.0
TABLE_LENGTH = 4096
MAX_DEVIATIONS_BEYOND = 2.0  # of the noise, between x and the range of training
SLOPE_LIMITS = 0.5, 2.0  # of x by the mean of y


@dataclass(frozen=True, eq=False)
class Polish:
    """A network that estimates x from y, for one score model and one noise model.

    It was trained on the results of the score model with noise drawn from the noise model, so that
    it answers pixels of which ``s = f(x, y)`` says little from their neighbours.

    Attributes
    ----------
    network : UNet
        Gives the difference of x and the x of which y is the mean, in units of the noise, and the
        logarithm of its squared error. It sees the context of the score model.
    noise : str
        Text of the noise model, with a digest of the files that it refers to.
    model : str
        Fingerprint of the score model.
    provenance : mapping
        Software, device, seed and data of the training; values are JSON.
    """

    network: UNet
    noise: str
    model: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of everything that results depend on, 16 hexadecimal digits."""
        digest = hashlib.sha256()
        digest.update(repr((self.noise, self.model)).encode())
        for key, weights in sorted(self.network.state_dict().items()):
            digest.update(key.encode() + weights.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def gain(self) -> float | None:
        """By how much it lowers the mean squared error, in units of the variance of the noise.

        It is estimated from the noisy images, and negative if the polish does harm. None if it was
        not measured, as training was stopped.
        """
        found = self.provenance.get("gain")
        return float(found) if isinstance(found, int | float) else None

    @property
    def does_harm(self) -> bool:
        """Whether results are better without this polish."""
        return self.gain is not None and self.gain < 0

    @property
    def sentence(self) -> str:
        """Whether the polish is worth using, in words."""
        if self.gain is None:
            return "whether the polish pays was not measured"
        change = f"the mean squared error by about {abs(self.gain):.2%} of that of the noise"
        if self.does_harm:
            return f"the polish is not used, as it would increase {change}"
        return f"the polish lowers {change}"

    def to(self, device: str | torch.device) -> Polish:
        """Return the polish on a device; this one is unchanged."""
        if torch.device(device) == next(self.network.parameters()).device:
            return self
        return replace(self, network=network_with(self.network, self.network.state_dict(), device))

    def check(self, model: ScoreModel, noise: NoiseModel) -> None:
        """Raise a `UserError` unless this polish belongs to a score model and a noise model."""
        if self.model != model.fingerprint:
            raise UserError("the polish belongs to another score model: polish again")
        if self.noise != identify_noise(noise):
            raise UserError(f"the polish belongs to the noise model {self.noise}: polish again")

    def clean(
        self, y: Tensor, model: ScoreModel, noise: NoiseModel, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return x and its standard error.

        Parameters
        ----------
        y : Tensor
            Noisy grey levels as for `ScoreModel.score`, on the device of the polish.
        model : ScoreModel
            The score model that it belongs to.
        noise : NoiseModel
            The noise model that it belongs to.
        context : Tensor, optional
            Neighbours as for `ScoreModel.score`.

        Returns
        -------
        x, error : Tensor
            Both in grey levels, without the offset of the noise model, float32, of the shape of y.
        """
        with torch.inference_mode():
            levels = CleanLevels(model, noise)
            x, log_ratio = regress(self.network, y, model, levels, context)
            ratio = torch.exp(0.5 * log_ratio.clamp(-MAX_LOG_ERROR_RATIO, MAX_LOG_ERROR_RATIO))
            x = x.clamp(*levels.limits)
            # y alone tells x as well as this
            widest = SLOPE_LIMITS[1] * noise.variance(x.clamp(min=noise.lowest)).sqrt()
            return x, torch.minimum(ratio / model.transform.slope(y), widest.to(ratio))

    def describe(self) -> dict[str, Any]:
        """Return a description of the polish for people; values are JSON."""
        facts = {
            "noise": self.noise,
            "score model": self.model,
        }
        return facts | {k: v for k, v in self.provenance.items() if k not in facts}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, complete or not at all; an existing one is replaced."""
        header = {
            "kind": FILE_KIND, "network": self.network.sizes, "noise": self.noise,
            "model": self.model, "provenance": dict(self.provenance),
        }  # fmt: skip
        write_tensors(path, dict(self.network.state_dict()), header)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Polish:
        """Read a file that `save` wrote; nothing is unpickled, and every value is checked.

        Raises
        ------
        UserError
            If the file does not exist, is no polish, is damaged, or was written by a newer version.
        """
        header, tensors = read_tensors(path, FILE_KIND, _network_shapes)
        try:
            network = network_with(UNet.empty(**header["network"]), tensors, "cpu")
            texts = {key: header[key] for key in ("noise", "model")}
            provenance = header["provenance"]
            if not all(isinstance(text, str) for text in texts.values()):
                raise ValueError("noise and model must be text")
            if not isinstance(provenance, dict):
                raise ValueError("the provenance is not a list of named values")
            return Polish(network, **texts, provenance=provenance)
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            if is_memory_error(error):
                raise
            raise UserError(f"{path}: not a complete {FILE_KIND} ({first_line(error)})") from None


def regress(
    network: UNet,
    y: Tensor,
    model: ScoreModel,
    levels: CleanLevels,
    context: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the estimate of x, and the logarithm of its squared error in units of the noise.

    Parameters
    ----------
    network : UNet
        A network that predicts its error.
    y : Tensor
        Noisy grey levels, shape ``(n, channels, *space)``; A⁻¹ y where the model has a kernel.
    model : ScoreModel
        Gives the coordinates z = T(y) and their normalization.
    levels : CleanLevels
        Those of the model and a noise model.
    context : Tensor, optional
        Neighbours as for `ScoreModel.score`.

    Returns
    -------
    x, log_ratio : Tensor
        Both float32, of the shape of y.

    Notes
    -----
    x belongs to ``T⁻¹(z + √(1 + σ_a²) out)``. With the weights of the score, out is
    ``√(1 + σ_a²) s``, and this is Tweedie's formula: the network begins as a denoiser.
    """
    at = model.sigma_a_range[1]
    sigma_a = torch.full((len(y),), at, device=y.device)
    z = model.transform.forward(clip_to_training(y, model.low, model.high))
    seen = network_input(network, z, sigma_a, model.mean, model.scale, context)
    out, log_ratio = network.with_error(seen)
    z = z + (1 + at**2) ** 0.5 * out.float()
    ends = torch.tensor([levels.lowest, levels.highest], device=y.device)
    z = z.clamp(*model.transform.forward(ends).tolist())
    return levels.of_mean(model.transform.inverse(z)), log_ratio.float()


class CleanLevels:
    """The clean grey level x of each mean grey level of y, as a smooth table.

    It is `NoiseModel.clean_from_mean`, but with a slope from 0.5 to 2, so that a network can learn
    through it where the mean of y hardly depends on x, as in the dark of magnitude MRI.

    Parameters
    ----------
    model : ScoreModel
        Its range of training is the range of the table, continued on both sides.
    noise : NoiseModel
        The noise model.

    Attributes
    ----------
    lowest, highest : float
        Mean grey levels of y at the ends of the table.
    limits : tuple of float
        The lowest and the highest x that data of the range of training, the noise and the detector
        allow.
    """

    def __init__(self, model: ScoreModel, noise: NoiseModel):
        width = model.high - model.low
        self.lowest, self.highest = model.low - 0.25 * width, model.high + 0.25 * width
        y = torch.linspace(self.lowest, self.highest, TABLE_LENGTH, dtype=torch.float64)
        self._step = float(y[1] - y[0])
        x = noise.components.base.clean_from_mean(y)
        rise = (torch.diff(x) / self._step).clamp(*SLOPE_LIMITS) * self._step
        # from the bright end, where the mean depends on x in any case
        below = x[-1] - rise.flip(0).cumsum(0).flip(0)
        self._x = torch.cat([below, x[-1:]]).float().to(model.device)
        ends = torch.tensor([model.low, model.high], dtype=torch.float64)
        deviations = MAX_DEVIATIONS_BEYOND * torch.sqrt(model.transform.variance(ends))
        low, high = ends[0] - deviations[0], ends[1] + deviations[1]
        # no mean of y is beyond what can be recorded
        recorded = model.quantization if model.kernel is None else UNQUANTIZED
        means = torch.stack([low.clamp(min=recorded.floor), high.clamp(max=recorded.saturation)])
        lowest, highest = noise.components.base.clean_from_mean(means).tolist()
        self.limits = max(lowest, noise.lowest), max(highest, noise.lowest)

    def of_mean(self, mean: Tensor) -> Tensor:
        """Return x for means of y within the range of the table, float32."""
        at = (mean - self.lowest) / self._step
        cell = at.detach().floor().clamp(0, TABLE_LENGTH - 2).long()
        first = self._x[cell]
        return first + (at - cell) * (self._x[cell + 1] - first)


def identify_noise(noise: NoiseModel) -> str:
    """Return the text of the noise of corrected images, with a digest of its files."""
    noise = noise.plain
    return f"{noise} {noise.content_digest}".rstrip()


def key_of_polish(model: ScoreModel, noise: NoiseModel) -> str:
    """Return the eight hexadecimal digits that name the polish of a model for a noise model."""
    return key_of([model.fingerprint, identify_noise(noise)])[:8]


def path_beside(model_path: str | os.PathLike[str], model: ScoreModel, noise: NoiseModel) -> Path:
    """Return the file of the polish for a noise model, beside that of its score model.

    Parameters
    ----------
    model_path : path-like
        The model file.
    model, noise
        The model, and the noise model.

    Returns
    -------
    Path
        Such as ``embryo-1a2b3c4d.polish`` for ``embryo.n2s``.
    """
    path = Path(model_path)
    return path.with_name(f"{path.stem}-{key_of_polish(model, noise)}{SUFFIX}")


def _network_shapes(header: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    """Return the name and shape of each tensor of the network that a header describes."""
    network = header["network"]
    if not isinstance(network, dict) or network.get("predicts_error") is not True:
        raise ValueError("it holds no network that predicts its error")
    return UNet.shapes(**network)
