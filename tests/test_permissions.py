"""Missing permissions are reported in one line before any work."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from napari_noise2score import Image, train, write_image

pytestmark = pytest.mark.slow

if sys.platform != "linux":
    pytest.skip("the tests need fork and the capabilities of Linux", allow_module_level=True)


@pytest.fixture(scope="module")
def folder():
    """Return a world-readable folder with an image, a store and a model, some without access."""
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
def test_missing_permission_is_reported_in_one_line(
    fork_server, folder, tmp_path, source, output, model
):
    arguments = ["denoise", folder / source, folder / output, "--model", folder / model]
    arguments += ["--noise", "gaussian(sigma=10)"]
    log = tmp_path / "log"
    assert fork_server.run(arguments, log, unprivileged=1) == 2
    message = log.read_text()
    assert message.startswith("noise2score: ")
    assert message.count("\n") == 1
    assert not list((folder / "mine").iterdir())
    assert not list((folder / "locked").iterdir())


def test_a_model_that_cannot_be_saved_is_not_trained(fork_server, folder, tmp_path):
    arguments = [
        "train",
        folder / "a.tif",
        "--model",
        folder / "locked" / "m.n2s",
        "--steps",
        10**6,
    ]
    log = tmp_path / "log"
    assert fork_server.run(arguments, log, unprivileged=1) == 2
    assert "may not be written to" in log.read_text()


def test_the_owner_can_read_a_result(fork_server, folder, tmp_path):
    arguments = [
        "denoise",
        folder / "a.tif",
        folder / "mine" / "x.tif",
        "--model",
        folder / "m.n2s",
    ]
    log = tmp_path / "log"
    assert fork_server.run([*arguments, "--noise", "gaussian(sigma=10)"], log, unprivileged=1) == 0
    (result,) = (folder / "mine").iterdir()
    assert result.stat().st_uid == os.geteuid()
    assert stat.S_IMODE(result.stat().st_mode) & 0o400
    result.unlink()
