"""The result: a layer, a lazy layer or a file, with or without polish and uncertainty."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

from napari.settings import get_settings
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QCheckBox, QHBoxLayout, QPushButton, QRadioButton

from ..errors import UserError
from ._denoise_jobs import POLISHING, denoise_all, denoise_lazily, with_polish
from ._fold import Fold
from ._layers import display_type, layer_axes, result_settings, spread_settings, store_settings
from ._message import Message
from ._session import session
from ._write import Result, Target, ask_where, suggestion, write

if TYPE_CHECKING:
    import napari.viewer

    from ..noise import NoiseModel
    from ..score.model import ScoreModel
    from ._job_bar import JobBar
    from ._source import Source

LAYER, LAZY, FILE = range(3)
KINDS = {
    "layer": "Denoise the whole layer in memory and add the result as a new layer.",
    "lazy layer": "Add a layer at once that denoises each plane when you first look at it, and "
    "keeps it: for images too large to denoise as a whole. This turns on napari's asynchronous "
    "rendering (Preferences, Experimental), so that the window does not freeze meanwhile.",
    "OME-Zarr file": "Denoise the whole layer into a file of any size, block by block, and add it "
    "as a new layer. To finish a job that was stopped or interrupted by a crash, choose the same "
    "name again.",
}


ONE_FILE = "a file holds the result of one layer: choose layer or lazy layer, or Folder below"


class Order(NamedTuple):
    """What kind of result a person asked for when pressing the button.

    Attributes
    ----------
    kind : int
        `LAYER`, `LAZY` or `FILE`.
    target : Target or None
        The file, for `FILE`.
    """

    kind: int
    target: Target | None = None


class ResultSection(Fold):
    """What becomes of the denoised image.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer that shows the result.
    job : JobBar
        Where it is computed.

    Attributes
    ----------
    polish, uncertainty, all_selected : QCheckBox
        Whether they are computed, and whether for all selected layers.
    copy_button, save_button, load_button : QPushButton
        They keep what was done, once the dock connects them.
    protocol : Message
        What these buttons did.
    """

    ended = Signal()  # the result was added as a layer, or will not be

    def __init__(self, viewer: napari.viewer.Viewer, job: JobBar):
        super().__init__("Result", "Where the denoised image goes, and what is computed with it.")
        self.viewer, self._job = viewer, job
        # the last file that each layer was written to
        self._stores: WeakKeyDictionary[Any, Path] = WeakKeyDictionary()
        self._kinds = QButtonGroup(self)
        kinds = QHBoxLayout()
        for number, (text, tip) in enumerate(KINDS.items()):
            choice = QRadioButton(text)
            choice.setToolTip(tip)
            choice.setChecked(number == LAYER)
            self._kinds.addButton(choice, number)
            kinds.addWidget(choice)
        self.polish = QCheckBox("Polish first (1 to 5 min)")
        self.polish.setToolTip(
            "Teach a network, for a few minutes, to remove noise of exactly this model from the "
            "denoised layer. It estimates pixels of which the noise leaves little from their "
            "neighbours: very dark MRI, radar and ultrasound speckle, few photons. Choose the "
            "noise model first, as another one needs another polish. A polish that is stopped is "
            "continued the next time."
        )
        self.uncertainty = QCheckBox("Uncertainty as a separate layer")
        self.uncertainty.setToolTip(
            "Also add the standard deviation of every denoised pixel, in grey levels: if the "
            "noise model is right, about two thirds of the pixels differ from the true value by "
            "less than this. Takes about 30 times as long as denoising."
        )
        self._message = Message(viewer, "Whether a polish pays for this noise model.")
        self._complaint = Message(viewer, "Why the result cannot be written.")
        self.always.addWidget(self._complaint)
        self.rows.addLayout(kinds)
        self.all_selected = QCheckBox("All selected layers")
        self.all_selected.setToolTip(
            "Denoise every image layer that is selected in the list of layers, one after the "
            "other, with this model unless a layer has one of its own, and each with its own noise."
        )
        self.rows.addWidget(self.all_selected)
        self.rows.addWidget(self.polish)
        self.rows.addWidget(self._message)
        self.rows.addWidget(self.uncertainty)
        self.copy_button = QPushButton("Copy as command")
        self.copy_button.setToolTip(
            "Copy the commands for a terminal that do the same, for many files or on a server."
        )
        self.save_button = QPushButton("Save settings…")
        self.save_button.setToolTip(
            "Write axes, training, noise and polish to a file (.yaml), as --config of the command "
            "line reads it: the same settings for everyone."
        )
        self.protocol = Message(viewer, "What was copied or saved, and what is to be filled in.")
        self.load_button = QPushButton("Load settings…")
        self.load_button.setToolTip(
            "Read training, noise and polish from a file (.yaml), as Save settings… or a person of "
            "your facility wrote it, for the selected layer."
        )
        self.rows.addWidget(self.copy_button)
        files = QHBoxLayout()
        files.addWidget(self.save_button)
        files.addWidget(self.load_button)
        self.rows.addLayout(files)
        self.rows.addWidget(self.protocol)
        self._kinds.idToggled.connect(self._summarize)
        self.polish.toggled.connect(self._summarize)
        self.uncertainty.toggled.connect(self._summarize)
        self._summarize()

    def _summarize(self, *_changed: Any) -> None:
        button = self._kinds.checkedButton()
        texts = [button.text() if button is not None else ""]
        texts += ["polish"] * self.polish.isChecked()
        texts += ["uncertainty"] * self.uncertainty.isChecked()
        self.summarize(", ".join(texts))

    def suggest_polish(self, pays: bool, sentence: str) -> None:
        """Tick the polish if it pays, and say why."""
        self.polish.setChecked(pays)
        self._message.say(sentence)

    def path_of(self, layer: Any) -> Path:
        """Return the file that a layer was written to last, or would be written to."""
        return self._stores.get(layer) or suggestion(layer.name, session.folder)

    def ask(self, layer: Any, others: int = 0) -> Order | None:
        """Return what the person wants, after asking for a file name if it goes to a file.

        Parameters
        ----------
        layer : napari.layers.Image
            The layer.
        others : int
            How many further layers are denoised, too.

        Returns
        -------
        Order or None
            None if the person cancelled, or the file cannot be used, which is said then.
        """
        self._complaint.say("")
        kind = self._kinds.checkedId()
        if kind != FILE:
            return Order(kind)
        if others:
            self._complaint.fail(UserError(ONE_FILE))
            return None
        begun = self._stores.get(layer)
        if begun is None or begun.exists():
            begun = suggestion(layer.name, session.folder)
        try:
            target = ask_where(self, begun, self.uncertainty.isChecked())
        except UserError as error:
            self._complaint.fail(error)
            return None
        if target is None:
            return None
        session.folder, self._stores[layer] = target.path.parent, target.path
        return Order(kind, target)

    def run(
        self,
        order: Order,
        source: Source,
        model: ScoreModel,
        noise: NoiseModel,
        noise_notes: dict[str, Any],
        device: str,
        remark: str = "",
        then: Callable[[str], None] | None = None,
    ) -> None:
        """Denoise a layer in the background, and add the result.

        Parameters
        ----------
        order : Order
            As from `ask`.
        source : Source
            The layer.
        model : ScoreModel
            Its score, under the name that the window shows.
        noise : NoiseModel
            Its noise.
        noise_notes : dict
            How the noise was found, for the provenance.
        device : str
            What the network runs on.
        remark : str
            A sentence on the model to be shown with the result.
        then : callable, optional
            Called with how the job ended.
        """
        # a model is at hand, so torch is imported
        from ..denoising.provenance import result_notes

        layer, image = source.layer, source.image()
        settings = result_settings(layer, result_notes(model, noise, noise_notes=noise_notes))
        if not layer_axes(layer):  # as typed
            world = image.axes[:-1] if layer.rgb else image.axes
            settings["axis_labels"] = tuple(world.lower())
        steps: Any = {LAYER: denoise_all, LAZY: denoise_lazily, FILE: write}[order.kind]
        more = self.uncertainty.isChecked() if order.target is None else order.target
        arguments = image, model, noise, device, display_type(layer), noise_notes, more
        polished = self.polish.isChecked()
        job: Any = with_polish(steps, *arguments) if polished else steps(*arguments, None)
        shown = _Progress(self._job)
        self._job.say("Preparing…")

        def end(outcome: str) -> None:
            if outcome == "done" and shown.result is not None:
                name = self._add(shown.result, settings, layer)
                check = settings["metadata"]["noise2score"].get("noise check", "")
                seen = f", made with {model.context}" if model.context.offsets else ""
                sentences = f"Added '{name}'{seen}.", check[:1].upper() + check[1:], remark
                self._job.say(" ".join(filter(None, sentences)))
            else:
                remains = _describe_remains(order.target)
                self._job.say(f"{outcome.capitalize()}; {remains}")
            self.ended.emit()
            if then is not None:
                then(outcome)

        self._job.run(job, f"Denoising {layer.name}", shown.take, end)

    def _add(self, result: Result, settings: dict[str, Any], source: Any) -> str:
        """Add the layers of a result, and return the name of the main one."""
        before = set(self.viewer.layers)
        name = self._add_layers(result, settings)
        results = session.results.setdefault(source, WeakSet())
        for layer in self.viewer.layers:
            if layer not in before and layer.name == name:
                results.add(layer)
        return name

    def _add_layers(self, result: Result, settings: dict[str, Any]) -> str:
        """Add the layers of a result and its uncertainty."""
        if result.polish:
            settings["metadata"]["noise2score"]["polish"] = result.polish
        if result.target is not None:
            return self._add_stored(result, result.target, settings)
        spread = spread_settings(settings)
        if hasattr(result.data, "dask"):
            get_settings().experimental.async_ = True
            if "contrast_limits" in settings:
                # a guess, as napari would compute planes for them on the window's thread
                low, high = settings["contrast_limits"]
                spread["contrast_limits"] = 0, (high - low) / 4
        if result.spread is not None:
            self.viewer.add_image(result.spread, **spread)
        name: str = self.viewer.add_image(result.data, **settings).name
        return name

    def _add_stored(self, stored: Result, target: Target, settings: dict[str, Any]) -> str:
        """Add what was written as multiscale layers, and return the name of the result layer."""
        if target.spread is not None:
            spread = spread_settings(store_settings(settings, target.spread))
            # napari would read the file for them, on the window's thread
            spread["contrast_limits"] = 0, stored.widest or 1
            self.viewer.add_image(stored.spread, **spread)
        shown = store_settings(settings, target.path)
        name: str = self.viewer.add_image(stored.data, **shown).name
        return name


class _Progress:
    """The result of a denoising job, and what the job bar shows until it is there."""

    def __init__(self, job: JobBar) -> None:
        self._job = job
        self.result: Result | None = None
        self._note = ""  # the last message of the job
        # time of the first progress, in seconds, and how much was done by then
        self._started: tuple[float, float] | None = None

    def take(self, batch: Sequence[Any]) -> None:
        """Show the last progress of a batch, with the time that is left."""
        last = batch[-1]
        if last.result is not None:
            self.result = last.result
            return
        now = time.monotonic()
        # the count starts again with the result after a polish, and with the uncertainty
        if self._started is None or last.done < self._started[1]:
            self._started = now, last.done
        since, before = self._started
        left = None
        if last.done > before:
            left = (now - since) * (last.total - last.done) / (last.done - before)
        self._job.show_progress(last.fraction, left)
        for step in batch:
            if step.message != POLISHING:
                self._note = step.message or self._note
        unit = "Polishing: step" if last.message == POLISHING else "Denoising: tile"
        note = f" ({self._note})" if self._note else ""
        self._job.say(f"{unit} {last.done} of {last.total}{note}")


def _describe_remains(target: Target | None) -> str:
    """Return a sentence on what remains of a job that did not finish."""
    if target is None:
        return "nothing was added."
    from ..denoising.jobs import left_of

    if not any(left_of(store) for store in (target.path, target.spread) if store):
        return "nothing was written."
    return f"what is done is kept. Write '{target.path.name}' again to finish it."
