"""A person without rights is told so in one line, before any work."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from forking import Forks

from napari_noise2score import Image, train, write_image

if sys.platform != "linux":
    pytest.skip("processes are forked and capabilities given up", allow_module_level=True)


@pytest.fixture(scope="module")
def forks():
    server = Forks()
    yield server
    server.close()


@pytest.fixture(scope="module")
def place():
    """A folder that all may enter, with an image, a store and a model."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    noisy = np.random.default_rng(0).normal(100, 10, (3, 32, 32)).astype(np.float32)
    write_image(root / "a.tif", Image(noisy, "TYX"))
    write_image(root / "a.ome.zarr", Image(noisy, "TYX"))
    train(noisy, axes="TYX", steps=1, name="m").save(root / "m.n2s")
    for name in ("secret.tif", "secret.n2s"):
        shutil.copy(root / ("a.tif" if name.endswith("tif") else "m.n2s"), root / name)
        (root / name).chmod(0)
    shutil.copytree(root / "a.ome.zarr", root / "secret.ome.zarr")
    (root / "secret.ome.zarr").chmod(0)
    (root / "locked").mkdir(mode=0o555)
    (root / "mine").mkdir()
    yield root
    for path in (root / "locked", root / "secret.ome.zarr"):
        path.chmod(0o755)
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("source", "output", "model"),
    [
        *(("a.tif", f"locked/x{ending}", "m.n2s") for ending in (".tif", ".npy", ".ome.zarr")),
        ("a.tif", "locked/deep/x.tif", "m.n2s"),
        ("secret.tif", "mine/x.tif", "m.n2s"),
        ("secret.ome.zarr", "mine/x.tif", "m.n2s"),
        ("a.tif", "mine/x.tif", "secret.n2s"),
    ],
)
def test_what_may_not_be_read_or_written_is_one_line(forks, place, tmp_path, source, output, model):
    words = ["denoise", place / source, place / output, "--model", place / model]
    words += ["--noise", "gaussian(sigma=10)"]
    log = tmp_path / "log"
    assert forks.run(words, log, ordinary=1) == 2
    said = log.read_text()
    assert said.startswith("noise2score: ")
    assert said.count("\n") == 1
    assert not list((place / "mine").iterdir())
    assert not list((place / "locked").iterdir())


def test_a_model_that_cannot_be_saved_is_not_trained(forks, place, tmp_path):
    words = ["train", place / "a.tif", "--model", place / "locked" / "m.n2s", "--steps", 10**6]
    log = tmp_path / "log"
    assert forks.run(words, log, ordinary=1) == 2
    assert "may not be written to" in log.read_text()


def test_who_writes_a_result_may_read_it(forks, place, tmp_path):
    words = ["denoise", place / "a.tif", place / "mine" / "x.tif", "--model", place / "m.n2s"]
    log = tmp_path / "log"
    assert forks.run([*words, "--noise", "gaussian(sigma=10)"], log, ordinary=1) == 0
    (made,) = (place / "mine").iterdir()
    assert made.stat().st_uid == os.geteuid()
    assert stat.S_IMODE(made.stat().st_mode) & 0o400
    made.unlink()
