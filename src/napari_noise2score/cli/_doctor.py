"""The command ``doctor``."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ._options import Json

PACKAGES = (
    "torch", "numpy", "scipy", "dask", "zarr", "tifffile", "imagecodecs", "napari", "PyQt6",
    "distributed", "fsspec",
)  # fmt: skip


def doctor(as_json: Json = False) -> None:
    """Print versions, the device, and which file formats can be read: for reports of faults."""
    facts: dict[str, Any] = {
        "versions": _versions(),
        "device": _device(),
        "formats": _formats(),
    }
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for title, lines in facts.items():
        print(title)
        wide = max(map(len, lines))
        for name, text in lines.items():
            print(f"  {name:<{wide}}  {text}")


def _versions() -> dict[str, str]:
    from .. import __version__

    found = {
        "napari-noise2score": __version__,
        "Python": platform.python_version(),
        "system": platform.platform(),
    }
    return found | {name: _version(name) or "not installed" for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _device() -> dict[str, str]:
    import psutil
    import torch

    from ..score.device import choose_device

    device = choose_device("auto")
    found = {"used by default": str(device)}
    for i in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(i)
        found[f"cuda:{i}"] = f"{about.name}, {about.total_memory / 2**30:.0f} GiB"
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    found["processor"] = f"{cores} cores, {torch.get_num_threads()} threads"
    memory = psutil.virtual_memory()
    found["memory"] = f"{memory.available / 2**30:.0f} of {memory.total / 2**30:.0f} GiB are free"
    return found


def _formats() -> dict[str, str]:
    from ..image.formats import FORMATS, INSTALL

    found = {}
    for each in FORMATS:
        missing = each.find_missing()
        by = f"read by {each.library} {_version(each.library)}" if each.library else "read"
        state = f"cannot be read: {missing}; {INSTALL}" if missing else by.rstrip()
        found[f"{each.name} ({', '.join(each.suffixes)})"] = state
    return found
