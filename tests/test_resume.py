"""A killed job is resumed, and its result is the same as without the interruption."""

from __future__ import annotations

import os
import random
import shutil
import signal
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
def inputs(tmp_path_factory):
    """Return a folder with a noisy movie of 24 planes as OME-Zarr, and a model."""
    root = tmp_path_factory.mktemp("resume")
    noisy = np.random.default_rng(0).normal(100, 10, (24, 264, 32)).astype(np.float32)
    write_image(root / "noisy.ome.zarr", Image(noisy, "TYX", units={"X": "micrometer"}))
    train(noisy[:4, :32], axes="TYX", steps=1, name="m", context="none").save(root / "m.n2s")
    return root


@pytest.fixture(scope="module")
def job(inputs):
    """Return image and model of a job, and the files of its uninterrupted result."""
    from napari_noise2score import ScoreModel

    image, model = read_image(inputs / "noisy.ome.zarr"), ScoreModel.load(inputs / "m.n2s")
    for step in denoise_steps(image, model, NOISE, inputs / "whole.ome.zarr"):
        pass
    assert (step.done, step.total) == (48, 48)  # 24 planes, each in two levels
    return image, model, files(inputs / "whole.ome.zarr")


def files(store):
    return {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_a_job_killed_five_times_at_random_and_resumed_gives_identical_bytes(
    inputs, job, fork_server, tmp_path, seed
):
    rng = random.Random(seed)
    target = tmp_path / "out.ome.zarr"
    journal = tmp_path / ".part-out.ome.zarr.journal"
    arguments = ["denoise", inputs / "noisy.ome.zarr", target, "--model", inputs / "m.n2s"]
    arguments += ["--noise", NOISE, "--resume"]
    log = tmp_path.parent / f"{tmp_path.name}.log"
    killed_after, n_finished = [], 0
    for attempt in range(5):
        process = fork_server.start(arguments, log)
        n_blocks = 6 * attempt + rng.randint(1, 6)
        while not target.exists() and n_finished < n_blocks:
            n_finished = journal.read_text().count("done") if journal.exists() else 0
            time.sleep(0.002)
        time.sleep(rng.random() * 0.02)
        os.kill(process, signal.SIGKILL)
        assert fork_server.wait(process) == -signal.SIGKILL, log.read_text()
        killed_after.append(n_finished)
        assert not target.exists()  # the result has its name only once complete
        assert left_of(target)
    assert fork_server.run(arguments, log) == 0, log.read_text()
    assert files(target) == job[2], f"killed after {killed_after} blocks"
    assert [p.name for p in tmp_path.iterdir()] == ["out.ome.zarr"]


def test_a_job_closed_after_any_block_and_resumed_gives_identical_bytes(job, tmp_path):
    image, model, expected = job
    target = tmp_path / "out.ome.zarr"
    last = None
    for stop in (1, 23, 24, 25, 47):
        run = denoise_steps(image, model, NOISE, target, resume=True)
        for step in run:
            if step.done >= stop:
                break
        run.close()
        assert last is None or step.done > last  # no block is computed twice
        last = step.done
    # files as left by a kill in the middle of a write
    (hidden_name(target) / "0" / "c" / "0.abc.partial").write_bytes(b"torn")
    journal = tmp_path / ".part-out.ome.zarr.journal"
    journal.write_text(journal.read_text() + '{"do')
    assert [s.done for s in denoise_steps(image, model, NOISE, target, resume=True)] == [48]
    assert files(target) == expected
    # a complete result is not changed
    (step,) = denoise_steps(image, model, NOISE, target, resume=True)
    assert "complete already" in step.message


def test_a_job_killed_before_the_final_rename_only_renames_its_result(inputs, job, tmp_path):
    image, model, expected = job
    target = tmp_path / "out.ome.zarr"
    journal = tmp_path / ".part-out.ome.zarr.journal"
    run = denoise_steps(image, model, NOISE, target)
    next(run)
    run.close()
    shutil.rmtree(hidden_name(target))
    with journal.open("a") as file:
        file.write('{"complete": true}\n')
    last = journal.read_text()
    for existing in (hidden_name(target), target):
        journal.write_text(last)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(inputs / "whole.ome.zarr", existing)
        (step,) = denoise_steps(image, model, NOISE, target, resume=True)
        assert step.result == target
        assert files(target) == expected
        assert not journal.exists()


def test_a_full_disk_is_reported_and_the_job_can_be_resumed(
    inputs, job, tmp_path, monkeypatch, capfd
):
    limits = pytest.importorskip("resource", reason="no limits of this kind on this system")
    from napari_noise2score.cli import main

    target = tmp_path / "out.ome.zarr"
    arguments = ["noise2score", "denoise", inputs / "noisy.ome.zarr", target, "--noise", NOISE]
    arguments += ["--model", inputs / "m.n2s", "--resume"]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))

    def run_command():
        with pytest.raises(SystemExit) as stopped:
            main.main()
        return stopped.value.code, capfd.readouterr().err

    before = limits.getrlimit(limits.RLIMIT_FSIZE)
    # below the size of a chunk, but above that of the journal
    limits.setrlimit(limits.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        code, stderr = run_command()
    finally:
        limits.setrlimit(limits.RLIMIT_FSIZE, before)
    assert (code, "File too large" in stderr, stderr.count("\n")) == (2, True, 1)
    assert not list(tmp_path.iterdir())  # no block was finished
    assert run_command() == (0, "")
    assert files(target) == job[2]


def test_a_lost_connection_is_reported_and_the_job_can_be_resumed(job, tmp_path):
    pytest.importorskip("aiohttp", reason="no aiohttp: pip install -e '.[remote]'")
    image, model, _ = job
    small = Image(image.data[:12, :64], "TYX")
    write_image(tmp_path / "noisy.ome.zarr", small)
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
    assert np.array_equal(read_image(target).data[:], denoise(small, model, NOISE).data.compute())


def test_the_state_of_another_job_is_not_resumed(inputs, job, tmp_path):
    image, model, _ = job
    journal = tmp_path / ".part-out.ome.zarr.journal"
    target = tmp_path / "out.ome.zarr"
    run = denoise_steps(image, model, NOISE, target)
    next(run)
    run.close()
    other = train(image.data[:2, :32], axes="TYX", steps=1, context="none")
    for job_arguments, phrase in [
        ((image, model, "gaussian(sigma=9)"), "another noise"),
        ((image, other, NOISE), "another model"),
        ((Image(image.data[:20], "TYX"), model, NOISE), "another input, size"),
    ]:
        with pytest.raises(UserError, match=phrase):
            list(denoise_steps(*job_arguments, target, resume=True))
        assert left_of(target)
    # an image without a file is identified by its pixels
    target_2 = tmp_path / "memory.ome.zarr"
    run = denoise_steps(Image(image.data[:8], "TYX"), model, NOISE, target_2)
    next(run)
    run.close()
    with pytest.raises(UserError, match="another content of the image"):
        again = Image(image.data[:8] + 1, "TYX")
        list(denoise_steps(again, model, NOISE, target_2, resume=True))
    shutil.copytree(inputs / "whole.ome.zarr", target)
    journal.unlink()
    with pytest.raises(UserError, match="another input, model, noise"):
        list(denoise_steps(image, model, "gaussian(sigma=9)", target, resume=True))
    (tmp_path / ".part-x.zarr.journal").write_text("nonsense\n")
    with pytest.raises(UserError, match="start the job again"):
        list(denoise_steps(image, model, NOISE, tmp_path / "x.zarr", resume=True))


def test_inputs_are_never_overwritten_and_results_only_on_request(inputs, job, tmp_path):
    image, model, _ = job
    existing = tmp_path / "there.ome.zarr"
    write_image(existing, Image(np.zeros((8, 8), np.uint8), "YX"))
    before = files(existing)
    (inputs / "link.ome.zarr").symlink_to(inputs / "noisy.ome.zarr")
    for target, overwrite, phrase in [
        (existing, False, "--overwrite"),
        (inputs / "noisy.ome.zarr", True, "input of this job"),
        (inputs / "link.ome.zarr", True, "input of this job"),
        (inputs / "noisy.ome.zarr" / "new.ome.zarr", True, "is inside an input of this job"),
    ]:
        with pytest.raises(UserError, match=phrase):
            list(denoise_steps(image, model, NOISE, target, overwrite=overwrite))
    assert files(existing) == before
    for _ in denoise_steps(image, model, NOISE, existing, overwrite=True):
        assert files(existing) == before  # unchanged until the new result is complete
        break


def test_a_damaged_chunk_ends_the_job_and_finished_blocks_are_kept(inputs, job, tmp_path):
    _, model, _ = job
    noisy, target = tmp_path / "noisy.ome.zarr", tmp_path / "out.ome.zarr"
    shutil.copytree(inputs / "noisy.ome.zarr", noisy)
    chunk = max(p for p in (noisy / "0" / "c").rglob("*") if p.is_file())
    content, times = chunk.read_bytes(), chunk.stat()
    chunk.write_bytes(content[: len(content) // 2])
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    image = read_image(noisy)
    with pytest.raises(UserError, match=r"noisy\.ome\.zarr"):
        list(denoise_steps(image, model, NOISE, target, resume=True))
    assert left_of(target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "quantity"),
    [("out.ome.zarr", "denoised"), ("out.zarr", "denoised"), ("out.ome.zarr", "uncertainty")],
)
def test_a_written_store_equals_the_lazy_result(job, tmp_path, name, quantity):
    from napari_noise2score import uncertainty

    image, model, _ = job
    piece = Image(image.data[:1, :40, :44].transpose(1, 0, 2), "YTX", scale={"X": 0.5})
    make = {"denoised": denoise, "uncertainty": uncertainty}[quantity]
    made = make(piece, model, NOISE, tmp_path / name, tile=(32, 32), ome_zarr="0.4")
    assert made == tmp_path / name
    result = read_image(tmp_path / name)
    lazy = make(piece, model, NOISE).data
    order = [piece.axes.index(a) for a in result.axes]
    assert np.allclose(result.data[:], lazy.compute().transpose(order), atol=0.01)
    assert result.scale["X"] == 0.5
    assert result.notes["noise"] == NOISE
    assert isinstance(result.data.array, zarr.Array)
