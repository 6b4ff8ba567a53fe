"""Run command lines in separate processes that start within milliseconds."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

#: Modules that take seconds to import; every forked process has them already.
PRELOADED_MODULES = [
    "torch",
    "scipy.ndimage",
    "tifffile",
    "zarr",
    "imageio.v3",
    "PIL.PngImagePlugin",
    "rich.progress",
    "napari_noise2score.score.training",
    "napari_noise2score.denoising.jobs",
    "napari_noise2score.denoising.cluster",
    "napari_noise2score.estimation.estimate",
]


class ForkServer:
    """Start a process that has imported everything, and fork it for each command line."""

    def __init__(self, **environment: str):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        )

    def request(self, **message: object) -> int:
        """Send a request to the server, and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, arguments: list[object], log: Path, **options: int) -> int:
        """Start a command line with its output in a log, and return the process id.

        ``memory`` limits its address space, in bytes. With ``unprivileged=1`` it has to obey the
        modes of files even if root runs the tests.
        """
        return self.request(run=list(map(str, arguments)), log=str(log), **options)

    def wait(self, process: int) -> int:
        """Wait for a process to end; return its exit code, or minus the signal that killed it."""
        return self.request(wait=process)

    def run(self, arguments: list[object], log: Path, **options: int) -> int:
        """Run a command line and return its exit code."""
        return self.wait(self.start(arguments, log, **options))

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def give_up_capabilities() -> None:
    """Drop the capabilities by which root may ignore the modes of files.

    Changing the user would not work, as the interpreter's files may be readable by root only.
    """
    version_3, this_process = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version_3, this_process)
    none = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "cannot give up the capabilities of root")


def serve() -> None:
    """Read requests from standard input, one JSON object per line, and answer each."""
    for name in PRELOADED_MODULES:
        import_module(name)
    import resource

    from napari_noise2score.cli import main

    # the command line collects garbage when it fails: without what every process has already
    gc.freeze()
    for line in sys.stdin:
        message = json.loads(line)
        if "wait" in message:
            _, status = os.waitpid(message["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        process = os.fork()
        if process == 0:
            log = os.open(message["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if "unprivileged" in message:
                give_up_capabilities()
            sys.argv = ["noise2score", *message["run"]]
            code = 1
            try:
                if "memory" in message:
                    resource.setrlimit(resource.RLIMIT_AS, (message["memory"], message["memory"]))
                main.main()
            except SystemExit as stopped:
                code = int(stopped.code or 0)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(process, flush=True)


if __name__ == "__main__":
    serve()
