"""Denoise straight into a zarr store, of any size; cut off at any moment, it can be resumed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from .. import __version__
from ..errors import UserError
from ..image.axes import layout, read_block
from ..image.files import check_output, is_ome_zarr, put_in_place, read_image, remove
from ..image.image import Image
from ..image.ome_zarr import SHARD, build_block, create_ome_zarr, pyramid_blocks, sharpest_of
from ..image.zarrs import create_zarr
from ..noise import NoiseModel, parse_noise
from ..score.model import ScoreModel
from .denoise import denoised, result_of, spread
from .pipeline import said_of, side_by_side
from .record import Record, check_same, read_record
from .tiles import Block, Compute, Job, TileProgress, blocks, prepare

MAKES: dict[str, Compute] = {"denoised": denoised, "uncertainty": spread}

Runner = Callable[
    [Path, Job, str, list[tuple[int, Block]], tuple[int, ...]],
    Iterator[tuple[int, tuple[int, ...]]],
]
"""Writes numbered blocks into the store at a path: gives the number of each, and the tile."""


def denoise_to_store(
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
) -> Iterator[TileProgress]:
    """Denoise an image into a zarr or OME-Zarr store; closing the generator stops.

    The store grows under a hidden name beside its own, with a record of what is finished, and
    gets its name when it is complete. What is left of a job that was stopped or killed is gone on
    with by ``resume=True``, and the result is the same to the byte.

    Parameters
    ----------
    path : path-like
        The store, ending in .ome.zarr or .zarr.
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
        Whether a store that exists may be replaced.
    resume : bool
        Whether to go on where a job of the same image, model and noise was cut off. If there is
        none, a new one begins; if it is complete, nothing is done.
    run : callable, optional
        What works through the blocks; by default this process, else as from
        `cluster.on_cluster`.
    found : mapping, optional
        How the noise was found, as from `calibrate`; written with the result. Values are JSON.

    Yields
    ------
    TileProgress
        After every block that is written, those of the pyramid included.

    Raises
    ------
    UserError
        If the model does not fit the image, the store exists or is the input, a pixel is not a
        finite number, or the job to be resumed is another one.

    Examples
    --------
    >>> import tempfile
    >>> from napari_noise2score import train
    >>> noisy = np.random.default_rng(0).normal(100, 10, (4, 64, 64)).astype("float32")
    >>> file = Path(tempfile.mkdtemp()) / "clean.ome.zarr"
    >>> model = train(noisy, "TYX", steps=2)
    >>> for step in denoise_to_store(file, Image(noisy, "TYX"), model, "gaussian(sigma=10)"):
    ...     pass
    >>> step.done, step.total, read_image(file).data.shape
    (4, 4, (4, 64, 64))
    """
    path = Path(path)
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    dtype = np.dtype(dtype).newbyteorder("=")
    result = result_of(image, image.data, model, noise, found)
    if resume and path.exists() and not left_of(path):
        _check_made_by(path, result)
        yield TileProgress(1, 1, f"{path} is complete already")
        return
    record = read_record(_record_name(path)) if resume else None
    check_output(path, image, overwrite or (record is not None and record.complete))
    if path.suffix.lower() != ".zarr":
        raise UserError(f"{path}: only .ome.zarr and .zarr are written block by block")
    facts = {
        "model": model.fingerprint, "noise": str(noise), "what": what, "source": image.source,
        "sigma_a": sigma_a, "shape": image.data.shape, "pixels": _digest(image), "axes": image.axes,
        "dtype": str(dtype), "ome_zarr": ome_zarr, "version": __version__,
    }  # fmt: skip
    hidden = hidden_name(path)
    if record is not None:
        check_same(record, facts)
        tile = record.tile
    unit = [SHARD[model.ndim].get(a, 1) for a in "ZYX"[3 - model.ndim :]]
    job = prepare(
        image, model, noise, tile=tile, device=device, sigma_a=sigma_a,
        unit=unit if record is None else record.block,
    )  # fmt: skip
    if record is None or not (hidden.exists() or record.complete):
        record = Record(_record_name(path), facts, job.tile, job.block)
        _begin(path, record, result, dtype, ome_zarr, model.ndim)
    if not record.complete:
        try:
            yield from _fill(hidden, record, job, what, run or in_this_process)
        except UserError:
            # trying again would end the same way
            forget(path)
            raise
        record.close()
    # a job killed at the very end may have come past this
    if hidden.exists():
        put_in_place(hidden, path)
    remove(record.path)


def left_of(path: Path) -> bool:
    """Say whether a job that writes this store was cut off."""
    return _record_name(path).exists()


def forget(path: Path) -> None:
    """Remove what a job that was cut off has left."""
    remove(_record_name(path))
    remove(hidden_name(path))


def hidden_name(path: Path) -> Path:
    """Where a store grows until it is complete."""
    return path.with_name(f".part-{path.name}")


def in_this_process(
    path: Path, job: Job, what: str, todo: list[tuple[int, Block]], tile: tuple[int, ...]
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Work through the blocks here, one after the other."""
    return side_by_side(open_target(path, job.layout.axes), job, MAKES[what], todo, tile)


def open_target(path: Path, axes: str) -> Any:
    """Open the array of a growing store for writing."""
    if is_ome_zarr(path):
        return sharpest_of(path, axes)
    return zarr.open_array(str(path), mode="r+")


def _begin(
    path: Path, record: Record, result: Image, dtype: np.dtype, ome_zarr: str, ndim: int
) -> None:
    """Make an empty store under its hidden name, and then its record."""
    forget(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_ome_zarr(path):
        create_ome_zarr(hidden_name(path), result, dtype, ome_zarr, ndim)
    else:
        create_zarr(hidden_name(path), result, dtype)
    record.begin()


def _fill(hidden: Path, record: Record, job: Job, what: str, run: Runner) -> Iterator[TileProgress]:
    """Work through the blocks that are not done, and then through those of the pyramid."""
    # what was being written when the job was killed
    for torn in hidden.rglob("*.partial"):
        torn.unlink()
    tiles = list(enumerate(blocks(job)))
    above = pyramid_blocks(hidden) if is_ome_zarr(hidden) else []
    total = len(tiles) + len(above)
    todo = [(number, block) for number, block in tiles if number not in record.done]
    for number, tile in run(hidden, job, what, todo, record.tile):
        said = said_of(record.tile, tile)
        record.finish(number, tile)
        yield TileProgress(len(record.done), total, said)
    group = zarr.open_group(str(hidden), mode="r+") if above else None
    for number, (level, block) in enumerate(above, len(tiles)):
        if number not in record.done:
            assert group is not None
            build_block(group, level, block)
            record.finish(number, record.tile)
            yield TileProgress(len(record.done), total)


def _digest(image: Image) -> str:
    """Tell an image from others of its size by some pixels: a layer need not have a file."""
    where = layout(image.axes, image.data.shape)
    sizes = [where.shape[where.axes.index(a)] for a in where.loop]
    middle = [slice(n // 2 - min(32, n // 2), n // 2 + 32) for n in where.space_shape]
    digest = blake2b(digest_size=8)
    for position in ([0] * len(sizes), [n // 2 for n in sizes], [n - 1 for n in sizes]):
        digest.update(read_block(image.data, where, position, middle).tobytes())
    return digest.hexdigest()


def _record_name(path: Path) -> Path:
    return path.with_name(f".part-{path.name}.jsonl")


def _check_made_by(path: Path, result: Image) -> None:
    """Raise a `UserError` if a store that is there was not made by the same model and noise."""
    made = read_image(path, result.axes if not is_ome_zarr(path) else None).notes
    if dict(made) != dict(result.notes):
        raise UserError(
            f"{path} exists already, and another model, noise or version made it; "
            "choose another name, or --overwrite it without --resume"
        )
