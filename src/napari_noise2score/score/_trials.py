"""Try contexts of a score network in turn for a share of the budget, and go on with the best."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ..errors import UserError
from ._checkpoint import contents, restore_contents
from ._tensor_file import read_tensors, write_tensors
from ._trainer import Trainer
from .context import MAX_REACH, NO_CONTEXT, Context, context_from_json
from .model import ScoreModel

# A trial takes this share of the budget, or more if that is too few steps to compare, but not more
# than the larger share: a shorter training is not worth trials.
TRIAL_SHARE, MAX_TRIAL_SHARE = 0.08, 0.15
MIN_TRIAL_STEPS = 20
# More than one neighbour on each side takes longer to learn than shorter trials show.
MIN_STEPS_TO_WIDEN = 100
OTHER = "other."  # prefix of the tensors of the best trial so far


def is_too_short(steps: int | None) -> bool:
    """Return whether a training of so many steps (None if not limited) is too short for trials."""
    return steps is not None and MAX_TRIAL_SHARE * steps < MIN_TRIAL_STEPS


class Candidates(NamedTuple):
    """The contexts that may be tried.

    Attributes
    ----------
    axes : str
        The axes along which there may be neighbours.
    reach : int or None
        Number of neighbours on each side; None to choose it.
    free : bool
        Whether no context and that along single axes are candidates too; otherwise the context
        extends along all axes.
    first : mapping of str to int
        Distance of the nearest neighbour along each axis.
    """

    axes: str
    reach: int | None
    free: bool
    first: Mapping[str, int]

    def around(self, axes: str, reach: int) -> Context:
        """Return the context of a reach along axes."""
        each = (Context.around(a, reach, self.first.get(a, 1)).offsets for a in axes)
        return Context(sum(each, ()))

    def next(self, tried: Mapping[Context, float], wider: bool = True) -> Context | None:
        """Return what to try next, given the held-out losses so far; None if nothing is left.

        Without `wider`, a reach that is not given is 1.
        """
        reach = self.reach or 1
        start = [NO_CONTEXT] if self.free or not self.axes else []
        if self.axes:
            start += [self.around(a, reach) for a in (self.axes if self.free else [self.axes])]
        for context in start:
            if context not in tried:
                return context
        best = min(tried, key=lambda context: tried[context])
        if not best.offsets:
            return None
        joint = self.around(self.axes, reach)
        if joint not in tried and all(tried[c] < tried[NO_CONTEXT] for c in start[1:]):
            return joint
        size = len(best.offsets) // (2 * len(best.axes))
        if wider and self.reach is None and size < MAX_REACH:
            following = self.around(best.axes, size + 1)
            return None if following in tried else following
        return None


class Trials:
    """The training of a score network that tries contexts first; `train_steps` carries it out.

    Parameters
    ----------
    make : callable
        Returns the `Trainer` for a context.
    candidates : Candidates
        What to try.
    notes : mapping
        For the provenance of the model; values are JSON.

    Attributes
    ----------
    current : Trainer
        What is trained now.
    """

    def __init__(
        self,
        make: Callable[[Context], Trainer],
        candidates: Candidates,
        notes: Mapping[str, Any],
    ):
        self._make, self._candidates, self._notes = make, candidates, dict(notes)
        first = candidates.next({})
        assert first is not None
        self.current = make(first)
        self._tried: dict[Context, float] = {}
        self._other: Trainer | None = None  # the best of the finished trials
        self._other_share = 0.0  # of the budget that it took
        self._begun = 0.0  # share of the budget at which the current one began
        self._trial_steps = 0  # of the first trial: the others are as long
        self._lost = (0, 0.0)  # steps and seconds of what was given up
        # share of the budget, and of that of the current trainer, when it was chosen
        only = candidates.next({first: 0.0}) is None
        self._chosen: tuple[float, float] | None = (0.0, 0.0) if only else None

    @property
    def steps(self) -> int:
        """Number of steps done, those of all trials included."""
        return self._lost[0] + self.current.steps + (self._other.steps if self._other else 0)

    @property
    def seconds(self) -> float:
        """Time they took."""
        other = self._other.seconds if self._other else 0.0
        return self._lost[1] + self.current.seconds + other

    @property
    def trying(self) -> str:
        """What is tried, in words; empty once the context is chosen."""
        return "" if self._chosen else str(self.current.context)

    def add_seconds(self, seconds: float) -> None:
        """Count the time of a step."""
        self.current.seconds += seconds

    def step(self, used: float) -> float:
        """Take one step at a share of the budget, and return its learning rate."""
        if self._chosen is None:
            self._go_on(used)
        share = used - self._begun
        if self._chosen is not None:
            begun, own = self._chosen
            share = used if begun == own else 1 - (1 - used) * (1 - own) / (1 - begun)
        return self.current.step(min(max(share, 0.0), 1.0))

    def validate(self) -> None:
        """Compute the held-out loss of what is trained."""
        self.current.validate()

    def measure(self) -> None:
        """Measure the information of the data, for `model` to record."""
        self.current.measure()

    def model(self) -> ScoreModel:
        """Return the model of what is trained, or of the best trial while trials are running."""
        model = (self._other or self.current).model()
        tried = [[str(context), loss] for context, loss in self._tried.items()]
        notes = self._notes | ({"contexts tried": tried} if tried else {})
        return replace(model, provenance={**model.provenance, **notes}) if notes else model

    def _go_on(self, used: float) -> None:
        """Begin the next trial, or choose the best one, if the current one is over."""
        own, steps = used - self._begun, self.current.steps
        if self._trial_steps:
            over = steps >= self._trial_steps
        else:
            over = own >= MAX_TRIAL_SHARE or (own >= TRIAL_SHARE and steps >= MIN_TRIAL_STEPS)
        if not over:
            return
        if steps < MIN_TRIAL_STEPS:
            # too few to compare, and nothing is lost
            self._chosen = (0.0, 0.0)
            return
        self._trial_steps = steps
        self.current.validate()
        self._tried[self.current.context] = self.current.val_loss
        if self._other is None or self.current.val_loss < self._other.val_loss:
            self.current, self._other = self._other or self.current, self.current
            self._other_share = own
        if self.current is not self._other:
            lost_steps, lost_seconds = self._lost
            lost_steps += self.current.steps
            self._lost = lost_steps, lost_seconds + self.current.seconds
        following = self._candidates.next(self._tried, self._trial_steps >= MIN_STEPS_TO_WIDEN)
        if following is None:
            self.current, self._other = self._other, None
            self._chosen = used, self._other_share
        else:
            self.current, self._begun = self._make(following), used

    def checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write everything needed to resume to a file."""
        header, tensors = contents(self.current)
        if len(self._tried) or self._chosen is None:
            header["trials"] = {
                "candidates": self._asked(),
                "tried": [[list(context.offsets), loss] for context, loss in self._tried.items()],
                "begun": self._begun,
                "steps": self._trial_steps,
                "lost": list(self._lost),
                "chosen": self._chosen and list(self._chosen),
                "other share": self._other_share,
            }
        if self._other is not None:
            header["other"], others = contents(self._other)
            tensors |= {OTHER + key: value for key, value in others.items()}
        write_tensors(path, tensors, header)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        UserError
            If there is no such file, it is damaged, or it belongs to another training.
        """
        header, tensors = read_tensors(path, Trainer.file_kind)
        begun: Any = header.get("trials")
        if begun is None:
            # nothing was tried, as in checkpoints of earlier versions
            self._chosen = (0.0, 0.0)
            restore_contents(self.current, path, header, tensors)
            return
        if not isinstance(begun, dict) or begun.get("candidates") != self._asked():
            raise UserError(
                f"{path}: it was begun with another context; resume with the same images and "
                "settings, or start again"
            )
        try:
            self._tried = {
                context_from_json(offsets): _number(loss) for offsets, loss in begun["tried"]
            }
            self._begun, self._other_share = _number(begun["begun"]), _number(begun["other share"])
            self._trial_steps = int(_number(begun["steps"]))
            lost_steps, lost_seconds = map(_number, begun["lost"])
            self._lost = int(lost_steps), lost_seconds
            self._chosen = None
            if begun["chosen"] is not None:
                first, second = map(_number, begun["chosen"])
                if not 0 <= second <= first < 1:
                    raise ValueError("no such share")
                self._chosen = first, second
            if (context := _context_of(header)) != self.current.context:
                self.current = self._make(context)
            other = header.get("other")
            if (other is None) != (self._chosen is not None or not self._tried):
                raise ValueError("the best trial is missing")
            if other is not None:
                self._other = self._make(_context_of(other))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            raise UserError(f"{path}: not a complete {Trainer.file_kind}") from None
        own = {key: value for key, value in tensors.items() if not key.startswith(OTHER)}
        restore_contents(self.current, path, header, own)
        if self._other is not None:
            others = {k.removeprefix(OTHER): v for k, v in tensors.items() if k.startswith(OTHER)}
            restore_contents(self._other, path, header["other"], others)

    def _asked(self) -> dict[str, Any]:
        """Return the candidates as JSON values."""
        asked = self._candidates
        return {**asked._asdict(), "first": dict(asked.first)}


def _context_of(header: Mapping[str, Any]) -> Context:
    """Return the context of what a header of a checkpoint describes."""
    return context_from_json(header["same"].get("context", []))


def _number(value: Any) -> float:
    """Return a finite number of a file as it is; a `ValueError` if it is anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a number")
    return value
