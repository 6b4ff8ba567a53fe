"""Live preview: the current plane, denoised again whenever the noise model changes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from napari.layers import Image
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QWidget

from ..errors import UserError
from ..progress import Progress
from ._layers import display_type, layer_data, plane_on_view, preview_settings
from ._session import session
from ._work import Failure, report, start

if TYPE_CHECKING:
    import napari.viewer

    from ..denoising.live import LivePlanes
    from ..score.model import ScoreModel


@dataclass(frozen=True, eq=False)
class Wish:
    """The settings that the preview should show."""

    layer: Image
    axes: str
    model: ScoreModel | Callable[[], ScoreModel]  # or a function that returns it
    name: str  # of the model
    noise: str
    device: str

    def has_scores_of(self, other: Wish) -> bool:
        """Return whether only the noise model differs, so that the scores are the same."""
        return (
            self.layer is other.layer
            and self.model is other.model
            and (self.axes, self.device) == (other.axes, other.device)
        )


class Solved(NamedTuple):
    """A plane that was denoised: its place in the image, its pixels, and how they were made."""

    place: tuple[int, ...]
    values: np.ndarray
    notes: dict[str, Any]


class State(NamedTuple):
    """Planes whose score is known and, once it is solved, the denoised plane on view."""

    planes: LivePlanes
    solved: Solved | None = None


class Preview(QObject):
    """Keep a layer with the current plane denoised up to date.

    One job at a time runs in the background, for the newest wish and the plane shown at that
    time; an outdated result is dropped.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose current plane is denoised.
    parent : QWidget
        The dock; the preview is destroyed with it.
    """

    #: What the preview is doing, or why it is not shown; empty if it is shown.
    status_changed = Signal(str)
    removed = Signal()  # a person removed the preview layer
    added = Signal()  # the preview layer was added
    eye = Signal()  # a person clicked the eye of the preview layer

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget):
        super().__init__(parent)
        self._viewer = viewer
        # napari gives each dock a wrapper of its own around the viewer
        self._window = getattr(viewer, "__wrapped__", viewer)
        self._wish: Wish | None = None
        self._layer: Image | None = None
        self._adding = False  # napari is adding the layer
        self._followed: Image | None = None
        self._scored: tuple[Wish, LivePlanes] | None = None
        self._worker: Any = None
        # wish and plane of the running job, and of what the layer shows
        self._goal: tuple[Wish, tuple[int, ...]] | None = None
        self._shown: tuple[Wish, tuple[int, ...]] | None = None
        self._outcome = ""  # why the layer does not show it, empty if it does
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._go_on)
        for event in ("point", "order", "ndisplay"):
            getattr(viewer.dims.events, event).connect(self._look)
        viewer.layers.events.removed.connect(self._layer_removed)
        session.preview_taken.connect(self._give_way)

    @property
    def busy(self) -> bool:
        """Whether the current plane is being denoised, or about to be."""
        return self._worker is not None or self._soon.isActive()

    @property
    def layer(self) -> Image | None:
        """The preview layer, None if there is none."""
        return self._layer

    def show(self, wish: Wish) -> None:
        """Show the preview of these settings from now on."""
        if self._wish is None:
            session.preview_taken.emit(self)
        if self._wish is None or self._wish.layer is not wish.layer:
            self._drop_layer()
            self._follow(wish.layer)
        self._wish = wish
        self._go_on()

    def hide(self) -> None:
        """Remove the layer, and stop until new settings are shown."""
        self._wish = self._goal = None
        self._follow(None)
        if self._worker is not None:
            self._worker.quit()
        self._drop_layer()
        self.status_changed.emit("")

    def _see_through(self, _event: Any = None) -> None:
        """Treat a click on the layer's eye like the Before button.

        The layer itself stays visible, as removing a hidden layer crashed napari's canvas with
        Mesa's software renderer.
        """
        if self._layer is not None and not self._layer.visible:
            self._layer.visible = True
            self.eye.emit()

    def _follow(self, layer: Image | None) -> None:
        """Watch this layer for edits, in place of any other."""
        if self._followed is not None:
            self._followed.events.data.disconnect(self._forget)
        self._followed = layer
        if layer is not None:
            layer.events.data.connect(self._forget)

    def _forget(self, _event: Any = None) -> None:
        """Drop the scores after an edit of the image, and compute them again."""
        if isalive(self):
            self._scored = self._shown = self._goal = None
            self._look()

    def _look(self, _event: Any = None) -> None:
        """Update the preview as soon as the window is idle."""
        if isalive(self):  # the viewer may outlive its window
            self._soon.start()

    def _go_on(self) -> None:
        """Start the next job, if the layer does not show the current wish and plane."""
        wish = self._wish
        if wish is None:
            return
        try:
            at = plane_on_view(self._viewer, wish.layer, wish.axes)
        except UserError as error:
            self._goal = None
            self.status_changed.emit(f"No preview: {error}.")
            return
        if self._worker is not None:
            goal = self._goal
            if goal is not None and (goal[1] != at or not wish.has_scores_of(goal[0])):
                self._goal = None
                self._worker.quit()  # the scores of another plane are of no use
            return
        if self._shown == (wish, at):
            self.status_changed.emit(self._outcome)
            return
        self._goal = wish, at
        known = self._scored
        planes = known[1] if known is not None and wish.has_scores_of(known[0]) else None
        self._worker = start(
            _solve(wish, layer_data(wish.layer), at, planes, display_type(wish.layer)),
            yielded=self._take,
            returned=self._returned,
            finished=self._finished,
        )
        self.destroyed.connect(self._worker.quit)

    def _take(self, batch: list[Progress[State]]) -> None:
        if self._goal is None:
            return  # outdated
        for progress in batch:
            state = progress.result
            if state is None:
                self.status_changed.emit(
                    f"Getting this plane ready: {progress.done} of {progress.total}"
                )
                continue
            self._scored = self._goal[0], state.planes
            if state.solved is not None:
                self._put(state.solved, *self._goal)

    def _put(self, solved: Solved, wish: Wish, at: tuple[int, ...]) -> None:
        settings = preview_settings(wish.layer, solved.place, solved.notes)
        if self._layer is None:
            selected = self._viewer.layers.selection.copy()
            # add_image returns a wrapper, which is not the layer that events name
            self._layer = Image(solved.values, **settings)
            self._layer.events.visible.connect(self._see_through)
            self._adding = True
            try:
                self._viewer.add_layer(self._layer)
            finally:
                self._adding = False
            # it may have been hidden, or another layer chosen, while napari added it
            if self._wish is None or self._wish.layer is not wish.layer:
                self._drop_layer()
                return
            self._viewer.layers.selection = selected
            self.added.emit()
        else:
            self._layer.metadata = settings["metadata"]
            if np.array_equal(self._layer.translate, settings["translate"]):
                # in place, as setting new data takes as long as solving
                self._layer.data[...] = solved.values
                self._layer.refresh(thumbnail=False, highlight=False, extent=False)
            else:
                self._layer.data = solved.values
                self._layer.translate = settings["translate"]
        self._shown, self._outcome = (wish, at), ""
        self.status_changed.emit(self._outcome)

    def _returned(self, failure: Failure | None) -> None:
        if failure is None or self._goal is None:
            return
        self._shown = self._goal  # it would only fail again
        self._outcome = f"No preview: {failure.error}"
        self.status_changed.emit(self._outcome)
        if not isinstance(failure.error, UserError):
            report(failure.error)

    def _finished(self) -> None:
        self.destroyed.disconnect(self._worker.quit)
        self._worker = None
        self._go_on()

    def _drop_layer(self) -> None:
        if self._adding:  # napari needs it until it is added
            return
        layer, self._layer, self._shown = self._layer, None, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _layer_removed(self, event: Any) -> None:
        if not isalive(self):
            return
        if self._layer is not None and event.value is self._layer:
            self._layer = None
            self.hide()
            self.removed.emit()
        elif self._wish is not None and event.value is self._wish.layer:
            self.hide()

    def _give_way(self, other: Preview) -> None:
        if other is not self and other._window is self._window and self._wish is not None:
            self.hide()


def _solve(
    wish: Wish, data: Any, at: tuple[int, ...], planes: LivePlanes | None, dtype: np.dtype
) -> Generator[Progress[State], None, None]:
    from ..denoising.live import LivePlanes
    from ..denoising.provenance import result_notes
    from ..noise import parse_noise

    noise = parse_noise(wish.noise)
    if planes is None:
        model = wish.model() if callable(wish.model) else wish.model
        planes = LivePlanes(data, model, wish.axes, wish.device)
        yield Progress(0, 1, result=State(planes))
    place = planes.place(at)
    if not planes.is_ready(place, noise):
        for progress in planes.prepare(place, noise):
            yield Progress(progress.done, progress.total)
    values = planes.solve(place, noise, dtype)
    notes = {**result_notes(planes.model, noise), "model": wish.name}
    solved = Solved(place, values, notes)
    yield Progress(1, 1, result=State(planes, solved))
