"""A job that is killed is gone on with, and nobody can tell from the result."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr
from server import serving

from napari_noise2score import (
    Image,
    UserError,
    denoise,
    denoise_steps,
    read_image,
    train,
    write_image,
)
from napari_noise2score.denoising.jobs import hidden_name, left_of
from napari_noise2score.errors import ReadError

pytestmark = pytest.mark.slow

NOISE = "gaussian(sigma=10)"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A noisy movie of 24 planes as OME-Zarr, and a model."""
    root = tmp_path_factory.mktemp("resume")
    noisy = np.random.default_rng(0).normal(100, 10, (24, 264, 32)).astype(np.float32)
    write_image(root / "noisy.ome.zarr", Image(noisy, "TYX", units={"X": "micrometer"}))
    train(noisy[:4, :32], axes="TYX", steps=1, name="m").save(root / "m.n2s")
    return root


@pytest.fixture(scope="module")
def job(world):
    """What a job needs, and its uninterrupted result as files."""
    from napari_noise2score import ScoreModel

    image, model = read_image(world / "noisy.ome.zarr"), ScoreModel.load(world / "m.n2s")
    for step in denoise_steps(image, model, NOISE, world / "whole.ome.zarr"):
        pass
    assert (step.done, step.total) == (48, 48)  # 24 planes, and one level above each
    return image, model, files(world / "whole.ome.zarr")


def files(store):
    return {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_killed_at_five_random_points_and_resumed_it_is_the_same_to_the_byte(
    world, job, tmp_path, seed
):
    rng = random.Random(seed)
    target = tmp_path / "out.ome.zarr"
    record = tmp_path / ".part-out.ome.zarr.journal"
    words = [
        *(sys.executable, "-c", "from napari_noise2score.cli.main import main; main()", "denoise"),
        *(world / "noisy.ome.zarr", target, "--model", world / "m.n2s", "--noise", NOISE),
        "--resume",
    ]
    killed, seen = [], 0
    for part in range(5):
        process = subprocess.Popen(list(map(str, words)), stderr=subprocess.DEVNULL)
        until = 6 * part + rng.randint(1, 6)
        while process.poll() is None and seen < until:
            seen = record.read_text().count("done") if record.exists() else 0
            time.sleep(0.002)
        time.sleep(rng.random() * 0.02)
        process.kill()
        process.wait()
        killed.append(seen)
        assert not target.exists()  # it has no name before it is complete
        assert left_of(target)
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert files(target) == job[2], f"killed after {killed} blocks"
    assert [p.name for p in tmp_path.iterdir()] == ["out.ome.zarr"]


def test_closed_after_any_block_and_resumed_it_is_the_same_to_the_byte(job, tmp_path):
    image, model, whole = job
    target = tmp_path / "out.ome.zarr"
    last = None
    for stop in (1, 23, 24, 25, 47):
        run = denoise_steps(image, model, NOISE, target, resume=True)
        for step in run:
            if step.done >= stop:
                break
        run.close()
        assert last is None or step.done > last  # nothing is done twice
        last = step.done
    # what a kill in the middle of a write leaves behind
    (hidden_name(target) / "0" / "c" / "0.abc.partial").write_bytes(b"torn")
    record = tmp_path / ".part-out.ome.zarr.journal"
    record.write_text(record.read_text() + '{"do')
    assert [s.done for s in denoise_steps(image, model, NOISE, target, resume=True)] == [48]
    assert files(target) == whole
    # a complete one is left alone
    (step,) = denoise_steps(image, model, NOISE, target, resume=True)
    assert "complete already" in step.message


def test_killed_between_its_last_steps_it_only_gets_its_name(world, job, tmp_path):
    image, model, whole = job
    target = tmp_path / "out.ome.zarr"
    record = tmp_path / ".part-out.ome.zarr.journal"
    run = denoise_steps(image, model, NOISE, target)
    next(run)
    run.close()
    shutil.rmtree(hidden_name(target))
    with record.open("a") as file:
        file.write('{"complete": true}\n')
    last = record.read_text()
    for there in (hidden_name(target), target):
        record.write_text(last)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(world / "whole.ome.zarr", there)
        (step,) = denoise_steps(image, model, NOISE, target, resume=True)
        assert step.result == target
        assert files(target) == whole
        assert not record.exists()


def test_a_full_disk_is_told_and_the_job_resumed(world, job, tmp_path, monkeypatch, capfd):
    limits = pytest.importorskip("resource", reason="no limits of this kind on this system")
    from napari_noise2score.cli import main

    target = tmp_path / "out.ome.zarr"
    words = ["noise2score", "denoise", world / "noisy.ome.zarr", target, "--noise", NOISE]
    words += ["--model", world / "m.n2s", "--resume"]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))

    def call():
        with pytest.raises(SystemExit) as ended:
            main.main()
        return ended.value.code, capfd.readouterr().err

    before = limits.getrlimit(limits.RLIMIT_FSIZE)
    # no file may be larger than this: a chunk cannot be written, its record can
    limits.setrlimit(limits.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        code, said = call()
    finally:
        limits.setrlimit(limits.RLIMIT_FSIZE, before)
    assert (code, "File too large" in said, said.count("\n")) == (2, True, 1)
    assert not list(tmp_path.iterdir())  # as not one block was finished
    assert call() == (0, "")
    assert files(target) == job[2]


def test_a_connection_that_was_lost_is_told_and_the_job_resumed(job, tmp_path):
    pytest.importorskip("aiohttp", reason="no aiohttp: pip install -e '.[remote]'")
    image, model, _ = job
    few = Image(image.data[:12, :64], "TYX")
    write_image(tmp_path / "noisy.ome.zarr", few)
    target = tmp_path / "out.ome.zarr"
    with serving(tmp_path) as address:
        remote = read_image(f"{address}/noisy.ome.zarr")
        run = denoise_steps(remote, model, NOISE, target)
        assert next(run).total == 12
    with pytest.raises(ReadError, match=f"{address}/noisy.ome.zarr: cannot be read") as caught:
        list(run)
    assert "\n" not in str(caught.value)
    assert left_of(target)
    with serving(tmp_path, int(address.rsplit(":")[-1])):
        assert len(list(denoise_steps(remote, model, NOISE, target, resume=True))) < 12
    assert np.array_equal(read_image(target).data[:], denoise(few, model, NOISE).data.compute())


def test_another_job_is_not_resumed(world, job, tmp_path):
    image, model, _ = job
    record = tmp_path / ".part-out.ome.zarr.journal"
    target = tmp_path / "out.ome.zarr"
    run = denoise_steps(image, model, NOISE, target)
    next(run)
    run.close()
    other = train(image.data[:2, :32], axes="TYX", steps=1)
    for begun, says in [
        ((image, model, "gaussian(sigma=9)"), "another noise"),
        ((image, other, NOISE), "another model"),
        ((Image(image.data[:20], "TYX"), model, NOISE), "another input, size"),
    ]:
        with pytest.raises(UserError, match=says):
            list(denoise_steps(*begun, target, resume=True))
        assert left_of(target)
    # one that has no file is known by its pixels
    target_2 = tmp_path / "memory.ome.zarr"
    run = denoise_steps(Image(image.data[:8], "TYX"), model, NOISE, target_2)
    next(run)
    run.close()
    with pytest.raises(UserError, match="another content of the image"):
        again = Image(image.data[:8] + 1, "TYX")
        list(denoise_steps(again, model, NOISE, target_2, resume=True))
    shutil.copytree(world / "whole.ome.zarr", target)
    record.unlink()
    with pytest.raises(UserError, match="another input, model, noise"):
        list(denoise_steps(image, model, "gaussian(sigma=9)", target, resume=True))
    (tmp_path / ".part-x.zarr.journal").write_text("nonsense\n")
    with pytest.raises(UserError, match="start the job again"):
        list(denoise_steps(image, model, NOISE, tmp_path / "x.zarr", resume=True))


def test_neither_the_input_nor_what_is_there_is_written_over(world, job, tmp_path):
    image, model, _ = job
    there = tmp_path / "there.ome.zarr"
    write_image(there, Image(np.zeros((8, 8), np.uint8), "YX"))
    before = files(there)
    (world / "link.ome.zarr").symlink_to(world / "noisy.ome.zarr")
    for target, overwrite, says in [
        (there, False, "--overwrite"),
        (world / "noisy.ome.zarr", True, "input of this job"),
        (world / "link.ome.zarr", True, "input of this job"),
        (world / "noisy.ome.zarr" / "new.ome.zarr", True, "is inside an input of this job"),
    ]:
        with pytest.raises(UserError, match=says):
            list(denoise_steps(image, model, NOISE, target, overwrite=overwrite))
    assert files(there) == before
    for _ in denoise_steps(image, model, NOISE, there, overwrite=True):
        assert files(there) == before  # until the new one is complete
        break


def test_a_chunk_that_is_damaged_ends_the_job_and_what_is_done_is_kept(world, job, tmp_path):
    _, model, _ = job
    noisy, target = tmp_path / "noisy.ome.zarr", tmp_path / "out.ome.zarr"
    shutil.copytree(world / "noisy.ome.zarr", noisy)
    chunk = max(p for p in (noisy / "0" / "c").rglob("*") if p.is_file())
    whole, times = chunk.read_bytes(), chunk.stat()
    chunk.write_bytes(whole[: len(whole) // 2])
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    image = read_image(noisy)
    with pytest.raises(UserError, match=r"noisy\.ome\.zarr"):
        list(denoise_steps(image, model, NOISE, target, resume=True))
    assert left_of(target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "what"),
    [("out.ome.zarr", "denoised"), ("out.zarr", "denoised"), ("out.ome.zarr", "uncertainty")],
)
def test_a_store_holds_what_the_lazy_result_holds(job, tmp_path, name, what):
    from napari_noise2score import uncertainty

    image, model, _ = job
    piece = Image(image.data[:1, :40, :44].transpose(1, 0, 2), "YTX", scale={"X": 0.5})
    make = {"denoised": denoise, "uncertainty": uncertainty}[what]
    made = make(piece, model, NOISE, tmp_path / name, tile=(32, 32), ome_zarr="0.4")
    assert made == tmp_path / name
    result = read_image(tmp_path / name)
    lazy = make(piece, model, NOISE).data
    order = [piece.axes.index(a) for a in result.axes]
    assert np.allclose(result.data[:], lazy.compute().transpose(order), atol=0.01)
    assert result.scale["X"] == 0.5
    assert result.notes["noise"] == NOISE
    assert isinstance(result.data.array, zarr.Array)
