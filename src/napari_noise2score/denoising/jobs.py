"""Write a result to a file of any size; a job interrupted at any moment can be resumed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from .. import __version__
from ..errors import UserError
from ..image.files import read_image
from ..image.identity import identify_image, key_of
from ..image.image import Image, as_image
from ..image.lock import claimed
from ..image.ome_zarr import SHARD, build_block, pyramid_blocks
from ..image.output import hidden_name, publish, remove
from ..image.paths import is_ome_zarr
from ..image.write import (
    IN_MEMORY,
    check_image_output,
    close_target,
    create_target,
    finish_target,
    open_target,
    publish_beside,
    suffix_of,
)
from ..image.zarrs import SyncedStore
from ..noise import NoiseModel, parse_noise
from ..progress import Progress
from ..score.model import ScoreModel
from ..score.polish import Polish
from ._journal import Journal, check_same, read_journal
from ._pipeline import fill_array, memory_message, process_blocks
from .job import Block, Job, Quantity, blocks_of, prepare
from .provenance import fingerprint_of, result_image, result_notes

Runner = Callable[
    [Path, Job, Quantity, list[tuple[int, Block]], tuple[int, ...]],
    Iterator[tuple[int, tuple[int, ...]]],
]
"""Writes numbered blocks into the store at a path; yields each number and the size of a tile."""


class Output(NamedTuple):
    """Path, metadata and format of a result, without its pixels."""

    path: Path
    result: Image
    dtype: np.dtype
    ome_zarr: str
    overwrite: bool

    @property
    def hidden(self) -> Path:
        """Path of the incomplete result."""
        return hidden_name(self.path)


def write_steps(
    path: str | os.PathLike[str],
    quantity: Quantity,
    image: Any,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    axes: str | None = None,
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
    exact: bool = True,
    dtype: Any = "float32",
    noise_notes: Mapping[str, Any] | None = None,
    polish: Polish | Sequence[Polish | None] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    ome_zarr: str = "0.5",
    client: Any = None,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> Iterator[Progress[Path]]:
    """Write a quantity of an image to a file or store; closing the generator stops.

    A PNG or a compressed NIfTI file is computed in memory.

    Parameters
    ----------
    path : path-like
        The file or store.
    quantity : Quantity
        What to compute.
    image, model, noise, axes, tile, device, sigma_a, exact, dtype, noise_notes, polish
        As for `denoise`.
    overwrite, resume, ome_zarr, client, inputs
        As for `FileOptions`.

    Yields
    ------
    Progress
        After every block that is written, those of the pyramid included. The last one, whose
        result is the path, comes once the result has its name.

    Raises
    ------
    UserError
        As for `denoise`.
    """
    image = as_image(image, axes)
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    dtype = np.dtype(dtype).newbyteorder("=")
    inputs = [*inputs, *noise_files(noise)]
    path = check_image_output(path, image, dtype, overwrite or resume, inputs)
    if client is not None:
        check_workers_can_write(path)
    facts = identify_image(image) | {
        "model": model.fingerprint, "noise": str(noise), "noise content": noise.content_digest,
        "what": quantity.name + ("" if exact else " by the closed form"), "sigma_a": sigma_a,
        "polish": polish and fingerprint_of(polish),
        "dtype": str(dtype), "tile": tile and list(tile),
        "ome_zarr": ome_zarr if is_ome_zarr(path) else None, "version": __version__,
    }  # fmt: skip
    notes = result_notes(model, noise, sigma_a=sigma_a, noise_notes=noise_notes, polish=polish)
    result = result_image(image, image.data, quantity.name, {**notes, "job": key_of(facts)})
    with claimed(path):
        journal = read_journal(_journal_name(path)) if resume or not overwrite else None
        if resume and journal is None and path.exists() and _made_by(path, result):
            yield Progress(1, 1, f"{path} is complete already", path)
            return
        has_name = resume and journal is not None and journal.complete
        has_name = has_name and not hidden_name(path).exists()
        if os.path.lexists(path) and not overwrite and not has_name:
            raise UserError(_exists_message(path, resume))
        if journal is not None and not resume and journal.done:
            raise UserError(
                f"{path} was started before and not finished: continue with --resume, "
                "or start again with --overwrite"
            )
        if journal is not None and resume:
            check_same(journal, facts)
        else:
            forget(path)
            journal = None
        unit = [SHARD[model.ndim].get(a, 1) for a in "ZYX"[3 - model.ndim :]]
        job = prepare(
            image, model, noise, tile=tile if journal is None else journal.tile, device=device,
            sigma_a=sigma_a, exact=exact, block_unit=unit if journal is None else journal.block,
            polish=polish,
        )  # fmt: skip
        output = Output(path, result, dtype, ome_zarr, overwrite)
        if suffix_of(path) in IN_MEMORY:
            steps = _in_memory(output, job, quantity)
        else:
            journal = journal or Journal(_journal_name(path), facts, job.tile, job.block)
            runner = in_this_process if client is None else _on_cluster(client, image, device)
            steps = _in_blocks(output, journal, job, quantity, runner)
        yield from steps


def _on_cluster(client: Any, image: Image, device: str) -> Runner:
    """Return a `Runner` that uses the workers of a client."""
    # dask.distributed is imported only if it is used
    from .cluster import on_cluster

    return on_cluster(client, image, device)


def check_workers_can_write(path: Path) -> None:
    """Raise a `UserError` unless several processes can write a result at once."""
    if path.suffix.lower() != ".zarr":
        raise UserError(f"{path}: workers can write only .ome.zarr and .zarr")


def left_of(path: Path) -> bool:
    """Return whether there are remains of an interrupted job for this result."""
    return _journal_name(path).exists()


def forget(path: Path) -> None:
    """Remove the remains of an interrupted job."""
    remove(_journal_name(path))
    remove(hidden_name(path))


def in_this_process(
    path: Path, job: Job, quantity: Quantity, todo: list[tuple[int, Block]], tile: tuple[int, ...]
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Process blocks in this process; a `Runner`."""
    target = open_target(path, job.layout.axes)
    try:
        yield from process_blocks(target, job, quantity, todo, tile)
    finally:
        close_target(target)


def _in_memory(output: Output, job: Job, quantity: Quantity) -> Iterator[Progress[Path]]:
    """Compute a result in memory, and write it once it is complete."""
    target = create_target(output.hidden, output.result, output.dtype)
    message, total = "", 0
    for progress in fill_array(target, job, quantity):
        if progress.result is None or progress.total == 1:
            yield Progress(progress.done, progress.total, progress.message)
        message, total = progress.message, int(progress.total)
    try:
        finish_target(output.hidden, target, output.result)
        publish(output.hidden, output.path, output.overwrite)
    finally:
        remove(output.hidden)
    yield Progress(total, total, message, output.path)


def _in_blocks(
    output: Output, journal: Journal, job: Job, quantity: Quantity, runner: Runner
) -> Iterator[Progress[Path]]:
    """Write a result block by block, and keep each finished block if the job is interrupted."""
    last = Progress[Path](1, 1)
    try:
        if not journal.complete:
            if not (journal.path.exists() and output.hidden.exists()):
                journal.done.clear()
                forget(output.path)
                target = create_target(
                    output.hidden, output.result, output.dtype, output.ome_zarr, job.model.ndim
                )
                close_target(target)
                journal.begin()
            for last in _fill(output.hidden, journal, job, quantity, runner):
                # the last block is reported with the result, unless it is the only one
                if last.done < last.total or last.total == 1:
                    yield last
            journal.close()
    except BaseException as error:
        if journal.done:
            error.add_note(
                f"{output.path}: interrupted; run the same command with --resume to continue"
            )
        else:
            forget(output.path)
        raise
    # absent if a job was killed after it had published the result
    if output.hidden.exists():
        publish_beside(output.path, output.result, output.dtype)
        publish(output.hidden, output.path, output.overwrite)
    remove(journal.path)
    yield Progress(last.total, last.total, last.message, output.path)


def _fill(
    hidden: Path, journal: Journal, job: Job, quantity: Quantity, runner: Runner
) -> Iterator[Progress[Path]]:
    """Process the unfinished blocks of the image, and then those of the pyramid."""
    if hidden.is_dir():
        # incomplete files of a job that was killed
        for torn in hidden.rglob("*.partial"):
            torn.unlink()
    identity = os.stat(hidden)
    blocks = list(enumerate(blocks_of(job)))
    above = pyramid_blocks(hidden) if is_ome_zarr(hidden) else []
    total = len(blocks) + len(above)
    todo = [(number, block) for number, block in blocks if number not in journal.done]

    def finish(number: int, tile: tuple[int, ...]) -> None:
        # if the disk was disconnected, writing would create a new store in an empty folder
        if not _is_same_file(hidden, identity):
            raise OSError(f"{hidden} is gone: its disk may have been disconnected")
        journal.finish(number, tile)

    for number, tile in runner(hidden, job, quantity, todo, journal.tile):
        message = memory_message(journal.tile, tile)
        finish(number, tile)
        yield Progress(len(journal.done), total, message)
    group = zarr.open_group(SyncedStore(hidden), mode="r+") if above else None
    for number, (level, block) in enumerate(above, len(blocks)):
        if number not in journal.done:
            assert group is not None
            build_block(group, level, block)
            finish(number, journal.tile)
            yield Progress(len(journal.done), total)


def _is_same_file(path: Path, before: os.stat_result) -> bool:
    """Return whether a path is still the file or folder that it was."""
    try:
        return os.path.samestat(os.stat(path), before)
    except OSError:
        return False


def noise_files(noise: NoiseModel) -> tuple[str, ...]:
    """Return the paths of the files that a noise model refers to."""
    return noise.files


def _journal_name(path: Path) -> Path:
    """Return the path of the journal of a result."""
    return path.with_name(f"{hidden_name(path).name}.journal")


def _made_by(path: Path, result: Image) -> bool:
    """Return whether the existing result was made by the same job."""
    try:
        notes = read_image(path, result.axes if path.suffix.lower() == ".png" else None).notes
    except UserError:
        return False
    return bool(notes.get("job") == result.notes["job"])


def _exists_message(path: Path, resume: bool) -> str:
    """Return the message that a result exists already."""
    if not resume:
        return f"{path} exists already; use --overwrite to replace it"
    return (
        f"{path} exists already, and another input, model, noise or version made it; "
        "choose another name, or use --overwrite to replace it"
    )
