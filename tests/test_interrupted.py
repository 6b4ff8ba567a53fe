"""A job that is killed, fills or loses its disk, or meets another job leaves no wrong result.

``NOISE2SCORE_KILLS=100 pytest tests/test_interrupted.py`` repeats every test 100 times.
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
from safetensors.numpy import load_file

from napari_noise2score import Image, train, write_image

pytestmark = pytest.mark.slow

N_REPETITIONS = int(os.environ.get("NOISE2SCORE_KILLS", "1"))
NOISE = "gaussian(sigma=10)"
TARGETS = ["x.ome.zarr", "x.zarr", "x.tif", "x.ome.tif", "x.npy", "x.png"]
KINDS = [*TARGETS, "uncertainty.ome.zarr", "m.n2s"]
PLANES = 12


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Return a folder with a noisy movie, one 8-bit plane, a short movie, and a model."""
    root = tmp_path_factory.mktemp("inputs")
    noisy = np.random.default_rng(0).normal(100, 10, (PLANES, 72, 64))
    write_image(root / "noisy.ome.zarr", Image(noisy.astype(np.float32), "TYX"))
    write_image(root / "plane.tif", Image(np.tile(noisy[0], (3, 3)).astype(np.uint8), "YX"))
    write_image(root / "few.ome.zarr", Image(noisy[:3, :32, :32].astype(np.float32), "TYX"))
    few = noisy[:4, :32, :32].astype(np.float32)
    train(few, axes="TYX", steps=1, name="m", context="none").save(root / "m.n2s")
    return root


def command(inputs: Path, out: Path, kind: str) -> list[object]:
    """Return a command line for one kind of result, which can be repeated to resume."""
    if kind == "m.n2s":
        return ["train", inputs / "few.ome.zarr", "--model", out / kind, "--steps", 8, "--resume"]
    sources = {"x.png": "plane.tif", "uncertainty.ome.zarr": "few.ome.zarr"}
    source = inputs / sources.get(kind, "noisy.ome.zarr")
    arguments: list[object] = ["denoise", source, out / kind, "--model", inputs / "m.n2s"]
    arguments += ["--noise", NOISE, "--resume"]
    if kind == "x.png":
        arguments += ["--dtype", "same", "--tile", "64x64"]
    if kind.startswith("uncertainty"):
        arguments += ["--uncertainty", out / f"u-{kind}"]
    return arguments


def content(out: Path) -> dict[str, object]:
    """Return the bytes of everything in a folder, hidden files included."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.suffix == ".n2s":
            # without the header, which contains the date
            found[name] = {k: v.tobytes() for k, v in load_file(path).items()}
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def uninterrupted(inputs, fork_server, tmp_path_factory):
    """Return the result and the duration of each kind of job without an interruption."""
    results = {}
    for kind in KINDS:
        out = tmp_path_factory.mktemp("expected")
        start = time.monotonic()
        assert fork_server.run(command(inputs, out, kind), out.parent / "log") == 0
        results[kind] = content(out), time.monotonic() - start
    return results


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("kind", KINDS)
def test_a_job_killed_at_any_moment_and_resumed_gives_the_same_result(
    kind, signal_number, inputs, fork_server, uninterrupted, tmp_path, seed
):
    rng = random.Random(seed)
    expected, seconds = uninterrupted[kind]
    for number in range(N_REPETITIONS):
        out, log = tmp_path / str(number), tmp_path / f"{number}.log"
        out.mkdir()
        arguments = command(inputs, out, kind)
        process = fork_server.start(arguments, log)
        time.sleep(rng.uniform(0, seconds))
        os.kill(process, signal_number)
        exit_code = fork_server.wait(process)
        assert exit_code in ((0, -9) if signal_number == signal.SIGKILL else (0, 130, -15)), (
            log.read_text()
        )
        if exit_code == 130:
            assert log.read_text().endswith("noise2score: stopped\n")
        for name in os.listdir(out):
            if name[0] != "." and not name.endswith(".resume") and name != "m.n2s":
                # a file under its final name is complete
                part = {k: v for k, v in content(out).items() if k.split("/")[0] == name}
                assert part == {k: v for k, v in expected.items() if k.split("/")[0] == name}
        assert fork_server.run(arguments, log) == 0, log.read_text()
        assert content(out) == expected


@pytest.mark.parametrize("kind", TARGETS)
def test_one_of_two_jobs_with_the_same_output_is_refused(
    kind, inputs, fork_server, uninterrupted, tmp_path, seed
):
    rng = random.Random(seed)
    expected, seconds = uninterrupted[kind]
    for number in range(N_REPETITIONS):
        out = tmp_path / str(number)
        out.mkdir()
        arguments = [word for word in command(inputs, out, kind) if word != "--resume"]
        logs = [tmp_path / f"{number}-{letter}.log" for letter in "ab"]
        first = fork_server.start(arguments, logs[0])
        time.sleep(rng.uniform(0, seconds))
        second = fork_server.start(arguments, logs[1])
        codes = sorted([fork_server.wait(first), fork_server.wait(second)])
        outputs = [log.read_text() for log in logs]
        assert codes == [0, 2], outputs
        refused = max(outputs, key=len)
        assert refused.count("\n") == 1
        assert "is being written by another job" in refused or "exists already" in refused
        assert content(out) == expected


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that mounts a disk of a given size, or skip without the right to."""
    mounted: list[Path] = []

    def mount(kilobytes: int) -> Path:
        disk = tmp_path / f"disk{len(mounted)}"
        disk.mkdir()
        arguments = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
        if subprocess.run(arguments, capture_output=True).returncode:
            pytest.skip("no right to mount a disk")
        mounted.append(disk)
        return disk

    if not sys.platform.startswith("linux"):
        pytest.skip("disks are mounted differently on this system")
    yield mount
    for disk in mounted:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_full_disk_a_job_ends_in_one_line_and_can_be_resumed_with_more_space(
    kind, inputs, fork_server, uninterrupted, tmp_path, seed, small_disk
):
    rng, log = random.Random(seed), tmp_path / "log"
    expected = uninterrupted[kind][0]
    size = 64 + sum(
        len(v) if isinstance(v, bytes) else sum(map(len, v.values()))  # type: ignore[attr-defined]
        for v in expected.values()
    ) // 1024  # fmt: skip
    for _ in range(N_REPETITIONS):
        disk = small_disk(max(16, int(size * rng.uniform(0.05, 0.9))))
        arguments = command(inputs, disk, kind)
        exit_code = fork_server.run(arguments, log)
        output = log.read_text()
        if exit_code == 0:
            continue  # the space sufficed
        assert exit_code == 2, output
        assert "Traceback" not in output
        assert output.splitlines()[-1].startswith("noise2score: ")
        assert not [name for name in os.listdir(disk) if name[0] != "." and name in expected]
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert fork_server.run(arguments, log) == 0, log.read_text()
        assert content(disk) == expected


@pytest.mark.parametrize("kind", ["x.ome.zarr", "x.tif", "m.n2s"])
@pytest.mark.parametrize("disk_command", [["mount", "-o", "remount,ro"], ["umount", "-l"]])
def test_a_lost_disk_leaves_no_result_that_looks_complete(
    kind, disk_command, inputs, fork_server, uninterrupted, tmp_path, seed, small_disk
):
    rng, log = random.Random(seed), tmp_path / "log"
    expected, seconds = uninterrupted[kind]
    for _ in range(N_REPETITIONS):
        disk = small_disk(64 * 1024)
        arguments = command(inputs, disk, kind)
        process = fork_server.start(arguments, log)
        time.sleep(rng.uniform(0.2, 0.8) * seconds)
        completed = subprocess.run([*disk_command, str(disk)], capture_output=True)
        exit_code = fork_server.wait(process)
        output = log.read_text()
        assert "Traceback" not in output
        if completed.returncode or exit_code == 0:
            continue  # the disk was busy, or the job had ended
        assert exit_code == 2, output
        assert output.splitlines()[-1].startswith("noise2score: ")
        if disk_command[0] == "umount":
            assert not [name for name in os.listdir(disk) if name in expected]
        else:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            assert fork_server.run(arguments, log) == 0, log.read_text()
            assert content(disk) == expected


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such limit")
@pytest.mark.parametrize("kind", KINDS)
def test_short_of_memory_a_job_ends_in_one_line_and_can_be_resumed_with_more(
    kind, inputs, fork_server, uninterrupted, tmp_path, seed
):
    rng, log = random.Random(seed), tmp_path / "log"
    for number in range(N_REPETITIONS):
        out = tmp_path / str(number)
        out.mkdir()
        arguments = command(inputs, out, kind)
        exit_code = fork_server.run(arguments, log, memory=rng.randint(300, 1400) * 10**6)
        output = log.read_text()
        if exit_code == 0:
            continue  # the memory sufficed, perhaps with smaller tiles
        assert exit_code == 2, output
        assert output.splitlines()[-1].startswith("noise2score: ")
        assert "Traceback" not in output
        assert fork_server.run(arguments, log) == 0, log.read_text()
        assert content(out) == uninterrupted[kind][0]
