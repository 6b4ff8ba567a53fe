"""Controls that several docks use: the layer with its axes, the model, the device."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari.layers
from magicgui.widgets import ComboBox
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from ..errors import UserError
from ..image.axes import parse_axes
from ._file_facts import when_known
from ._layers import check_layer, describe, is_preview, layer_axes, layer_data
from ._session import session, when_ready
from ._work import Failure, report, start

if TYPE_CHECKING:
    from ..score.model import ScoreModel

MODEL_FILES = "Models (*.n2s)"


class LayerChooser(QObject):
    """Choose an image layer of the viewer, and show or edit its axes.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose layers are offered.
    rows : QFormLayout
        The form that the controls are added to, shared by all controls of a dock.
    """

    changed = Signal(object)  # the layer, or None
    axes_changed = Signal(str)
    removed = Signal(object)  # a layer that left the viewer

    def __init__(self, viewer: napari.viewer.Viewer, rows: QFormLayout):
        super().__init__(rows.parentWidget())
        self._viewer = viewer
        self._layer = ComboBox(choices=self._choices, nullable=False)
        self._layer.native.setToolTip("The image layer to work on.")
        self._axes = QLineEdit()
        self._axes.setPlaceholderText("one letter for each dimension, such as TZYX")
        self._axes.setToolTip(
            "What each dimension of the image means, in order: T time, C channel, Z depth, "
            "Y rows, X columns, S samples that have nothing to do with each other. Taken from the "
            "layer's axis labels, or else from its file, where they say it; otherwise type the "
            "letters here."
        )
        self._sizes = QLabel()
        self._sizes.setToolTip("Number of pixels along each axis.")
        rows.addRow("Layer", self._layer.native)
        rows.addRow("Axes", self._axes)
        rows.addRow("", self._sizes)
        self._layer.changed.connect(self._show_layer)
        self._axes.textChanged.connect(self._show_sizes)
        self._axes.textChanged.connect(self.axes_changed)
        self._axes.textEdited.connect(self._remember)
        session.axes_typed.connect(self._follow_axes)
        for event in ("inserted", "removed", "reordered", "renamed"):
            getattr(viewer.layers.events, event).connect(self._refresh)
        viewer.layers.events.removed.connect(self._emit_removed)
        self._prefer_visible()
        self._show_layer()

    @property
    def layer(self) -> napari.layers.Image | None:
        """The chosen layer, None if the viewer has no image."""
        return self._layer.value

    @property
    def axes(self) -> str:
        """The axes as typed, valid or not."""
        return self._axes.text()

    def set_layer(self, layer: napari.layers.Image) -> None:
        """Choose a layer."""
        self._layer.value = layer

    def image(self) -> tuple[Any, str]:
        """Return the array of the chosen layer and its checked axes.

        Returns
        -------
        data : array-like
            The pixels, at full resolution.
        axes : str
            One letter of ``STCZYX`` for each dimension.

        Raises
        ------
        UserError
            If there is no layer, or the axes are missing or do not fit it.
        """
        layer = check_layer(self.layer)
        data = layer_data(layer)
        if not self._axes.text().strip():
            raise UserError(
                f"'{layer.name}' does not say what its {data.ndim} dimensions are: fill in "
                "Axes with one letter of T, C, Z, Y, X for each"
            )
        return data, parse_axes(self._axes.text(), data.ndim)

    def _choices(self, _widget: Any) -> list[napari.layers.Image]:
        images = (x for x in self._viewer.layers if isinstance(x, napari.layers.Image))
        return [image for image in images if not is_preview(image)]

    def _refresh(self, _event: Any = None) -> None:
        if isalive(self):  # the viewer may outlive its window
            self._layer.reset_choices()
            self._prefer_visible()
            if self.layer is None:
                self._show_layer()  # the box itself emits nothing when it becomes empty

    def _prefer_visible(self) -> None:
        """Choose a visible layer instead of a hidden one that the user did not choose."""
        if self.layer is not None and self.layer.visible:
            return
        visible = [layer for layer in self._choices(None) if layer.visible]
        if visible:
            active = self._viewer.layers.selection.active
            self._layer.value = active if active in visible else visible[-1]

    def _emit_removed(self, event: Any) -> None:
        if isalive(self):
            self.removed.emit(event.value)

    def _show_layer(self, _layer: Any = None) -> None:
        layer = self.layer
        self._axes.setEnabled(layer is not None)
        if layer is None:
            self._axes.clear()
        else:
            self._axes.setText(session.axes.get(layer) or layer_axes(layer))
        self._show_sizes()
        self.changed.emit(layer)
        if layer is not None:
            when_known(self._viewer, layer, lambda: self._take_axes(layer))

    def _take_axes(self, layer: napari.layers.Image) -> None:
        """Show the axes that a layer has from its file, unless a person typed others."""
        if isalive(self) and layer is self.layer and layer not in session.axes:
            self._axes.setText(layer_axes(layer))

    def _show_sizes(self) -> None:
        layer = self.layer
        text = describe(layer, self._axes.text().strip()) if layer else "no image layer"
        self._sizes.setText(text)

    def _remember(self, axes: str) -> None:
        if self.layer is not None:
            session.set_axes(self.layer, axes)

    def _follow_axes(self, layer: Any) -> None:
        if layer is self.layer and session.axes[layer] != self._axes.text():
            self._axes.setText(session.axes[layer])


class ModelChooser(QWidget):
    """Choose a model of this session, load one from a file, save one to a file."""

    changed = Signal(str)  # the name

    def __init__(self) -> None:
        super().__init__()
        self._models = QComboBox()
        self._models.setToolTip("The models that were trained or loaded since napari started.")
        self._models.setPlaceholderText("none yet")
        self._models.setAccessibleName("Model")
        # a long name must not widen the dock
        self._models.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._save = QPushButton("Save…")
        self._save.setToolTip("Write the chosen model to a file (.n2s).")
        self._load = QPushButton("Load…")
        self._load.setToolTip("Read a model from a file (.n2s).")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._models, stretch=1)
        row.addWidget(self._save)
        row.addWidget(self._load)
        self._save.clicked.connect(self._ask_save)
        self._load.clicked.connect(self._ask_load)
        self._models.currentTextChanged.connect(self.changed)
        session.models_changed.connect(self._refresh)
        self._refresh(next(reversed(session.models), ""))

    @property
    def name(self) -> str:
        """Name of the chosen model, empty if there is none."""
        return self._models.currentText()

    def choose(self, name: str) -> None:
        """Choose a model by its name."""
        self._models.setCurrentText(name)

    def model(self) -> ScoreModel:
        """Return the chosen model, or raise `UserError` if there is none."""
        if self.name not in session.models:
            raise UserError("there is no model yet: train one in the Train dock, or load one")
        return session.models[self.name]

    def _refresh(self, name: str) -> None:
        with QSignalBlocker(self._models):
            self._models.clear()
            self._models.addItems(list(session.models))
            self._models.setCurrentText(name)
        self.changed.emit(name)
        self._save.setEnabled(bool(session.models))

    def _ask_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save model", f"{self.name}.n2s", MODEL_FILES)
        if path:
            self.save(path)

    def _ask_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load model", "", MODEL_FILES)
        if path:
            self.load(path)

    def save(self, path: str) -> None:
        """Write the chosen model to a file, in the background."""
        if not path.endswith(".n2s"):
            path += ".n2s"
        self._worker = start(_save(self.model(), path), yielded=self._add, returned=self._report)

    def load(self, path: str) -> None:
        """Read a model from a file, in the background, and choose it."""
        self._load.setEnabled(False)
        self._worker = start(
            _load(path), yielded=self._add, returned=self._report, finished=self._loaded
        )

    def _add(self, loaded: list[tuple[ScoreModel, str]]) -> None:
        for model, name in loaded:
            session.add_model(model, name)

    def _loaded(self) -> None:
        self._load.setEnabled(True)

    def _report(self, failure: Failure | None) -> None:
        if failure is not None:
            report(failure.error)


def _load(path: str) -> Generator[tuple[ScoreModel, str], None, None]:
    from ..score.model import ScoreModel

    model = ScoreModel.load(path)
    session.files[model.fingerprint] = Path(path)
    yield model, Path(path).stem


def _save(model: ScoreModel, path: str) -> Generator[tuple[ScoreModel, str], None, None]:
    model.save(path)
    session.files[model.fingerprint] = Path(path)
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
