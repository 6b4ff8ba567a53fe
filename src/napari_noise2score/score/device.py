"""Choose the device to compute on and its precision, and measure its free memory."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from functools import cache
from typing import Any

import psutil
import torch

from ..errors import UserError, quoted

MAX_KEPT_BYTES = 2**29  # of freed memory that the process keeps
# options of glibc's mallopt
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


def choose_device(name: str = "auto") -> torch.device:
    """Return a device by its name.

    Parameters
    ----------
    name : str
        ``"auto"`` for a GPU if there is one and the CPU otherwise, or a name that torch knows.

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
        raise UserError(f"there is no device {quoted(str(name))}; use one of {', '.join(found)}")
    if device.type == "cpu":
        _keep_memory()
    return device


@cache
def _keep_memory() -> None:
    """Let the process keep freed memory, if the C library has this option.

    The features of a network are dozens of large arrays for every tile. If they were returned to
    the system and allocated again, clearing their pages would take a third of the time on a CPU.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, MAX_KEPT_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, MAX_KEPT_BYTES)
        library.mallopt(M_ARENA_MAX, 1)


def inner_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which networks train in bfloat16, if that is faster on the device."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        # without the instruction, bfloat16 on a CPU is emulated and slower than float32
        known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        fast = device.type == "cpu" and known is not None and known()
    return torch.autocast(device.type, torch.bfloat16) if fast else contextlib.nullcontext()


def free_memory(device: torch.device) -> int:
    """Return how many bytes are free in the memory of a device.

    Examples
    --------
    >>> free_memory(choose_device("cpu")) > 0
    True
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # memory that torch has reserved is free as well
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + reserve)
    return int(psutil.virtual_memory().available)
