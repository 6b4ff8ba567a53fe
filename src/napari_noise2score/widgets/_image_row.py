"""Choose the image layer to work on, and show or edit what its dimensions mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import napari.layers
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QSignalBlocker, Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLineEdit

from ..errors import UserError
from ..image.axes import parse_axes
from ._eliding import ElidingComboBox
from ._file_facts import when_known
from ._layers import (
    check_layer,
    describe,
    describe_pixel,
    is_preview,
    is_result,
    layer_axes,
    layer_data,
)
from ._message import Message, WrappedLabel
from ._session import session
from ._source import Source

if TYPE_CHECKING:
    import napari.viewer

NO_LAYER = "no image layer"


class ImageRow(QObject):
    """Choose an image layer of the viewer, and show or edit its axes.

    It follows the layer that is selected in the viewer, unless that is a result or a preview.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose layers are offered.
    rows : QFormLayout
        The form that the controls are added to.
    """

    changed = Signal(object)  # the layer, or None
    axes_changed = Signal(str)
    removed = Signal(object)  # a layer that left the viewer

    def __init__(self, viewer: napari.viewer.Viewer, rows: QFormLayout):
        super().__init__(rows.parentWidget())
        self._viewer = viewer
        self._layers: list[napari.layers.Image] = []  # that the box offers
        self._chosen: napari.layers.Image | None = None
        self._picked: napari.layers.Image | None = None  # the one that a person selected
        self._box = ElidingComboBox()
        self._box.setToolTip("The image layer to work on. It follows the layer that is selected.")
        self._axes = QLineEdit()
        self._axes.setPlaceholderText("such as TZYX")
        self._axes.setFixedWidth(92)
        self._axes.setToolTip(
            "What each dimension of the image means, in order: T time, C channel, Z depth, "
            "Y rows, X columns, S samples that have nothing to do with each other. Taken from the "
            "layer's axis labels, or else from its file, where they say it; otherwise type the "
            "letters here."
        )
        self._sizes = WrappedLabel()
        self._sizes.setToolTip(
            "Number of pixels along each axis, and the size of a pixel along X, from the layer or "
            "its file."
        )
        self._message = Message(viewer, "What must be known about the image before it is denoised.")
        axes_row = QHBoxLayout()
        axes_row.addWidget(self._axes)
        axes_row.addWidget(self._sizes, stretch=1)
        rows.addRow("Layer", self._box)
        rows.addRow("Axes", axes_row)
        rows.addRow(self._message)
        self._box.currentIndexChanged.connect(self._choose_listed)
        self._axes.textChanged.connect(self._show_sizes)
        self._axes.textChanged.connect(self.axes_changed)
        self._axes.textEdited.connect(self._remember)
        for event in ("inserted", "removed", "reordered", "renamed"):
            getattr(viewer.layers.events, event).connect(self._refresh)
        viewer.layers.events.removed.connect(self._emit_removed)
        viewer.layers.selection.events.active.connect(self._follow_selected)
        self._refresh()

    @property
    def layer(self) -> napari.layers.Image | None:
        """The chosen layer, None if the viewer has no image."""
        return self._chosen

    @property
    def axes(self) -> str:
        """The axes as typed, valid or not."""
        return self._axes.text()

    def set_layer(self, layer: napari.layers.Image) -> None:
        """Choose a layer of the viewer."""
        if layer not in self._layers:
            self._list_layers()
        self._box.setCurrentIndex(self._layers.index(layer))

    def source(self) -> Source:
        """Return the chosen layer with its checked axes.

        Raises
        ------
        UserError
            If there is no layer, or the axes are missing or do not fit it.
        """
        layer = check_layer(self.layer)
        ndim = layer_data(layer).ndim
        if not self._axes.text().strip():
            raise UserError(
                f"'{layer.name}' does not say what its {ndim} dimensions are: fill in "
                "Axes with one letter of T, C, Z, Y, X for each"
            )
        return Source(layer, parse_axes(self._axes.text(), ndim))

    def selected(self) -> list[Source]:
        """Return the image layers that are selected in the viewer, apart from the chosen one.

        Raises
        ------
        UserError
            If one of them does not name its axes.
        """
        found = []
        for layer in self._layers:
            if layer is self._chosen or is_result(layer):
                continue
            if layer in self._viewer.layers.selection:
                axes = session.axes.get(layer) or layer_axes(layer)
                if not axes:
                    raise UserError(
                        f"'{layer.name}' does not say what its dimensions are: select it alone, "
                        "and fill in Axes"
                    )
                found.append(Source(layer, parse_axes(axes, layer_data(layer).ndim)))
        return found

    def fail(self, error: UserError) -> None:
        """Show what is wrong below the axes, until the layer or its axes change."""
        self._message.fail(error)

    def _list_layers(self) -> None:
        """Offer the image layers that there are now."""
        images = [x for x in self._viewer.layers if isinstance(x, napari.layers.Image)]
        self._layers = [image for image in images if not is_preview(image)]
        with QSignalBlocker(self._box):
            self._box.clear()
            self._box.addItems([layer.name for layer in self._layers])
            known = self._chosen in self._layers
            self._box.setCurrentIndex(self._layers.index(self._chosen) if known else -1)

    def _refresh(self, _event: Any = None) -> None:
        """Offer the layers that there are now, and choose another if the chosen one is gone."""
        if not isalive(self):  # the viewer may outlive its window
            return
        self._list_layers()
        chosen = self._chosen
        kept = chosen is not None and chosen in self._layers
        if chosen is not None and kept and (chosen.visible or chosen is self._picked):
            return
        active = self._viewer.layers.selection.active
        # a hidden layer was not chosen by a person, nor was a result
        images = [x for x in self._layers if x.visible and not is_result(x)]
        if images:
            self.set_layer(next((x for x in images if x == active), images[-1]))
        elif chosen not in self._layers:
            self._choose(self._layers[-1] if self._layers else None)

    def _choose_listed(self, index: int) -> None:
        self._choose(self._layers[index] if 0 <= index < len(self._layers) else None)

    def _choose(self, layer: napari.layers.Image | None) -> None:
        if layer is not self._chosen or layer is None:
            self._chosen = layer
            self._list_layers()
            self._show_layer()

    def _follow_selected(self, _event: Any = None) -> None:
        """Choose the layer that is selected in the viewer, if it is an image to be denoised."""
        if not isalive(self):
            return
        active = self._viewer.layers.selection.active
        # a viewer that napari passes to a dock wraps its layers
        images = (x for x in self._viewer.layers if isinstance(x, napari.layers.Image))
        chosen = next((x for x in images if x == active), None)
        if chosen is not None and not is_result(chosen) and not is_preview(chosen):
            self._picked = chosen
            self.set_layer(chosen)

    def _emit_removed(self, event: Any) -> None:
        if isalive(self):
            self.removed.emit(event.value)

    def _show_layer(self) -> None:
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
        axes = self._axes.text().strip()
        text = NO_LAYER
        if layer is not None:
            pixel = describe_pixel(layer).replace(" ", "\N{NO-BREAK SPACE}")
            text = ", ".join(filter(None, (describe(layer, axes), pixel)))
        self._sizes.setText(text)
        complaint = ""
        if layer is not None and axes:
            try:
                parse_axes(axes, layer_data(layer).ndim)
            except UserError as error:
                complaint = str(error)
        result = layer is not None and is_result(layer)
        if complaint or not result:
            self._message.say(complaint, "error")
        else:
            self._message.say("This layer is a result: it was denoised already.", "warning")

    def _remember(self, axes: str) -> None:
        if self.layer is not None:
            session.axes[self.layer] = axes
