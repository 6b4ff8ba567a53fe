"""An OME-Zarr image in a bucket is trained on and denoised, and failures are reported."""

from __future__ import annotations

import socket
from contextlib import contextmanager

import numpy as np
import pytest

from napari_noise2score import Image, UserError, denoise, read_image, train, write_image

REASON = "no s3fs or moto: pip install s3fs 'moto[server]'"
s3fs = pytest.importorskip("s3fs", reason=REASON)
server = pytest.importorskip("moto.server", reason=REASON)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """Start a server with a bucket that contains an image, and yield the image."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    moto_server = server.ThreadedMotoServer(port=port, verbose=False)
    moto_server.start()
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
    moto_server.stop()


def test_an_image_in_a_bucket_is_trained_on_and_denoised(bucket, tmp_path):
    image = read_image("s3://lab/noisy.ome.zarr")
    assert (image.axes, image.units["X"]) == ("TYX", "micrometer")
    model = train(image.data, axes=image.axes, steps=2)
    found = denoise(image, model, "gaussian(sigma=10)").data.compute()
    assert np.array_equal(found, denoise(bucket, model, "gaussian(sigma=10)").data.compute())


def test_missing_objects_and_credentials_are_reported_in_one_line(bucket, monkeypatch):
    with refused("there is no bucket 'nobody'"):
        read_image("s3://nobody/noisy.ome.zarr")
    with refused("not a zarr store, or there is none"):
        read_image("s3://lab/nothing.ome.zarr")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with refused("credentials; set FSSPEC_S3_ANON=true if the bucket is open to all"):
        read_image("s3://lab/noisy.ome.zarr")


@contextmanager
def refused(phrase):
    """Expect a UserError in one line that contains a phrase."""
    with pytest.raises(UserError, match=phrase) as caught:
        yield
    assert "\n" not in str(caught.value)
