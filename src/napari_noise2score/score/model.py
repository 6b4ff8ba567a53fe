"""A trained score, with all that is needed to use it, in one file."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import UserError, is_memory_error
from ..image.axes import parse_axes
from ..image.output import check_output, written
from ..noise import NoiseModel
from ..noise.kernel import Kernel
from ..solve.quantization import Quantization
from ..solve.solver import Solver, make_solver
from ..solve.transform import Transform
from ._network import UNet
from .probes import probes

# 2 since files carry a checksum
FORMAT = 2
KEY = "napari-noise2score"
CHECKSUM_KEY = f"{KEY} sha256"
MAX_HEADER_BYTES = 2**24
MAX_JSON_DEPTH = 32
MAX_NAME_LENGTH = 1000
# beyond it the noise of the image would be lost in the perturbation
MAX_SIGMA_A = 100.0
# The network sees no grey level beyond the range of training by more than so many times its width:
# a defect of a camera would else drown all around it.
MAX_BEYOND = 10.0
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
    quantization : Quantization
        How the training images were digitized.
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
    quantization: Quantization
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
        text = ", ".join([repr(self.transform), recording, *map(repr, plain)])
        digest.update(f"[{text}]".encode())
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
            z = self.transform.forward(within(y, self.low, self.high))
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
        z = self.transform.forward(within(y, self.low, self.high))

        def score_of(z: Tensor) -> Tensor:
            return perturbed_score(self.network, z, levels, self.mean, self.scale)

        # by differences: torch.func.jvp gives zeros in inference mode in torch 2.11, without a word
        slope = torch.zeros_like(z)
        for at, probe in probes(z, apart):
            by = MOVED * probe
            change = (score_of(z + by) - score_of(z - by)) / (2 * MOVED)
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
            From y and `score` of y, both of one shape ``(..., Y, X)``, to x in grey levels,
            float32. See `make_solver`.

        Raises
        ------
        UserError
            If no such noise can belong to images of these grey levels, or its correlation is not
            the one that was undone before the score was learned.
        """
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
        """Say in plain words what the model is, for people; values are JSON."""
        t = self.transform
        facts = {
            "name": self.name,
            "network": f"{self.ndim}-D U-Net, {self.channels} channel(s), "
            f"{sum(p.numel() for p in self.network.parameters()):,} weights",
            "trained on axes": self.axes,
            "grey levels": f"{self.low:g} to {self.high:g}, step {self.quantization.step:g}",
            "noise curve": f"variance {t.c0:.4g} + {t.c1:.4g} t + {t.c2:.4g} t², "
            f"t = grey level above {t.start:.4g}",
            "correlation": str(self.kernel) if self.kernel else "none",
            "sigma_a": f"{self.sigma_a:.3g} (trained for {self.sigma_a_range[0]:.3g} to "
            f"{self.sigma_a_range[1]:.3g}), in units of the noise",
        }
        return facts | {k: v for k, v in self.provenance.items() if k not in facts}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, complete or not at all.

        Parameters
        ----------
        path : path-like
            The file, by custom ``NAME.n2s``. One that exists is replaced.
        """
        net = self.network
        header = {
            "network": {
                "ndim": net.ndim,
                "channels": net.channels,
                "width": net.width,
                "depth": net.depth,
            },
            "transform": asdict(self.transform),
            "kernel": self.kernel and self.kernel.taps,
            "recording": {
                key: value
                for key, name in _QUANTIZATION_KEYS.items()
                if math.isfinite(value := getattr(self.quantization, name))
            },
        } | {key: getattr(self, key) for key in _PLAIN}
        write_tensors(path, dict(net.state_dict()), header)

    @staticmethod
    def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> ScoreModel:
        """Read what `save` wrote. Nothing is ever unpickled, and nothing in the file is trusted.

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
            If there is no such file, it is no such model, it is damaged (a checksum over header
            and weights tells), a number in it is impossible, or a newer version made it.
        """
        header, tensors = read_tensors(path, "score model", _shapes_of_network)
        try:
            return _model_of(header, tensors).to(device)
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            if is_memory_error(error):
                raise
            raise UserError(f"{path}: not a complete score model ({_first_line(error)})") from None


# keys of the file, and the attributes of `Quantization` that they hold
_QUANTIZATION_KEYS = {
    "step": "step", "zero": "origin", "floor": "floor", "ceiling": "saturation",
}  # fmt: skip
_PLAIN = (
    "mean", "scale", "sigma_a", "sigma_a_range", "low", "high", "axes", "joint", "name",
    "provenance",
)  # fmt: skip

Shapes = Mapping[str, tuple[int, ...]]
"""Name and shape of each tensor that a file must hold, all of them float32."""


def _shapes_of_network(header: Mapping[str, Any]) -> Shapes:
    """Return what the network of a header needs, without memory being taken for it."""
    return UNet.shapes(**_mapping(header, "network", {"ndim", "channels", "width", "depth"}))


def _model_of(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ScoreModel:
    """Build a model of a file's content; a `ValueError` says which part of it is impossible."""
    network = filled(UNet.empty(**header["network"]), tensors, "cpu")
    low, high = (_number(header, key) for key in ("low", "high"))
    if low >= high:
        raise ValueError(f"grey levels from {low:g} to {high:g}")
    sigma_a = _number(header, "sigma_a")
    least, most = sigma_a_range = _pair(header, "sigma_a_range")
    if not 0 < least <= sigma_a <= most <= MAX_SIGMA_A:
        raise ValueError(f"sigma_a is {sigma_a:g}, of {sigma_a_range}")
    mean, scale = _number(header, "mean"), _number(header, "scale")
    if scale <= 0:
        raise ValueError(f"scale is {scale:g}")
    curve = _mapping(header, "transform", {"start", "c0", "c1", "c2"})
    transform = Transform(**{key: _number(curve, key) for key in curve})
    # single precision is what pixels are computed in
    z = transform.forward(torch.linspace(low, high, 64, dtype=torch.float32))
    if not (z.isfinite().all() and (z.diff() >= 0).all() and z[-1] > z[0]):
        raise ValueError("the transform does not rise over the grey levels")
    marks = _mapping(header, "recording", {"step", "zero"}, {"floor", "ceiling"})
    quantization = Quantization(**{_QUANTIZATION_KEYS[key]: _number(marks, key) for key in marks})
    if quantization.step < 0 or quantization.floor >= quantization.saturation:
        raise ValueError(f"the quantization is {quantization}")
    kernel = None if header["kernel"] is None else Kernel(header["kernel"])
    joint, axes = header["joint"], header["axes"]
    if not isinstance(joint, bool) or not isinstance(axes, str):
        raise ValueError("axes are a text, and joint is true or false")
    fits = parse_axes(axes, len(axes)) == axes and (network.ndim == 2 or "Z" in axes)
    if not fits or joint != ("C" in axes and joint) or (network.channels > 1 and not joint):
        raise ValueError(f"axes '{axes}' do not fit the network")
    name, provenance = header["name"], header["provenance"]
    if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH:
        raise ValueError("the name is not a short text")
    if not isinstance(provenance, dict):
        raise ValueError("the provenance is not a list of named values")
    return ScoreModel(
        network=network,
        transform=transform,
        mean=mean,
        scale=scale,
        sigma_a=sigma_a,
        sigma_a_range=sigma_a_range,
        low=low,
        high=high,
        quantization=quantization,
        kernel=kernel,
        axes=axes,
        joint=joint,
        name=name,
        provenance=provenance,
    )


def _mapping(
    header: Mapping[str, Any], key: str, required: set[str], optional: set[str] | None = None
) -> dict[str, Any]:
    """Return a part of a header that has these names and no others."""
    part = header[key]
    if not isinstance(part, dict) or not required <= set(part) <= required | (optional or set()):
        raise ValueError(f"{key} needs {', '.join(sorted(required))}")
    return part


def _number(header: Mapping[str, Any], key: str) -> float:
    """Return a finite number of a header, kept as it is: 0 and 0.0 print differently."""
    value = header[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is not a finite number")
    return value


def _pair(header: Mapping[str, Any], key: str) -> tuple[float, float]:
    """Return two finite numbers of a header."""
    values = header[key]
    if not isinstance(values, list) or len(values) != 2:
        raise ValueError(f"{key} is not a pair of numbers")
    first, last = (_number({key: value}, key) for value in values)
    return first, last


def within(y: Tensor, low: float, high: float) -> Tensor:
    """Give grey levels as the network may see them, given the range of training."""
    more = MAX_BEYOND * (high - low)
    return y.clamp(low - more, high + more)


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


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> None:
    """Write tensors and a header as a safetensors file, complete or not at all."""
    plain = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
    data = save(plain, metadata=_metadata(plain, header))
    with written(check_output(path, overwrite=True, nbytes=len(data)), overwrite=True) as part:
        part.write_bytes(data)


def _metadata(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands in a file beside its tensors: the header, and a checksum of both."""
    try:
        text = json.dumps({"format": FORMAT, **header}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"a model keeps plain JSON values only ({_first_line(error)})") from None
    return {KEY: text, CHECKSUM_KEY: _checksum(text, tensors)}


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a header, and of the name, type, shape and bytes of each tensor."""
    digest = hashlib.sha256(text.encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_tensors(
    path: str | os.PathLike[str],
    what: str,
    shapes: Callable[[Mapping[str, Any]], Shapes] | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_tensors` wrote, after checks of all that can be checked beforehand.

    Parameters
    ----------
    path : path-like
        The file.
    what : str
        What it should be, for the message.
    shapes : callable, optional
        From the header to the name and shape of every tensor that the file must hold. They are
        compared before any tensor is read.

    Returns
    -------
    header : dict
        Plain JSON; every number is finite, no name stands twice.
    tensors : dict of str to Tensor
        On the CPU; floating point values are finite.

    Raises
    ------
    UserError
        If there is no such file or it may not be read, it is another kind of file, damaged, or
        written by a newer version.
    """
    _check_file(path, what)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise UserError(f"{path}: a safetensors file, but not a {what} of noise2score")
            header = _plain_json(metadata[KEY])
            version = header["format"]
            if type(version) is not int or version < 1:
                raise ValueError("format")
            if version > FORMAT:
                raise UserError(
                    f"{path}: written by a newer version of napari-noise2score "
                    f"(format {version}, this one reads up to {FORMAT}); please upgrade"
                )
            names = list(file.keys())
            if shapes is not None:
                parts = {key: file.get_slice(key) for key in names}
                _compare(path, what, parts, shapes, header)
            tensors = {key: file.get_tensor(key) for key in names}
    except UserError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{path}: not a {what} of noise2score, or damaged") from None
    if (version > 1 or CHECKSUM_KEY in metadata) and (
        metadata.get(CHECKSUM_KEY) != _checksum(metadata[KEY], tensors)
    ):
        raise UserError(f"{path}: damaged: the checksum of this {what} is not that of its content")
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{path}: damaged: {key!r} holds values that are not finite numbers")
    return header, tensors


def _check_file(path: str | os.PathLike[str], what: str) -> None:
    """Raise a `UserError` unless the path is a regular file whose header is of sensible size."""
    try:
        mode = os.stat(path)
        if not stat.S_ISREG(mode.st_mode):
            kind = "a folder" if stat.S_ISDIR(mode.st_mode) else "a device or a pipe"
            raise UserError(f"{path}: {kind}, not the file of a {what}")
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
    except UserError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no name of a file"
        raise UserError(f"{path}: cannot be read ({reason})") from None
    if not 2 <= size <= min(MAX_HEADER_BYTES, mode.st_size - 8):
        raise UserError(f"{path}: not a {what} of noise2score, or damaged")


def _compare(
    path: str | os.PathLike[str],
    what: str,
    found: Mapping[str, Any],
    shapes: Callable[[Mapping[str, Any]], Shapes],
    header: Mapping[str, Any],
) -> None:
    """Raise a `UserError` unless the tensors of a file are those its header needs."""
    try:
        wanted = shapes(header)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: not a complete {what} ({_first_line(error)})") from None
    if different := sorted(set(found) ^ set(wanted)):
        word = "lacks" if different[0] in wanted else "has an unknown"
        raise UserError(f"{path}: not a complete {what} (it {word} tensor {different[0]!r})")
    for key, shape in wanted.items():
        if found[key].get_dtype() != "F32" or tuple(found[key].get_shape()) != tuple(shape):
            raise UserError(f"{path}: not a complete {what} (tensor {key!r} does not fit)")


def _plain_json(text: str) -> dict[str, Any]:
    """Read a mapping of plain JSON; a `ValueError` if a number is not finite or a name repeated."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            raise ValueError("a name stands twice")
        return values

    def check(value: Any, depth: int) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("not a finite number")
        if isinstance(value, dict | list):
            if depth > MAX_JSON_DEPTH:
                raise ValueError("nested too deep")
            for inner in value.values() if isinstance(value, dict) else value:
                check(inner, depth + 1)

    header = json.loads(text, object_pairs_hook=unique)
    if not isinstance(header, dict):
        raise ValueError("not a mapping")
    check(header, 0)
    return header


def _first_line(error: Exception) -> str:
    text = f"no {error}" if isinstance(error, KeyError) else str(error).strip()
    return (text or type(error).__name__).splitlines()[0]
