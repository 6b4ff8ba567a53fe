"""A job may be killed, run into a full disk, lose its disk or meet another: no result is wrong.

``NOISE2SCORE_KILLS=100 pytest tests/test_interrupted.py`` tries each as often.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from forking import Forks
from safetensors.numpy import load_file

from napari_noise2score import Image, train, write_image

pytestmark = pytest.mark.slow

if not hasattr(os, "fork"):
    pytest.skip("there is no fork on this system", allow_module_level=True)

TIMES = int(os.environ.get("NOISE2SCORE_KILLS", "1"))
NOISE = "gaussian(sigma=10)"
TARGETS = ["x.ome.zarr", "x.zarr", "x.tif", "x.ome.tif", "x.npy", "x.png"]
KINDS = [*TARGETS, "uncertainty.ome.zarr", "m.n2s"]
PLANES = 12


@pytest.fixture(scope="module")
def forks():
    server = Forks()
    yield server
    server.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A noisy movie, one plane of it in 8 bits, and a model."""
    root = tmp_path_factory.mktemp("world")
    noisy = np.random.default_rng(0).normal(100, 10, (PLANES, 72, 64))
    write_image(root / "noisy.ome.zarr", Image(noisy.astype(np.float32), "TYX"))
    write_image(root / "plane.tif", Image(np.tile(noisy[0], (3, 3)).astype(np.uint8), "YX"))
    write_image(root / "few.ome.zarr", Image(noisy[:3, :32, :32].astype(np.float32), "TYX"))
    train(noisy[:4, :32, :32].astype(np.float32), axes="TYX", steps=1, name="m").save(
        root / "m.n2s"
    )
    return root


def command(world: Path, out: Path, kind: str) -> list[object]:
    """Return the command line that makes one kind of result, and may always be said again."""
    if kind == "m.n2s":
        return ["train", world / "few.ome.zarr", "--model", out / kind, "--steps", 8, "--resume"]
    sources = {"x.png": "plane.tif", "uncertainty.ome.zarr": "few.ome.zarr"}
    source = world / sources.get(kind, "noisy.ome.zarr")
    words: list[object] = ["denoise", source, out / kind, "--model", world / "m.n2s"]
    words += ["--noise", NOISE, "--resume"]
    if kind == "x.png":
        words += ["--dtype", "same", "--tile", "64x64"]
    if kind.startswith("uncertainty"):
        words += ["--uncertainty", out / f"u-{kind}"]
    return words


def content(out: Path) -> dict[str, object]:
    """Return the bytes of everything in a folder, hidden files included."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.suffix == ".n2s":
            # it says when it was trained, too
            found[name] = {k: v.tobytes() for k, v in load_file(path).items()}
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def right(world, forks, tmp_path_factory):
    """What each kind of job gives that is left alone, and the seconds it takes."""
    made = {}
    for kind in KINDS:
        out = tmp_path_factory.mktemp("right")
        began = time.monotonic()
        assert forks.run(command(world, out, kind), out.parent / "log") == 0
        made[kind] = content(out), time.monotonic() - began
    return made


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_moment_and_resumed_it_is_the_same(
    kind, how, world, forks, right, tmp_path, seed
):
    rng = random.Random(seed)
    whole, seconds = right[kind]
    for number in range(TIMES):
        out, log = tmp_path / str(number), tmp_path / f"{number}.log"
        out.mkdir()
        words = command(world, out, kind)
        process = forks.start(words, log)
        time.sleep(rng.uniform(0, seconds))
        os.kill(process, how)
        ended = forks.wait(process)
        assert ended in ((0, -9) if how == signal.SIGKILL else (0, 130, -15)), log.read_text()
        if ended == 130:
            assert log.read_text().endswith("noise2score: stopped\n")
        for name in os.listdir(out):
            if name[0] != "." and not name.endswith(".resume") and name != "m.n2s":
                # what has its name is complete
                part = {k: v for k, v in content(out).items() if k.split("/")[0] == name}
                assert part == {k: v for k, v in whole.items() if k.split("/")[0] == name}
        assert forks.run(words, log) == 0, log.read_text()
        assert content(out) == whole


@pytest.mark.parametrize("kind", TARGETS)
def test_of_two_jobs_on_one_output_one_is_refused(kind, world, forks, right, tmp_path, seed):
    rng = random.Random(seed)
    whole, seconds = right[kind]
    for number in range(TIMES):
        out = tmp_path / str(number)
        out.mkdir()
        words = [word for word in command(world, out, kind) if word != "--resume"]
        logs = [tmp_path / f"{number}-{which}.log" for which in "ab"]
        first = forks.start(words, logs[0])
        time.sleep(rng.uniform(0, seconds))
        second = forks.start(words, logs[1])
        codes = sorted([forks.wait(first), forks.wait(second)])
        said = [log.read_text() for log in logs]
        assert codes == [0, 2], said
        refused = max(said, key=len)
        assert refused.count("\n") == 1
        assert "is being written by another job" in refused or "exists already" in refused
        assert content(out) == whole


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a given size; it needs the right to mount one."""
    mounted: list[Path] = []

    def mount(kilobytes: int) -> Path:
        disk = tmp_path / f"disk{len(mounted)}"
        disk.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
        if subprocess.run(words, capture_output=True).returncode:
            pytest.skip("no right to mount a disk")
        mounted.append(disk)
        return disk

    if not sys.platform.startswith("linux"):
        pytest.skip("elsewhere disks are mounted otherwise")
    yield mount
    for disk in mounted:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_full_disk_it_ends_in_one_line_and_goes_on_once_there_is_room(
    kind, world, forks, right, tmp_path, seed, small_disk
):
    rng, log = random.Random(seed), tmp_path / "log"
    whole = right[kind][0]
    size = 64 + sum(
        len(v) if isinstance(v, bytes) else sum(map(len, v.values()))  # type: ignore[attr-defined]
        for v in whole.values()
    ) // 1024  # fmt: skip
    for _ in range(TIMES):
        disk = small_disk(max(16, int(size * rng.uniform(0.05, 0.9))))
        words = command(world, disk, kind)
        ended = forks.run(words, log)
        said = log.read_text()
        if ended == 0:
            continue  # there was room enough
        assert ended == 2, said
        assert "Traceback" not in said
        assert said.splitlines()[-1].startswith("noise2score: ")
        assert not [name for name in os.listdir(disk) if name[0] != "." and name in whole]
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert forks.run(words, log) == 0, log.read_text()
        assert content(disk) == whole


@pytest.mark.parametrize("kind", ["x.ome.zarr", "x.tif", "m.n2s"])
@pytest.mark.parametrize("trouble", [["mount", "-o", "remount,ro"], ["umount", "-l"]])
def test_a_disk_that_is_lost_leaves_no_result_that_looks_whole(
    kind, trouble, world, forks, right, tmp_path, seed, small_disk
):
    rng, log = random.Random(seed), tmp_path / "log"
    whole, seconds = right[kind]
    for _ in range(TIMES):
        disk = small_disk(64 * 1024)
        # a process that works in it would keep it alive
        words = command(world, disk, kind)
        process = forks.start(words, log)
        time.sleep(rng.uniform(0.2, 0.8) * seconds)
        done = subprocess.run([*trouble, str(disk)], capture_output=True)
        ended = forks.wait(process)
        said = log.read_text()
        assert "Traceback" not in said
        if done.returncode or ended == 0:
            continue  # busy, or it was done before
        assert ended == 2, said
        assert said.splitlines()[-1].startswith("noise2score: ")
        if trouble[0] == "umount":
            assert not [name for name in os.listdir(disk) if name in whole]
        else:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            assert forks.run(words, log) == 0, log.read_text()
            assert content(disk) == whole


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such limit elsewhere")
@pytest.mark.parametrize("kind", KINDS)
def test_short_of_memory_it_ends_in_one_line_and_goes_on_with_more(
    kind, world, forks, right, tmp_path, seed
):
    rng, log = random.Random(seed), tmp_path / "log"
    for number in range(TIMES):
        out = tmp_path / str(number)
        out.mkdir()
        words = command(world, out, kind)
        ended = forks.run(words, log, memory=rng.randint(300, 1400) * 10**6)
        said = log.read_text()
        if ended == 0:
            continue  # it was enough, if only for smaller tiles
        assert ended == 2, said
        assert said.splitlines()[-1].startswith("noise2score: ")
        assert "Traceback" not in said
        assert forks.run(words, log) == 0, log.read_text()
        assert content(out) == right[kind][0]
