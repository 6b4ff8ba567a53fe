"""Start the command line in processes of its own, within milliseconds of being asked."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

#: What a command takes seconds to import.
IMPORTED = [
    *(
        "torch",
        "scipy.ndimage",
        "tifffile",
        "zarr",
        "imageio.v3",
        "PIL.PngImagePlugin",
        "rich.progress",
    ),
    *(
        f"napari_noise2score.{name}"
        for name in (
            "score.training",
            "denoising.jobs",
            "denoising.cluster",
            "estimation.estimate",
        )
    ),
]


class Forks:
    """A process that has imported everything, and forks another for each command line."""

    def __init__(self, **environment: str):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        )

    def ask(self, **what: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, words: list[object], log: Path, **how: int) -> int:
        """Start a command line and return its process; what it says goes to the log.

        It may have no more than so many bytes of ``memory``; with ``ordinary=1`` the modes of
        files hold for it even if root runs the tests.
        """
        return self.ask(run=list(map(str, words)), log=str(log), **how)

    def wait(self, process: int) -> int:
        """Return the exit code of a process once it has ended, or minus the signal it died of."""
        return self.ask(wait=process)

    def run(self, words: list[object], log: Path, **how: int) -> int:
        """Run a command line and return its exit code."""
        return self.wait(self.start(words, log, **how))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def give_up_capabilities() -> None:
    """Make root an owner of files like any other, whom their modes bind.

    Another user would not do: the interpreter's own files may be closed to all but root.
    """
    version_3, this_process = 0x20080522, 0
    header = (ctypes.c_uint32 * 2)(version_3, this_process)
    none = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, none) != 0:
        raise OSError(ctypes.get_errno(), "cannot give up the capabilities of root")


def serve() -> None:
    """Fork a process for each line of JSON."""
    for name in IMPORTED:
        import_module(name)
    import resource

    from napari_noise2score.cli import main

    for line in sys.stdin:
        what = json.loads(line)
        if "wait" in what:
            _, status = os.waitpid(what["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        process = os.fork()
        if process == 0:
            log = os.open(what["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if "memory" in what:
                resource.setrlimit(resource.RLIMIT_AS, (what["memory"], what["memory"]))
            if "ordinary" in what:
                give_up_capabilities()
            sys.argv = ["noise2score", *what["run"]]
            code = 1
            try:
                main.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(process, flush=True)


if __name__ == "__main__":
    serve()
