"""A randomly damaged file is read, or refused in one line."""

from __future__ import annotations

import json
import os
import random
import warnings
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr

from napari_noise2score import Image, UserError, read_image, write_image

# damaged copies of each kind of file; set NOISE2SCORE_FUZZ for a longer run
N_COPIES = int(os.environ.get("NOISE2SCORE_FUZZ", "150"))
# an image that claims to be larger is not read whole
MAX_BYTES_READ = 2**24
SEED = 20

STACK = np.random.default_rng(0).integers(0, 1000, (2, 8, 8)).astype(np.uint16)


def plain_tiff(path: Path) -> None:
    tifffile.imwrite(path, STACK, metadata={"axes": "ZYX"})


def imagej_tiff(path: Path) -> None:
    lut = [np.zeros((3, 256), np.uint8)] * 2
    tifffile.imwrite(
        path, STACK, imagej=True, resolution=(5, 5),
        metadata={"axes": "CYX", "unit": "um", "mode": "composite", "LUTs": lut, "Info": "63x",
                  "Ranges": (0.0, 9.0, 0.0, 9.0), "Labels": ["a", "b"]},
    )  # fmt: skip


def ome_tiff(path: Path) -> None:
    facts = {"axes": "ZYX", "PhysicalSizeX": 0.1, "Plane": {"PositionX": [1.0, 1.0]}}
    tifffile.imwrite(path, STACK, ome=True, metadata=facts)


def zlib_tiff(path: Path) -> None:
    tifffile.imwrite(path, STACK, compression="zlib", predictor=True, metadata={"axes": "ZYX"})


def lzw_tiff(path: Path) -> None:
    tifffile.imwrite(path, STACK, compression="lzw", tile=(16, 16), metadata={"axes": "ZYX"})


def big_tiff(path: Path) -> None:
    tifffile.imwrite(path, STACK, bigtiff=True, byteorder=">", metadata={"axes": "ZYX"})


def jpeg_tiff(path: Path) -> None:
    tifffile.imwrite(path, STACK[0].astype(np.uint8), compression="jpeg")


def npy(path: Path) -> None:
    np.save(path, STACK)


def png(path: Path) -> None:
    iio.imwrite(path, STACK[0])


def jpeg(path: Path) -> None:
    iio.imwrite(path, STACK[0].astype(np.uint8))


TIFFS = {
    f"{write.__name__}.tif": write
    for write in (plain_tiff, imagej_tiff, ome_tiff, zlib_tiff, lzw_tiff, big_tiff, jpeg_tiff)
}
OTHERS = {"a.npy": npy, "a.png": png, "a.jpg": jpeg}


def damaged(original: bytes, rng: random.Random) -> bytes:
    """Return a copy with some bits flipped or special bytes inserted, or truncated."""
    data = bytearray(original)
    draw = rng.random()
    if draw < 0.15:
        return bytes(data[: rng.randrange(len(data))])
    # most of the structure is in the header
    end = len(data) if draw < 0.6 else min(len(data), 512)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        position = rng.randrange(end)
        if rng.random() < 0.8:
            data[position] ^= 1 << rng.randrange(8)
        else:
            data[position] = rng.choice((0, 255, 127, 128))
    return bytes(data)


def read_all(path: Path, axes: str | None = None) -> str:
    """Read an image and its pixels, and return the message if they are refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = read_image(path, axes)
            if np.prod(image.data.shape, dtype=float) * image.data.dtype.itemsize < MAX_BYTES_READ:
                values = np.asarray(image.data)
            else:
                values = image.data[tuple(slice(0, 1) for _ in image.data.shape)]
            assert values.ndim == len(image.axes)
    except UserError as error:
        return str(error)
    return ""


def try_copies(path: Path, original: bytes, count: int) -> int:
    """Read damaged copies of a file, and return how many are refused."""
    rng = random.Random(SEED)
    refused = 0
    for number in range(count):
        path.write_bytes(damaged(original, rng))
        message = read_all(path, (None, "ZYX")[number % 2])
        assert "\n" not in message
        assert not message or path.name in message, message
        refused += bool(message)
    return refused


@pytest.mark.parametrize("name", [*TIFFS, *OTHERS])
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, name):
    path = tmp_path / name
    (TIFFS | OTHERS)[name](path)
    original = path.read_bytes()
    assert not read_all(path, None if name != "a.npy" else "ZYX")
    assert 0 < try_copies(path, original, N_COPIES) <= N_COPIES


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5", "array"])
def test_damaged_metadata_of_a_store_are_read_or_refused_in_one_line(tmp_path, version):
    path = tmp_path / ("a.zarr" if version == "array" else "a.ome.zarr")
    image = Image(STACK, "ZYX", scale={"Z": 2.0}, channels=(), notes={"noise": "gaussian(sigma=3)"})
    write_image(path, image, ome_zarr="0.5" if version == "array" else version)
    metadata_names = ("zarr.json", ".zarray", ".zattrs", ".zgroup")
    found = [file for file in path.rglob("*") if file.name in metadata_names]
    assert found
    rng = random.Random(SEED)
    for file in found:
        original = file.read_bytes()
        for number in range(N_COPIES // len(found)):
            file.write_bytes(damaged(original, rng))
            assert "\n" not in read_all(path, (None, "ZYX")[number % 2])
        # valid JSON with other content
        for number in range(N_COPIES // len(found)):
            file.write_text(json.dumps(altered(json.loads(original), rng)))
            assert "\n" not in read_all(path, (None, "ZYX")[number % 2])
        file.write_bytes(original)
    assert not read_all(path)


def altered(value: object, rng: random.Random) -> object:
    """Return JSON with one value replaced or removed."""
    replacements = [
        None,
        -1,
        0,
        1e300,
        "",
        "x",
        [],
        {},
        [None],
        {"a": 1},
        2**70,
        True,
        float("nan"),
    ]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.2:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: altered(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        position = rng.randrange(len(value))
        return [*value[:position], altered(value[position], rng), *value[position + 1 :]]
    return rng.choice(replacements)


def test_deeply_nested_json_is_refused(tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(8, 8), dtype="u1")
    (tmp_path / "a.zarr" / "zarr.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(UserError, match=r"a\.zarr: not a zarr store, or damaged"):
        read_image(tmp_path / "a.zarr")
