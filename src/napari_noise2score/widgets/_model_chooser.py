"""Choose the model that denoises: learn a new one, or one of this session or of a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QPushButton, QWidget

from ..errors import UserError
from ..noise.parse import parse_noise
from ._eliding import ElidingComboBox
from ._kept_models import NOISE, Kept, forget, kept_models
from ._session import session, when_ready
from ._work import Failure, start
from ._write import valid_name

if TYPE_CHECKING:
    from ..score.model import ScoreModel

MODEL_FILES = "Models (*.n2s)"
NEW = "learn from this layer"


class ModelChooser(QWidget):
    """Choose to learn a new model, or one of this session; load one from a file, save one.

    Parameters
    ----------
    noise : callable
        Returns the noise model to be kept in the file of a model, empty if none is known.
    """

    changed = Signal(str)  # the name, empty for a new model
    failed = Signal(object)  # the error that a file gave

    def __init__(self, noise: Callable[[], str]):
        super().__init__()
        self._noise = noise
        self._layer: Any = None
        # the model that a person loaded or chose; it also serves layers without one of their own
        self._picked = next(reversed(session.models), "")
        self._models = ElidingComboBox()
        self._models.setToolTip(
            "What denoises: a model that is learned from this layer, or one that was learned or "
            "loaded since napari started."
        )
        self._models.setAccessibleName("Model")
        self._save = QPushButton("Save…")
        self._save.setToolTip(
            "Write the chosen model to a file (.n2s), together with the noise model of the layer."
        )
        self._load = QPushButton("Load…")
        self._load.setToolTip("Read a model from a file (.n2s).")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._models, stretch=1)
        row.addWidget(self._save)
        row.addWidget(self._load)
        self._save.clicked.connect(self._ask_save)
        self._load.clicked.connect(self._ask_load)
        self._models.activated.connect(self._pick)
        self._models.currentIndexChanged.connect(self._remember)
        session.models_changed.connect(self._add_choice)
        self._fill(self._picked)

    @property
    def name(self) -> str:
        """Name of the chosen model, empty if a new one is to be learned."""
        chosen = self._models.currentData()
        return chosen if isinstance(chosen, str) else ""

    @property
    def model(self) -> ScoreModel | None:
        """The chosen model, None if a new one is to be learned."""
        return session.models.get(self.name)

    @property
    def noise(self) -> str:
        """The noise model that the chosen model was saved with, empty if there is none."""
        model = self.model
        text = model.provenance.get(NOISE, "") if model is not None else ""
        # a model file must not make this program read another file
        if not isinstance(text, str) or "file" in text or "map" in text:
            return ""
        with contextlib.suppress(UserError):
            return str(parse_noise(text))
        return ""

    def choose(self, name: str) -> None:
        """Choose a model by its name; an empty name, to learn a new one."""
        self._models.setCurrentIndex(max(0, self._models.findData(name)))

    def show_layer(self, layer: Any) -> None:
        """Choose the model that belongs to a layer, or else the one that a person picked."""
        self._layer = None  # what is chosen now is not a choice for the new layer
        own = session.model_of.get(layer) if layer is not None else None
        self.choose(self._picked if own is None else own)
        self._layer = layer
        self._remember()

    def _pick(self, _index: int) -> None:
        chosen = self._models.currentData()
        if isinstance(chosen, Kept):
            self.load(str(chosen.path), chosen.name)
        else:
            self._picked = self.name

    def _remember(self, _index: int = 0) -> None:
        """Keep the choice as that of the layer."""
        if self._layer is not None:
            if self.name:
                session.model_of[self._layer] = self.name
            else:
                session.model_of.pop(self._layer, None)
        self._save.setEnabled(bool(self.name))
        self.changed.emit(self.name)

    def _add_choice(self, name: str, layer: Any) -> None:
        """Offer a new model, and choose it unless it was learned from another layer."""
        if layer is None:
            self._picked = name
        self._fill(name if layer is None or layer is self._layer else self.name)

    def _fill(self, name: str) -> None:
        with QSignalBlocker(self._models):
            self._models.clear()
            self._models.addItem(NEW, "")
            for known in session.models:
                self._models.addItem(known, known)
            for kept in kept_models():
                self._models.addItem(kept.title, kept)
            self.choose(name)
        self._remember()

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save model", str(session.folder / f"{valid_name(self.name)}.n2s"), MODEL_FILES
        )
        if path:
            session.folder = Path(path).parent
            self.save(path)

    def _ask_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load model", str(session.folder), MODEL_FILES)
        if path:
            session.folder = Path(path).parent
            self.load(path)

    def save(self, path: str) -> None:
        """Write the chosen model to a file, in the background."""
        if not path.endswith(".n2s"):
            path += ".n2s"
        model = self.model
        if model is None:
            return
        if noise := self._noise():
            model = replace(model, provenance={**model.provenance, NOISE: noise})
        self._worker = start(_save(model, path), yielded=self._add, returned=self._report)

    def load(self, path: str, name: str = "") -> None:
        """Read a model from a file, in the background, and choose it.

        Parameters
        ----------
        path : str
            The file.
        name : str
            The name of a model that was kept in this file without being saved by a person.
        """
        self._load.setEnabled(False)
        self._worker = start(
            _load(path, name), yielded=self._add, returned=self._report, finished=self._loaded
        )

    def _add(self, loaded: list[tuple[ScoreModel, str]]) -> None:
        for model, name in loaded:
            session.add_model(model, name)

    def _loaded(self) -> None:
        self._load.setEnabled(True)

    def _report(self, failure: Failure | None) -> None:
        if failure is not None:
            self.failed.emit(failure.error)


def _load(path: str, name: str) -> Generator[tuple[ScoreModel, str], None, None]:
    from ..score.model import ScoreModel

    model = ScoreModel.load(path)
    (session.kept if name else session.files)[model.fingerprint] = Path(path)
    yield model, name or Path(path).stem


def _save(model: ScoreModel, path: str) -> Generator[tuple[ScoreModel, str], None, None]:
    model.save(path)
    session.files[model.fingerprint] = Path(path)
    forget(model)
    yield from ()


class DeviceChooser(QComboBox):
    """Choose the device that the network runs on."""

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip(
            "What the network runs on: auto uses a graphics card if there is one; cpu is the "
            "processor."
        )
        self.addItems(["auto", "cpu"])
        when_ready(self._fill)

    def _fill(self, devices: list[str]) -> None:
        for device in devices:
            if self.findText(device) < 0:
                self.addItem(device)
