"""OME-Zarr images are read and written without losing pixels, axes or metadata."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr
from server import serving

from napari_noise2score import Image, UserError, read_image, write_image
from napari_noise2score.image.ome_zarr import mean_of_cells

DATA = Path(__file__).parents[2] / "shared" / "data" / "zarr"
EXAMPLES = DATA / "ome-zarr-examples"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"no evaluation data in {DATA}")
VALID = [
    *(f"ome-zarr-examples/valid/image-0{i}.zarr" for i in (1, 2, 3, 4)),
    "ome-zarr-examples/valid/plate-01.zarr/A/1/0",
    "ome-zarr-examples/warning/image-01.zarr",
    "6001240_labels_v0.5.zarr",
    "tubhiswt4D_sub.zarr",
]


def movie(shape=(2, 2, 3, 300, 530)):
    """Return an image with every kind of metadata."""
    window = {"min": 0.0, "start": 5.0, "end": 900.0, "max": 65535.0}
    return Image(
        np.random.default_rng(0).integers(0, 1000, shape).astype(np.uint16),
        "TCZYX",
        scale={"T": 2.5, "Z": 0.5, "Y": 0.1, "X": 0.1},
        translate={"Y": 1.5, "X": -2.0},
        units={"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"},
        channels=("DAPI", "GFP"),
        name="cells",
        omero={
            "channels": [
                {"label": "DAPI", "color": "0000FF", "window": window},
                {"label": "GFP", "color": "00FF00", "window": window},
            ]
        },
        notes={"model": "m", "noise": "gaussian(sigma=3)", "version": "0"},
    )


def validate(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about unusual names of units
        return yaozarrs.validate_zarr_store(str(path))


def metadata_of(image):
    """Return all metadata of an image."""
    plain = replace(image, data=np.zeros((1,) * image.data.ndim))
    return {k: v for k, v in vars(plain).items() if k not in ("data", "source", "files")}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_movie_is_read_back_with_all_its_metadata(tmp_path, version):
    image = movie()
    write_image(tmp_path / "a.ome.zarr", image, ome_zarr=version)
    validate(tmp_path / "a.ome.zarr")
    read_back = read_image(tmp_path / "a.ome.zarr")
    assert np.array_equal(read_back.data[:], image.data)
    assert metadata_of(read_back) == metadata_of(image)
    assert read_back.data.array.metadata.zarr_format == {"0.4": 2, "0.5": 3}[version]
    with pytest.raises(UserError, match=r"0\.5 and 0\.4"):
        write_image(tmp_path / "b.ome.zarr", image, ome_zarr="0.3")


def test_the_levels_of_the_pyramid_are_aligned(tmp_path):
    image = movie()
    write_image(tmp_path / "a.ome.zarr", image)
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    assert [group[d["path"]].shape[-2:] for d in datasets] == [(300, 530), (150, 265), (75, 133)]
    expected = image.data[..., :2, :2].mean((-2, -1)).round()
    assert np.array_equal(group["1"][..., 0, 0], expected)
    for factor, dataset in zip((1, 2, 4), datasets, strict=True):
        scale, translation = (step[step["type"]] for step in dataset["coordinateTransformations"])
        assert scale[-2:] == pytest.approx([0.1 * factor] * 2)
        # the corner of the image is the same in all levels
        corner = [t - s / 2 for t, s in zip(translation, scale, strict=True)]
        assert corner[-2:] == pytest.approx([1.45, -2.05])
        assert scale[:3] == [2.5, 1.0, 0.5]


def test_the_pyramid_halves_z_once_planes_are_as_close_as_pixels(tmp_path):
    image = Image(np.zeros((9, 600, 600), np.uint8), "ZYX", scale={"Z": 0.2, "Y": 0.1, "X": 0.1})
    write_image(tmp_path / "a.ome.zarr", image)
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    assert [group[k].shape for k in "012"] == [(9, 600, 600), (9, 300, 300), (5, 150, 150)]


def test_incomplete_cells_at_the_edge_are_averaged():
    values = np.arange(15, dtype=np.float32).reshape(3, 5)
    mean = mean_of_cells(values, (2, 2))
    assert mean.shape == (2, 3)
    assert mean[0, 0] == values[:2, :2].mean()
    assert mean[1, 2] == values[2, 4]


@pytest.mark.parametrize("axes", ["YXC", "ZCYX", "XTY"])
def test_axes_are_written_in_the_order_of_the_specification(tmp_path, axes):
    shape = [{"Y": 40, "X": 50, "C": 3, "Z": 4, "T": 2}[a] for a in axes]
    image = Image(np.random.default_rng(0).normal(size=shape), axes, rgb=axes == "YXC")
    write_image(tmp_path / "a.ome.zarr", image)
    validate(tmp_path / "a.ome.zarr")
    read_back = read_image(tmp_path / "a.ome.zarr")
    assert read_back.axes == "".join(a for a in "TCZYX" if a in axes)
    order = [axes.index(a) for a in read_back.axes]
    assert np.array_equal(read_back.data[:], image.data.transpose(order))
    if image.rgb:
        assert read_back.channels == ("red", "green", "blue")


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("name", VALID)
def test_every_valid_sample_is_read_and_written(tmp_path, name, version):
    image = read_image(DATA / name)
    write_image(tmp_path / "a.ome.zarr", image, ome_zarr=version)
    validate(tmp_path / "a.ome.zarr")
    read_back = read_image(tmp_path / "a.ome.zarr")
    assert np.array_equal(read_back.data[:], image.data[:])
    assert metadata_of(read_back) == metadata_of(image)


@needs_data
@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("invalid/image-01.zarr", "not an OME-Zarr image"),
        ("invalid/image-02.zarr", "not an OME-Zarr image"),
        ("invalid/image-03.zarr", "level '0' is missing"),
        ("invalid/image-04.zarr", "level '1' has 2 dimensions, but 3 axes"),
        ("valid/plate-01.zarr", "name one of them"),
    ],
)
def test_every_invalid_sample_is_refused_in_one_line(name, phrase):
    with pytest.raises(UserError, match=phrase) as caught:
        read_image(EXAMPLES / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_violations_of_the_specification_are_named(tmp_path):
    write_image(tmp_path / "a.ome.zarr", movie((1, 2, 1, 8, 8)))
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r+")
    facts = group.attrs["ome"]
    scales = facts["multiscales"][0]
    for wrong, phrase in [
        ({"multiscales": [scales | {"axes": scales["axes"][::-1]}]}, "order by type"),
        ({"multiscales": [scales | {"axes": scales["axes"][:4]}]}, "axes"),
        ({"multiscales": [scales | {"datasets": []}]}, "datasets"),
        ({"version": "9.9"}, "9.9 is not supported"),
        ({"multiscales": [{}]}, "not a valid OME-Zarr image"),
    ]:
        group.attrs["ome"] = facts | wrong
        with pytest.raises(UserError, match=phrase) as caught:
            read_image(tmp_path / "a.ome.zarr")
        assert "\n" not in str(caught.value)


def test_a_store_is_read_over_http(tmp_path):
    pytest.importorskip("aiohttp", reason="no aiohttp: pip install -e '.[remote]'")
    image = movie((1, 2, 1, 20, 30))
    write_image(tmp_path / "a.ome.zarr", image)
    with serving(tmp_path) as address:
        read_back = read_image(f"{address}/a.ome.zarr")
        assert np.array_equal(read_back.data[:], image.data)
        assert metadata_of(read_back) == metadata_of(image)
        with pytest.raises(UserError, match=r"b\.ome\.zarr: not a zarr store"):
            read_image(f"{address}/b.ome.zarr")
    with pytest.raises(UserError, match="cannot be read"):
        read_image(f"{address}/a.ome.zarr")
    with pytest.raises(UserError, match=f"{address}/c.ome.zarr: .* written to a disk"):
        write_image(f"{address}/c.ome.zarr", image)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_napari_ome_zarr_opens_a_written_store(tmp_path, version):
    reader = pytest.importorskip(
        "napari_ome_zarr", reason="no napari-ome-zarr: pip install -e '.[test]'"
    )
    image = movie()
    write_image(tmp_path / "a.ome.zarr", image, ome_zarr=version)
    read = reader.napari_get_reader(str(tmp_path / "a.ome.zarr"))
    (levels, layer_settings, kind) = read(str(tmp_path / "a.ome.zarr"))[0]
    assert kind == "image"
    assert [level.shape[-2:] for level in levels] == [(300, 530), (150, 265), (75, 133)]
    assert np.array_equal(np.asarray(levels[0]), image.data)
    assert [name.split()[-1] for name in layer_settings["name"]] == ["DAPI", "GFP"]
    assert list(layer_settings["scale"]) == pytest.approx([2.5, 0.5, 0.1, 0.1])
