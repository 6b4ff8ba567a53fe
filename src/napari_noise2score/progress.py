"""The progress object that every long job yields, for the window, the terminal and tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress(Generic[T]):
    """The progress of a job.

    Attributes
    ----------
    done, total : float
        Work done and work to do, in units of the job: blocks, planes, seconds or steps.
    message : str
        A message for the user, in one line; usually empty.
    result : T or None
        The result of the job; set in the last progress at the latest.

    Examples
    --------
    >>> Progress(1, 4).fraction
    0.25
    """

    done: float
    total: float
    message: str = ""
    result: T | None = None

    @property
    def fraction(self) -> float:
        """Share of the work that is done, 0 to 1."""
        return self.done / self.total if self.total else 1.0


def run_to_end(steps: Iterable[Progress[T]]) -> T:
    """Run a job and return its result.

    Parameters
    ----------
    steps : iterable of Progress
        The job.

    Returns
    -------
    T
        The last result that it yielded.

    Raises
    ------
    RuntimeError
        If it ended without one.

    Examples
    --------
    >>> run_to_end(iter([Progress(0, 1), Progress(1, 1, result="denoised")]))
    'denoised'
    """
    result: T | None = None
    for progress in steps:
        if progress.result is not None:
            result = progress.result
    if result is None:
        raise RuntimeError("the job ended without a result")
    return result
