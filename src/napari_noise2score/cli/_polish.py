"""Polish before denoising, and keep the polish in a file beside the model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ._checkpoints import run_with_checkpoints
from ._terminal import interrupts_between_steps, say

if TYPE_CHECKING:
    from ..denoising.polishing import Polishing
    from ..noise import NoiseModel
    from ..progress import Progress
    from ..score.model import ScoreModel
    from ..score.polish import Polish

BYTES_OF_POLISH = 45_000_000  # a checkpoint, twice while it is replaced, and the polish


def polished(
    images: Sequence[Any],
    model_path: Path,
    model: ScoreModel,
    noise: NoiseModel,
    device: str,
    resume: bool,
) -> list[Polish | None]:
    """Return the polish for a noise model: from its file if there is one, otherwise trained.

    A polish that does harm is left out, and this is said.

    Parameters
    ----------
    images : sequence of Image
        Noisy images.
    model_path : Path
        The model file, beside which the polish is kept if its folder can be written to.
    model, noise, device
        As for `polish`.
    resume : bool
        Whether to resume an interrupted polish.

    Returns
    -------
    list of Polish or None
        One, or that of each channel if the model learned each by itself.

    Raises
    ------
    UserError
        As for `polish`, and if the file is no polish.
    """
    from ..denoising.polishing import polish_inputs

    each = polish_inputs(images, model, noise)
    found = [
        _polished(
            some, model_path, own, its, device, resume, f" {c} of {len(each)}" * (len(each) > 1)
        )
        for c, (some, own, its) in enumerate(each, 1)
    ]
    return [None if one.does_harm else one for one in found]


def _polished(
    images: Sequence[Any],
    model_path: Path,
    model: ScoreModel,
    noise: NoiseModel,
    device: str,
    resume: bool,
    which: str,
) -> Polish:
    """Return one polish, see `polished`."""
    from ..denoising.polishing import polish_steps
    from ..image.identity import files_of
    from ..image.output import check_output, written
    from ..score.polish import Polish, path_beside

    path = path_beside(model_path, model, noise)
    if path.exists():
        found = Polish.load(path)
        found.check(model, noise)
        say(f"polish: {path}")
        say(found.sentence)
        return found
    inputs: list[Any] = [model_path, *(file for image in images for file in files_of(image))]
    with ExitStack() as stack:
        folder = path.parent
        try:
            for file in (path, _checkpoint_of(path)):
                check_output(file, inputs=inputs, overwrite=True, nbytes=BYTES_OF_POLISH)
        except UserError as error:
            # such as a shared folder of models that nobody may write to
            say(f"the polish will not be kept: {error}")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = folder / path.name
        checkpoint = _checkpoint_of(path)
        begun = checkpoint if resume and checkpoint.exists() else None
        run = polish_steps(images, model, noise, device=device, resume=begun)
        interrupt = stack.enter_context(interrupts_between_steps())
        state, stopped = run_with_checkpoints(
            run, f"polishing{which}", _describe, checkpoint, interrupt
        )
        if stopped is not None:
            say(f"stopped at step {state.step} of polishing; go on with --resume")
            raise stopped
        result: Polish = state.snapshot()
        with written(path, overwrite=True) as part:
            result.save(part)
        checkpoint.unlink(missing_ok=True)
        say(f"polish: {path.name}, {state.step} steps in {state.seconds:.0f} s")
        say(result.sentence)
    return result


def _checkpoint_of(path: Path) -> Path:
    """Return the checkpoint of a polish that is being trained."""
    return path.with_name(f"{path.name}.resume")


def _describe(progress: Progress[Polishing]) -> tuple[float, str]:
    state = progress.result
    if state is None:
        return progress.fraction, progress.message
    note = f"step {state.step} of {state.steps}  {state.seconds_left:.0f} s left"
    return progress.fraction, note
