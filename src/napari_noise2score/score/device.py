"""Choose the device to compute on and its precision, and measure its free memory."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import psutil
import torch

from ..errors import UserError, quoted

MAX_KEPT_BYTES = 2**29  # of freed memory that the process keeps
PRECISIONS = "float32", "bfloat16"
TIMED_STEPS = 3  # in each precision; the fastest counts, as other programs slow single steps down
MIN_SPEEDUP = 1.1  # of bfloat16, to be preferred
_FASTER: dict[torch.device, str] = {}
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


def inner_precision(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which a network computes in a precision of `PRECISIONS`."""
    if precision == PRECISIONS[0]:
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def faster_precision(device: torch.device, step: Callable[[str], None]) -> str:
    """Return the precision in which a training step is faster on a device.

    A processor may have the instructions for bfloat16 and still be slower with them than in
    float32, so both are timed, once per process and device: the trainings of a process agree.

    Parameters
    ----------
    device : torch.device
        The device.
    step : callable
        Takes one training step in a given precision.

    Returns
    -------
    str
        "bfloat16" if it is clearly faster, so that the choice does not depend on what else the
        machine does; otherwise "float32", which is not timed where bfloat16 would be emulated.

    Examples
    --------
    >>> faster_precision(torch.device("mps"), lambda precision: None)
    'float32'
    """
    plain, fast = PRECISIONS
    if not _has_bfloat16(device):
        return plain
    if device in _FASTER:
        return _FASTER[device]
    seconds = {}
    for precision in PRECISIONS:
        step(precision)  # the first one also allocates memory and chooses kernels
        seconds[precision] = min(_seconds_of(step, precision, device) for _ in range(TIMED_STEPS))
    _FASTER[device] = fast if seconds[plain] > MIN_SPEEDUP * seconds[fast] else plain
    return _FASTER[device]


def _seconds_of(step: Callable[[str], None], precision: str, device: torch.device) -> float:
    """Return the duration of a step, until the device has completed it."""
    start = time.perf_counter()
    step(precision)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _has_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and known is not None and bool(known())


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
