"""What lasts as long as napari: models, the axes, noise and model of each layer, and devices."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from napari.layers import Layer
from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer, Signal

from ._collector import imports

if TYPE_CHECKING:
    from ..estimation.goodness_of_fit import NoiseCheck
    from ..score.model import ScoreModel
    from ..score.polish import Polish


class Session(QObject):
    """The models since napari started, and the axes, noise and model of each layer.

    Its signals are Qt signals, as these disconnect from a dock that is destroyed.
    """

    # the name of the model that was added, and the layer that it learned from, if any
    models_changed = Signal(str, object)
    preview_taken = Signal(object)  # the `Preview` that begins to show a layer

    def __init__(self) -> None:
        super().__init__()
        self.models: dict[str, ScoreModel] = {}
        # the file of each model that has one, by fingerprint, and the polishes, by their key
        self.files: dict[str, Path] = {}
        # models that were learned and not saved, by fingerprint: the file that keeps each of them
        self.kept: dict[str, Path] = {}
        # the settings of each model that was learned in this session, as `train_steps` names them
        self.recipes: dict[str, dict[str, Any]] = {}
        # models that hardly learned, by fingerprint: they tell nothing of the noise or of a polish
        self.hasty: set[str] = set()
        self.folder = Path.home()  # of the last file dialog
        self.polishes: dict[str, Polish] = {}
        self.temporary: tempfile.TemporaryDirectory[str] | None = None  # for checkpoints
        self.axes: WeakKeyDictionary[Layer, str] = WeakKeyDictionary()
        self.noises: WeakKeyDictionary[Layer, str] = WeakKeyDictionary()
        # the last noise checks of each layer, by channel; that of None is of all channels
        self.checks: WeakKeyDictionary[Layer, dict[int | None, NoiseCheck]] = WeakKeyDictionary()
        # the denoised layers of each layer
        self.results: WeakKeyDictionary[Layer, WeakSet[Layer]] = WeakKeyDictionary()
        # the name of the model that each layer was denoised with last, or that learned from it
        self.model_of: WeakKeyDictionary[Layer, str] = WeakKeyDictionary()
        # layers whose files were looked into, and what waits for those being looked into
        self.looked_up: WeakSet[Layer] = WeakSet()
        self.lookups: WeakKeyDictionary[Layer, list[Callable[[], None]]] = WeakKeyDictionary()

    def add_model(self, model: ScoreModel, name: str, layer: Layer | None = None) -> str:
        """Add a model, and return its name, with a number added if the name is taken.

        Parameters
        ----------
        model : ScoreModel
            The model.
        name : str
            The name to be shown.
        layer : napari.layers.Layer, optional
            The layer that it learned from in this session; from now on it is that layer's model.
        """
        base, number = name or "model", 2
        name = base
        while name in self.models:
            name, number = f"{base} ({number})", number + 1
        self.models[name] = model
        if layer is not None:
            self.model_of[layer] = name
        self.models_changed.emit(name, layer)
        return name


session = Session()

IMPORT_DELAY = 100  # milliseconds, after which the dock is drawn
_devices: list[str] = []


def when_ready(callback: Callable[[list[str]], None]) -> None:
    """Import torch in the background, which takes seconds, then call back.

    Parameters
    ----------
    callback : callable
        Called on the window's thread with the names of the devices that a network can run on.
    """
    if _devices:
        callback(_devices)
        return
    worker = create_worker(_load, _start_thread=False)
    worker.returned.connect(callback)
    # after the dock is drawn, as an import holds the interpreter lock
    QTimer.singleShot(IMPORT_DELAY, worker.start)


def _load() -> list[str]:
    """Import torch, and what the first jobs need, so that no click waits for it."""
    with imports():
        _load_library()
        import torch
        import torch._dynamo  # by the first optimizer

        from .. import noise  # noqa: F401
        from ..denoising import jobs, live  # noqa: F401
        from ..estimation import estimate, noise_check  # noqa: F401
        from ..score import training  # noqa: F401
        from . import _check_plots, _loss_plot  # noqa: F401

    found = ["auto", "cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    _devices[:] = found
    return found


def _load_library() -> None:
    """Load the largest of torch's libraries without holding the interpreter lock.

    An import holds the lock, and freezes the window for a fifth of a second.
    """
    spec = importlib.util.find_spec("torch")
    if "torch" in sys.modules or spec is None or spec.origin is None or sys.platform == "win32":
        return
    ending = "dylib" if sys.platform == "darwin" else "so"
    library = Path(spec.origin).parent / "lib" / f"libtorch_cpu.{ending}"
    load = ctypes.CDLL(None).dlopen  # ctypes releases the lock during a call
    load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    load(os.fsencode(library), os.RTLD_LAZY)  # if it fails, the import raises the reason
