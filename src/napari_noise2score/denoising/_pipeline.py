"""Work through the blocks of an image with reading, network and writing side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from .tiles import Block, Compute, Job, TileProgress, as_type, blocks, compute_block, read

# blocks that wait for the network, and results that wait for the disk
AHEAD = 2
BEHIND = 4
# compressing takes longer than reading, and on a GPU longer than the network
WRITERS = 4


def one_by_one(target: Any, job: Job, compute: Compute) -> Iterator[TileProgress]:
    """Write what `compute` makes of an image into an array, block by block."""
    todo = list(enumerate(blocks(job)))
    tile = job.tile
    for done, (_, used) in enumerate(side_by_side(target, job, compute, todo, tile), 1):
        yield TileProgress(done, len(todo), said_of(tile, used))
        tile = used


def side_by_side(
    target: Any,
    job: Job,
    compute: Compute,
    todo: Iterable[tuple[int, Block]],
    tile: tuple[int, ...],
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Compute blocks while the next is read and the last is written.

    Parameters
    ----------
    target : array-like
        Written as ``target[index] = values``.
    job : Job
        What every tile needs.
    compute : callable
        Makes the result of a tile.
    todo : iterable of (int, Block)
        Numbered blocks.
    tile : tuple of int
        Size of a tile to begin with.

    Yields
    ------
    number : int
        Of a block that is written.
    tile : tuple of int
        The size of tile that memory had room for.
    """
    waiting = iter(todo)
    readings: deque[tuple[int, Block, Future]] = deque()
    writings: deque[tuple[int, Future]] = deque()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(WRITERS) as writer:

        def read_ahead() -> None:
            while len(readings) < AHEAD and (following := next(waiting, None)):
                number, block = following
                readings.append((number, block, reader.submit(read, job, *block)))

        try:
            read_ahead()
            while readings:
                number, block, reading = readings.popleft()
                piece = reading.result()
                read_ahead()
                values, tile = compute_block(job, compute, piece, block[1], tile)
                writings.append((number, writer.submit(write, target, job, block, values)))
                # nothing but the queues holds on to a block while the next is computed
                del piece, values, reading
                while writings and (len(writings) > BEHIND or writings[0][1].done()):
                    number, writing = writings.popleft()
                    writing.result()
                    yield number, tile
            for number, writing in writings:
                writing.result()
                yield number, tile
        finally:
            for _, _, reading in readings:
                reading.cancel()
            for _, writing in writings:
                writing.cancel()


def write(target: Any, job: Job, block: Block, values: np.ndarray) -> None:
    """Write a block to where it belongs."""
    target[job.layout.index(*block)] = as_type(values, target.dtype)
    if sync := getattr(target, "sync", None):
        sync()  # only what is on the disk is finished


def said_of(before: tuple[int, ...], tile: tuple[int, ...]) -> str:
    """Say that memory ran out, if it did."""
    if tile == before:
        return ""
    return f"memory ran out: going on with tiles of {'x'.join(map(str, tile))}"
