"""Denoise into a file of any size; cut off at any moment, the job can be resumed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from .. import __version__
from ..errors import UserError
from ..image.files import read_image
from ..image.identity import identify_image, key_of
from ..image.image import Image
from ..image.lock import claimed
from ..image.ome_zarr import SHARD, build_block, pyramid_blocks
from ..image.output import hidden_name, publish, remove
from ..image.paths import is_ome_zarr
from ..image.write import (
    check_image_output,
    close_target,
    create_target,
    finish_target,
    open_target,
    publish_beside,
)
from ..image.zarrs import SyncedStore
from ..noise import NoiseModel, parse_noise
from ..score.model import ScoreModel
from ._journal import Journal, check_same, read_journal
from ._pipeline import said_of, side_by_side
from .denoise import denoised, result_of, spread
from .tiles import Block, Compute, Job, TileProgress, blocks, prepare

MAKES: dict[str, Compute] = {"denoised": denoised, "uncertainty": spread}

Runner = Callable[
    [Path, Job, str, list[tuple[int, Block]], tuple[int, ...]],
    Iterator[tuple[int, tuple[int, ...]]],
]
"""Writes numbered blocks into the store at a path: gives the number of each, and the tile."""


class Output(NamedTuple):
    """Where a result goes, and all of it but its pixels."""

    path: Path
    result: Image
    dtype: np.dtype
    ome_zarr: str
    overwrite: bool

    @property
    def hidden(self) -> Path:
        """Where it grows until it is complete."""
        return hidden_name(self.path)


def denoise_to_file(
    path: str | os.PathLike[str],
    image: Image,
    model: ScoreModel,
    noise: NoiseModel | str,
    *,
    what: str = "denoised",
    dtype: Any = "float32",
    tile: Sequence[int] | None = None,
    device: str = "auto",
    sigma_a: float | None = None,
    ome_zarr: str = "0.5",
    overwrite: bool = False,
    resume: bool = False,
    run: Runner | None = None,
    found: Mapping[str, Any] | None = None,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> Iterator[TileProgress]:
    """Denoise an image into a file or store; closing the generator stops.

    The result grows under a hidden name beside its own, with a journal of the finished blocks,
    and gets its name when it is complete. A job that was stopped or killed is resumed by
    ``resume=True``, and the result is the same to the byte. A PNG is small, and made at once.

    Parameters
    ----------
    path : path-like
        The file or store, ending in one of .ome.zarr, .zarr, .tif, .tiff, .npy, .png.
    image : Image
        Noisy image, as from `read_image`.
    model : ScoreModel
        A score learned on images like this one.
    noise : NoiseModel or str
        The noise.
    what : {"denoised", "uncertainty"}
        The clean image, or the standard deviation of every pixel of it.
    dtype : dtype-like
        Type of the pixels; for an integer type values are rounded and clipped.
    tile, device, sigma_a
        As for `denoise`.
    ome_zarr : {"0.5", "0.4"}
        Version of OME-Zarr to write.
    overwrite : bool
        Whether a result that exists, or what is left of a job, may be replaced.
    resume : bool
        Whether to go on where a job of the same image, model and noise was cut off. If there is
        none, a new one begins; if its result is complete, nothing is done.
    run : callable, optional
        What works through the blocks of a store; by default this process, else as from
        `cluster.on_cluster`.
    found : mapping, optional
        How the noise was found, as `NoiseReport.provenance` returns it: written with the result.
        Values are JSON.
    inputs : iterable of path-like
        What else the job reads, as the file of the model; none of it may be replaced.

    Yields
    ------
    TileProgress
        After every block that is written, those of the pyramid included.

    Raises
    ------
    UserError
        If the model does not fit the image, the result exists, is an input or cannot be written,
        another job writes it, or the job to be resumed is another one. Finished blocks are kept.

    Examples
    --------
    >>> import tempfile
    >>> from napari_noise2score import train
    >>> noisy = np.random.default_rng(0).normal(100, 10, (4, 64, 64)).astype("float32")
    >>> file = Path(tempfile.mkdtemp()) / "clean.ome.zarr"
    >>> model = train(noisy, "TYX", steps=2)
    >>> for step in denoise_to_file(file, Image(noisy, "TYX"), model, "gaussian(sigma=10)"):
    ...     pass
    >>> step.done, step.total, read_image(file).data.shape
    (4, 4, (4, 64, 64))
    """
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    dtype = np.dtype(dtype).newbyteorder("=")
    inputs = [*inputs, *noise_files(noise)]
    path = check_image_output(path, image, dtype, overwrite or resume, inputs)
    if run is not None and path.suffix.lower() != ".zarr":
        raise UserError(f"{path}: only .ome.zarr and .zarr are written by workers")
    facts = identify_image(image) | {
        "model": model.fingerprint, "noise": str(noise), "noise content": _identify_noise(noise),
        "what": what, "sigma_a": sigma_a, "dtype": str(dtype), "tile": tile and list(tile),
        "ome_zarr": ome_zarr if is_ome_zarr(path) else None, "version": __version__,
    }  # fmt: skip
    result = result_of(image, image.data, model, noise, found)
    result = replace(result, notes={**result.notes, "job": key_of(facts)})
    with claimed(path):
        journal = read_journal(_journal_name(path)) if resume or not overwrite else None
        if resume and journal is None and path.exists() and _made_by(path, result):
            yield TileProgress(1, 1, f"{path} is complete already")
            return
        named = resume and journal is not None and journal.complete
        named = named and not hidden_name(path).exists()
        if os.path.lexists(path) and not overwrite and not named:
            raise UserError(_exists(path, resume))
        if journal is not None and not resume and journal.done:
            raise UserError(
                f"{path} was begun before and not finished: go on with --resume, "
                "or begin again with --overwrite"
            )
        if journal is not None and resume:
            check_same(journal, facts)
        else:
            forget(path)
            journal = None
        unit = [SHARD[model.ndim].get(a, 1) for a in "ZYX"[3 - model.ndim :]]
        job = prepare(
            image, model, noise, tile=tile if journal is None else journal.tile, device=device,
            sigma_a=sigma_a, unit=unit if journal is None else journal.block,
        )  # fmt: skip
        out = Output(path, result, dtype, ome_zarr, overwrite)
        if path.suffix.lower() == ".png":
            yield from _at_once(out, job, what)
        else:
            journal = journal or Journal(_journal_name(path), facts, job.tile, job.block)
            yield from _in_blocks(out, journal, job, what, run or in_this_process)


def left_of(path: Path) -> bool:
    """Return whether a job that writes this result was cut off."""
    return _journal_name(path).exists()


def forget(path: Path) -> None:
    """Remove what a job that was cut off has left."""
    remove(_journal_name(path))
    remove(hidden_name(path))


def in_this_process(
    path: Path, job: Job, what: str, todo: list[tuple[int, Block]], tile: tuple[int, ...]
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Work through blocks here, one after the other."""
    target = open_target(path, job.layout.axes)
    try:
        yield from side_by_side(target, job, MAKES[what], todo, tile)
    finally:
        close_target(target)


def _at_once(out: Output, job: Job, what: str) -> Iterator[TileProgress]:
    """Make a result that is held in memory until it is complete."""
    target = create_target(out.hidden, out.result, out.dtype)
    todo = list(enumerate(blocks(job)))
    steps = side_by_side(target, job, MAKES[what], todo, job.tile)
    for done, (_, tile) in enumerate(steps, 1):
        yield TileProgress(done, len(todo), said_of(job.tile, tile))
    try:
        finish_target(out.hidden, target, out.result)
        publish(out.hidden, out.path, out.overwrite)
    finally:
        remove(out.hidden)


def _in_blocks(
    out: Output, journal: Journal, job: Job, what: str, run: Runner
) -> Iterator[TileProgress]:
    """Make a result block by block, each of which is kept."""
    try:
        if not journal.complete:
            if not (journal.path.exists() and out.hidden.exists()):
                journal.done.clear()
                forget(out.path)
                ndim = job.model.ndim
                close_target(create_target(out.hidden, out.result, out.dtype, out.ome_zarr, ndim))
                journal.begin()
            yield from _fill(out.hidden, journal, job, what, run)
            journal.close()
    except BaseException as error:
        if journal.done:
            error.add_note(
                f"{out.path}: cut off; the same command with --resume goes on from there"
            )
        else:
            forget(out.path)
        raise
    # a job killed at the very end may have come past this
    if out.hidden.exists():
        publish_beside(out.path, out.result, out.dtype)
        publish(out.hidden, out.path, out.overwrite)
    remove(journal.path)


def _fill(
    hidden: Path, journal: Journal, job: Job, what: str, run: Runner
) -> Iterator[TileProgress]:
    """Work through the blocks that are not done, and then through those of the pyramid."""
    if hidden.is_dir():
        # what was being written when the job was killed
        for torn in hidden.rglob("*.partial"):
            torn.unlink()
    place = os.stat(hidden)
    tiles = list(enumerate(blocks(job)))
    above = pyramid_blocks(hidden) if is_ome_zarr(hidden) else []
    total = len(tiles) + len(above)
    todo = [(number, block) for number, block in tiles if number not in journal.done]

    def finish(number: int, tile: tuple[int, ...]) -> None:
        # a disk that was disconnected leaves an empty folder, in which a store is made anew
        if not _is_there(hidden, place):
            raise OSError(f"{hidden} is gone: its disk may have been disconnected")
        journal.finish(number, tile)

    for number, tile in run(hidden, job, what, todo, journal.tile):
        said = said_of(journal.tile, tile)
        finish(number, tile)
        yield TileProgress(len(journal.done), total, said)
    group = zarr.open_group(SyncedStore(hidden), mode="r+") if above else None
    for number, (level, block) in enumerate(above, len(tiles)):
        if number not in journal.done:
            assert group is not None
            build_block(group, level, block)
            finish(number, journal.tile)
            yield TileProgress(len(journal.done), total)


def _is_there(path: Path, before: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), before)
    except OSError:
        return False


def noise_files(noise: NoiseModel) -> tuple[str, ...]:
    """Return the files that a noise model names."""
    return noise.files


def _identify_noise(noise: NoiseModel) -> str:
    """Describe a noise model, with the content of the file that it names."""
    return f"{noise} {noise.content_digest}".rstrip()


def _journal_name(path: Path) -> Path:
    return path.with_name(f"{hidden_name(path).name}.journal")


def _made_by(path: Path, result: Image) -> bool:
    """Return whether this very job made the result that is there."""
    try:
        notes = read_image(path, result.axes if path.suffix.lower() == ".png" else None).notes
    except UserError:
        return False
    return notes.get("job") == result.notes["job"]


def _exists(path: Path, resume: bool) -> str:
    if not resume:
        return f"{path} exists already; use --overwrite to replace it"
    return (
        f"{path} exists already, and another input, model, noise or version made it; "
        "choose another name, or --overwrite it"
    )
