"""The same blocks on many processes or machines, through dask.distributed."""

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
from ._pipeline import write
from .jobs import MAKES, Runner
from .tiles import Block, Job, compute_block, prepare, read

# blocks that are on their way for each worker: one is computed while the next comes
WINDOW = 2
RETRIES = 3
# seconds to wait for the first worker
PATIENCE = 600
# seconds to wait for what is under way when a job is stopped
LAST = 60


@dataclass(frozen=True)
class Setup:
    """What a worker makes its own job from, on its own device; sent to each worker once."""

    key: str
    image: Image | None
    source: str
    axes: str
    model: ScoreModel
    noise: str
    what: str
    device: str
    sigma_a: float | None
    block: tuple[int, ...]
    path: str


# what this worker has made ready, by the key of the setup; the last one only
_READY: dict[str, tuple[Job, Any]] = {}


@contextmanager
def connect(scheduler: str | None = None, workers: int | None = None) -> Iterator[Any]:
    """Connect to a scheduler, or start so many workers on this machine until the block ends.

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
        If dask.distributed is not installed, or nobody answers at the address.
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
            # not the default: one that finds no scheduler would stay it for all of this process
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
    # memory is bounded by the tile; a limit would only kill workers that torch makes look large
    with _deaf_to_interrupts():
        cluster = LocalCluster(
            # whoever reaches scheduler or workers can have code run: no other machine may
            host="127.0.0.1",
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,
            # the port is any that is free: None would ask for 8787 and warn where that is taken
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that are started inside not hear Ctrl-C: who started them ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def on_cluster(
    client: Any,
    image: Image,
    model: ScoreModel,
    noise: str,
    device: str = "auto",
    sigma_a: float | None = None,
) -> Runner:
    """Give what works through blocks on the workers of a client, for `denoise_to_file`.

    The workers read the image and write the store themselves, so both must lie where all of them
    see them under the same name. An image that was not read from a file is sent to them.

    Parameters
    ----------
    client : distributed.Client
        As from `connect`.
    image, model, noise, device, sigma_a
        As for `denoise_to_file`; the device is that of a worker.

    Returns
    -------
    callable
        To be given as ``run``.
    """

    def run(
        path: Path, job: Job, what: str, todo: list[tuple[int, Block]], tile: tuple[int, ...]
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        from distributed import as_completed

        setup = Setup(
            key=f"{path}-{time.time_ns()}",
            # what reads a file can be sent, and knows which of several images it reads
            image=image if isinstance(image.data, Guarded) or not image.source else None,
            source=image.source,
            axes=image.axes,
            model=model.to("cpu"),
            noise=noise,
            what=what,
            device=device,
            sigma_a=sigma_a,
            block=job.block,
            path=str(path.resolve()),
        )
        _wait_for_workers(client)
        # the outcome of a task, not scattered data: it is made again if its worker is lost
        ready = client.submit(_given, setup, pure=False, retries=RETRIES)
        waiting = iter(todo)
        flying = as_completed(loop=client.loop)

        def send() -> bool:
            following = next(waiting, None)
            if following is not None:
                flying.add(
                    client.submit(_one_block, ready, *following, tile, pure=False, retries=RETRIES)
                )
            return following is not None

        try:
            while flying.count() < WINDOW * max(1, _threads(client)) and send():
                pass
            for future in flying:
                number, used = _outcome(future)
                if np.prod(used) < np.prod(tile):
                    tile = used
                yield number, tile
                # workers may have come or gone
                while flying.count() < WINDOW * max(1, _threads(client)) and send():
                    pass
        finally:
            # nobody shall write any more once this has ended; with its client its tasks have ended
            until = time.monotonic() + LAST
            while client.status == "running" and time.monotonic() < until:
                if all(future.done() for future in list(flying.futures)):
                    break
                time.sleep(0.05)

    return run


def _given(setup: Setup) -> Setup:
    return setup


def _one_block(
    setup: Setup, number: int, block: Block, tile: tuple[int, ...]
) -> tuple[int, tuple[int, ...]]:
    """Read, compute and write one block, on a worker."""
    if setup.key not in _READY:
        image = setup.image or read_image(setup.source, setup.axes)
        job = prepare(
            image, setup.model, setup.noise, tile=tile, device=setup.device,
            sigma_a=setup.sigma_a, unit=setup.block, compare=False,
        )  # fmt: skip
        _READY.clear()
        _READY[setup.key] = job, open_target(Path(setup.path), image.axes)
    job, target = _READY[setup.key]
    piece = read(job, *block)
    values, tile = compute_block(job, MAKES[setup.what], piece, block[1], tile)
    write(target, job, block, values)
    return number, tile


def _outcome(future: Any) -> tuple[int, tuple[int, ...]]:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise OSError(f"workers are lost again and again ({error})") from None


def _threads(client: Any) -> int:
    return sum(client.nthreads().values())


def _wait_for_workers(client: Any) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise UserError("the scheduler has no worker") from None
