"""The jobs of the Denoise dock: polish, denoise in memory, denoise lazily."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataWarning, UserError
from ..progress import Progress
from ._session import session
from ._write import Result

if TYPE_CHECKING:
    from ..image.image import Image
    from ..score.polish import Polish

POLISHING = "polishing"  # message of the progress of a polish


def with_polish(
    steps: Any, image: Image, model: Any, noise: Any, device: str, *more: Any
) -> Generator[Progress[Any], None, None]:
    """Polish for a model and noise model, unless that was done before, and then run a job.

    Channels that were learned each by itself are polished each by itself.

    A polish that is stopped is continued the next time. If the model has a file, the polish is
    kept beside it. If it does harm, it is not used, and a `DataWarning` says so.

    Parameters
    ----------
    steps : callable
        The job, a function as `denoise_all`.
    image, model, noise, device, *more
        Its arguments but the polish.

    Yields
    ------
    Progress
        That of the polish with the message `POLISHING`, then that of the job.
    """
    from ..denoising.polishing import polish_inputs
    from ..denoising.provenance import fingerprint_of
    from ..score.polish import key_of_polish

    each = polish_inputs([image], model, noise)
    polishes: list[Polish | None] = []
    for number, ((own_image,), own, its) in enumerate(each):
        for progress in _polish_steps(
            own_image, own, its, device, session.files.get(model.fingerprint)
        ):
            yield replace(
                progress,
                done=progress.done + number * progress.total,
                total=progress.total * len(each),
            )
        polish = session.polishes[key_of_polish(own, its)]
        polish.check(own, its)
        if polish.does_harm:
            where = f"channel {number + 1}: " if len(each) > 1 else ""
            warnings.warn(where + polish.sentence, DataWarning, stacklevel=2)
        polishes.append(None if polish.does_harm else polish)
    used = None if not any(polishes) else polishes if model.channel_coordinates else polishes[0]
    for progress in steps(image, model, noise, device, *more, used):
        if progress.result is not None and used:
            progress = replace(
                progress, result=progress.result._replace(polish=fingerprint_of(used))
            )
        yield progress


def _polish_steps(
    image: Image, model: Any, noise: Any, device: str, model_file: Path | None
) -> Generator[Progress[Any], None, None]:
    """Add a polish of one model to the session, unless it is there or in its file."""
    from ..denoising.polishing import polish_steps
    from ..score.polish import Polish, key_of_polish, path_beside

    key = key_of_polish(model, noise)
    if key in session.polishes:
        return
    path = path_beside(model_file, model, noise) if model_file else None
    if path is not None and path.exists():
        session.polishes[key] = Polish.load(path)
        return
    checkpoint = Path(_folder_of_checkpoints()) / f"{key}.resume"
    resume = checkpoint if checkpoint.exists() else None
    state = None
    try:
        for progress in polish_steps(image, model, noise, device=device, resume=resume):
            state = progress.result or state
            yield replace(progress, result=None, message=POLISHING)
    except BaseException:
        if state is not None:
            state.checkpoint(checkpoint)
        raise
    assert state is not None
    session.polishes[key] = state.snapshot()
    checkpoint.unlink(missing_ok=True)
    if path is not None:
        _keep(session.polishes[key], path)


def _keep(polish: Polish, path: Path) -> None:
    """Write a polish to a file; warn if that is not possible, as this session has it anyway."""
    try:
        polish.save(path)
    except (UserError, OSError) as error:
        text = f"the polish is kept only until napari is closed: {error}"
        warnings.warn(text, DataWarning, stacklevel=2)


def _folder_of_checkpoints() -> str:
    """Return a folder for checkpoints, which is removed when napari is closed."""
    if session.temporary is None:
        session.temporary = tempfile.TemporaryDirectory(prefix="noise2score-")
    return session.temporary.name


def denoise_all(
    image: Image,
    model: Any,
    noise: Any,
    device: str,
    dtype: np.dtype,
    _noise_notes: Mapping[str, Any],
    spread: bool,
    polish: Polish | Sequence[Polish | None] | None,
) -> Iterator[Progress[Result]]:
    """Denoise an image in memory."""
    from ..denoising.denoise import denoise_steps, uncertainty_steps

    shape = image.data.shape
    try:
        target = np.empty(shape, dtype)
        deviation = np.empty(shape, dtype) if spread else None
    except MemoryError:
        raise UserError(
            f"the result of {dtype.itemsize * math.prod(shape) / 2**30:.1f} GiB does not fit in "
            "memory: use 'Add lazy layer', or 'Write OME-Zarr…'"
        ) from None
    for progress in denoise_steps(image, model, noise, target, device=device, polish=polish):
        yield replace(progress, result=None)
    if spread:
        for progress in uncertainty_steps(
            image, model, noise, deviation, device=device, polish=polish
        ):
            yield replace(progress, result=None)
    yield Progress(1, 1, result=Result(target, deviation))


def denoise_lazily(
    image: Image,
    model: Any,
    noise: Any,
    device: str,
    dtype: np.dtype,
    _noise_notes: Mapping[str, Any],
    spread: bool,
    polish: Polish | Sequence[Polish | None] | None,
) -> Iterator[Progress[Result]]:
    """Make a lazy result, of which each plane is computed when it is shown."""
    from ..denoising.denoise import denoise, uncertainty

    makers = (denoise, uncertainty) if spread else (denoise,)
    lazy = [
        make(image, model, noise, device=device, dtype=dtype, polish=polish).data for make in makers
    ]
    yield Progress(1, 1, result=Result(*lazy))
