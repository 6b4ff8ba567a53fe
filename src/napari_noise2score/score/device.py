"""Where to compute, and in what precision."""

from __future__ import annotations

import contextlib
from typing import Any

import psutil
import torch

from ..errors import UserError


def choose_device(name: str = "auto") -> torch.device:
    """Find a device by name.

    Parameters
    ----------
    name : str
        ``"auto"`` takes a GPU if there is one; otherwise as torch names it.

    Returns
    -------
    torch.device

    Raises
    ------
    UserError
        If there is no such device.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    found = ["cpu"]
    if torch.backends.mps.is_available():
        found.insert(0, "mps")
    if torch.cuda.is_available():
        found.insert(0, "cuda")
    if name == "auto":
        return torch.device(found[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if (
        device is None
        or device.type not in found
        or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count())
    ):
        raise UserError(f"device '{name}' is not there; there is {', '.join(found)}")
    return device


def inner_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Let the inside of a network train in bfloat16 where that is faster."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        # without the instruction, bfloat16 on a CPU is emulated and slower than float32
        known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        fast = device.type == "cpu" and known is not None and known()
    return torch.autocast(device.type, torch.bfloat16) if fast else contextlib.nullcontext()


def free_memory(device: torch.device) -> int:
    """Give how many bytes are free where a device computes.

    Examples
    --------
    >>> free_memory(choose_device("cpu")) > 0
    True
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # what torch holds in reserve is free as well
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + reserve)
    return int(psutil.virtual_memory().available)


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that a device has no memory left."""
    known = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in known)
    )
