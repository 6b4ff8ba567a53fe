"""A trained score, with all that is needed to use it, in one file."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import UserError
from ..image.output import check_output, written
from ..noise.kernel import Kernel
from ..noise.recording import Recording
from ..noise.transform import Transform
from .network import UNet

FORMAT = 1
KEY = "napari-noise2score"
# change of z by which a pixel is moved to see its score change, in units of the noise
MOVED = 0.1


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """The score s(z) of noisy images, learned once; it knows nothing of any noise model.

    Attributes
    ----------
    network : UNet
        Gives the score of ``z = T(y) + σ_a u`` in units of ``1 / √(1 + σ_a²)``.
    transform : Transform
        Coordinates T.
    mean, scale : float
        The one normalisation of z before the network.
    sigma_a : float
        Perturbation at which the score is asked for unless told otherwise, in units of z.
    sigma_a_range : tuple of float
        Perturbations the network was trained for.
    low, high : float
        Range of grey levels seen in training.
    recording : Recording
        How the training images were digitised.
    kernel : Kernel or None
        Correlation of the noise that is undone before T, None if there is none.
    axes : str
        Axes of the training images.
    joint : bool
        Whether channels were seen together.
    name : str
        A short name.
    provenance : mapping
        Who made it, how, and from what.
    """

    network: UNet
    transform: Transform
    mean: float
    scale: float
    sigma_a: float
    sigma_a_range: tuple[float, float]
    low: float
    high: float
    recording: Recording
    kernel: Kernel | None
    axes: str
    joint: bool
    name: str = "score"
    provenance: Mapping[str, Any] = field(default_factory=dict)

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
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def fingerprint(self) -> str:
        """Tell this model from any other: 16 letters that depend on all that a result does."""
        digest = hashlib.sha256()
        plain = [self.transform, self.recording, self.kernel and self.kernel.taps]
        plain += [self.mean, self.scale, self.sigma_a, self.low, self.high, self.joint]
        digest.update(repr(plain).encode())
        for key, weights in sorted(self.network.state_dict().items()):
            digest.update(key.encode() + weights.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def to(self, device: str | torch.device) -> ScoreModel:
        """Give the model on a device; this one stays as it is."""
        if torch.device(device) == self.device:
            return self
        return replace(self, network=filled(self.network, self.network.state_dict(), device))

    def score(self, y: Tensor, sigma_a: float | None = None) -> Tensor:
        """Give the score of z = T(y).

        Parameters
        ----------
        y : Tensor
            Noisy grey levels (of A⁻¹ y, where there is a `kernel`), float32, shape
            ``(n, channels, *space)`` on the model's device, each size along Y and X a multiple of
            ``network.stride``.
        sigma_a : float, optional
            Perturbation the score is asked for, in units of z; by default `sigma_a`.

        Returns
        -------
        Tensor
            Score in units of 1 / z, float32, of the same shape. Pixels nearer to a border than
            ``network.radius`` feel it.
        """
        at = self.sigma_a if sigma_a is None else sigma_a
        with torch.inference_mode():
            levels = torch.full((len(y),), at, dtype=torch.float32, device=y.device)
            z = self.transform.forward(y)
            return perturbed_score(self.network, z, levels, self.mean, self.scale)

    def score_and_slope(
        self, y: Tensor, sigma_a: float, apart: tuple[int, int, int]
    ) -> tuple[Tensor, Tensor]:
        """Give the score of z = T(y), and how a pixel's score changes with its own z.

        Parameters
        ----------
        y : Tensor
            As for `score`, sizes multiples of apart.
        sigma_a : float
            Perturbation the score is asked for, in units of z.
        apart : tuple of int
            How far apart, along Z, Y and X, are pixels that are changed at once.

        Returns
        -------
        score, slope : Tensor
            Both float32, of the shape of y; the slope is the diagonal of the Jacobian.
        """
        levels = torch.full((len(y),), sigma_a, dtype=torch.float32, device=y.device)
        z = self.transform.forward(y)

        def score_of(z: Tensor) -> Tensor:
            return perturbed_score(self.network, z, levels, self.mean, self.scale)

        # by differences: torch.func.jvp gives zeros in inference mode in torch 2.11, without a word
        slope = torch.zeros_like(z)
        for at, probe in probes(z, apart):
            by = MOVED * probe
            change = (score_of(z + by) - score_of(z - by)) / (2 * MOVED)
            slope[at] = change[at] * probe[at]
        return score_of(z), slope

    def describe(self) -> dict[str, Any]:
        """Say in plain words what the model is, for people; values are JSON."""
        t = self.transform
        return {
            "name": self.name,
            "network": f"{self.ndim}-D U-Net, {self.channels} channel(s), "
            f"{sum(p.numel() for p in self.network.parameters()):,} weights",
            "trained on axes": self.axes,
            "grey levels": f"{self.low:g} to {self.high:g}, step {self.recording.step:g}",
            "noise curve": f"variance {t.c0:.4g} + {t.c1:.4g} t + {t.c2:.4g} t², "
            f"t = grey level above {t.start:.4g}",
            "correlation": str(self.kernel) if self.kernel else "none",
            "sigma_a": f"{self.sigma_a:.3g} (trained for {self.sigma_a_range[0]:.3g} to "
            f"{self.sigma_a_range[1]:.3g}), in units of the noise",
        } | dict(self.provenance)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, complete or not at all.

        Parameters
        ----------
        path : path-like
            The file, by custom ``NAME.n2s``. One that exists is replaced.
        """
        net = self.network
        header = {
            "format": FORMAT,
            "network": {
                "ndim": net.ndim,
                "channels": net.channels,
                "width": net.width,
                "depth": net.depth,
            },
            "transform": asdict(self.transform),
            "kernel": self.kernel and self.kernel.taps,
            "recording": {k: v for k, v in asdict(self.recording).items() if math.isfinite(v)},
        } | {key: getattr(self, key) for key in _PLAIN}
        write_tensors(path, dict(net.state_dict()), header)

    @staticmethod
    def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> ScoreModel:
        """Read what `save` wrote. Nothing is ever unpickled.

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
            If there is no such file, it is no such model, or a newer version made it.
        """
        header, tensors = read_tensors(path, "score model")
        try:
            network = UNet.empty(**header["network"])
            network = filled(network, tensors, "cpu")
            plain = {key: header[key] for key in _PLAIN}
            plain["sigma_a_range"] = tuple(plain["sigma_a_range"])
            model = ScoreModel(
                network=network,
                transform=Transform(**header["transform"]),
                recording=Recording(**header["recording"]),
                kernel=header["kernel"] and Kernel(header["kernel"]),
                **plain,
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path}: not a complete score model ({_first_line(error)})") from None
        return model.to(device)


_PLAIN = (
    "mean", "scale", "sigma_a", "sigma_a_range", "low", "high", "axes", "joint", "name",
    "provenance",
)  # fmt: skip


def filled(like: UNet, weights: Mapping[str, Tensor], device: str | torch.device) -> UNet:
    """Give a network of the same build with these weights, for use and not for training."""
    network = UNet.empty(like.ndim, like.channels, like.width, like.depth)
    network.load_state_dict(weights)
    return network.to(device).eval().requires_grad_(False)


def perturbed_score(network: UNet, z: Tensor, sigma_a: Tensor, mean: float, scale: float) -> Tensor:
    """Give the network's score of z at each image's σ_a, of shape ``(n,)``, float32."""
    level = sigma_a.reshape(-1, *[1] * (z.ndim - 1))
    known = torch.log(level).expand(-1, 1, *z.shape[2:])
    out = network(torch.cat([(z - mean) / scale, known], dim=1))
    return out.float() / torch.sqrt(1 + level**2)


def probes(like: Tensor, apart: tuple[int, int, int]) -> Iterator[tuple[Any, Tensor]]:
    """Give images that are 0 but for ±1 at some pixels, each pixel once, and where those are.

    The pixels of one image lie apart along Z, Y and X. Along Z their signs alternate, and along Y
    and X those of every other row or column of pixels do: in the mean over a few pixels, what a
    change of one does to its neighbours cancels.
    """
    steps = apart[5 - like.ndim :]
    for channel, *start in product(range(like.shape[1]), *map(range, steps)):
        probe = torch.zeros_like(like)
        apiece = tuple(slice(a, None, n) for a, n in zip(start, steps, strict=True))
        at: Any = (slice(None), channel, *apiece)
        probe[at] = 1
        for axis, (first, step) in enumerate(zip(start, steps, strict=True), 2):
            if first % 2 or axis < like.ndim - 2:
                odd = torch.arange(like.shape[axis], device=like.device) // step % 2
                probe *= (1 - 2 * odd).reshape([-1] + [1] * (like.ndim - 1 - axis))
        yield at, probe


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> None:
    """Write tensors and a header as a safetensors file, complete or not at all."""
    plain = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
    data = save(plain, metadata={KEY: json.dumps(header)})
    with written(check_output(path, overwrite=True, nbytes=len(data)), overwrite=True) as part:
        part.write_bytes(data)


def read_tensors(
    path: str | os.PathLike[str], what: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_tensors` wrote; anything else is a `UserError`."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(KEY, "null"))
            if header is None:
                raise UserError(f"{path}: a safetensors file, but not a {what} of noise2score")
            if header["format"] > FORMAT:
                raise UserError(
                    f"{path}: written by a newer version of napari-noise2score "
                    f"(format {header['format']}, this one reads up to {FORMAT}); please upgrade"
                )
            return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError, KeyError, TypeError):
        raise UserError(f"{path}: not a {what} of noise2score, or damaged") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
