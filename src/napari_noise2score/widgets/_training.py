"""The training job: its steps, and what the window shows of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..progress import Progress
from ._enough import MAX_AHEAD, seconds_until_enough
from ._job_bar import duration
from ._kept_models import NOISE, keep

if TYPE_CHECKING:
    from ..score.model import ScoreModel
    from ..score.training import Training
    from ._source import Source


@dataclass
class Begun:
    """A training run that was started, and its state.

    Attributes
    ----------
    source : Source
        The layer that is learned from.
    settings : dict
        Arguments of `train_steps`, without budget.
    budget : dict
        ``steps`` or ``minutes`` of it.
    noise : str
        The noise model of the layer, kept with the model; empty if it is not known.
    last : Training or None
        The last state: it can give the model so far, and write a checkpoint.
    learned : ScoreModel or None
        The model, once the training has ended; None if it ended before the first step.
    times, losses : list of float
        When the held-out loss was measured, in seconds of training, and its values.
    """

    source: Source
    settings: dict[str, Any]
    budget: dict[str, Any]
    noise: str = ""
    last: Training | None = None
    learned: ScoreModel | None = None
    times: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def add(self, states: list[Training]) -> None:
        """Take the states of further steps."""
        for state in states:
            self.last = state
            known = state.val_loss == state.val_loss
            if known and (not self.losses or state.val_loss != self.losses[-1]):
                self.times.append(state.seconds)
                self.losses.append(state.val_loss)

    @property
    def seconds_until_enough(self) -> float | None:
        """For how long training pays; None as long as that cannot be said."""
        return seconds_until_enough(self.times, self.losses)

    def describe(self) -> str:
        """Return what the training is doing, in one line."""
        last = self.last
        if last is None:
            return "Learning…"
        left, enough = self.seconds_until_enough, ""
        if left is not None:
            enough = f" · good enough in {self._predicted(left)}" if left else " · good enough now"
        return f"Learning: step {last.step}{enough}"

    @property
    def is_hasty(self) -> bool:
        """Whether the network hardly learned: twice the time would not be enough."""
        left, last = self.seconds_until_enough, self.last
        return last is None or left is None or left > last.seconds

    def remark(self) -> str:
        """Return a sentence if the training was too short, otherwise an empty text."""
        left, last = self.seconds_until_enough, self.last
        if last is None or left == 0:
            return ""
        if left is None:
            return (
                f"The network learned for {duration(last.seconds)} only, too short to say whether "
                "more would help: press Resume under Model."
            )
        return (
            f"The network was still improving after {duration(last.seconds)}: learning for "
            f"{self._predicted(left)} longer should give a better result (Resume under Model)."
        )

    def _predicted(self, left: float) -> str:
        """Return a predicted time in words."""
        far = left >= MAX_AHEAD * self.times[-1]  # seconds of the loss that it was predicted from
        return f"{'more than' if far else 'about'} {roughly(left)}"


def roughly(seconds: float) -> str:
    """Format a time that is only predicted.

    Examples
    --------
    >>> roughly(42), roughly(1025), roughly(7500)
    ('40 s', '17 min', '2 h 5 min')
    """
    if seconds < 55:
        return f"{max(10, round(seconds, -1)):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def training_steps(begun: Begun) -> Iterator[Progress[Training]]:
    """Begin a training run; on a background thread."""
    # imported here, on the background thread, as torch takes seconds
    from ..score.training import train_steps
    from . import _loss_plot  # noqa: F401

    source = begun.source
    steps = train_steps([source.image()], **begun.budget, **begun.settings)
    yield from _keeping(begun, steps)


def further_steps(begun: Begun, budget: dict[str, Any]) -> Iterator[Progress[Training]]:
    """Continue a training run that ended, for as long again as a budget says."""
    from ..score.training import train_steps

    last, source = begun.last, begun.source
    assert last is not None  # or it could not be resumed
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        last.checkpoint(path)
        used = {"steps": last.step, "minutes": last.seconds / 60}
        budget = {key: value + used[key] for key, value in budget.items()}
        steps = train_steps([source.image()], resume=path, **budget, **begun.settings)
        yield from _keeping(begun, steps)


def _keeping(begun: Begun, steps: Iterator[Progress[Training]]) -> Iterator[Progress[Training]]:
    """Train, and at the end, however it comes, keep the model: in a file, too.

    On the background thread, as the model's errors are measured for it.
    """
    begun.learned = state = None
    try:
        for progress in steps:
            state = progress.result or state
            yield progress
    finally:
        if state is not None:
            begun.learned = model = state.snapshot()
            if begun.noise:
                model = replace(model, provenance={**model.provenance, NOISE: begun.noise})
            keep(model, begun.source.layer.name)
