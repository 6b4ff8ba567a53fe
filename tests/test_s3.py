"""An OME-Zarr image in a bucket is learned from and denoised, and what fails is told."""

from __future__ import annotations

import socket
from contextlib import contextmanager

import numpy as np
import pytest

from napari_noise2score import Image, UserError, denoise, read_image, train, write_image

WHY = "no s3fs or moto: pip install s3fs 'moto[server]'"
s3fs = pytest.importorskip("s3fs", reason=WHY)
server = pytest.importorskip("moto.server", reason=WHY)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A server with one bucket that holds one image, and that image."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = server.ThreadedMotoServer(port=port, verbose=False)
    running.start()
    noisy = np.random.default_rng(0).normal(100, 10, (6, 64, 60)).astype(np.float32)
    image = Image(noisy, "TYX", scale={"X": 0.1}, units={"X": "micrometer"})
    path = tmp_path_factory.mktemp("s3") / "noisy.ome.zarr"
    write_image(path, image)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "lab")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        files = s3fs.S3FileSystem()
        files.mkdir("lab")
        files.put(str(path), "lab/noisy.ome.zarr", recursive=True)
        yield image
    running.stop()


def test_an_image_in_a_bucket_is_learned_from_and_denoised(bucket, tmp_path):
    image = read_image("s3://lab/noisy.ome.zarr")
    assert (image.axes, image.units["X"]) == ("TYX", "micrometer")
    model = train(image.data, axes=image.axes, steps=2)
    found = denoise(image, model, "gaussian(sigma=10)").data.compute()
    assert np.array_equal(found, denoise(bucket, model, "gaussian(sigma=10)").data.compute())


def test_what_is_not_there_or_not_ones_own_is_told_in_one_line(bucket, monkeypatch):
    with told("there is no bucket 'nobody'"):
        read_image("s3://nobody/noisy.ome.zarr")
    with told("not a zarr store, or there is none"):
        read_image("s3://lab/nothing.ome.zarr")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with told("credentials; set FSSPEC_S3_ANON=true if the bucket is open to all"):
        read_image("s3://lab/noisy.ome.zarr")


@contextmanager
def told(says):
    with pytest.raises(UserError, match=says) as caught:
        yield
    assert "\n" not in str(caught.value)
