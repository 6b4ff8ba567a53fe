"""Images are read and written with all their metadata, or refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr
from typer.testing import CliRunner

from napari_noise2score import Image, UserError, read_image, write_image
from napari_noise2score.image.files import find_images, read_images
from napari_noise2score.image.write import open_output

DATA = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"no evaluation data in {DATA}")


def stack(dtype="float32"):
    values = np.random.default_rng(0).uniform(0, 200, (2, 3, 20, 30)).astype(dtype)
    return Image(
        values,
        "TZYX",
        scale={"T": 2.5, "Z": 0.5, "Y": 0.1, "X": 0.1},
        translate={"Y": 1.5, "X": -2.0},
        units={"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"},
        name="cells",
        notes={"model": "m", "noise": "gaussian(sigma=3)", "version": "0"},
    )


@pytest.mark.parametrize("ending", [".tif", ".tiff", ".ome.tif", ".zarr"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_stack_comes_back_with_its_metadata(tmp_path, ending, dtype):
    image = stack(dtype)
    write_image(tmp_path / f"cells{ending}", image)
    back = read_image(tmp_path / f"cells{ending}")
    assert np.array_equal(back.data[:], image.data)
    assert back.data.dtype == image.data.dtype
    assert (back.axes, back.name, dict(back.units)) == (image.axes, "cells", image.units)
    assert dict(back.scale) == pytest.approx(image.scale, rel=1e-5)
    assert {a: v for a, v in back.translate.items() if v} == pytest.approx(image.translate)
    assert dict(back.notes) == image.notes


@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".zarr"])
def test_channels_keep_their_names(tmp_path, ending):
    image = Image(np.zeros((3, 2, 8, 9), np.uint16), "ZCYX", channels=("DAPI", "GFP"))
    write_image(tmp_path / f"a{ending}", image)
    back = read_image(tmp_path / f"a{ending}")
    assert (back.axes, back.channels) == ("ZCYX", ("DAPI", "GFP"))


@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".png", ".zarr"])
def test_colours_stay_colours(tmp_path, ending):
    values = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    write_image(tmp_path / f"a{ending}", Image(values, "YXC", rgb=True))
    back = read_image(tmp_path / f"a{ending}")
    assert np.array_equal(back.data[:], values)
    assert (back.axes, back.rgb) == ("YXC", True)


def test_metadata_of_imagej_are_read(tmp_path):
    values = np.zeros((4, 3, 16, 17), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", values, imagej=True, resolution=(8.0, 8.0),
        metadata={"axes": "TZYX", "spacing": 0.5, "unit": "um", "finterval": 3.0},
    )  # fmt: skip
    image = read_image(tmp_path / "a.tif")
    assert image.axes == "TZYX"
    assert dict(image.scale) == {"T": 3.0, "Z": 0.5, "Y": 0.125, "X": 0.125}
    assert image.units["X"] == "micrometer"


def test_a_tif_is_an_imagej_hyperstack_and_an_ome_tif_is_ome(tmp_path):
    write_image(tmp_path / "a.tif", stack())
    write_image(tmp_path / "b.ome.tif", stack())
    with tifffile.TiffFile(tmp_path / "a.tif") as a, tifffile.TiffFile(tmp_path / "b.ome.tif") as b:
        assert a.is_imagej
        assert b.is_ome


def test_pixels_are_not_read_before_they_are_indexed(tmp_path):
    write_image(tmp_path / "a.tif", stack())
    tifffile.imwrite(
        tmp_path / "b.tif", stack().data, compression="zlib", metadata={"axes": "TZYX"}
    )
    np.save(tmp_path / "a.npy", stack().data)
    assert not isinstance(read_image(tmp_path / "a.tif").data, np.ndarray)
    assert not isinstance(read_image(tmp_path / "b.tif").data, np.ndarray)
    assert np.array_equal(read_image(tmp_path / "b.tif").data[:], stack().data)
    assert not isinstance(read_image(tmp_path / "a.npy", "TZYX").data, np.ndarray)
    assert np.array_equal(
        read_image(tmp_path / "a.npy", "TZYX").data[1, :, 3:9], stack().data[1, :, 3:9]
    )


def test_a_folder_of_more_files_than_can_be_open_at_once_is_read(tmp_path):
    resource = pytest.importorskip("resource")
    for i in range(60):
        tifffile.imwrite(tmp_path / f"{i}.tif", np.full((8, 8), i, np.uint16), byteorder=">")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (50, limits[1]))
    try:
        images = read_images(tmp_path)
        assert [int(image.data[0, 0]) for image in images] == list(range(60))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_16_bit_png_keeps_its_depth(tmp_path):
    values = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 100
    write_image(tmp_path / "a.png", Image(values, "YX"))
    assert np.array_equal(read_image(tmp_path / "a.png").data, values)
    with pytest.raises(UserError, match=r"whole numbers 0-65535"):
        write_image(tmp_path / "b.png", Image(np.full((4, 4), 7.6, np.float32), "YX"))


def test_unknown_axes_are_required_and_never_guessed(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 8, 8)))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 8, 8), np.uint8))
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(5, 8, 8), dtype="u1")
    for name in ("a.npy", "a.tif", "a.zarr"):
        with pytest.raises(UserError, match="--axes ZYX"):
            read_image(tmp_path / name)
        assert read_image(tmp_path / name, "TYX").axes == "TYX"


def test_an_unreadable_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "empty.tif").touch()
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps([1]))
    iio.imwrite(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 9, (64, 64), np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:100])
    (tmp_path / "a.docx").touch()
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "zarr.json").write_text("{}")
    zarr.create_group(str(tmp_path / "group.zarr"))
    names = "text.tif empty.tif object.npy pickle.npy cut.png a.docx folder.zarr group.zarr no.tif"
    for name in names.split():
        with pytest.raises(UserError, match=name) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_folders_and_globs_are_read_in_natural_order(tmp_path):
    for n in (10, 9, 1):
        np.save(tmp_path / f"t{n}.npy", np.zeros((4, 4)))
    (tmp_path / "notes.txt").touch()
    expected = ["t1.npy", "t9.npy", "t10.npy"]
    assert [p.name for p in find_images(tmp_path)] == expected
    assert [p.name for p in find_images(str(tmp_path / "t*.npy"))] == expected
    for missing in (tmp_path / "x", str(tmp_path / "x*.tif")):
        with pytest.raises(UserError):
            find_images(missing)
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        find_images(tmp_path / "bare")


@pytest.mark.parametrize("ending", [".tif", ".npy", ".zarr"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_an_interrupted_write_leaves_no_file(tmp_path, ending, error):
    with pytest.raises(error), open_output(tmp_path / f"a{ending}", stack(), np.float32) as out:
        out[0] = 1
        raise error
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_not_changed(tmp_path):
    write_image(tmp_path / "a.tif", stack())
    before = (tmp_path / "a.tif").read_bytes()
    with pytest.raises(UserError, match="--overwrite"):
        write_image(tmp_path / "a.tif", stack())
    with (
        pytest.raises(RuntimeError),
        open_output(tmp_path / "a.tif", stack(), np.float32, True) as out,
    ):
        out[0] = 1
        raise RuntimeError
    assert (tmp_path / "a.tif").read_bytes() == before
    (tmp_path / "mine.tif").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        write_image(tmp_path / "mine.tif", stack(), overwrite=True)


def test_an_unsupported_file_name_extension_is_refused(tmp_path):
    for name in ("a.jpg", "a", "a.docx"):
        with pytest.raises(UserError, match="end the name in one of"):
            write_image(tmp_path / name, stack())
    with pytest.raises(UserError, match="one plane"):
        write_image(tmp_path / "a.png", stack())


@needs_data
def test_real_images_of_every_kind_are_read():
    gray = read_image(DATA / "natural" / "Set12" / "01.png")
    assert (gray.axes, gray.data.shape, gray.data.dtype) == ("YX", (256, 256), np.uint8)
    colour = read_image(next((DATA / "natural" / "CBSD432").glob("*.jpg")))
    assert (colour.axes, colour.rgb) == ("YXC", True)
    field = read_image(DATA / "w2s" / "avg1" / "input_avg1_001_0.tif")
    assert field.data.shape == (512, 512)


@needs_data
def test_real_ome_zarr_is_read_with_its_pixel_size():
    image = read_image(DATA / "zarr" / "6001240_labels_v0.5.zarr")
    assert image.axes == "CZYX"
    assert image.scale["Z"] == pytest.approx(0.5002, abs=1e-3)
    assert image.units["X"] == "micrometer"
    assert image.channels


@needs_data
@pytest.mark.parametrize("name", ["image-01", "image-02", "image-03", "image-04"])
def test_invalid_ome_zarr_is_read_or_refused_in_one_line(name):
    path = DATA / "zarr" / "ome-zarr-examples" / "invalid" / f"{name}.zarr"
    try:
        image = read_image(path)
    except UserError as error:
        assert "\n" not in str(error)
        assert name in str(error)
    else:
        # what is invalid does not affect the pixels
        assert len(image.axes) == image.data.ndim


def test_notes_are_stored_in_a_png(tmp_path):
    notes = {"model": "m", "noise": "gaussian(sigma=3)"}
    write_image(tmp_path / "a.png", Image(np.zeros((4, 4), np.uint8), "YX", notes=notes))
    assert json.loads(iio.immeta(tmp_path / "a.png")["noise2score"]) == notes


@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".npy", ".zarr", ".ome.zarr"])
def test_invalid_pixel_sizes_are_ignored(tmp_path, ending):
    image = Image(
        np.ones((20, 30), np.float32),
        "YX",
        scale={"Y": float("nan"), "X": -1},
        translate={"Y": float("inf"), "X": 2},
    )
    assert (image.scale, image.translate) == ({}, {"X": 2})
    write_image(tmp_path / f"x{ending}", image)
    scale = read_image(tmp_path / f"x{ending}").scale
    assert set(scale.values()) <= {1.0}
    for path in tmp_path.rglob("*.json"):
        assert not {"NaN", "Infinity"} & set(path.read_text().replace(",", " ").split())


def test_several_results_must_go_to_a_folder(tmp_path):
    from napari_noise2score.cli.main import app

    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, np.ones((20, 30), np.float32))
    arguments = ["simulate", tmp_path, tmp_path / "all.tif", "--noise", "gaussian(sigma=1)"]
    refused = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(refused.exception, UserError)
    assert "name a folder" in str(refused.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.npy"]
