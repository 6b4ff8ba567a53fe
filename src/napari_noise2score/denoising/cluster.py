"""Process the blocks of a job on several processes or machines, through dask.distributed."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..image.files import read_image
from ..image.guard import Guarded
from ..image.image import Image
from ..image.write import open_target
from ..score.model import ScoreModel
from ..score.polish import Polish
from ._blocks import compute_block, read_block
from ._pipeline import write_block
from ._quantities import QUANTITIES
from .job import Block, Job, Quantity, prepare
from .jobs import Runner

BLOCKS_PER_WORKER = 2  # submitted at once: one is computed while the next is sent
RETRIES = 3
SECONDS_TO_FIRST_WORKER = 600
SECONDS_TO_END = 60  # waited for the running blocks when a job is stopped


@dataclass(frozen=True)
class Setup:
    """Inputs from which a worker prepares its own job, on its own device; sent to each once."""

    key: str
    image: Image | None
    source: str
    axes: str
    model: ScoreModel
    noise: str
    quantity: str
    device: str
    sigma_a: float | None
    exact: bool
    block: tuple[int, ...]
    path: str
    polish: Polish | list[Polish | None] | None


# job and target that this worker has prepared, by the key of the setup; only the last one
_READY: dict[str, tuple[Job, Any]] = {}


@contextmanager
def connect(scheduler: str | None = None, workers: int | None = None) -> Iterator[Any]:
    """Connect to a scheduler, or start workers on this machine, until the ``with`` block ends.

    Parameters
    ----------
    scheduler : str, optional
        Address, as ``"tcp://host:8786"``, or ``"tls://host:8786"`` where dask's settings
        ``distributed.comm.tls`` name the certificates.
    workers : int, optional
        Number of processes, each of one thread.

    Yields
    ------
    distributed.Client

    Raises
    ------
    UserError
        If dask.distributed is not installed, or no scheduler answers at the address.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise UserError(
            "workers need dask.distributed: pip install 'napari-noise2score[cluster]'"
        ) from None
    if (scheduler is None) == (workers is None):
        raise UserError("give either --scheduler or --workers")
    if scheduler is not None:
        try:
            # not as the default client: if it finds no scheduler, it would stay the default
            client = Client(scheduler, timeout=5, set_as_default=False)
        except TypeError:
            raise UserError(
                f"{scheduler}: dask knows no certificates for tls; name them in its settings "
                "distributed.comm.tls (ca-file, client.cert, client.key)"
            ) from None
        except (OSError, TimeoutError, ValueError):
            raise UserError(f"no scheduler answers at {scheduler}") from None
        with client:
            yield client
        return
    assert workers is not None
    if workers < 1:
        raise UserError(f"--workers {workers}: give at least 1")
    # tiles bound the memory; a limit would only kill workers, as torch reserves address space
    with _ignoring_interrupts():
        cluster = LocalCluster(
            # scheduler and workers run any code they are sent, so no other machine may reach them
            host="127.0.0.1",
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,
            # any free port: None would ask for 8787 and warn if it is taken
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Let processes that are started inside ignore Ctrl-C: this process ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def on_cluster(client: Any, image: Image, device: str = "auto") -> Runner:
    """Return a `Runner` that processes blocks on the workers of a client.

    The workers read the image and write the store themselves: both must be reachable by all of
    them under the same path. An image that was not read from a file is sent to them.

    Parameters
    ----------
    client : distributed.Client
        As from `connect`.
    image : Image
        The noisy image.
    device : str
        Device of a worker.

    Returns
    -------
    callable
        A `Runner`.
    """

    def run(
        path: Path,
        job: Job,
        quantity: Quantity,
        todo: list[tuple[int, Block]],
        tile: tuple[int, ...],
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        from distributed import as_completed

        setup = Setup(
            key=f"{path}-{time.time_ns()}",
            # an array that reads a file can be sent, and knows which image of the file it reads
            image=image if isinstance(image.data, Guarded) or not image.source else None,
            source=image.source,
            axes=image.axes,
            model=job.model.to("cpu"),
            noise=str(job.given_noise),
            quantity=quantity.name,
            device=device,
            sigma_a=_sigma_a(job),
            exact=job.exact,
            block=job.block,
            path=str(path.resolve()),
            polish=_polishes(job),
        )
        _wait_for_workers(client)
        # the result of a task, not scattered data, is computed again if its worker is lost
        ready = client.submit(_identity, setup, pure=False, retries=RETRIES)
        waiting = iter(todo)
        running = as_completed(loop=client.loop)

        def submit_next() -> bool:
            following = next(waiting, None)
            if following is not None:
                running.add(
                    client.submit(_one_block, ready, *following, tile, pure=False, retries=RETRIES)
                )
            return following is not None

        def submit_until_full() -> None:
            # the number of workers may change during a job
            while running.count() < BLOCKS_PER_WORKER * max(1, _threads(client)) and submit_next():
                pass

        try:
            submit_until_full()
            for future in running:
                number, used = _outcome(future)
                if np.prod(used) < np.prod(tile):
                    tile = used
                yield number, tile
                submit_until_full()
        finally:
            # no task may write after this generator has ended
            until = time.monotonic() + SECONDS_TO_END
            while client.status == "running" and time.monotonic() < until:
                if all(future.done() for future in list(running.futures)):
                    break
                time.sleep(0.05)

    return run


def _sigma_a(job: Job) -> float | None:
    """Return the perturbation of a job; None if its channels have their own, those of the model."""
    own = {each.sigma_a for each in job.channels or (job,)}
    return own.pop() if len(own) == 1 else None


def _polishes(job: Job) -> Polish | list[Polish | None] | None:
    """Return the polish of a job, or those of its channels, to be sent to workers."""
    each = [own.polish and own.polish.to("cpu") for own in job.channels or (job,)]
    return each if job.channels and any(each) else each[0]


def _identity(setup: Setup) -> Setup:
    """Return the setup; run as a task, its result stays on the workers."""
    return setup


def _one_block(
    setup: Setup, number: int, block: Block, tile: tuple[int, ...]
) -> tuple[int, tuple[int, ...]]:
    """Read, compute and write one block, on a worker."""
    if setup.key not in _READY:
        image = setup.image or read_image(setup.source, setup.axes)
        job = prepare(
            image, setup.model, setup.noise, tile=tile, device=setup.device,
            sigma_a=setup.sigma_a, exact=setup.exact, block_unit=setup.block, compare=False,
            polish=setup.polish,
        )  # fmt: skip
        _READY.clear()
        _READY[setup.key] = job, open_target(Path(setup.path), image.axes)
    job, target = _READY[setup.key]
    read = read_block(job, *block)
    values, tile = compute_block(job, QUANTITIES[setup.quantity], read, *block, tile)
    write_block(target, job, block, values)
    return number, tile


def _outcome(future: Any) -> tuple[int, tuple[int, ...]]:
    """Return the result of a task; an `OSError` if its workers failed repeatedly."""
    from distributed import KilledWorker

    try:
        finished: tuple[int, tuple[int, ...]] = future.result()
        return finished
    except KilledWorker as error:
        raise OSError(f"workers failed repeatedly ({error})") from None


def _threads(client: Any) -> int:
    """Return the number of threads of all workers."""
    return sum(client.nthreads().values())


def _wait_for_workers(client: Any) -> None:
    """Wait for the first worker; a `UserError` if there is none in time."""
    try:
        client.wait_for_workers(1, timeout=SECONDS_TO_FIRST_WORKER)
    except TimeoutError:
        raise UserError("the scheduler has no worker: start one") from None
