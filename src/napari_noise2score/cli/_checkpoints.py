"""Run a training from the terminal, and keep what it has learned when it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ReadError, is_memory_error
from ._progress import track

# seconds of training until the first checkpoint, and between two of them
CHECKPOINT_FIRST = 10.0
CHECKPOINT_EVERY = 60.0


def run_with_checkpoints(
    run: Iterator[Any],
    name: str,
    describe: Callable[[Any], tuple[float, str]],
    checkpoint: Path,
    interrupt: Callable[[], None],
) -> tuple[Any, BaseException | None]:
    """Run a training, and write a checkpoint regularly and when it is stopped.

    Parameters
    ----------
    run : iterator of Progress
        The training. Its results have ``seconds`` and ``checkpoint``; the first may come late.
    name : str
        What is shown beside the bar.
    describe : callable
        Returns the share that is done and a note for a progress.
    checkpoint : Path
        Where to write the checkpoints.
    interrupt : callable
        Raises a deferred interrupt, see `interrupts_between_steps`.

    Returns
    -------
    state : object
        The last result.
    stopped : BaseException or None
        What stopped the training, to be raised once its result is kept.

    Raises
    ------
    BaseException
        What stopped the training, if there is no result yet or it is a fault of the program.
    """
    state, saved = None, CHECKPOINT_FIRST - CHECKPOINT_EVERY
    try:
        for progress in track(run, name, describe):
            state = progress.result or state
            interrupt()
            if state is not None and state.seconds - saved > CHECKPOINT_EVERY:
                state.checkpoint(checkpoint)
                saved = state.seconds
    except (KeyboardInterrupt, OSError, MemoryError, RuntimeError, ReadError) as error:
        if state is None or (isinstance(error, RuntimeError) and not is_memory_error(error)):
            raise
        with suppress(OSError):  # the disk may be what failed
            state.checkpoint(checkpoint)
        return state, error
    return state, None
