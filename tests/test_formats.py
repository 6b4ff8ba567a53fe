"""Files of microscopes and scanners are read as their own libraries read them, and written back."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import mrcfile
import nd2
import nibabel as nib
import numpy as np
import pytest

from napari_noise2score import Image, UserError, read_image, write_image
from napari_noise2score.image.formats import FORMATS

DATA = Path(__file__).parent / "data"
NIFTI = Path(nib.__file__).parent / "tests" / "data"
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
    "path", [NIFTI / "functional.nii", NIFTI / "example4d.nii.gz", MRC, ND2], ids=lambda p: p.name
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
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(UserError, match=r'NIfTI .* pip install "napari-noise2score\[formats\]"'):
        read_image(NIFTI / "anatomical.nii")
    missing = {each.name for each in FORMATS if each.find_missing()}
    assert missing == {"NIfTI"}
