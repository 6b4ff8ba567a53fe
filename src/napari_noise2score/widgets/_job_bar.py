"""Progress, buttons to pause and stop, and what there is to say, for one job at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from napari.utils import cancelable_progress
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from ..errors import DataWarning, one_line
from ._message import Message, WrappedLabel
from ._work import Failure, is_out_of_memory, message_of, report, start

if TYPE_CHECKING:
    import napari.viewer

MAX_NOTICES = 6  # shown at a time


class JobBar(QWidget):
    """Run a generator in the background and show its progress.

    The job stops when Stop is clicked and when the dock or the window is closed.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose theme gives the colours.

    Attributes
    ----------
    buttons : QHBoxLayout
        The row of the buttons that pause and stop.
    problem : str
        Why the last job failed, empty if it did not.
    stop_requested : bool
        Whether Stop was clicked during the last job, which may have ended otherwise.
    """

    progressed = Signal(list)  # what the generator yielded since the last signal
    ended = Signal(str)  # "done", "stopped" or "failed"
    busy_changed = Signal(bool)

    def __init__(self, viewer: napari.viewer.Viewer):
        super().__init__()
        self._worker: Any = None
        self.problem = ""  # why the last job failed
        self.stop_requested = False
        self._on_progress: Callable[[list[Any]], None] | None = None
        self._on_end: Callable[[str], None] | None = None
        self._activity: Any = None  # the same progress, in napari's activity dock
        self._percent = 0
        self._stopping = False
        self._again_on_cpu: Callable[[], None] | None = None
        self._outcome = "stopped"
        self._notices: list[str] = []
        self._bar = QProgressBar()
        self._bar.setToolTip("How much of the job is done, and the time that is left.")
        self._bar.setAccessibleName("Progress")
        self._pause = QPushButton("Pause")
        self._pause.setCheckable(True)
        self._pause.setToolTip(
            "Pause the job; press again to continue. The pause does not count as working time."
        )
        self._stop = QPushButton("Stop")
        self._status = WrappedLabel()
        self._status.setToolTip("What the job is doing, or how it ended.")
        self._notice = Message(
            viewer, "What you should know about the data, or about how the job ended."
        )
        self.buttons = QHBoxLayout()
        self.buttons.addWidget(self._pause)
        self.buttons.addWidget(self._stop)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addLayout(self.buttons)
        rows.addWidget(self._bar)
        rows.addWidget(self._status)
        rows.addWidget(self._notice)
        self._stop.clicked.connect(self.stop)
        self._pause.toggled.connect(self._set_paused)
        self._rest()

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._worker is not None

    def set_stop_tip(self, text: str) -> None:
        """Set the tooltip of Stop: what becomes of the work done so far."""
        self._stop.setToolTip(text)

    def offer_cpu(self, again: Callable[[], None]) -> None:
        """Set what is called if the graphics card is too small and the user picks the processor."""
        self._again_on_cpu = again

    def run(
        self,
        steps: Generator[Any, None, None],
        title: str,
        take: Callable[[list[Any]], None] | None = None,
        end: Callable[[str], None] | None = None,
    ) -> None:
        """Start a job.

        Parameters
        ----------
        steps : generator
            The job; what it yields is emitted by `progressed`.
        title : str
            Name of the job in napari's activity dock.
        take : callable, optional
            Called with what the job yielded since the last call.
        end : callable, optional
            Called when the job has ended, with ``"done"``, ``"stopped"`` or ``"failed"``.

        Raises
        ------
        RuntimeError
            If a job is running.
        """
        if self.busy:
            raise RuntimeError("a job is running")
        self.problem = ""
        self.stop_requested = False
        self._outcome, self._on_progress, self._on_end = "stopped", take, end
        self._notices.clear()
        self._notice.say("")
        self._stop.setEnabled(True)
        self._pause.setEnabled(True)
        self._bar.setRange(0, 0)  # busy, until the first progress arrives
        self._worker = start(
            steps,
            yielded=self._take,
            returned=self._returned,
            finished=self._finished,
            warned=self._warned,
        )
        self._worker.paused.connect(self._show_paused)
        self.destroyed.connect(self._worker.quit)
        self.busy_changed.emit(True)
        # napari processes events while it adds the bar, so that a short job may end meanwhile
        worker, activity = self._worker, _Activity(total=100, desc=title, cancel_callback=self.stop)
        if self._worker is worker:
            self._activity = activity
        else:
            activity.close()

    def stop(self) -> None:
        """Ask the job to stop, if there is one. It ends after its current step."""
        self.stop_requested = self.busy
        self.finish()

    def finish(self) -> None:
        """Ask the job to end after its current step, so that the next one can begin."""
        if self._worker is not None:
            self._worker.quit()
            self._stop.setEnabled(False)
            self._pause.setEnabled(False)
            self.say("Stopping…")
            self._stopping = True

    def say(self, text: str) -> None:
        """Show a line of text; while the job is being stopped, the line says so instead."""
        if not self._stopping:
            self._status.setText(text)

    def show_progress(self, share: float, seconds_left: float | None = None) -> None:
        """Show the share of the job that is done, from 0 to 1, and the time left in seconds."""
        self._bar.setRange(0, 1000)
        self._bar.setValue(round(1000 * share))
        self._percent = int(100 * share)
        # later, as napari processes events meanwhile and the job may end
        QTimer.singleShot(0, self._show_activity)
        left = "" if seconds_left is None else f" · {duration(seconds_left)} left"
        self._bar.setFormat(f"{share:.0%}{left}")

    def _show_activity(self) -> None:
        if self._activity is not None and self._percent > self._activity.n:
            self._activity.update(self._percent - self._activity.n)

    def _set_paused(self, paused: bool) -> None:
        self._pause.setText("Continue" if paused else "Pause")
        if self._worker is None:
            return
        if paused:
            self._worker.pause()
        else:
            self._worker.resume()

    def _show_paused(self) -> None:
        self.say("Paused.")

    def note(self, text: str) -> None:
        """Show a line beneath the status, in full, until the next job."""
        if text not in self._notices:
            self._notices.append(text)
        shown = self._notices[:MAX_NOTICES]
        if len(self._notices) > MAX_NOTICES:
            shown = [*shown, f"and {len(self._notices) - MAX_NOTICES} more"]
        self._notice.say("\n⚠ ".join(shown), "warning")

    def _take(self, batch: list[Any]) -> None:
        if self._on_progress is not None:
            self._on_progress(batch)
        self.progressed.emit(batch)

    def _warned(self, warning: tuple[Any, ...]) -> None:
        if isinstance(warning[0], DataWarning):
            self.note(one_line(warning[0]))

    def _returned(self, failure: Failure | None) -> None:
        self._outcome = "done" if failure is None else "failed"
        if failure is not None:
            # where the person looks; a notification is for what happens out of sight
            self.problem = message_of(failure.error)
            self.note(self.problem)
            if not self.isVisible() or is_out_of_memory(failure.error):
                report(failure.error, self._again_on_cpu)

    def _finished(self) -> None:
        self.destroyed.disconnect(self._worker.quit)
        self._worker = None
        if self._activity is not None:
            self._activity.close()
            self._activity = None
        self._rest()
        self.busy_changed.emit(False)
        self.ended.emit(self._outcome)
        if self._on_end is not None:
            self._on_end(self._outcome)

    def _rest(self) -> None:
        self._bar.setRange(0, 1)
        self._bar.reset()
        self._bar.setFormat("")
        self._stopping = False
        self._stop.setEnabled(False)
        self._pause.setEnabled(False)
        self._pause.setChecked(False)


class _Activity(cancelable_progress):
    def cancel(self) -> None:
        """Stop the job, which napari itself does only for loops that it runs."""
        super().cancel()
        self.cancel_callback()


def duration(seconds: float) -> str:
    """Format a time in seconds for a person.

    Examples
    --------
    >>> duration(42.3), duration(200), duration(7500)
    ('42 s', '3 min 20 s', '2 h 5 min')
    """
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
