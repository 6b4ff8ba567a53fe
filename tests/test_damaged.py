"""Truncated, vanished or inconsistent inputs are refused in one line, never read as zeros."""

from __future__ import annotations

import pickle
import random
import shutil
import struct
import warnings
from pathlib import Path

import dask.array as da
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr
from foreign import EXAMPLES
from PIL import Image as PillowImage
from server import serving

from napari_noise2score import Image, UserError, read_image, write_image
from napari_noise2score.errors import DataWarning, ReadError
from napari_noise2score.image.files import find_images, read_images

STACK = np.random.default_rng(0).integers(1, 4000, (6, 64, 72)).astype(np.uint16)
TIFF_OPTIONS = {
    "imagej": {"imagej": True},
    "plain": {},
    "ome": {"ome": True},
    "zlib": {"compression": "zlib"},
    "big": {"bigtiff": True},
    "tiled": {"tile": (16, 16)},
    "lzw": {"compression": "lzw", "rowsperstrip": 8},
}


def one_line(error) -> str:
    """Return the message of an error, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", TIFF_OPTIONS)
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_tiff_is_refused_before_it_is_read(tmp_path, kind, fraction):
    whole = tmp_path / "a.tif"
    tifffile.imwrite(whole, STACK, metadata={"axes": "TYX"}, **TIFF_OPTIONS[kind])
    data = whole.read_bytes()
    cut = tmp_path / "cut.tif"
    cut.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(ReadError, match=r"cut off|cannot be read") as error:
        read_image(cut, "TYX")
    assert "cut.tif" in one_line(error)


@pytest.mark.parametrize("kind", ["imagej", "plain", "zlib"])
def test_the_error_states_how_many_planes_of_a_truncated_tiff_are_left(tmp_path, kind):
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata={"axes": "TYX"}, **TIFF_OPTIONS[kind])
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError, match=r"a\.tif: cut off: [23] of 6 planes are there"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", [*TIFF_OPTIONS, "npy"])
def test_a_file_that_shrinks_or_vanishes_is_not_read_as_zeros(tmp_path, kind):
    path = tmp_path / ("a.npy" if kind == "npy" else "a.tif")
    if kind == "npy":
        np.save(path, STACK)
    else:
        tifffile.imwrite(path, STACK, metadata={"axes": "TYX"}, **TIFF_OPTIONS[kind])
    image = read_image(path, "TYX")
    lazy = da.from_array(image.data, chunks=(1, 64, 72))
    assert np.array_equal(lazy.compute(scheduler="synchronous"), STACK)
    data = path.read_bytes()
    with open(path, "r+b") as file:
        file.truncate(len(data) // 2)
    with pytest.raises(ReadError, match=path.name):
        image.data[5]
    path.unlink()
    with pytest.raises(ReadError, match=r"is no longer there"):
        lazy[4].compute(scheduler="synchronous")


def pixels_of(path) -> list[np.ndarray]:
    return [np.asarray(image.data) for image in read_images(path, series="all")]


@pytest.mark.parametrize("suffix", EXAMPLES)
def test_a_truncated_file_is_refused_in_every_format(tmp_path, suffix):
    whole = tmp_path / f"a{suffix}"
    EXAMPLES[suffix](whole)
    assert pixels_of(whole)
    data = whole.read_bytes()
    for number, fraction in enumerate([0, 0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99]):
        cut = tmp_path / f"cut{number}{suffix}"
        cut.write_bytes(data[: int(len(data) * fraction)])
        with pytest.raises(UserError, match=rf"cut{number}{suffix}: ") as error:
            pixels_of(cut)
        one_line(error)


@pytest.mark.parametrize("suffix", EXAMPLES)
def test_a_damaged_file_is_read_or_refused_in_every_format(tmp_path, suffix, seed):
    whole = tmp_path / f"a{suffix}"
    EXAMPLES[suffix](whole)
    data, rng = whole.read_bytes(), random.Random(seed)
    for number in range(20):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 5)):
            damaged[rng.randrange(min(len(data), 4096) if number % 2 else len(data))] ^= 255
        path = tmp_path / f"damaged{number}{suffix}"
        path.write_bytes(damaged)
        try:
            pixels_of(path)
        except UserError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("suffix", EXAMPLES)
def test_a_file_of_any_format_that_vanishes_is_not_read_as_zeros(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    EXAMPLES[suffix](path)
    image = read_images(path, series=1)[0]
    path.unlink()
    with pytest.raises(ReadError, match="is no longer there") as error:
        image.data[:]
    one_line(error)


def write_stores(folder: Path) -> dict[str, Path]:
    """Write the stack as OME-Zarr 0.5, OME-Zarr 0.4 and plain zarr, and return the paths."""
    image = Image(STACK, "TYX")
    write_image(folder / "a.ome.zarr", image)
    write_image(folder / "b.ome.zarr", image, ome_zarr="0.4")
    write_image(folder / "c.zarr", image)
    return {name: folder / name for name in ("a.ome.zarr", "b.ome.zarr", "c.zarr")}


@pytest.mark.parametrize("name", ["a.ome.zarr", "b.ome.zarr", "c.zarr"])
@pytest.mark.parametrize("loss", ["store", "array", "empty"])
def test_a_store_that_vanishes_is_not_read_as_zeros(tmp_path, name, loss):
    path = write_stores(tmp_path)[name]
    image = pickle.loads(pickle.dumps(read_image(path)))  # as a worker receives it
    assert np.array_equal(image.data[:], STACK)
    removed = path if name == "c.zarr" or loss != "array" else path / "0"
    shutil.rmtree(removed)
    if loss == "empty":
        removed.mkdir()  # as after unmounting a disk
    with pytest.raises(ReadError, match="is no longer there") as error:
        image.data[3]
    assert name in one_line(error)


def test_a_store_that_vanishes_from_a_server_is_not_read_as_zeros(tmp_path):
    pytest.importorskip("aiohttp", reason="no aiohttp: pip install -e '.[remote]'")
    path = write_stores(tmp_path)["a.ome.zarr"]
    with serving(tmp_path) as address:
        image = read_image(f"{address}/a.ome.zarr")
        assert np.array_equal(image.data[0], STACK[0])
        shutil.rmtree(path)
        with pytest.raises(ReadError, match="is no longer there"):
            image.data[3]
    with pytest.raises(ReadError, match="cannot be read"):
        image.data[3]


def test_chunks_that_were_never_written_have_the_fill_value(tmp_path):
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=(4, 8, 8), chunks=(1, 8, 8), dtype="u2", fill_value=7
    )
    array[0] = 1
    image = read_image(tmp_path / "a.zarr", "ZYX")
    assert image.data[:].sum() == 64 + 3 * 64 * 7


def test_a_damaged_chunk_is_refused_in_one_line(tmp_path):
    path = write_stores(tmp_path)["a.ome.zarr"]
    image = read_image(path)
    for chunk in (p for p in (path / "0" / "c").rglob("*") if p.is_file()):
        chunk.write_bytes(chunk.read_bytes()[:50])
    with pytest.raises(ReadError, match=r"a\.ome\.zarr: cannot be read, or damaged") as error:
        image.data[0]
    one_line(error)


def test_tiles_of_a_tiff_that_were_never_written_are_reported(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0], tile=(16, 16), metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in (324, 325):  # offsets and sizes of tiles
            values = list(file.pages[0].tags[tag].value)
            file.pages[0].tags[tag].overwrite([0, *values[1:]])
    with pytest.warns(DataWarning, match="1 of 20 pieces were never written"):
        image = read_image(path)
    assert not image.data[:16, :16].any()
    assert np.array_equal(image.data[16:], STACK[0, 16:])


def test_impossible_sizes_are_refused_before_memory_is_allocated(tmp_path):
    for shape in [(10**9, 10**9), (10**30, 8)]:
        np.save(tmp_path / "a.npy", np.zeros((8, 8), np.uint8))
        header = str({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()
        header += b" " * (117 - len(header)) + b"\n"
        (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header)
        with pytest.raises(ReadError, match=r"a\.npy: not a NPY array"):
            read_image(tmp_path / "a.npy")
    write_image(tmp_path / "a.zarr", Image(STACK, "TYX"))
    meta = tmp_path / "a.zarr" / "zarr.json"
    text = meta.read_text()
    for old, new in [('"shape": [\n    6', '"shape": [\n    6' + "0" * 25)]:
        assert old in text
        meta.write_text(text.replace(old, new, 1))
        with pytest.raises(UserError, match=r"a\.zarr: .*damaged"):
            read_image(tmp_path / "a.zarr")
    tifffile.imwrite(tmp_path / "b.tif", STACK[0], compression="zlib", metadata=None)
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+b") as file:
        for tag in (256, 257, 278):
            file.pages[0].tags[tag].overwrite(2**30)
    with pytest.raises(ReadError, match=r"b\.tif"):
        read_image(tmp_path / "b.tif")


def test_pictures_that_would_exhaust_memory_are_refused(tmp_path):
    PillowImage.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(ReadError, match=r"bomb\.png"):
        read_image(tmp_path / "bomb.png")


def test_entities_in_xml_are_not_expanded(tmp_path):
    lines = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10)
    )
    text = f'<?xml version="1.0"?><!DOCTYPE x [{lines}]><OME>&a9;</OME>'
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK[0], description=text, metadata=None)
    with pytest.raises(ReadError, match=r"a\.ome\.tif: its OME-XML declares a document type"):
        read_image(tmp_path / "a.ome.tif")


def test_ome_metadata_with_too_many_planes_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata={"axes": "TYX"})
    text = tifffile.tiffcomment(tmp_path / "a.ome.tif")
    for old, new in [
        ('SizeT="6"', 'SizeT="6000000000"'),
        ('PlaneCount="6"', 'PlaneCount="9999999999"'),
    ]:
        assert old in text
        tifffile.tiffcomment(tmp_path / "a.ome.tif", text.replace(old, new))
        with pytest.raises(ReadError, match="claims more planes than can be"):
            read_image(tmp_path / "a.ome.tif")
    tifffile.tiffcomment(tmp_path / "a.ome.tif", text.replace('SizeT="6"', 'SizeT="9"'))
    with pytest.raises(ReadError, match="6 of 9 planes are there"):
        read_image(tmp_path / "a.ome.tif")


def test_the_alpha_channel_is_dropped_in_every_format(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    opaque = np.dstack([colours, np.full((20, 30), 255, np.uint8)])
    iio.imwrite(tmp_path / "a.png", opaque)
    tifffile.imwrite(tmp_path / "a.tif", opaque, photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(
        tmp_path / "b.tif",
        opaque,
        photometric="rgb",
        extrasamples=["unassalpha"],
        compression="lzw",
    )
    write_image(tmp_path / "a.zarr", Image(opaque, "YXC", rgb=True))
    for name in ("a.png", "a.tif", "b.tif", "a.zarr"):
        image = read_image(tmp_path / name)
        assert (image.axes, image.rgb, image.data.shape) == ("YXC", True, (20, 30, 3))
        assert np.array_equal(image.data[:], colours)
        assert np.array_equal(image.data[..., ::-1], colours[..., ::-1])
        assert np.array_equal(image.data[3, 4:9, -1], colours[3, 4:9, -1])
    grey = PillowImage.fromarray(np.dstack([colours[..., 0], opaque[..., 3]]), mode="LA")
    grey.save(tmp_path / "la.png")
    assert np.array_equal(read_image(tmp_path / "la.png").data, colours[..., 0])


def test_unusual_kinds_of_pictures_are_read_or_refused(tmp_path):
    values = np.random.default_rng(0).integers(0, 65535, (20, 30), np.uint16)
    iio.imwrite(tmp_path / "deep.png", values)
    assert np.array_equal(read_image(tmp_path / "deep.png").data, values)
    from imagecodecs import png_encode

    colours = np.dstack([values, values // 2, values // 3])
    (tmp_path / "deep-rgb.png").write_bytes(png_encode(colours))
    assert np.array_equal(read_image(tmp_path / "deep-rgb.png").data, colours)
    PillowImage.fromarray(values > 30_000).save(tmp_path / "bits.png")
    assert set(np.unique(read_image(tmp_path / "bits.png").data)) == {0, 255}
    ramp = PillowImage.fromarray((values // 256).astype(np.uint8)).convert("P")
    ramp.save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").axes == "YX"
    picture = PillowImage.fromarray((colours // 256).astype(np.uint8))
    picture.convert("CMYK").save(tmp_path / "print.jpg")
    picture.save(tmp_path / "film.png", save_all=True, append_images=[picture.rotate(180)])
    for name, phrase in [("print.jpg", "convert it to RGB"), ("film.png", "contains 2 pictures")]:
        with pytest.raises(ReadError, match=phrase):
            read_image(tmp_path / name)


@pytest.mark.parametrize(
    "values",
    [np.ones((8, 8), np.float32), np.ones((8, 8), np.int16), np.ones((8, 8), np.uint32)],
)
def test_what_a_png_cannot_hold_is_refused(tmp_path, values):
    with pytest.raises(UserError, match=r"a PNG holds whole numbers 0-65535.*use \.tif"):
        write_image(tmp_path / "a.png", Image(values, "YX"))
    assert not list(tmp_path.iterdir())


def test_special_characters_in_file_names_are_taken_literally(tmp_path):
    folder = tmp_path / "run [1]"
    folder.mkdir()
    for name in ("A.TIF", "b*.tiff", "c [2].Tif"):
        tifffile.imwrite(folder / name, STACK[0])
    assert len(read_images(folder)) == 3
    assert find_images(f"{folder}/*.[Tt][Ii][Ff]") == [folder / "A.TIF", folder / "c [2].Tif"]
    assert find_images(folder / "c [2].Tif") == [folder / "c [2].Tif"]
    assert read_image(f"file://{folder}/A.TIF").data.shape == (64, 72)
    assert read_image(f"local://{folder}/A.TIF").data.shape == (64, 72)
    strange = Path(str(tmp_path / "caf") + b"\xe9.npy".decode("utf-8", "surrogateescape"))
    try:
        np.save(strange, STACK[0])
    except OSError:
        pytest.skip("this file system takes no such name")
    assert read_image(strange).data.shape == (64, 72)


def test_a_large_folder_is_listed_without_warnings(tmp_path):
    tifffile.imwrite(tmp_path / "0.tif", np.zeros((4, 4), np.uint8))
    for i in range(1, 1000):
        shutil.copyfile(tmp_path / "0.tif", tmp_path / f"{i}.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = find_images(tmp_path)
    assert [path.name for path in found[:3]] == ["0.tif", "1.tif", "2.tif"]
    assert len(found) == 1000
