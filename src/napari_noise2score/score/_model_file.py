"""Convert a model to the header and tensors of its file, and back with every check."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..image.axes import parse_axes
from ..noise.kernel import Kernel
from ..solve.quantization import Quantization
from ..solve.transform import Transform
from ._evaluate import network_with
from ._network import UNet
from ._stored_patches import checked_patch_shapes, is_patches, patch_shapes, stored_patches
from .context import context_from_json
from .coordinates import MAX_SEPARATE_CHANNELS, Coordinates
from .information import Information

if TYPE_CHECKING:
    from ._tensor_file import Shapes
    from .model import ScoreModel

MAX_NAME_LENGTH = 1000
MAX_SIGMA_A = 100.0  # a larger perturbation would hide the noise of the image

# keys of the file and the attributes of `Quantization` that they hold
_QUANTIZATION_KEYS = {
    "step": "step", "zero": "origin", "floor": "floor", "ceiling": "saturation",
}  # fmt: skip
_CHANNEL_FIELDS = ("mean", "scale", "sigma_a", "sigma_a_range", "low", "high", "score_errors")
_PLAIN_FIELDS = (*_CHANNEL_FIELDS, "axes", "joint", "name", "provenance")


def model_header(model: ScoreModel) -> dict[str, Any]:
    """Return everything of a model but its weights, as JSON values."""
    return {
        "network": model.network.sizes,
        "transform": asdict(model.transform),
        "kernel": model.kernel and model.kernel.taps,
        "recording": _quantization_values(model.quantization),
        # a model without context is written as before there were any
        **({"context": model.context.offsets} if model.context.offsets else {}),
        **_channels_header(model.channel_coordinates),
        **({"patches": patch_shapes(model.patches)} if model.patches else {}),
    } | {key: getattr(model, key) for key in _PLAIN_FIELDS}


def _channels_header(each: Sequence[Coordinates]) -> dict[str, Any]:
    """Return the coordinates of each channel as JSON values."""
    if not each:
        return {}
    return {
        "channels": [
            {
                "transform": asdict(own.transform),
                "recording": _quantization_values(own.quantization),
                **({} if own.information is None else {"information": own.information.as_json()}),
                **{key: getattr(own, key) for key in _CHANNEL_FIELDS},
            }
            for own in each
        ]
    }


def _quantization_values(quantization: Quantization) -> dict[str, float]:
    """Return the finite values of a quantization by their keys in a file."""
    return {
        key: value
        for key, name in _QUANTIZATION_KEYS.items()
        if math.isfinite(value := getattr(quantization, name))
    }


def tensor_shapes(header: Mapping[str, Any]) -> Shapes:
    """Return the name and shape of each tensor of the model that a header describes."""
    if "kind" in header:
        raise ValueError(f"it is a {header['kind']!r:.20}, which belongs to a score model")
    required = {"ndim", "channels", "width", "depth"}
    network = UNet.shapes(**_mapping(header, "network", required, {"context_channels"}))
    return {**network, **checked_patch_shapes(header)}


def model_fields(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the fields of a `ScoreModel` from the content of a file.

    Raises
    ------
    ValueError
        Naming the value that is impossible.
    """
    weights = {key: tensor for key, tensor in tensors.items() if not is_patches(key)}
    network = network_with(UNet.empty(**header["network"]), weights, "cpu")
    coordinates = _coordinates(header)
    kernel = None if header["kernel"] is None else Kernel(header["kernel"])
    joint, axes = header["joint"], header["axes"]
    if not isinstance(joint, bool) or not isinstance(axes, str):
        raise ValueError("axes must be text, and joint must be true or false")
    fits = parse_axes(axes, len(axes)) == axes and (network.ndim == 2 or "Z" in axes)
    if not fits or joint != ("C" in axes and joint) or (network.channels > 1 and not joint):
        raise ValueError(f"axes '{axes}' do not fit the network")
    context = context_from_json(header.get("context", []))
    if context.channels(network.channels) != network.context_channels:
        raise ValueError(f"context {context} does not fit the network")
    name, provenance = header["name"], header["provenance"]
    if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH:
        raise ValueError("the name is not a short text")
    if not isinstance(provenance, dict):
        raise ValueError("the provenance is not a list of named values")
    if "information" in provenance:
        Information.from_json(provenance["information"])
    each = header.get("channels", [])
    if not isinstance(each, list) or len(each) == 1 or len(each) > MAX_SEPARATE_CHANNELS:
        raise ValueError("the channels are not a list of 2 or more")
    if each and (joint or "C" not in axes):
        raise ValueError("there are separate channels, and the axes have none")
    patches = stored_patches(tensors)
    if patches is not None and each and len(patches.y) % len(each):
        raise ValueError("there are not as many patches of each channel")
    return {
        "network": network,
        "kernel": kernel,
        "axes": axes,
        "joint": joint,
        "name": name,
        "provenance": provenance,
        "context": context,
        "patches": patches,
        "channel_coordinates": tuple(map(_channel_coordinates, each)),
        **coordinates,
    }


def _coordinates(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return transform, normalization, perturbation and grey levels of a header."""
    low, high = (_number(header, key) for key in ("low", "high"))
    if low >= high:
        raise ValueError(f"grey levels from {low:g} to {high:g}")
    sigma_a = _number(header, "sigma_a")
    lowest, highest = sigma_a_range = _pair(header, "sigma_a_range")
    if not 0 < lowest <= sigma_a <= highest <= MAX_SIGMA_A:
        raise ValueError(f"sigma_a is {sigma_a:g}, and its range is {sigma_a_range}")
    mean, scale = _number(header, "mean"), _number(header, "scale")
    if scale <= 0:
        raise ValueError(f"scale is {scale:g}")
    curve = _mapping(header, "transform", {"start", "c0", "c1", "c2"})
    transform = Transform(**{key: _number(curve, key) for key in curve})
    # pixels are computed in single precision
    z = transform.forward(torch.linspace(low, high, 64, dtype=torch.float32))
    if not (z.isfinite().all() and (z.diff() >= 0).all() and z[-1] > z[0]):
        raise ValueError("the transform does not rise over the grey levels")
    marks = _mapping(header, "recording", {"step", "zero"}, {"floor", "ceiling"})
    quantization = Quantization(**{_QUANTIZATION_KEYS[key]: _number(marks, key) for key in marks})
    if quantization.step < 0 or quantization.floor >= quantization.saturation:
        raise ValueError(f"the quantization is {quantization}")
    return {
        "transform": transform,
        "mean": mean,
        "scale": scale,
        "sigma_a": sigma_a,
        "sigma_a_range": sigma_a_range,
        "low": low,
        "high": high,
        "quantization": quantization,
        "score_errors": _score_errors(header.get("score_errors", [])),
    }


def _channel_coordinates(header: Any) -> Coordinates:
    """Return the coordinates of one channel."""
    if not isinstance(header, dict):
        raise ValueError("a channel is not a list of named values")
    known = {*_CHANNEL_FIELDS, "transform", "recording", "information"}
    if unknown := sorted(set(header) - known):
        raise ValueError(f"a channel has an unknown {unknown[0]!r:.40}")
    information = None
    if "information" in header:
        information = Information.from_json(header["information"])
    return Coordinates(**_coordinates(header), information=information)


def _mapping(
    header: Mapping[str, Any], key: str, required: set[str], optional: set[str] | None = None
) -> dict[str, Any]:
    """Return a mapping of a header that has the required keys and no unknown ones."""
    values = header[key]
    if not isinstance(values, dict) or not (
        required <= set(values) <= required | (optional or set())
    ):
        raise ValueError(f"{key} needs {', '.join(sorted(required))}")
    return values


def _number(header: Mapping[str, Any], key: str) -> float:
    """Return a finite number of a header, kept as it is: 0 and 0.0 print differently."""
    value = header[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is not a finite number")
    return value


def _score_errors(values: Any) -> tuple[tuple[float, float], ...]:
    """Return pairs of a perturbation and the error of the score there."""
    if not isinstance(values, list):
        raise ValueError("score_errors is not a list")
    pairs = tuple(_pair({"score_errors": value}, "score_errors") for value in values)
    rising = all(a < b for (a, _), (b, _) in pairwise(pairs))
    if not rising or any(error < 0 for _, error in pairs):
        raise ValueError("score_errors do not rise with sigma_a, or are negative")
    return pairs


def _pair(header: Mapping[str, Any], key: str) -> tuple[float, float]:
    """Return two finite numbers of a header."""
    values = header[key]
    if not isinstance(values, list) or len(values) != 2:
        raise ValueError(f"{key} is not a pair of numbers")
    first, last = (_number({key: value}, key) for value in values)
    return first, last
