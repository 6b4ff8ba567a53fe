"""Outputs never replace inputs, are complete or absent, and are written by one job at a time."""

from __future__ import annotations

import os
import stat
import sys

import numpy as np
import pytest
import tifffile

from napari_noise2score import (
    Empirical,
    Image,
    UserError,
    denoise_steps,
    read_image,
    train,
    uncertainty_steps,
    write_image,
)
from napari_noise2score.cli.main import main
from napari_noise2score.denoising.jobs import left_of
from napari_noise2score.image._file_array import FileArray
from napari_noise2score.image.output import check_output, written

NOISE = "gaussian(sigma=10)"
NAMES = ["x.ome.zarr", "x.zarr", "x.tif", "x.ome.tif", "x.npy", "x.png"]


@pytest.fixture(scope="module")
def model():
    noisy = np.random.default_rng(0).normal(100, 10, (4, 32, 32)).astype(np.float32)
    return train(noisy, axes="TYX", steps=1, name="m", context="none")


@pytest.fixture
def run_command(monkeypatch, capfd):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["noise2score", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capfd.readouterr().err

    return run


def write_noisy(folder, seed, name="noisy.tif", dtype=np.uint8):
    """Write a noisy plane, and open it."""
    noisy = np.random.default_rng(seed).normal(100, 10, (64, 72))
    metadata = {"scale": {"X": 0.5, "Y": 0.5}, "units": {"X": "micrometer", "Y": "micrometer"}}
    write_image(folder / name, Image(noisy.astype(dtype), "YX", **metadata), overwrite=True)
    return read_image(folder / name)


@pytest.mark.parametrize("name", NAMES)
def test_a_result_of_another_job_does_not_count_as_complete(name, model, tmp_path):
    target = tmp_path / name
    image = write_noisy(tmp_path, 1)
    job = {"dtype": np.uint8, "resume": True}
    for _ in denoise_steps(image, model, NOISE, target, **job):
        pass
    (step,) = denoise_steps(image, model, NOISE, target, **job)
    assert "complete already" in step.message
    before = read_image(target, "YX").data[:]
    # same name, size and type, but other pixels
    other = write_noisy(tmp_path, 2)
    for changed in (
        (denoise_steps, other, NOISE, {}),
        (denoise_steps, write_noisy(tmp_path, 1), "gaussian(sigma=9)", {}),
        (uncertainty_steps, write_noisy(tmp_path, 1), NOISE, {}),
        (denoise_steps, write_noisy(tmp_path, 1), NOISE, {"tile": (32, 32)}),
    ):
        steps, source, noise, options = changed
        with pytest.raises(UserError, match="exists already, and another input, model"):
            list(steps(source, model, noise, target, **job, **options))
    assert np.array_equal(read_image(target, "YX").data[:], before)


def test_the_content_of_a_noise_file_is_part_of_the_job(model, tmp_path):
    def save_noise(width):
        def density(x, y):
            return np.exp(-(((y - x) / width) ** 2) / 2)

        levels, edges = np.linspace(0, 255, 64), np.arange(-60, 320, 2)
        return Empirical.from_density(density, levels, edges).save(tmp_path / "n.npz")

    image = write_noisy(tmp_path, 1)
    noise = save_noise(10)
    for _ in denoise_steps(image, model, noise, tmp_path / "x.tif"):
        pass
    with pytest.raises(UserError, match="exists already"):
        list(denoise_steps(image, model, save_noise(12), tmp_path / "x.tif", resume=True))
    with pytest.raises(UserError, match="input of this job"):
        list(denoise_steps(image, model, noise, tmp_path / "n.npz", overwrite=True))


def test_finished_blocks_are_not_discarded_by_default(model, tmp_path):
    noisy = np.random.default_rng(0).normal(100, 10, (4, 64, 72)).astype(np.float32)
    target = tmp_path / "x.tif"
    run = denoise_steps(Image(noisy, "TYX"), model, NOISE, target)
    next(run)
    run.close()
    assert left_of(target)
    with pytest.raises(UserError, match="started before and not finished"):
        list(denoise_steps(Image(noisy, "TYX"), model, NOISE, target))
    steps = list(denoise_steps(Image(noisy, "TYX"), model, NOISE, target, resume=True))
    assert len(steps) < 4
    assert not left_of(target)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_job_on_an_output_is_refused_and_the_first_is_named(name, model, tmp_path):
    image = write_noisy(tmp_path, 1)
    first = denoise_steps(image, model, NOISE, tmp_path / name, dtype=np.uint8, tile=(32, 32))
    next(first)
    second = denoise_steps(image, model, NOISE, tmp_path / name, dtype=np.uint8)
    with pytest.raises(UserError, match=rf"another job \(process {os.getpid()} on .*since 20"):
        next(second)
    for _ in first:
        pass
    assert read_image(tmp_path / name, "YX").data.shape == (64, 72)


def test_a_stale_lock_is_taken_over(tmp_path):
    target = tmp_path / "x.txt"
    lock = tmp_path / ".x.txt.lock"
    lock.write_text('{"host": "elsewhere", "process": 1, "since": "long ago"}')
    with written(target) as part:
        part.write_text("a")
        with pytest.raises(UserError, match="is being written by another job"), written(target):
            pass
    assert target.read_text() == "a"
    assert not lock.exists()


def test_a_file_created_meanwhile_is_not_replaced(tmp_path):
    target = tmp_path / "x.txt"
    with pytest.raises(UserError, match="exists already"), written(target) as part:
        part.write_text("mine")
        target.write_text("somebody else's")
    assert target.read_text() == "somebody else's"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_a_folder_created_for_a_failed_job_is_removed(tmp_path):
    with pytest.raises(RuntimeError), written(tmp_path / "a" / "b" / "x.txt"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.tif", "x.npy", "x.ome.zarr", "x.png", "m.n2s"])
def test_files_have_the_mode_of_the_umask(name, model, tmp_path):
    before = os.umask(0o027)
    try:
        if name == "m.n2s":
            model.save(tmp_path / name)
        else:
            write_noisy(tmp_path, 1, name)
    finally:
        os.umask(before)
    found = [p for p in (tmp_path, *tmp_path.rglob("*")) if p.is_file()]
    assert found
    assert {stat.S_IMODE(p.stat().st_mode) for p in found} == {0o640}


def test_no_input_is_overwritten_under_any_name(model, tmp_path):
    source = write_noisy(tmp_path, 1)
    raw = (tmp_path / "noisy.tif").read_bytes()
    model.save(tmp_path / "m.n2s")
    weights = (tmp_path / "m.n2s").read_bytes()
    os.link(tmp_path / "noisy.tif", tmp_path / "hard.tif")
    (tmp_path / "soft.tif").symlink_to("noisy.tif")
    for target in ("noisy.tif", "hard.tif", "soft.tif", "sub/../noisy.tif", "m.n2s"):
        for address in ("", "file://", "local://"):
            with pytest.raises(UserError, match=r"input of this job|end the name"):
                list(
                    denoise_steps(
                        source, model, NOISE, f"{address}{tmp_path}/{target}",
                        overwrite=True, inputs=[tmp_path / "m.n2s"],
                    )
                )  # fmt: skip
    assert (tmp_path / "noisy.tif").read_bytes() == raw
    assert (tmp_path / "m.n2s").read_bytes() == weights


@pytest.mark.slow
def test_resume_can_be_given_to_every_job(run_command, model, tmp_path):
    noisy = np.random.default_rng(0).normal(100, 10, (3, 64, 72)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", noisy, imagej=True, metadata={"axes": "TYX"})
    new = ("train", tmp_path / "a.tif", "--model", tmp_path / "m.n2s", "--steps", 2, "--resume")
    assert run_command(*new)[0] == 0
    weights = (tmp_path / "m.n2s").read_bytes()
    code, stderr = run_command(*new)
    assert (code, "complete already" in stderr) == (0, True)
    assert (tmp_path / "m.n2s").read_bytes() == weights
    # but not complete for other images
    tifffile.imwrite(tmp_path / "a.tif", noisy + 1, imagej=True, metadata={"axes": "TYX"})
    code, stderr = run_command(*new)
    assert (code, "trained on other images" in stderr) == (2, True)
    assert (tmp_path / "m.n2s").read_bytes() == weights


def test_a_training_is_not_resumed_with_other_images(tmp_path):
    from napari_noise2score import train_steps

    noisy = np.random.default_rng(0).normal(100, 10, (4, 32, 32)).astype(np.float32)
    steps = train_steps(noisy, axes="TYX", steps=3)
    next(steps).result.checkpoint(tmp_path / "c")
    noisy[3, 31, 31] += 1
    with pytest.raises(UserError, match="begun with other images"):
        next(train_steps(noisy, axes="TYX", steps=3, resume=tmp_path / "c"))


def test_numpy_files_keep_metadata(model, tmp_path):
    image = write_noisy(tmp_path, 1)
    for _ in denoise_steps(image, model, NOISE, tmp_path / "x.npy"):
        pass
    result = read_image(tmp_path / "x.npy")
    assert (result.axes, result.scale["X"], result.notes["noise"]) == ("YX", 0.5, NOISE)
    # the metadata do not apply to pixels written by another program
    np.save(tmp_path / "x.npy", np.zeros((5, 6)))
    assert not read_image(tmp_path / "x.npy").notes


def test_any_block_can_be_assigned_to_an_array_in_a_file(tmp_path):
    shape = (3, 4, 5)
    (tmp_path / "x").touch()
    target, expected = FileArray(tmp_path / "x", np.dtype("f4"), shape, 7), np.zeros(shape, "f4")
    rng = np.random.default_rng(0)
    for index in (
        (0, slice(1, 3), slice(2, 5)), (slice(1, 3),), (2, 3), (..., 4), (1, slice(0, 0)),
        (slice(None), 2), (slice(0, 2), slice(None), slice(1, 2)), (-1, -1, -1), (),
    ):  # fmt: skip
        values = rng.normal(size=expected[index].shape).astype("f4")
        expected[index] = values
        target[index] = values
    target.close()
    data = (tmp_path / "x").read_bytes()
    assert len(data) == 7 + 4 * 60
    assert np.array_equal(np.frombuffer(data[7:], "f4").reshape(shape), expected)


def test_too_little_disk_space_is_reported_before_any_work(tmp_path):
    with pytest.raises(UserError, match=r"GB are needed, and .* are free"):
        check_output(tmp_path / "x.tif", nbytes=10**17)
    huge = np.broadcast_to(np.float32(1), (10**5, 10**5, 10**5))
    with pytest.raises(UserError, match="are needed"):
        write_image(tmp_path / "x.npy", Image(huge, "ZYX"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [".part-x.tif", ".old-x.tif"])
def test_an_input_named_like_a_temporary_file_of_the_result_is_kept(name, model, tmp_path):
    image = write_noisy(tmp_path, 1, name)
    before = (tmp_path / name).read_bytes()
    for overwrite in (False, True):
        with pytest.raises(UserError, match="rename it"):
            for _ in denoise_steps(image, model, NOISE, tmp_path / "x.tif", overwrite=overwrite):
                pass
        with pytest.raises(UserError, match="rename it"):
            write_image(tmp_path / "x.tif", image, overwrite=overwrite)
    assert (tmp_path / name).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [name]
