"""Whatever is wrong with a file, reading it works or ends in one line."""

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

# damaged copies of each kind of file; a longer run is had by the environment
COPIES = int(os.environ.get("NOISE2SCORE_FUZZ", "150"))
# what a damaged file may claim, and is read all the same; one block is read of more
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
    f"{make.__name__}.tif": make
    for make in (plain_tiff, imagej_tiff, ome_tiff, zlib_tiff, lzw_tiff, big_tiff, jpeg_tiff)
}
OTHERS = {"a.npy": npy, "a.png": png, "a.jpg": jpeg}


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Return a copy with some bits turned, with bytes that mean something, or cut off."""
    data = bytearray(whole)
    kind = chance.random()
    if kind < 0.15:
        return bytes(data[: chance.randrange(len(data))])
    # most of what can go wrong is at the head
    end = len(data) if kind < 0.6 else min(len(data), 512)
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        at = chance.randrange(end)
        if chance.random() < 0.8:
            data[at] ^= 1 << chance.randrange(8)
        else:
            data[at] = chance.choice((0, 255, 127, 128))
    return bytes(data)


def read_all(path: Path, axes: str | None = None) -> str:
    """Read an image and its pixels, and return what is said if that cannot be done."""
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


def try_copies(path: Path, whole: bytes, count: int) -> int:
    """Read damaged copies of a file, and return how many of them were refused."""
    chance = random.Random(SEED)
    refused = 0
    for number in range(count):
        path.write_bytes(damaged(whole, chance))
        said = read_all(path, (None, "ZYX")[number % 2])
        assert "\n" not in said
        assert not said or path.name in said, said
        refused += bool(said)
    return refused


@pytest.mark.parametrize("name", [*TIFFS, *OTHERS])
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, name):
    path = tmp_path / name
    (TIFFS | OTHERS)[name](path)
    whole = path.read_bytes()
    assert not read_all(path, None if name != "a.npy" else "ZYX")
    assert 0 < try_copies(path, whole, COPIES) <= COPIES


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5", "array"])
def test_damaged_metadata_of_a_store_are_read_or_refused_in_one_line(tmp_path, version):
    path = tmp_path / ("a.zarr" if version == "array" else "a.ome.zarr")
    image = Image(STACK, "ZYX", scale={"Z": 2.0}, channels=(), notes={"noise": "gaussian(sigma=3)"})
    write_image(path, image, ome_zarr="0.5" if version == "array" else version)
    marks = ("zarr.json", ".zarray", ".zattrs", ".zgroup")
    found = [file for file in path.rglob("*") if file.name in marks]
    assert found
    chance = random.Random(SEED)
    for file in found:
        whole = file.read_bytes()
        for number in range(COPIES // len(found)):
            file.write_bytes(damaged(whole, chance))
            assert "\n" not in read_all(path, (None, "ZYX")[number % 2])
        # JSON that is whole and means something else
        for number in range(COPIES // len(found)):
            file.write_text(json.dumps(altered(json.loads(whole), chance)))
            assert "\n" not in read_all(path, (None, "ZYX")[number % 2])
        file.write_bytes(whole)
    assert not read_all(path)


def altered(value: object, chance: random.Random) -> object:
    """Return JSON in which one value is another one, missing, or of another kind."""
    odd = [None, -1, 0, 1e300, "", "x", [], {}, [None], {"a": 1}, 2**70, True, float("nan")]
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(sorted(value))
        if chance.random() < 0.2:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: altered(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        return [*value[:at], altered(value[at], chance), *value[at + 1 :]]
    return chance.choice(odd)


def test_json_that_nests_without_end_is_refused(tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(8, 8), dtype="u1")
    (tmp_path / "a.zarr" / "zarr.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(UserError, match=r"a\.zarr: not a zarr store, or damaged"):
        read_image(tmp_path / "a.zarr")
