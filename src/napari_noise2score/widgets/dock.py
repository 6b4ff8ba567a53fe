"""The dock: an image, one button, its noise, and sections that are folded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QFormLayout,
    QFrame,
    QPushButton,
    QScrollArea,
    QScrollBar,
    QVBoxLayout,
    QWidget,
)

from ..errors import UserError
from ._check_section import CheckSection
from ._closing import Closing
from ._collector import closed, opened
from ._control_names import name_controls
from ._file_facts import when_known
from ._flow import Flow
from ._folder_section import FolderSection
from ._image_row import ImageRow
from ._job_bar import JobBar
from ._layers import channel_names, is_result
from ._model_section import ModelSection
from ._noise_section import NoiseSection
from ._preview import Preview, Wish
from ._preview_row import PreviewRow
from ._protocol_actions import ProtocolActions
from ._result_section import ResultSection
from ._session import session
from ._source import Source

if TYPE_CHECKING:
    import napari.viewer

DENOISE, ENOUGH = "&Denoise", "&Denoise with what is learned"
START = "Press Denoise: the noise is estimated, the network learns, and the result is added."

HASTY = (
    "Whether a polish pays is said once the network has learned for longer (Resume under Model)."
)


class DenoiseDock(QWidget):
    """Denoise an image layer: everything that the plugin does, from top to bottom.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are offered, and that shows the results.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer):
        super().__init__()
        self._viewer = napari_viewer
        rows = self._scrolled()
        form = QFormLayout()
        rows.addLayout(form)
        self._image = ImageRow(napari_viewer, form)
        self._job = JobBar(napari_viewer)
        self._denoise = QPushButton(DENOISE)
        self._denoise.setToolTip(
            "Add the denoised layer. What is missing is done first: the noise is estimated (some "
            "seconds) and the network learns from the layer (some minutes, see Model); later "
            "presses use them again. While it learns, press again to use what is learned so far."
        )
        self._denoise.setDefault(True)
        self._job.buttons.insertWidget(0, self._denoise, stretch=1)
        self._job.set_stop_tip(
            "Stop the job. A network keeps what it has learned; an unfinished file can be finished "
            "later by choosing the same name again."
        )
        self._job.say(START)
        rows.addWidget(self._job)
        self._preview = Preview(napari_viewer, self)
        self._row = PreviewRow(napari_viewer, self._preview)
        rows.addWidget(self._row)
        self._noise = NoiseSection(napari_viewer, self._job)
        rows.addWidget(self._noise)
        self._check = CheckSection(napari_viewer, self._job)
        rows.addWidget(self._check)
        self._model = ModelSection(napari_viewer, self._job, lambda: self._noise.text)
        rows.addWidget(self._model)
        self._result = ResultSection(napari_viewer, self._job)
        rows.addWidget(self._result)
        self._folder = FolderSection(napari_viewer, self._job)
        rows.addWidget(self._folder)
        rows.addStretch()
        self._flow = Flow(self, self._job, self._noise, self._model, self._result)
        self._closing = Closing(self)
        self._actions = ProtocolActions(self, self._image, self._noise, self._model, self._result)
        self._working: Any = None  # the layer of the job that runs or ran last
        self._preview_began = 0.0  # on the clock of time.monotonic
        self._connect()
        self._show_layer(self._image.layer)

    def _scrolled(self) -> QVBoxLayout:
        """Return the rows of the dock, which scroll when unfolded sections need more space."""
        self._content = QWidget()
        self._area = QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setMinimumHeight(240)
        self._bar = QScrollBar()
        self._area.setVerticalScrollBar(self._bar)
        self._area.setWidget(self._content)
        self._content.installEventFilter(self)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._area)
        return QVBoxLayout(self._content)

    def _connect(self) -> None:
        self._denoise.clicked.connect(self.denoise)
        self._noise.estimate_button.clicked.connect(self.estimate)
        self._noise.refine_button.clicked.connect(self.refine)
        self._noise.form.family_picked.connect(self._refine_family)
        self._noise.on_polish(self._suggest_polish)
        self._check.start_button.clicked.connect(self.check)
        self._check.used.connect(self._noise.use)
        self._noise.form.channel_changed.connect(self._look_at_channel)
        self._model.train_button.clicked.connect(self.train)
        self._model.resume_button.clicked.connect(self.resume)
        self._folder.start_button.clicked.connect(self.denoise_folder)
        for button in (
            self._noise.estimate_button,
            self._noise.refine_button,
            self._check.start_button,
            self._folder.start_button,
            self._model.train_button,
        ):
            self._job.busy_changed.connect(button.setDisabled)
        self._job.busy_changed.connect(self._show_busy)
        self._job.progressed.connect(self._show_busy)
        self._image.changed.connect(self._show_layer)
        self._image.axes_changed.connect(self._show_axes)
        self._image.removed.connect(self._stop_if_removed)
        self._noise.changed.connect(self._show_preview)
        self._model.chooser.changed.connect(self._show_model)
        self._model.refreshed.connect(self._refresh_preview)
        self._model.device.currentTextChanged.connect(self._show_preview)
        self._row.live.toggled.connect(self._show_preview)
        self._result.ended.connect(self._preview.hide)  # so that the result is seen
        self._result.ended.connect(self._row.show_after)

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._job.busy

    def choose(self, layer: Any, model: str = "", noise: str = "") -> None:
        """Choose the layer to work on, and the model and the noise model if they are given."""
        self._image.set_layer(layer)
        if model:
            self._model.chooser.choose(model)
        if noise:
            self._noise.set_text(noise)

    def denoise(self) -> None:
        """Add the denoised layer, after what is missing for it; while learning, end that."""
        if self._job.busy:
            if self._model.learning:
                self._flow.finish()
            return
        self._begin(self._denoise_selected)

    def _denoise_selected(self, source: Source) -> None:
        """Denoise the chosen layer, and the other selected ones if a person wants that."""
        others = []
        if self._result.all_selected.isChecked():
            try:
                others = self._image.selected()
            except UserError as error:
                self._image.fail(error)
                return
        self._flow.denoise(source, others)

    def train(self) -> None:
        """Learn from the chosen layer."""
        self._begin(self._flow.train)

    def resume(self) -> None:
        """Continue the last training for the chosen time."""
        if self._model.begun is not None and not self._job.busy:
            self._working = self._model.begun.source.layer
            self._flow.resume()

    def estimate(self) -> None:
        """Estimate the noise model of the chosen layer in the background, and choose it."""
        model, device = self._model.chooser.model, self._model.device.currentText()
        self._begin(lambda source: self._noise.estimate(source, None, model=model, device=device))

    def refine(self) -> None:
        """Estimate the parameters of the chosen noise family in the background, and choose them."""
        keep = self._noise.form.text
        self._begin(lambda source: self._noise.estimate(source, None, keep=keep))

    def check(self) -> None:
        """Check the noise of the chosen layer in the background."""
        self._begin(self._check.check)

    def denoise_folder(self) -> None:
        """Denoise the files of a folder with the chosen model and noise model."""
        if self._job.busy:
            return
        self._working = None  # the job goes on without any layer
        chooser = self._model.chooser
        model = chooser.model
        self._folder.run(
            model and replace(model, name=chooser.name),
            self._noise.text,
            self._model.device.currentText(),
            self._image.axes.strip(),
        )

    def stop(self) -> None:
        """Ask the job to stop, if there is one, and remove the preview."""
        self._job.stop()
        self._row.show_after()
        self._preview.hide()

    def _begin(self, work: Callable[[Source], None]) -> None:
        """Start a job on the chosen layer, or say what is missing."""
        if self._job.busy:
            return

        def begin() -> None:
            if self._job.busy:
                return
            try:
                source = self._image.source()
            except UserError as error:
                self._image.fail(error)
                return
            self._working = source.layer
            work(source)

        layer = self._image.layer
        if layer is None:
            begin()
        else:  # its axes may still be read from its file
            when_known(self._viewer, layer, begin)

    def _refine_family(self) -> None:
        """Estimate the numbers of a family that a person chose, if no job is running."""
        if self._job.busy:
            self._noise.say_typical()
        elif self._image.layer is not None and self._image.axes.strip():
            self.refine()

    def _stop_if_removed(self, layer: Any) -> None:
        if layer is self._working:
            self.stop()
        self._model.offer_resume()

    def _show_busy(self, _state: Any = None) -> None:
        learning = self._model.learning and self._job.busy
        self._denoise.setText(ENOUGH if learning else DENOISE)
        ready = self._model.begun is not None and self._model.begun.last is not None
        self._denoise.setEnabled(not self._job.busy or (learning and ready))

    def _show_layer(self, layer: Any) -> None:
        """Show the noise, the check and the model of a layer."""
        self._row.show_layer(layer)
        self._noise.show_layer(layer)
        self._check.show_layer(layer)
        self._model.chooser.show_layer(layer)
        self._show_axes()

    def _show_axes(self, _axes: str = "") -> None:
        layer, axes = self._image.layer, self._image.axes.strip()
        self._model.settings.show_repeats(layer, axes)
        names = channel_names(layer, axes)
        self._noise.form.set_channels(names)
        self._check.set_channels(names)
        self._show_model()

    def _show_model(self, _name: str = "") -> None:
        opened = self.parent() is not None  # a dock that was closed leaves the layers alone
        if opened and not self._noise.text and (noise := self._model.chooser.noise):
            self._noise.set_text(noise)
        source = self._source()
        # to look at a lazy result would compute it
        self._model.compare(None if source is None or is_result(source.layer) else source)
        self._show_preview()

    def _suggest_polish(self, pays: bool, sentence: str) -> str:
        """Tick the polish if it pays; a network that hardly learned leaves more to a polish."""
        model = self._model.chooser.model
        if pays and model is not None and model.fingerprint in session.hasty:
            pays, sentence = False, HASTY
        self._result.suggest_polish(pays, sentence)
        return sentence

    def _look_at_channel(self) -> None:
        """Show the channel of the image whose noise is edited."""
        channel, layer = self._noise.form.channel.channel, self._image.layer
        at = self._image.axes.strip().upper().find("C")
        if channel is not None and layer is not None and 0 <= at < layer.ndim:
            shift = self._viewer.dims.ndim - layer.ndim
            self._viewer.dims.set_current_step(at + shift, channel)

    def _source(self) -> Source | None:
        try:
            return self._image.source()
        except UserError:
            return None

    def _show_preview(self, _changed: Any = None) -> None:
        """Show the preview for the current settings, or hide it if they are incomplete."""
        source, noise = self._source(), self._noise.text
        found = self._model.model_for(source.layer) if source is not None else None
        # a result is not chosen by a person: it took the place of a removed layer
        shown = self._row.live.isChecked() and self.parent() is not None
        if source is None or found is None or not noise or is_result(source.layer) or not shown:
            self._preview.hide()
            return
        model, name = found
        device = self._model.device.currentText()
        self._preview.show(Wish(source.layer, source.axes, model, name, noise, device))

    def _refresh_preview(self) -> None:
        """Show what the network has learned by now, unless the last preview is not there yet."""
        if self._preview.busy:  # on a large plane, leave most of the time to training
            self._model.delay_preview(3 * (time.monotonic() - self._preview_began))
        else:
            self._preview_began = time.monotonic()
            self._show_preview()

    def changeEvent(self, event: Any) -> None:
        """Name the controls when the dock is opened, and stop the job when it is closed.

        napari sets the parent of the widget when it opens the dock, and removes it when it closes
        it.
        """
        super().changeEvent(event)
        if event.type() != QEvent.Type.ParentChange:
            return
        if self.parent() is None:
            self.stop()
            self._row.close_divider()
            closed(self)
        else:
            name_controls(self)
            self._closing.watch()
            opened(self)
            self._show_model()

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Make the dock wide enough for all controls, as it does not scroll sideways.

        The controls grow when napari applies its style, which is after the dock is first shown.
        """
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.Show):
            width = self._content.minimumSizeHint().width() + self._bar.sizeHint().width()
            self._area.setMinimumWidth(width + 2 * self._area.frameWidth())
        return super().eventFilter(watched, event)
