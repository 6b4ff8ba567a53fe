"""TIFF files are read with any compression, series, units and colours, and written correctly."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_noise2score import Image, UserError, read_image, write_image
from napari_noise2score.errors import DataWarning, ReadError
from napari_noise2score.image.files import find_images, read_images

STACK = np.random.default_rng(0).integers(0, 4000, (3, 32, 40)).astype(np.uint16)
OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
    '2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
    'SizeX="40" SizeY="32" SizeZ="1" SizeC="1" SizeT="1" {pixels}><Channel ID="Channel:0:0" '
    'SamplesPerPixel="1"/><TiffData/><Plane TheC="0" TheZ="0" TheT="0" {plane}/></Pixels></Image>'
    "</OME>"
)


def read_without_warnings(path, *arguments, **settings):
    """Read an image, and fail on any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_image(path, *arguments, **settings)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "lzw"},
        {"compression": "lzw", "predictor": True, "tile": (16, 16)},
        {"compression": "zlib", "predictor": True},
        {"compression": "zstd"},
        {"compression": "jpeg2000"},
        {"compression": "packbits"},
        {"tile": (16, 16)},
        {"rowsperstrip": 5},
        {"bigtiff": True, "byteorder": ">"},
    ],
)
def test_compressed_and_tiled_files_are_read(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata={"axes": "ZYX"}, **options)
    image = read_without_warnings(tmp_path / "a.tif")
    assert np.array_equal(image.data[:], STACK)
    assert np.array_equal(image.data[1, 3:20, ::2], STACK[1, 3:20, ::2])
    assert image.data.dtype == np.uint16


def test_floats_and_jpeg_are_read(tmp_path):
    values = STACK[0].astype(np.float32) / 7
    tifffile.imwrite(tmp_path / "f.tif", values, compression="zlib", predictor=3)
    assert np.array_equal(read_without_warnings(tmp_path / "f.tif").data[:], values)
    tifffile.imwrite(tmp_path / "j.tif", (STACK[0] // 16).astype(np.uint8), compression="jpeg")
    assert read_without_warnings(tmp_path / "j.tif").data[:].shape == (32, 40)


def test_one_of_several_series_is_read_with_a_warning(tmp_path):
    path = tmp_path / "multi.ome.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(STACK[:2], metadata={"axes": "ZYX", "Name": "pos0", "PhysicalSizeX": 0.5})
        file.write(STACK[2:], metadata={"axes": "ZYX", "Name": "pos1", "PhysicalSizeX": 2.0})
    with pytest.warns(DataWarning, match=r"multi\.ome\.tif: series 1 of 2 is read \('pos0'\)"):
        image = read_image(path)
    assert np.array_equal(image.data[:], STACK[:2])
    second = read_without_warnings(path, series=2)
    assert np.array_equal(second.data[:].reshape(32, 40), STACK[2])
    assert (second.scale["X"], second.name) == (2.0, "multi pos1")
    assert [image.name for image in read_images(path, series="all")] == ["multi pos0", "multi pos1"]
    for wrong in (0, 3):
        with pytest.raises(UserError, match=f"there is no series {wrong}; the file has 2"):
            read_image(path, series=wrong)
    with pytest.raises(UserError, match="a number from 1, or all"):
        read_images(path, series="second")


def test_pages_of_two_sizes_are_two_series_and_a_pyramid_is_one(tmp_path):
    with tifffile.TiffWriter(tmp_path / "sizes.tif") as file:
        file.write(STACK[0], metadata=None)
        file.write(STACK[0, :20, :30], metadata=None)
    with pytest.warns(DataWarning, match="series 1 of 2"):
        assert read_image(tmp_path / "sizes.tif").data.shape == (32, 40)
    with tifffile.TiffWriter(tmp_path / "levels.tif") as file:
        file.write(STACK[0], metadata=None, subifds=1)
        file.write(STACK[0, ::2, ::2], metadata=None, subfiletype=1)
    assert read_without_warnings(tmp_path / "levels.tif").data.shape == (32, 40)


def write_multi_file(
    folder: Path, names=("s_0.ome.tif", "s_1.ome.tif", "s_2.ome.tif")
) -> list[Path]:
    """Write an OME-TIFF with one plane per file, and the metadata of all planes in each file."""
    uuids = [f"urn:uuid:0000000{i}-0000-0000-0000-000000000000" for i in range(3)]
    data = "".join(
        f'<TiffData FirstZ="{i}" FirstC="0" FirstT="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for i, (name, uuid) in enumerate(zip(names, uuids, strict=True))
    )
    for name, uuid, plane in zip(names, uuids, STACK, strict=True):
        text = OME.format(pixels='PhysicalSizeX="0.5"', plane='PositionX="1"')
        text = text.replace("<TiffData/>", data).replace('SizeZ="1"', 'SizeZ="3"')
        text = text.replace("<OME ", f'<OME UUID="{uuid}" ')
        tifffile.imwrite(folder / name, plane, description=text, metadata=None)
    return [folder / name for name in names]


def test_files_of_one_image_are_read_once(tmp_path):
    files = write_multi_file(tmp_path)
    tifffile.imwrite(tmp_path / "other.tif", STACK[0])
    assert find_images(tmp_path) == [tmp_path / "other.tif", files[0]]
    for file in files:
        image = read_without_warnings(file)
        assert np.array_equal(image.data[:], STACK)
        assert set(image.files) == {str(path.resolve()) for path in files}
        assert image.source == str(file.resolve())
    files[1].unlink()
    with pytest.raises(ReadError, match=r"s_0\.ome\.tif: 1 file of it is missing: s_1\.ome\.tif"):
        read_image(files[0])


def test_metadata_in_a_companion_file_are_read(tmp_path):
    text = OME.format(pixels='PhysicalSizeX="0.5"', plane="")
    data = (
        '<TiffData IFD="0" PlaneCount="1"><UUID FileName="a.ome.tif">urn:uuid:1</UUID></TiffData>'
    )
    (tmp_path / "a.companion.ome").write_text(text.replace("<TiffData/>", data))
    xml_with_reference = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
        '<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:2"/></OME>'
    )
    tifffile.imwrite(
        tmp_path / "a.ome.tif", STACK[0], description=xml_with_reference, metadata=None
    )
    image = read_without_warnings(tmp_path / "a.ome.tif")
    assert np.array_equal(image.data[:], STACK[0])
    assert image.scale["X"] == 0.5
    (tmp_path / "a.companion.ome").unlink()
    with pytest.raises(ReadError, match=r"missing: a\.companion\.ome"):
        read_image(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    ("pixels", "plane", "scale", "translate"),
    [
        ('PhysicalSizeX="0.2"', 'PositionX="12.5" PositionXUnit="mm"', {"X": 0.2}, {"X": 12500}),
        ('PhysicalSizeX="0.2"', 'PositionX="1" PositionXUnit="m"', {"X": 0.2}, {"X": 1e6}),
        ('PhysicalSizeX="0.2"', 'PositionX="1" PositionXUnit="reference frame"', {"X": 0.2}, {}),
        ('PhysicalSizeX="2" PhysicalSizeXUnit="pixel"', "", {}, {}),
        *[(f'PhysicalSizeX="{wrong}"', "", {}, {}) for wrong in ("0", "-1", "NaN", "INF", "wide")],
        ('PhysicalSizeZ="2" PhysicalSizeZUnit="nm"', "", {"Z": 2.0}, {}),
        ('TimeIncrement="5" TimeIncrementUnit="min"', "", {"T": 5.0}, {}),
    ],
)
def test_ome_units_are_read_from_their_own_fields(tmp_path, pixels, plane, scale, translate):
    text = OME.format(pixels=pixels, plane=plane)
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK[0], description=text, metadata=None)
    image = read_without_warnings(tmp_path / "a.ome.tif")
    assert dict(image.scale) == scale
    assert dict(image.translate) == pytest.approx(translate)


def test_imagej_units_are_read_from_their_own_fields(tmp_path):
    def scale_and_units(resolution, **facts):
        facts = {"axes": "ZYX"} | facts
        tifffile.imwrite(
            tmp_path / "a.tif", STACK, imagej=True, resolution=resolution, metadata=facts
        )
        image = read_without_warnings(tmp_path / "a.tif")
        return dict(image.scale), dict(image.units)

    scale, units = scale_and_units((0.01, 0.01), unit="nm", zunit="um", spacing=0.3)
    assert scale == pytest.approx({"X": 100, "Y": 100, "Z": 0.3})
    assert units == {"X": "nanometer", "Y": "nanometer", "Z": "micrometer"}
    scale, units = scale_and_units((5, 5), axes="TYX", unit="um", finterval=5.0, tunit="min")
    assert (scale["T"], units["T"]) == (5.0, "minute")
    assert scale_and_units((0, 0), unit="um", spacing=0) == ({}, {})
    assert scale_and_units((5, 5), unit="pixel") == ({}, {})


def test_units_are_preserved(tmp_path):
    image = Image(
        STACK[None], "TZYX",
        scale={"T": 5.0, "Z": 0.3, "Y": 100.0, "X": 100.0},
        units={"T": "minute", "Z": "micrometer", "Y": "nanometer", "X": "nanometer"},
    )  # fmt: skip
    for ending in (".tif", ".ome.tif", ".ome.zarr"):
        write_image(tmp_path / f"a{ending}", image)
        read_back = read_without_warnings(tmp_path / f"a{ending}")
        kept = {a: v for a, v in image.scale.items() if a in read_back.axes}
        assert {a: read_back.scale[a] for a in kept} == pytest.approx(kept)
        assert {a: read_back.units[a] for a in kept} == {a: image.units[a] for a in kept}


@pytest.mark.parametrize(
    ("resolution", "unit", "scale"),
    [
        ((50_000, 50_000), "CENTIMETER", 2e-5),
        ((25_400, 25_400), "INCH", 1 / 25_400),
        ((300, 300), "INCH", None),
        ((72, 72), "INCH", None),
        ((5, 5), "NONE", None),
    ],
)
def test_the_resolution_of_a_plain_tiff_is_a_pixel_size_unless_it_is_for_printing(
    tmp_path, resolution, unit, scale
):
    tifffile.imwrite(
        tmp_path / "a.tif", STACK[0], resolution=resolution, resolutionunit=unit, metadata=None
    )
    image = read_without_warnings(tmp_path / "a.tif")
    assert image.scale.get("X") == (scale and pytest.approx(scale))
    if scale:
        assert image.units["X"] == unit.lower()


def write_composite(path: Path) -> list[np.ndarray]:
    """Write an ImageJ composite, and return its colour tables."""
    ramp, none = np.arange(256), np.zeros(256)
    tables = [np.stack(rows).astype(np.uint8) for rows in ([ramp, none, none], [none, ramp, ramp])]
    tifffile.imwrite(
        path, STACK[:2], imagej=True,
        metadata={"axes": "CYX", "mode": "composite", "LUTs": tables, "Info": "63x",
                  "Ranges": (100.0, 500.0, 100.0, 900.0), "Labels": ["DAPI", "GFP"]},
    )  # fmt: skip
    return tables


def test_display_settings_of_imagej_are_preserved(tmp_path):
    tables = write_composite(tmp_path / "c.tif")
    image = read_without_warnings(tmp_path / "c.tif")
    write_image(tmp_path / "o.tif", image)
    with tifffile.TiffFile(tmp_path / "o.tif") as file:
        metadata = file.imagej_metadata
    assert (metadata["mode"], metadata["Info"], metadata["Labels"]) == (
        "composite",
        "63x",
        ["DAPI", "GFP"],
    )
    assert metadata["Ranges"] == (100.0, 500.0, 100.0, 900.0)
    assert np.array_equal(metadata["LUTs"], tables)


def test_colours_and_ranges_are_converted_between_tiff_and_zarr(tmp_path):
    tables = write_composite(tmp_path / "c.tif")
    write_image(tmp_path / "o.ome.zarr", read_without_warnings(tmp_path / "c.tif"))
    store = read_without_warnings(tmp_path / "o.ome.zarr")
    assert [c["color"] for c in store.omero["channels"]] == ["FF0000", "00FFFF"]
    assert store.omero["channels"][1]["window"]["end"] == 900
    write_image(tmp_path / "p.tif", store)
    with tifffile.TiffFile(tmp_path / "p.tif") as file:
        metadata = file.imagej_metadata
    assert metadata["Ranges"] == (100.0, 500.0, 100.0, 900.0)
    assert metadata["mode"] == "composite"
    assert np.array_equal(metadata["LUTs"], tables)
    write_image(tmp_path / "q.ome.tif", store)
    read_back = read_without_warnings(tmp_path / "q.ome.tif")
    assert [c["color"] for c in read_back.omero["channels"]] == ["FF0000", "00FFFF"]


@pytest.mark.parametrize(
    ("axes", "shape", "written"),
    [
        ("YXZ", (32, 40, 3), "ZYX"),
        ("XYT", (32, 40, 3), "TYX"),
        ("YXC", (32, 40, 6), "CYX"),
        ("TYXC", (2, 32, 40, 3), "TCYX"),
        ("CZYX", (2, 3, 8, 9), "CZYX"),
        ("XTCZY", (5, 2, 3, 4, 6), "TZCYX"),
    ],
)
@pytest.mark.parametrize("ending", [".tif", ".ome.tif"])
def test_an_image_with_any_order_of_axes_is_written(tmp_path, axes, shape, written, ending):
    values = np.random.default_rng(0).integers(0, 99, shape).astype(np.uint16)
    image = Image(values, axes)
    path = tmp_path / f"a{ending}"
    if axes == written:
        write_image(path, image)
    else:
        with pytest.warns(DataWarning, match=f"axes {axes} are written as {written}"):
            write_image(path, image)
    read_back = read_without_warnings(path)
    assert read_back.axes == written
    assert np.array_equal(read_back.data[:], values.transpose([axes.index(a) for a in written]))


def test_unsupported_pixel_types_are_widened_or_refused(tmp_path):
    for given, kept in [("float16", "float32"), ("int8", "int8"), ("float64", "float64")]:
        values = (STACK[0] % 99).astype(given)
        write_image(tmp_path / f"{given}.tif", Image(values, "YX"))
        read_back = read_image(tmp_path / f"{given}.tif")
        assert read_back.data.dtype == kept
        assert np.array_equal(read_back.data[:], values)
    for given in ("int64", "uint64"):
        with pytest.raises(UserError, match=f"a TIFF cannot hold {given}"):
            write_image(tmp_path / "b.tif", Image(STACK[0].astype(given), "YX"))
    assert not (tmp_path / "b.tif").exists()


def test_the_command_line_reads_one_series_or_all(tmp_path):
    from typer.testing import CliRunner

    from napari_noise2score.cli.main import app

    source = tmp_path / "multi.ome.tif"
    with tifffile.TiffWriter(source) as file:
        file.write(STACK[:2], metadata={"axes": "ZYX", "Name": "pos0"})
        file.write(STACK[1:], metadata={"axes": "ZYX", "Name": "pos1"})

    def simulate(target, *options):
        words = ["simulate", source, tmp_path / target, "--noise", "gaussian(sigma=0.01)", *options]
        return CliRunner().invoke(app, list(map(str, words)))

    assert simulate("second.tif", "--series", "2").exit_code == 0
    second = read_image(tmp_path / "second.tif")
    assert np.allclose(second.data[:], STACK[1:], atol=1)
    assert simulate("all", "--series", "all").exit_code == 0
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert names == ["multi-series1.ome.tif", "multi-series2.ome.tif"]
    assert np.allclose(read_image(tmp_path / "all" / names[0]).data[:], STACK[:2], atol=1)
    refused = simulate("all.tif", "--series", "all")
    assert "name a folder" in str(refused.exception)
    assert not (tmp_path / "all.tif").exists()
    assert simulate("plate.v2", "--series", "all").exit_code == 0
    assert len(list((tmp_path / "plate.v2").iterdir())) == 2


def test_packed_12_bit_pixels_are_read(tmp_path):
    # 12-bit cameras write two pixels in three bytes
    plane, path = STACK[0], tmp_path / "twelve.tif"
    even, odd = plane[:, 0::2], plane[:, 1::2]
    packed = np.empty((len(plane), even.shape[1], 3), np.uint8)
    packed[..., 0], packed[..., 2] = even >> 4, odd & 255
    packed[..., 1] = (even & 15) << 4 | odd >> 8
    tifffile.imwrite(path, packed.reshape(len(plane), -1), metadata=None, byteorder=">")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags["BitsPerSample"].overwrite(12)
        file.pages.first.tags["ImageWidth"].overwrite(plane.shape[1])
    assert np.array_equal(read_without_warnings(path).data[:], plane)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ReadError, match="cut off"):
        read_image(path)
    tifffile.imwrite(path, plane > 2000)
    with pytest.raises(UserError, match="type bool"):
        read_image(path)
