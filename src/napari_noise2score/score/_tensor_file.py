"""Read and write tensors with a JSON header as a safetensors file that is checked on reading."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import UserError
from ..image.output import check_output, written

FORMAT = 2  # since this version files carry a checksum
KEY = "napari-noise2score"
CHECKSUM_KEY = f"{KEY} sha256"
MAX_HEADER_BYTES = 2**24
MAX_JSON_DEPTH = 32
COPIES_OF_SAVE = 2  # that safetensors makes of all tensors while it serializes them

Shapes = Mapping[str, tuple[int, ...]]
"""Name and shape of each tensor that a file must hold, all of them float32."""


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> None:
    """Write tensors and a header as a safetensors file, complete or not at all."""
    plain = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}
    metadata = _metadata(plain, header)
    # safetensors aborts the process where it cannot allocate memory; Python raises a MemoryError
    bytearray(COPIES_OF_SAVE * sum(t.nbytes for t in plain.values()))
    data = save(plain, metadata=metadata)
    with written(check_output(path, overwrite=True, nbytes=len(data)), overwrite=True) as part:
        part.write_bytes(data)


def _metadata(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a file: the header, and a checksum of header and tensors."""
    try:
        text = json.dumps({"format": FORMAT, **header}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"a model keeps plain JSON values only ({first_line(error)})") from None
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
        Maps the header to the name and shape of every tensor that the file must hold. They are
        compared before any tensor is read.

    Returns
    -------
    header : dict
        Plain JSON; every number is finite, no name is repeated.
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
                slices = {key: file.get_slice(key) for key in names}
                _check_shapes(path, what, slices, shapes, header)
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
        reason = getattr(error, "strerror", None) or "not a valid file name"
        raise UserError(f"{path}: cannot be read ({reason})") from None
    if not 2 <= size <= min(MAX_HEADER_BYTES, mode.st_size - 8):
        raise UserError(f"{path}: not a {what} of noise2score, or damaged")


def _check_shapes(
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
        raise UserError(f"{path}: not a complete {what} ({first_line(error)})") from None
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
            raise ValueError("a name is repeated")
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


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, for a message of one line."""
    text = f"no {error}" if isinstance(error, KeyError) else str(error).strip()
    return (text or type(error).__name__).splitlines()[0]
