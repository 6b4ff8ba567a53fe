"""The Noise check dock: compare the noise of a layer with a noise model."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QVBoxLayout, QWidget

from ..errors import UserError
from ..progress import Progress
from ._dock import Dock
from ._layers import known_noise
from ._session import session
from ._work import report

if TYPE_CHECKING:
    import napari.layers
    import napari.viewer

    from ..estimation.goodness_of_fit import NoiseCheck
    from ._check_plots import CheckPlots

PLUGIN = "napari-noise2score"


class CheckWidget(Dock):
    """Check whether a noise model explains the noise of an image layer.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer whose layers are offered.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer):
        super().__init__(napari_viewer)
        self._check: NoiseCheck | None = None  # what is shown
        self._checked: Any = None  # the layer it is of
        self._which = QComboBox()
        self._which.addItems(["found in the layer", "chosen for the layer"])
        self._which.setToolTip(
            "Which noise model to check: the one that fits the layer best, or the one that was "
            "chosen for it in the Denoise dock."
        )
        self._residual = QComboBox()
        self._residual.setToolTip(
            "What is searched for structure that noise does not have: the image itself (the "
            "difference of successive frames, or its flat areas), or the residual of denoising "
            "with a trained model."
        )
        self._start = QPushButton("Check")
        self._start.setToolTip(
            "Measure the noise of the layer and compare it with the model. This takes some "
            "seconds; the layer is not changed."
        )
        self._verdict = QLabel()
        self._numbers = QLabel()
        for label in (self._verdict, self._numbers):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._numbers.setToolTip(
            "The part of the noise that the model explains: 1 if its variance is right at every "
            "intensity. Then the strongest correlation between neighbouring pixels that the "
            "model does not include: 0 if there is none. Both are without unit."
        )
        self._plots: CheckPlots | None = None  # as long as there is nothing to be plotted
        self._use = QPushButton("Use this model")
        self._use.setToolTip("Open the Denoise dock with this layer and this noise model.")
        self._job.set_stop_tip("Stop checking.")
        self._job.say("Choose a layer and the noise model to check.")
        self._arrange()
        self._start.clicked.connect(self.check)
        self._use.clicked.connect(self.use)
        self._job.progressed.connect(self._show_progress)
        self._job.ended.connect(self._show)
        self._job.busy_changed.connect(self._start.setDisabled)
        self._layer.changed.connect(self._forget)
        session.models_changed.connect(self._offer_models)
        self._offer_models()

    def _arrange(self) -> None:
        self._settings.addRow("Noise", self._which)
        self._settings.addRow("Residual of", self._residual)
        self._rows.addWidget(self._start)
        self._rows.addWidget(self._job)
        self._results = QWidget()
        results = QVBoxLayout(self._results)
        results.setContentsMargins(0, 0, 0, 0)
        results.addWidget(self._verdict)
        results.addWidget(self._numbers)
        self._plot_row = QVBoxLayout()
        results.addLayout(self._plot_row, stretch=1)
        results.addWidget(self._use)
        self._results.hide()
        self._rows.addWidget(self._results, stretch=1)
        self._rows.addStretch()

    def check(self) -> None:
        """Check the noise of the chosen layer in the background."""
        if self._job.busy:
            return
        try:
            data, axes = self._layer.image()
            noise = _chosen_noise(self._layer.layer) if self._which.currentIndex() else None
        except UserError as error:
            report(error)
            return
        self._check, self._source = None, self._layer.layer
        self._job.say("Measuring the noise…")
        model = session.models.get(self._residual.currentData())
        self._job.run(_steps(data, axes, noise, model), f"Noise check of {self._source.name}")

    def use(self) -> None:
        """Open the Denoise dock with the layer and the noise model that are shown."""
        if self._check is None:
            return
        _, denoise = self._viewer.window.add_plugin_dock_widget(PLUGIN, "Denoise", tabify=True)
        denoise.choose(self._checked, noise=str(self._check.noise))

    def _show_progress(self, batch: Sequence[Any]) -> None:
        for news in batch:
            self._job.show_progress(news.fraction)
            self._check = news.result or self._check

    def _show(self, outcome: str) -> None:
        layer, self._source = self._source, None
        check = self._check
        if outcome != "done" or check is None or layer is not self._layer.layer:
            self._check = None
            self._results.hide()
            self._job.say("The noise was not checked.")
            return
        self._checked = layer
        self._job.say(_described(check))
        self._verdict.setText(f"<b>{check.verdict}</b>")
        self._numbers.setText(check.summary[0].upper() + check.summary[1:])
        if self._plots is None:
            from ._check_plots import CheckPlots

            self._plots = CheckPlots(self._viewer)
            self._plot_row.addWidget(self._plots)
        self._plots.show_check(check)
        self._results.show()

    def _forget(self, layer: napari.layers.Image | None) -> None:
        """Clear the results that belong to another layer."""
        if layer is not self._checked:
            self._check = self._checked = None
            self._results.hide()

    def _offer_models(self, _name: str = "") -> None:
        chosen = self._residual.currentData()
        self._residual.clear()
        self._residual.addItem("the image itself", "")
        for name in session.models:
            self._residual.addItem(f"denoising with '{name}'", name)
        self._residual.setCurrentIndex(max(0, self._residual.findData(chosen)))


def _chosen_noise(layer: napari.layers.Image) -> str:
    if noise := session.noises.get(layer) or known_noise(layer):
        return noise
    raise UserError(f"no noise was chosen for '{layer.name}' yet: choose one in the Denoise dock")


def _described(check: NoiseCheck) -> str:
    """Return which model was checked, and the confidence intervals of its parameters."""
    # a kernel that was measured has more digits than anyone reads
    noise = re.sub(r"\d+\.\d+(e-\d+)?", lambda number: f"{float(number[0]):.4g}", str(check.noise))
    text = f"Checked {noise}."
    if check.noise == check.found:
        ends = check.intervals.items()
        text += " 95 % intervals: " + ", ".join(f"{k} {a:.3g} to {b:.3g}" for k, (a, b) in ends)
    return text


def _steps(
    data: Any, axes: str, noise: str | None, model: Any
) -> Generator[Progress[NoiseCheck], None, None]:
    """Check a noise model, or the one that is estimated if there is none."""
    # imported here, on the background thread, as torch takes seconds
    from ..estimation.estimate import estimate_steps
    from ..estimation.noise_check import check_steps
    from . import _check_plots  # noqa: F401

    if noise is not None:
        yield from check_steps(data, noise, axes=axes, model=model)
        return
    for progress in estimate_steps(data, axes=axes, model=model, method="images"):
        check = None
        if (report := progress.result) is not None and (check := report.check) is None:
            raise UserError(report.check_error)
        yield Progress(progress.done, progress.total, result=check)
