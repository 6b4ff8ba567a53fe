"""A tick box for the live preview, and buttons that compare before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from ._divider import Divider
from ._message import WrappedLabel
from ._session import session

if TYPE_CHECKING:
    import napari.viewer

    from ._preview import Preview

LIVE = (
    "Show the current plane denoised, as a separate layer, while you choose the noise and while "
    "the network learns. Each new plane takes a moment; after that every change of the noise shows "
    "at once."
)


class PreviewRow(QWidget):
    """Turn the live preview on and off, and compare preview and results with the image.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer with the layers.
    preview : Preview
        The live preview.

    Attributes
    ----------
    live : QCheckBox
        Whether there is a preview.
    split : QPushButton
        Whether a divider on the canvas separates the image from what is denoised.
    before : QPushButton
        Whether the image is seen in place of its preview and its results.
    """

    def __init__(self, viewer: napari.viewer.Viewer, preview: Preview):
        super().__init__()
        self._viewer, self._preview = viewer, preview
        self._source: Any = None  # the image
        self._hidden: list[tuple[Any, float]] = []  # layers that are transparent, their opacity
        self._dropped = False  # a person removed the preview of the image
        self.live = QCheckBox("&Live preview")
        self.live.setChecked(True)
        self.live.setToolTip(LIVE)
        self.before = QPushButton("&Before")
        self.before.setCheckable(True)
        self.before.setToolTip(
            "Show the original image; press again to show it denoised. Alt+B flips, too."
        )
        self.split = QPushButton("Sp&lit")
        self.split.setCheckable(True)
        self.split.setToolTip(
            "Show the original image on the left of a line, and the denoised one on its right: "
            "drag the line across the picture."
        )
        self._divider = Divider(viewer, self, self._after)
        self.status = WrappedLabel()
        self.status.setToolTip("Why there is no preview, or how far it is.")
        self.status.hide()
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        rows.addLayout(row)
        rows.addWidget(self.status)
        row.addWidget(self.live)
        row.addStretch()
        row.addWidget(self.split)
        row.addWidget(self.before)
        self.split.toggled.connect(self._divider.show)
        self.before.toggled.connect(self._flip)
        preview.added.connect(self._follow)
        preview.eye.connect(self.before.toggle)
        preview.status_changed.connect(self._say)
        preview.removed.connect(self._drop)
        for event in ("inserted", "removed"):
            getattr(viewer.layers.events, event).connect(self._offer)
        self._offer()

    def show_layer(self, layer: Any) -> None:
        """Compare another image; a preview that was removed from the last one returns."""
        if layer is not self._source:
            self.before.setChecked(False)
            self._source = layer
            if self._dropped:
                self._dropped = False
                self.live.setChecked(True)
        self._offer()

    def close_divider(self) -> None:
        """Remove the divider from the canvas, as the dock is closed."""
        self.split.setChecked(False)
        self._divider.close()

    def show_after(self) -> None:
        """Show what is denoised."""
        self.before.setChecked(False)
        self._offer()

    def _after(self) -> list[Any]:
        """Return the layers that show the image denoised."""
        results = session.results.get(self._source, ()) if self._source is not None else ()
        preview = self._preview.layer
        return [x for x in self._viewer.layers if x is preview or x in results]

    def _flip(self, before: bool) -> None:
        if before:
            self._hidden = [(layer, layer.opacity) for layer in self._after()]
        for layer, opacity in self._hidden:
            layer.opacity = 0 if before else opacity
        if not before:
            self._hidden = []

    def _offer(self, _event: Any = None) -> None:
        if isalive(self):  # the viewer may outlive its window
            there = bool(self._after())
            self.before.setEnabled(there or self.before.isChecked())
            self.split.setEnabled(there or self.split.isChecked())
            self._divider.update()

    def _say(self, text: str) -> None:
        self.status.setText(text)
        self.status.setVisible(bool(text))
        self._offer()

    def _drop(self) -> None:
        self._dropped = True
        self.live.setChecked(False)

    def _follow(self) -> None:
        self.before.setChecked(False)
        self._offer()
