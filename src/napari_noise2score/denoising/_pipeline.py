"""Process the blocks of an image with reading, network and writing running in parallel."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ..progress import Progress
from ._blocks import compute_block, read_block, round_to_dtype
from .halo import Array, BlockData
from .job import Block, Job, Quantity, blocks_of

BLOCKS_READ_AHEAD = 2
MAX_BLOCKS_TO_WRITE = 4
# compressing takes longer than reading, and on a GPU longer than the network
WRITER_THREADS = 4


def fill_array(target: Any, job: Job, quantity: Quantity) -> Iterator[Progress[Any]]:
    """Write a quantity of an image into an array, block by block.

    Parameters
    ----------
    target : array-like
        Written as ``target[index] = values``.
    job : Job
        The job.
    quantity : Quantity
        What to compute.

    Yields
    ------
    Progress
        After every block; the last one's result is the target.
    """
    todo = list(enumerate(blocks_of(job)))
    before = job.tile
    for done, (_, tile) in enumerate(process_blocks(target, job, quantity, todo, before), 1):
        result = target if done == len(todo) else None
        yield Progress(done, len(todo), memory_message(before, tile), result)
        before = tile


def process_blocks(
    target: Any,
    job: Job,
    quantity: Quantity,
    todo: Iterable[tuple[int, Block]],
    tile: tuple[int, ...],
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Compute blocks while the next ones are read and the last ones are written.

    Parameters
    ----------
    target : array-like
        Written as ``target[index] = values``.
    job : Job
        The job.
    quantity : Quantity
        What to compute.
    todo : iterable of (int, Block)
        Numbered blocks.
    tile : tuple of int
        Size of a tile to begin with.

    Yields
    ------
    number : int
        Number of a block that has been written.
    tile : tuple of int
        Size of tile that fitted in memory.
    """
    waiting = iter(todo)
    reads: deque[tuple[int, Block, Future[BlockData]]] = deque()
    writes: deque[tuple[int, Future[None]]] = deque()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(WRITER_THREADS) as writer:

        def read_ahead() -> None:
            while len(reads) < BLOCKS_READ_AHEAD and (following := next(waiting, None)):
                number, block = following
                reads.append((number, block, reader.submit(read_block, job, *block)))

        try:
            read_ahead()
            while reads:
                number, block, reading = reads.popleft()
                read = reading.result()
                read_ahead()
                values, tile = compute_block(job, quantity, read, *block, tile)
                writes.append((number, writer.submit(write_block, target, job, block, values)))
                # only the queues keep a block in memory while the next is computed
                del read, values, reading
                while writes and (len(writes) > MAX_BLOCKS_TO_WRITE or writes[0][1].done()):
                    number, writing = writes.popleft()
                    writing.result()
                    yield number, tile
            for number, writing in writes:
                writing.result()
                yield number, tile
        finally:
            for _, _, reading in reads:
                reading.cancel()
            for _, writing in writes:
                writing.cancel()


def write_block(target: Any, job: Job, block: Block, values: Array) -> None:
    """Write the values of a block to its place in an array, and to the disk if it is a file."""
    target[job.layout.index(*block)] = round_to_dtype(values, target.dtype)
    if sync := getattr(target, "sync", None):
        sync()  # a block counts as finished only once it is on the disk


def memory_message(before: tuple[int, ...], tile: tuple[int, ...]) -> str:
    """Return a message if memory ran out and the tile was made smaller, else ``""``."""
    if tile == before:
        return ""
    return f"memory ran out: going on with tiles of {'x'.join(map(str, tile))}"
