"""Where to compute, and in what precision."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from functools import cache
from typing import Any

import psutil
import torch

from ..errors import UserError, quoted

# freed memory that the process keeps, in bytes, and what glibc's mallopt calls it
KEPT = 2**29
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


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
    try:
        device = torch.device(found[0] if name == "auto" else name)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        device = None
    if (
        device is None
        or device.type not in found
        or (device.type != "cuda" and device.index)
        or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count())
    ):
        raise UserError(f"device {quoted(str(name))} is not there; there is {', '.join(found)}")
    if device.type == "cpu":
        _keep_memory()
    return device


@cache
def _keep_memory() -> None:
    """Let the process keep memory that was freed, where the C library can be told so.

    A network's features are dozens of large arrays for every tile. Given back to the system and
    asked for again, each of their pages is cleared anew: a third of the time on a CPU.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, KEPT)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)
        library.mallopt(M_ARENA_MAX, 1)


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
