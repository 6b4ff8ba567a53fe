"""Files of microscopes and scanners are read as their own libraries read them, and written back."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import liffile
import mrcfile
import nd2
import nibabel as nib
import numpy as np
import pydicom
import pytest
from foreign import (
    DATA,
    DICOM,
    NIFTI,
    czi_pixels,
    write_imaris,
    write_lif,
    write_series,
    write_slice,
)
from pydicom.pixels import apply_rescale

from napari_noise2score import Image, UserError, read_image, train, write_image
from napari_noise2score.cli.main import main
from napari_noise2score.errors import DataWarning
from napari_noise2score.image.files import find_images, read_images
from napari_noise2score.image.formats import FORMATS
from napari_noise2score.image.output import check_output

MRC = DATA / "EMD-3197.map"
ND2 = DATA / "cluster.nd2"

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:mrcfile", "ignore::RuntimeWarning:mrcfile"
)


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("anatomical.nii", "ZYX"),
        ("functional.nii", "TZYX"),
        ("example4d.nii.gz", "TZYX"),
        ("example_nifti2.nii.gz", "TZYX"),
        ("standard.nii.gz", "ZYX"),
    ],
)
def test_nifti_is_read_as_nibabel_reads_it(name, axes):
    image, expected = read_image(NIFTI / name), nib.load(NIFTI / name)
    assert image.axes == axes
    assert np.allclose(np.asarray(image.data).T, expected.get_fdata())
    steps = dict(zip("XYZT", expected.header.get_zooms(), strict=False))
    assert dict(image.scale) == pytest.approx(steps)
    units = {"mm": "millimeter", "sec": "second"}
    space, time = (units.get(unit) for unit in expected.header.get_xyzt_units())
    assert dict(image.units) == ({a: time if a == "T" else space for a in axes} if space else {})


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", ["functional.nii", "example4d.nii.gz", "example_nifti2.nii.gz"])
def test_nifti_keeps_affine_header_and_shape(tmp_path, name, ending):
    image, source = read_image(NIFTI / name), nib.load(NIFTI / name)
    values = np.asarray(image.data, np.float32) + 1
    file = tmp_path / f"result{ending}"
    write_image(file, replace(image, data=values, notes={"job": "1f", "model": "m"}))
    result = nib.load(file)
    assert np.array_equal(result.affine, source.affine)
    assert np.array_equal(result.get_fdata(), values.T)
    assert np.array_equal(result.header["pixdim"][:5], source.header["pixdim"][:5])
    for field in ("dim", "xyzt_units", "qform_code", "sform_code", "descrip"):
        assert np.array_equal(result.header[field], source.header[field]), field
    assert dict(read_image(file).notes) == {"job": "1f", "model": "m"}


def test_diffusion_directions_are_samples_and_not_time(tmp_path):
    source = nib.load(NIFTI / "functional.nii")
    nib.save(source, tmp_path / "dwi.nii")
    assert read_image(tmp_path / "dwi.nii").axes == "TZYX"
    (tmp_path / "dwi.bval").write_text("0 1000")
    assert read_image(tmp_path / "dwi.nii").axes == "SZYX"
    source.header.set_xyzt_units("mm")
    nib.save(source, tmp_path / "untimed.nii")
    image = read_image(tmp_path / "untimed.nii")
    assert (image.axes, set(image.scale)) == ("SZYX", {*"ZYX"})


def test_an_affine_without_a_header_becomes_one(tmp_path):
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
    image = Image(
        np.ones((4, 8, 9), np.float32), "ZYX", header={"affine": affine},
        scale={"Z": 3000.0, "Y": 2000.0, "X": 2000.0}, units=dict.fromkeys("ZYX", "micrometer"),
    )  # fmt: skip
    write_image(tmp_path / "a.nii", image)
    result = nib.load(tmp_path / "a.nii")
    assert np.allclose(result.affine, affine)
    assert result.header.get_zooms() == (2, 2, 3)


def test_mrc_is_read_as_mrcfile_reads_it():
    image = read_image(MRC)
    with mrcfile.open(MRC) as expected:
        assert np.array_equal(image.data[:], expected.data)
        voxel = expected.voxel_size
    assert (image.axes, dict(image.units)) == ("ZYX", dict.fromkeys("ZYX", "angstrom"))
    assert [image.scale[a] for a in "XYZ"] == pytest.approx([float(voxel[a]) for a in "xyz"])


def test_mrc_keeps_voxel_size_and_header(tmp_path):
    image = read_image(MRC)
    values = image.data[:] + 1
    notes = {"version": "0.1", "fingerprint": "ab12", "job": "1f"}
    write_image(tmp_path / "a.mrc", replace(image, data=values, notes=notes))
    with mrcfile.open(tmp_path / "a.mrc") as result, mrcfile.open(MRC) as source:
        assert np.array_equal(result.data, values)
        assert result.voxel_size == source.voxel_size
        for field in ("cella", "cellb", "mx", "my", "mz", "nxstart", "ispg", "origin"):
            assert result.header[field] == source.header[field], field
        assert bytes(result.header.label[0]) == bytes(source.header.label[0])
    assert dict(read_image(tmp_path / "a.mrc").notes) == notes


def test_sections_of_an_mrc_file_are_named_by_its_header(tmp_path):
    planes = np.arange(6 * 8 * 9, dtype=np.int16).reshape(6, 8, 9)
    mrcfile.write(tmp_path / "volume.mrc", planes, voxel_size=2.0)
    with mrcfile.new(tmp_path / "stack.mrcs") as file:
        file.set_data(planes)
        file.set_image_stack()
    with mrcfile.new(tmp_path / "volumes.mrc") as file:
        file.set_data(planes.reshape(2, 3, 8, 9))
    mrcfile.write(tmp_path / "other.mrc", planes)
    with mrcfile.open(tmp_path / "other.mrc", "r+") as file:
        file.header.mapc, file.header.mapr, file.header.maps = 3, 1, 2
    found = {p.name: read_image(p).axes for p in tmp_path.iterdir()}
    assert found == {
        "volume.mrc": "ZYX", "stack.mrcs": "SYX", "volumes.mrc": "SZYX", "other.mrc": "YXZ",
    }  # fmt: skip
    assert read_image(tmp_path / "stack.mrcs", axes="TYX").axes == "TYX"
    image = read_image(tmp_path / "other.mrc")
    write_image(tmp_path / "back.mrc", image)
    assert np.array_equal(mrcfile.read(tmp_path / "back.mrc"), planes)


@pytest.mark.parametrize("axes", ["YX", "TYX", "SZYX", "YXZ"])
def test_an_mrc_file_is_valid(tmp_path, axes):
    sizes = {"S": 2, "T": 3, "Z": 4, "Y": 8, "X": 9}
    values = np.random.default_rng(0).normal(size=[sizes[a] for a in axes]).astype(np.float32)
    image = Image(
        values, axes, scale={"X": 0.5, "Y": 0.5}, units={"X": "nanometer", "Y": "nanometer"}
    )
    write_image(tmp_path / "a.mrc", image)
    assert mrcfile.validate(tmp_path / "a.mrc")
    back = read_image(tmp_path / "a.mrc")
    assert (back.scale["X"], back.units["X"]) == (5.0, "angstrom")
    order = sorted(range(len(axes)), key=lambda i: "STZYX".index(axes[i]))
    assert np.array_equal(back.data[:], values.transpose(order))


def test_nd2_is_read_as_nd2_reads_it():
    image = read_image(ND2)
    with nd2.ND2File(ND2) as expected:
        assert np.array_equal(image.data[:], expected.asarray())
        assert image.axes == "".join(expected.sizes) == "TZCYX"
        voxel = expected.voxel_size()
        names = tuple(c.channel.name for c in expected.metadata.channels)
        times = [expected.frame_metadata(i).channels[0].time.relativeTimeMs for i in (0, 20)]
    assert image.channels == names == ("5-FAM/pH 9.0", "FM 4-64/2% CHAPS")
    assert [image.scale[a] for a in "XYZ"] == [voxel.x, voxel.y, voxel.z]
    assert image.scale["T"] == pytest.approx((times[1] - times[0]) / 2000, rel=1e-5)
    assert dict(image.units) == dict.fromkeys("XYZ", "micrometer") | {"T": "second"}
    assert [c["color"] for c in image.omero["channels"]] == ["78E90F", "FE0100"]


@pytest.mark.parametrize(
    "path",
    [
        NIFTI / "functional.nii",
        NIFTI / "example4d.nii.gz",
        MRC,
        ND2,
        DATA / "colour.czi",
        DICOM / "rtdose.dcm",
        DICOM / "rtdose_rle.dcm",
    ],
    ids=lambda path: path.name,
)
def test_any_part_of_a_file_is_read_by_itself_and_in_other_processes(path):
    array = read_image(path).data
    whole = np.asarray(array)
    index = (*(0 for _ in array.shape[:-2]), slice(3, 9), slice(None, None, 2))
    assert np.array_equal(array[index], whole[index])
    assert np.array_equal(array[..., 2], whole[..., 2])
    assert np.array_equal(pickle.loads(pickle.dumps(array))[-1], whole[-1])


@pytest.mark.parametrize("axes", ["SYX", "TSYX", "SCYX", "SZYX", "STZCYX"])
@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".ome.zarr", ".npy"])
@pytest.mark.filterwarnings("ignore:.*are written as")
def test_samples_stay_samples(tmp_path, axes, ending):
    sizes = {"S": 5, "T": 2, "Z": 4, "C": 3, "Y": 16, "X": 20}
    values = np.random.default_rng(0).integers(0, 99, [sizes[a] for a in axes]).astype(np.uint16)
    file = tmp_path / f"a{ending}"
    if ending == ".ome.zarr" and len(axes) > 5:
        with pytest.raises(UserError, match="at most 5 axes"):
            write_image(file, Image(values, axes))
        return
    write_image(file, Image(values, axes))
    back = read_image(file)
    assert np.array_equal(
        np.asarray(back.data).transpose([back.axes.index(a) for a in axes]), values
    )


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UserError, match=r'NIfTI .* pip install "napari-noise2score\[formats\]"'):
        read_image(NIFTI / "anatomical.nii")
    missing = {each.name for each in FORMATS if each.find_missing()}
    assert missing == {"NIfTI"}


def test_czi_is_read_scene_by_scene():
    images = read_images(DATA / "scenes.czi", series="all")
    assert [image.axes for image in images] == ["TCZYX", "TCZYX"]
    for number, image in enumerate(images):
        assert np.array_equal(image.data[:], czi_pixels(number))
    assert dict(images[0].scale) == {"X": 0.1, "Y": 0.2, "Z": 0.5}
    assert dict(images[0].units) == dict.fromkeys("XYZ", "micrometer")
    assert images[1].channels == ("DAPI", "GFP")
    with pytest.warns(DataWarning, match="series 1 of 2 is read"):
        read_image(DATA / "scenes.czi")
    with pytest.raises(UserError, match="there is no series 3; the file has 2"):
        read_image(DATA / "scenes.czi", series=3)


def test_czi_is_read_as_czifile_reads_it():
    import czifile

    image = read_image(DATA / "scenes.czi", series=1)
    with czifile.CziFile(DATA / "scenes.czi") as expected:
        sizes = dict(zip(expected.axes, expected.shape, strict=True))
        assert [sizes[a] for a in "STCZY"] == [2, *image.data.shape[:-1]]
        assert expected.dtype == image.data.dtype


def test_the_tiles_of_a_mosaic_are_samples():
    with pytest.warns(DataWarning, match="a mosaic of 3 tiles, read tile by tile as axis S"):
        image = read_image(DATA / "mosaic.czi")
    assert image.axes == "SYX"
    assert (
        [int(tile.min()) for tile in image.data[:]]
        == [100, 101, 102]
        == image.data[:, 5, 5].tolist()
    )


def test_the_colours_of_a_czi_are_red_green_blue():
    image = read_image(DATA / "colour.czi")
    assert (image.axes, image.rgb, image.data.shape) == ("YXC", True, (32, 40, 3))
    assert image.data[0, 7].tolist() == [7, 20, 10]  # written as blue, green, red


def test_lif_is_read_as_liffile_reads_it(tmp_path):
    values = np.random.default_rng(0).integers(0, 999, (3, 2, 4, 32, 40)).astype(np.uint16)
    file = tmp_path / "a.lif"
    write_lif(file, {"first": values, "flat": values[0, 0, 0]})
    first, flat = read_images(file, series="all")
    with liffile.LifFile(file) as expected:
        assert [first.axes, flat.axes] == ["".join(image.sizes) for image in expected.images]
        assert np.array_equal(first.data[:], expected.images[0].asarray())
        assert np.array_equal(flat.data[:], expected.images[1].asarray())
    assert (first.axes, first.name, flat.name) == ("TCZYX", "a first", "a flat")
    assert dict(first.scale) == pytest.approx({"T": 2.0, "Z": 0.5, "Y": 0.1, "X": 0.1})
    assert dict(first.units) == dict.fromkeys("ZYX", "micrometer") | {"T": "second"}
    assert first.channels == ("Green", "Red")


def test_lif_tiles_are_samples_and_planes_along_z_are_planes(tmp_path):
    values = np.zeros((3, 32, 40), np.uint16)
    write_lif(tmp_path / "tiles.lif", {"a": values}, "MYX")
    with pytest.warns(DataWarning, match="a mosaic of 3 tiles"):
        assert read_image(tmp_path / "tiles.lif").axes == "SYX"
    write_lif(tmp_path / "xz.lif", {"a": values}, "TZX")
    assert read_image(tmp_path / "xz.lif").axes == "TYX"


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("CT_small.dcm", "YX"),  # signed, with an intercept
        ("MR_small_bigendian.dcm", "YX"),
        ("MR_small_RLE.dcm", "YX"),
        ("MR_small_jp2klossless.dcm", "YX"),
        ("rtdose.dcm", "ZYX"),
        ("rtdose_rle.dcm", "ZYX"),
        ("examples_ybr_color.dcm", "TYXC"),
        ("SC_rgb_rle_16bit_2frame.dcm", "SYXC"),
    ],
)
def test_dicom_is_read_as_pydicom_reads_it(name, axes):
    image = read_image(DICOM / name)
    data = pydicom.dcmread(DICOM / name)
    assert image.axes == axes
    assert np.array_equal(image.data[:], apply_rescale(data.pixel_array, data))
    if "PixelSpacing" in data:
        assert [image.scale[a] for a in "YX"] == [float(v) for v in data.PixelSpacing]
        assert image.units["X"] == "millimeter"
    if "FrameTime" in data:
        assert image.scale["T"] == pytest.approx(float(data.FrameTime) / 1000)


def test_a_folder_of_slices_is_a_volume_in_the_order_of_their_positions(tmp_path):
    values = np.random.default_rng(0).integers(-500, 999, (5, 8, 9)).astype(np.int16)
    write_series(tmp_path / "scan", values)
    image = read_image(tmp_path / "scan")
    assert (image.axes, image.name) == ("ZYX", "scan")
    assert np.array_equal(image.data[:], values)
    assert dict(image.scale) == {"Z": 3.0, "Y": 0.5, "X": 0.25}
    assert find_images(tmp_path / "scan") == [tmp_path / "scan"]
    write_series(tmp_path / "scan", values[:3] + 1, "1.2.4")
    both = read_images(tmp_path / "scan", series="all")
    assert [one.data.shape[0] for one in both] == [5, 3]
    # the corner of the first slice, to the right and to the front
    write_image(tmp_path / "scan.nii", image)
    affine = nib.load(tmp_path / "scan.nii").affine
    assert np.allclose(affine @ [0, 0, 2, 1], [-10, 20, 6, 1])
    assert np.allclose(affine @ [4, 2, 0, 1], [-11, 19, 0, 1])


def test_slices_of_several_times_are_time_and_of_other_series_samples(tmp_path):
    values = np.arange(2 * 3 * 8 * 9, dtype=np.uint16).reshape(2, 3, 8, 9)
    for t, volume in enumerate(values):
        write_series(tmp_path / "timed", volume, "1.2.3")
        for file in (tmp_path / "timed").glob("IM*3"):
            file.rename(file.with_name(f"T{t}{file.name}"))
    assert read_image(tmp_path / "timed").axes == "SZYX"
    for t, volume in enumerate(values):
        for z, plane in enumerate(volume):
            write_slice(
                tmp_path / f"{t}{z}.dcm", plane, TemporalPositionIdentifier=t + 1,
                ImagePositionPatient=[0, 0, z], SeriesInstanceUID="1.2.5",
            )  # fmt: skip
    (tmp_path / "four").mkdir()
    for file in tmp_path.glob("*.dcm"):
        file.rename(tmp_path / "four" / file.name)
    image = read_image(tmp_path / "four")
    assert image.axes == "TZYX"
    assert np.array_equal(image.data[:], values)


def test_slopes_differ_between_slices_and_a_missing_slice_is_reported(tmp_path):
    values = np.full((4, 8, 9), 10, np.uint16)
    for z, plane in enumerate(values):
        write_slice(
            tmp_path / f"{z}.dcm", plane, RescaleSlope=1.5 + z, RescaleIntercept=-2,
            ImagePositionPatient=[0, 0, z + (z == 3)], SeriesInstanceUID="1.2.3",
        )  # fmt: skip
    with pytest.warns(DataWarning, match="its slices are 1 to 2 mm apart"):
        image = read_image(tmp_path)
    assert image.data.dtype == np.float32
    assert image.data[:, 0, 0].tolist() == [13, 23, 33, 43]


def test_white_as_zero_is_inverted_and_said(tmp_path):
    values = np.array([[0, 1], [4094, 4095]], np.uint16)
    write_slice(tmp_path / "a.dcm", values, BitsStored=12, PhotometricInterpretation="MONOCHROME1")
    with pytest.warns(DataWarning, match="MONOCHROME1"):
        assert read_image(tmp_path / "a.dcm").data[:].tolist() == [[4095, 4094], [1, 0]]


def test_nothing_of_a_patient_leaves_a_dicom_file(tmp_path):
    write_series(tmp_path / "scan", np.ones((3, 8, 9), np.uint16))
    image = read_image(tmp_path / "scan")
    for name in ("a.nii", "a.tif", "a.npy", "a.ome.zarr"):
        write_image(tmp_path / "out" / name, image)
    assert "Doe" in (tmp_path / "scan" / "IM00003").read_bytes().decode("latin-1")
    for file in (tmp_path / "out").rglob("*"):
        text = file.read_bytes().decode("latin-1") if file.is_file() else ""
        assert not [word for word in ("Doe", "Jane", "4711", "19700102") if word in text], file
    assert not [word for word in ("Doe", "4711") if word in repr(image)]
    with pytest.raises(UserError, match=r"DICOM is not written; end the name in .nii or .ome.zarr"):
        write_image(tmp_path / "a.dcm", image)


def test_hdf5_arrays_are_named_by_their_path(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (3, 16, 20)).astype(np.uint16)
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as opened:
        opened.create_dataset("raw/volume", data=values, chunks=(1, 8, 8), compression="gzip")
        opened["raw/volume"].attrs["element_size_um"] = [0.5, 0.1, 0.1]
        for dim, label in zip(opened["raw/volume"].dims, "zyx", strict=True):
            dim.label = label
    for path in (file, f"{file}:/raw/volume"):
        image = read_image(path)
        assert (image.axes, image.data.chunks) == ("ZYX", (1, 8, 8))
        assert dict(image.scale) == {"Z": 0.5, "Y": 0.1, "X": 0.1}
        assert np.array_equal(image.data[1:, ::-2, [3, 1]], values[1:, ::-2, [3, 1]])
        assert image.files == (str(file),)
    with h5py.File(file, "a") as opened:
        opened["other"] = np.zeros((8, 9))
    with pytest.raises(
        UserError, match=r"name an array, as in '.*a.h5:/other'; it holds /other, /raw"
    ):
        read_image(file)
    with pytest.raises(UserError, match=r"there is no array '/rwa'; name an array"):
        read_image(f"{file}:/rwa")
    assert find_images(f"{file}:/raw/volume") == [Path(f"{file}:/raw/volume")]
    with pytest.raises(UserError, match="is an input of this job"):
        check_output(file, inputs=[f"{file}:/raw/volume"], overwrite=True)


def test_imaris_arrays_are_cut_to_the_size_of_the_image(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (2, 2, 3, 16, 20)).astype(np.uint16)
    write_imaris(tmp_path / "a.ims", values)
    image = read_image(tmp_path / "a.ims")
    assert (image.axes, image.channels) == ("TCZYX", ("DAPI", "GFP"))
    assert np.array_equal(image.data[:], values)
    assert dict(image.scale) == pytest.approx({"T": 30.0, "Z": 0.5, "Y": 0.1, "X": 0.1})
    assert dict(image.units) == dict.fromkeys("ZYX", "micrometer") | {"T": "second"}
    assert [c["color"] for c in image.omero["channels"]] == ["0000FF", "00FF00"]


@pytest.fixture
def run(monkeypatch, capfd):
    """Return a function that runs a command line and returns its exit code, stdout and stderr."""

    def run_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["noise2score", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return (stopped.value.code, *capfd.readouterr())

    return run_command


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the path of a model that was trained on a scene of ``scenes.czi`` for two steps."""
    path = tmp_path_factory.mktemp("model") / "m.n2s"
    scene = read_image(DATA / "scenes.czi", series=1)
    train(Image(scene.data[:, 0], "TZYX"), steps=2, name="m").save(path)
    return path


@pytest.fixture
def denoise(run, model):
    """Return a function that denoises an input with the model, and returns standard error."""

    def denoise_input(source, output, *options):
        words = ("--model", model, "--noise", "gaussian(sigma=12)", *options)
        code, _, error = run("denoise", source, output, *words)
        assert code == 0, error
        return error

    return denoise_input


def noisy_like(path: Path) -> Image:
    """Return an image with the metadata of a file, and the pixels that the model was trained on."""
    image = read_image(path)
    pixels = np.resize(czi_pixels(0)[:, 0], image.data.shape)
    return replace(image, data=pixels.astype(np.float32))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_scan_is_denoised_into_a_scan(denoise, tmp_path, ending):
    source, file = tmp_path / "brain.nii", tmp_path / f"clean{ending}"
    write_image(source, noisy_like(NIFTI / "anatomical.nii"))
    denoise(source, file)
    result, before = nib.load(file), nib.load(NIFTI / "anatomical.nii")
    assert result.shape == before.shape
    assert np.array_equal(result.affine, before.affine)
    for field in ("xyzt_units", "qform_code", "sform_code", "descrip"):
        assert np.array_equal(result.header[field], before.header[field]), field
    assert 200 < result.get_fdata().mean() < 400
    # the same job again finds that it is complete
    assert "is complete already" in denoise(source, file, "--resume")


def test_a_map_is_denoised_into_a_map(denoise, tmp_path):
    write_image(tmp_path / "a.map", noisy_like(MRC))
    denoise(tmp_path / "a.map", tmp_path / "clean.mrc")
    with mrcfile.open(tmp_path / "clean.mrc") as result, mrcfile.open(MRC) as source:
        assert (result.voxel_size, result.data.shape) == (source.voxel_size, source.data.shape)
        assert 200 < result.data.mean() < 400
    assert "is complete already" in denoise(tmp_path / "a.map", tmp_path / "clean.mrc", "--resume")


def test_the_results_of_a_folder_are_named_after_their_inputs(run, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copyfile(DATA / "scenes.czi", tmp_path / "in" / "cells.czi")
    np.save(tmp_path / "in" / "a.npy", czi_pixels(0)[0, 0, 0])
    words = ("--noise", "gaussian(sigma=9)", "--series", "all")
    assert run("simulate", tmp_path / "in", tmp_path / "out", *words)[0] == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"cells-series1.tif", "cells-series2.tif", "a.npy", "a.npy.json"}
    back = read_image(tmp_path / "out" / "cells-series2.tif")
    assert (back.axes, back.channels) == ("TCZYX", ("DAPI", "GFP"))
    assert back.scale["X"] == pytest.approx(0.1)


def test_dicom_is_denoised_into_nifti_without_data_of_the_patient(run, denoise, model, tmp_path):
    write_series(tmp_path / "scan", czi_pixels(0)[0, 0].repeat(2, 0))
    denoise(tmp_path / "scan", tmp_path / "clean.nii")
    assert nib.load(tmp_path / "clean.nii").header.get_zooms() == (0.25, 0.5, 3)
    assert not [w for w in (b"Doe", b"4711") if w in (tmp_path / "clean.nii").read_bytes()]
    words = ("--model", model, "--noise", "gaussian(sigma=12)")
    code, _, error = run("denoise", tmp_path / "scan", tmp_path / "a.dcm", *words)
    assert (code, error.count("\n"), "DICOM is not written" in error) == (2, 1, True)
    write_series(tmp_path / "scan", czi_pixels(1)[0, 0], "1.2.4")
    denoise(tmp_path / "scan", tmp_path / "out", "--series", "all")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"scan-series1.nii", "scan-series2.nii"}


def test_info_says_what_was_understood_of_an_image(run):
    code, out, error = run("info", ND2)
    assert (code, error) == (0, "")
    lines = dict(line.split("  ", 1) for line in out.splitlines())
    found = {key: value.strip() for key, value in lines.items()}
    assert found["axes"] == "T 3 · Z 10 · C 2 · Y 31 · X 38"
    assert found["pixel size"] == ("Z 0.5 micrometer, Y 0.167809 micrometer, X 0.167809 micrometer")
    assert (found["time step"], found["series"]) == ("10.6475 second", "1 of 1")
    assert (found["grey-level step"], found["valid"]) == (
        "1",
        "100.0% of the pixels that were read",
    )
    _, out, _ = run("info", DATA / "scenes.czi", "--series", "all", "--json")
    facts = json.loads(out)
    assert [one["series"] for one in facts] == [[1, 2], [2, 2]]
    assert facts[0]["channels"] == ["DAPI", "GFP"]


def test_info_reports_padding_and_saturation(run, tmp_path):
    values = np.random.default_rng(0).normal(3900, 200, (256, 256)).clip(0, 4095)
    values[:64] = 0
    write_image(tmp_path / "a.tif", Image(np.rint(values).astype(np.uint16), "YX"))
    out = run("info", tmp_path / "a.tif")[1]
    assert "75.0% of the pixels" in out
    assert "at 4095: 16" in out


def test_doctor_names_the_formats_that_can_be_read_and_what_is_missing(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "liffile", None)
    code, out, _ = run("doctor")
    assert code == 0
    lines = {line.split("  ")[1]: line for line in out.splitlines() if line.startswith("  ")}
    assert "read by nd2" in lines["Nikon ND2 (.nd2)"]
    assert 'pip install "napari-noise2score[formats]"' in lines["Leica LIF (.lif)"]
    assert "cpu" in lines["used by default"]
    facts = json.loads(run("doctor", "--json")[1])
    assert set(facts) == {"versions", "device", "formats"}
