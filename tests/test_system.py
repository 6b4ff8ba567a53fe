"""What Windows and macOS refuse, or do otherwise, is known before work begins.

The systems themselves are simulated: their names, and the errors that they raise.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_noise2score import Image, UserError, write_image
from napari_noise2score.cli.main import app
from napari_noise2score.image import lock, system
from napari_noise2score.image.lock import claimed
from napari_noise2score.image.output import check_output
from napari_noise2score.image.paths import local_path

IMAGE = Image(np.zeros((4, 5), np.uint8), "YX")


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(system, "NAME", "win32")


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("NUL", "for a device"),
        ("con.tif", "for a device"),
        ("Com1.ome.tif", "for a device"),
        ("aux/x.tif", "for a device"),
        ("a:b.tif", "cannot hold ':'"),
        ("what?.tif", "cannot hold '\\?'"),
        ("folder./x.tif", "dot or space at the end"),
        ("x.tif ", "dot or space at the end"),
        (f"{'long/' * 60}x.tif", "characters too long for Windows"),
    ],
)
def test_a_name_that_windows_cannot_hold_is_refused_in_one_line(windows, tmp_path, name, phrase):
    with pytest.raises(UserError, match=phrase) as caught:
        check_output(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_names_inside_a_store_count_for_its_length(windows, tmp_path):
    fits = "x" * (system.MAX_PATH - len(str(tmp_path)) - 40)
    assert check_output(tmp_path / f"{fits}.tif")
    with pytest.raises(UserError, match="too long for Windows"):
        check_output(tmp_path / f"{fits}.ome.zarr")


def test_names_that_other_systems_can_hold_are_left_alone(tmp_path):
    for name in ("con.tif", "a:b.tif", "x.tif "):
        assert check_output(tmp_path / name) == tmp_path / name


@pytest.mark.parametrize(("name", "code"), [("linux", 0), ("darwin", 2), ("win32", 2)])
def test_results_whose_names_differ_only_in_case_do_not_replace_each_other(
    monkeypatch, tmp_path, model, name, code
):
    monkeypatch.setattr(system, "NAME", name)
    (tmp_path / "in").mkdir()
    noisy = np.random.default_rng(0).normal(110, 5, (2, 24, 24)).astype(np.float32)
    for file, pixels in zip(("cell.npy", "Cell.npy"), noisy, strict=True):
        np.save(tmp_path / "in" / file, pixels)
    model.save(tmp_path / "m.n2s")
    words = ["denoise", "in", "out", "--model", "m.n2s", "--noise", "gaussian(sigma=5)"]
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    if code:
        assert "upper and lower case" in str(result.exception)
        assert not (tmp_path / "out").exists()
    else:
        assert result.exit_code == 0, result.exception
        assert len(list((tmp_path / "out").glob("?ell.npy"))) == 2


def test_a_file_that_another_program_has_open_is_replaced_once_it_is_closed(
    windows, tmp_path, monkeypatch
):
    write_image(tmp_path / "a.npy", IMAGE)
    attempts, rename = [], os.replace

    def busy_twice(source, target):
        attempts.append(target)
        if len(attempts) < 3:
            raise PermissionError(13, "used by another process", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "replace", busy_twice)
    write_image(tmp_path / "a.npy", IMAGE, overwrite=True)
    assert len(attempts) > 2

    def always_busy(source, target):
        raise PermissionError(13, "used by another process", str(source))

    monkeypatch.setattr(os, "replace", always_busy)
    monkeypatch.setattr(system, "MAX_WAIT", 0.1)
    before = (tmp_path / "a.npy").read_bytes()
    with pytest.raises(UserError, match="while another program has it open"):
        write_image(tmp_path / "a.npy", Image(IMAGE.data + 1, "YX"), overwrite=True)
    assert (tmp_path / "a.npy").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", "a.npy.json"}


def test_a_lock_is_held_by_the_lock_of_windows_and_removed_once_it_is_closed(
    windows, tmp_path, monkeypatch
):
    held, opened = set(), []

    def locking(number, mode, count):
        assert os.lseek(number, 0, os.SEEK_CUR) == lock.LOCKED_BYTE
        file = os.fstat(number).st_ino
        if file in held:
            raise PermissionError(13, "Permission denied")
        held.add(file)

    unlink = Path.unlink

    def unlink_closed(path, missing_ok=False):
        # Windows removes no file that is open
        for number in Path("/proc/self/fd").iterdir():
            if path.exists() and number.exists() and path.samefile(number):
                opened.append(path.name)
                raise PermissionError(13, "used by another process")
        unlink(path, missing_ok)

    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setattr(lock, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    if Path("/proc/self/fd").exists():
        monkeypatch.setattr(Path, "unlink", unlink_closed)
    with claimed(tmp_path / "a.tif"):
        refused = pytest.raises(UserError, match="is being written by another job")
        with refused, claimed(tmp_path / "a.tif"):
            pass
    assert not list(tmp_path.iterdir())
    assert opened == [".a.tif.lock"] * len(opened)
    held.clear()
    with claimed(tmp_path / "a.tif"):
        pass


def test_an_address_with_a_drive_is_a_path_on_windows(windows):
    assert local_path("file:///C:/data/a%20b.tif") == Path("C:/data/a b.tif")
    assert local_path("C:/data/a.tif") == Path("C:/data/a.tif")


def test_a_terminal_without_greek_letters_is_no_error(monkeypatch, tmp_path, model):
    import io

    from napari_noise2score.cli.main import main

    model.save(tmp_path / "m.n2s")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    write_image(tmp_path / "µ.npy", Image(IMAGE.data, "YX", name="µ"))
    monkeypatch.setattr(sys, "argv", ["noise2score", "info", str(tmp_path / "µ.npy")])
    with pytest.raises(SystemExit) as stopped:
        main()
    out.flush()
    assert stopped.value.code == 0
    assert b"axes" in out.buffer.getvalue()


SIMULATED = """
import os, signal, sys
# these see the real system
import torch, dask.array, zarr, typer, rich, multiprocessing.popen_spawn_posix
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("fork", "getuid", "geteuid", "sched_getaffinity", "pathconf", "killpg"):
    vars(os).pop(name, None)
for name in ("SIGKILL", "SIGHUP", "SIGALRM", "alarm", "setitimer"):
    vars(signal).pop(name, None)
sys.platform = "win32"
import numpy as np
from napari_noise2score import denoise, estimate_noise, read_image, train, write_image
from napari_noise2score.cli import main
noisy = np.random.default_rng(0).normal(100, 10, (32, 32))
denoise(noisy, train(noisy, steps=1), "gaussian(sigma=10)").compute()
os.chdir(sys.argv.pop())
np.save("a.npy", noisy)
write_image("a.tif", read_image("a.npy"))
sys.argv = ["noise2score", "doctor"]
main.main()
"""


def test_nothing_is_needed_that_windows_lacks(tmp_path):
    """No fork, no user ids, no signals but those of Windows, and none of Unix's modules."""
    done = subprocess.run(
        [sys.executable, "-c", SIMULATED, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "torch" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "a.tif"]
