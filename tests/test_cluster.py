"""Workers share a job; the result is that of one process even if a worker dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import dask
import numpy as np
import psutil
import pytest
from server import serving

from napari_noise2score import (
    Image,
    ScoreModel,
    UserError,
    denoise_steps,
    polish,
    read_image,
    train,
    write_image,
)
from napari_noise2score.cli.main import main
from napari_noise2score.denoising.cluster import connect
from napari_noise2score.denoising.jobs import left_of
from napari_noise2score.errors import ReadError

pytestmark = pytest.mark.slow

pytest.importorskip("distributed", reason="no distributed: pip install -e '.[cluster]'")

NOISE = "gaussian(sigma=10)"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("cluster")
    noisy = np.random.default_rng(0).normal(100, 10, (30, 64, 60)).astype(np.float32)
    write_image(root / "noisy.ome.zarr", Image(noisy, "TYX"))
    train(noisy[:4, :32, :32], axes="TYX", steps=1, name="m").save(root / "m.n2s")
    image, model = read_image(root / "noisy.ome.zarr"), ScoreModel.load(root / "m.n2s")
    for _ in denoise_steps(image, model, NOISE, root / "alone.ome.zarr"):
        pass
    return root


@pytest.fixture(scope="module")
def client():
    with connect(workers=2) as client:
        yield client


def files(store):
    return {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_two_workers_give_the_result_of_one_process_even_if_one_is_killed(inputs, client, tmp_path):
    image, model = read_image(inputs / "noisy.ome.zarr"), ScoreModel.load(inputs / "m.n2s")
    pids = client.run(os.getpid)
    assert len(set(pids.values())) == 2
    done = []
    for step in denoise_steps(image, model, NOISE, tmp_path / "out.ome.zarr", client=client):
        done.append(step.done)
        if step.done == 8:
            os.kill(next(iter(pids.values())), signal.SIGKILL)
    assert done == list(range(1, 31))
    assert files(tmp_path / "out.ome.zarr") == files(inputs / "alone.ome.zarr")


def test_workers_use_a_polish(inputs, client, tmp_path):
    image, model = read_image(inputs / "noisy.ome.zarr"), ScoreModel.load(inputs / "m.n2s")
    polished = polish(image.data[:2, :32, :32], model, NOISE, axes="TYX", steps=1)
    for name, workers in (("shared", client), ("alone", None)):
        store = tmp_path / f"{name}.ome.zarr"
        for _ in denoise_steps(image, model, NOISE, store, polish=polished, client=workers):
            pass
    assert files(tmp_path / "shared.ome.zarr") == files(tmp_path / "alone.ome.zarr")
    assert read_image(store).notes["polish"] == polished.fingerprint


def test_one_process_can_finish_a_job_that_a_cluster_began(inputs, client, tmp_path):
    image, model = read_image(inputs / "noisy.ome.zarr"), ScoreModel.load(inputs / "m.n2s")
    # an image in memory is sent to the workers
    in_memory = Image(image.data[:], "TYX", name=image.name)
    target = tmp_path / "out.ome.zarr"
    steps = denoise_steps(in_memory, model, NOISE, target, client=client)
    for step in steps:
        if step.done == 5:
            break
    steps.close()
    assert left_of(target)
    for step in denoise_steps(in_memory, model, NOISE, target, resume=True):
        pass
    assert step.total == 30
    for _ in denoise_steps(in_memory, model, NOISE, tmp_path / "alone.ome.zarr"):
        pass
    assert files(target) == files(tmp_path / "alone.ome.zarr")


def test_a_lost_connection_of_workers_is_reported_and_the_job_can_be_resumed(
    inputs, client, tmp_path
):
    pytest.importorskip("aiohttp", reason="no aiohttp: pip install -e '.[remote]'")
    model, target = ScoreModel.load(inputs / "m.n2s"), tmp_path / "out.ome.zarr"
    with serving(inputs) as address:
        image = read_image(f"{address}/noisy.ome.zarr")
        run = denoise_steps(image, model, NOISE, target, client=client)
        next(run)
    with pytest.raises(ReadError, match=f"{address}/noisy.ome.zarr: cannot be read") as caught:
        list(run)
    assert "\n" not in str(caught.value)
    assert left_of(target)
    with serving(inputs, int(address.rsplit(":")[-1])):
        again = denoise_steps(image, model, NOISE, target, resume=True, client=client)
        assert len(list(again)) < 30
    pixels = read_image(inputs / "alone.ome.zarr").data[:]
    assert np.array_equal(read_image(target).data[:], pixels)


def test_an_error_on_a_worker_is_reported_in_one_line(inputs, client, tmp_path):
    model = ScoreModel.load(inputs / "m.n2s")
    bad = Image(np.full((4, 64, 64), np.nan, np.float32), "TYX")
    with pytest.raises(UserError, match="no valid pixel"):
        list(denoise_steps(bad, model, NOISE, tmp_path / "out.ome.zarr", client=client))
    assert not list(tmp_path.iterdir())


def test_the_command_line_accepts_a_scheduler(inputs, client, tmp_path, monkeypatch, capfd):
    def run_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["noise2score", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capfd.readouterr().err

    job = ("denoise", inputs / "noisy.ome.zarr", tmp_path / "out.ome.zarr")
    with_model = ("--model", inputs / "m.n2s", "--noise", NOISE)
    address = client.scheduler.address
    assert run_command(*job, *with_model, "--scheduler", address) == (0, "")
    assert files(tmp_path / "out.ome.zarr") == files(inputs / "alone.ome.zarr")
    tiff = (*job[:2], tmp_path / "out.tif", *with_model)
    for arguments, phrase in [
        ((*tiff, "--workers", 2), "workers can write only .ome.zarr and .zarr"),
        ((*job, *with_model, "--overwrite", "--workers", 0), "at least 1"),
        ((*job, *with_model, "--overwrite", "--workers", 1, "--scheduler", address), "either"),
        ((*job, *with_model, "--overwrite", "--scheduler", "tcp://127.0.0.1:9"), "no scheduler"),
    ]:
        code, stderr = run_command(*arguments)
        assert (code, stderr.count("\n")) == (2, 1), stderr
        assert phrase in stderr


def accept_sigint():
    """Reset the handler of SIGINT, which a child process may inherit as ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to a group of processes")
def test_ctrl_c_stops_workers_without_traceback_and_keeps_finished_blocks(inputs, tmp_path):
    arguments = [
        *(sys.executable, "-c", "from napari_noise2score.cli.main import main; main()", "denoise"),
        *(inputs / "noisy.ome.zarr", tmp_path / "out.ome.zarr", "--model", inputs / "m.n2s"),
        *("--noise", NOISE, "--workers", 1),
    ]
    journal = tmp_path / ".part-out.ome.zarr.journal"
    job = subprocess.Popen(
        list(map(str, arguments)),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=accept_sigint,
    )
    while job.poll() is None and not (journal.exists() and "done" in journal.read_text()):
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGINT)  # to the workers too, as a terminal does
    _, stderr = job.communicate()
    assert job.returncode == 130, stderr
    assert "with --resume to continue" in stderr
    assert "Traceback" not in stderr
    assert "Port" not in stderr
    assert "done" in journal.read_text()


def test_workers_accept_connections_from_this_machine_only():
    process = psutil.Process()
    before = {c.laddr for c in process.net_connections() if c.status == psutil.CONN_LISTEN}
    with connect(workers=1) as client:
        client.wait_for_workers(1)
        processes = [process, *process.children(recursive=True)]
        ports = {
            c.laddr
            for p in processes
            for c in p.net_connections()
            if c.status == psutil.CONN_LISTEN
        } - before
        assert len(ports) > 1
        assert {port.ip for port in ports} <= {"127.0.0.1", "::1"}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_a_scheduler_with_tls_is_reached_through_the_settings_of_dask(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", "/CN=localhost",
    ]  # fmt: skip
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    from distributed import LocalCluster, Security

    names = {f"tls_{role}_{kind}": str(file)
             for role in ("client", "scheduler", "worker")
             for kind, file in (("cert", cert), ("key", key))}  # fmt: skip
    security = Security(tls_ca_file=str(cert), require_encryption=True, **names)
    settings = {
        "distributed.comm.tls.ca-file": str(cert),
        "distributed.comm.tls.client.cert": str(cert),
        "distributed.comm.tls.client.key": str(key),
    }
    with LocalCluster(
        n_workers=1, processes=False, security=security, host="127.0.0.1", protocol="tls://",
        dashboard_address=None,
    ) as cluster:  # fmt: skip
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        with dask.config.set(settings), connect(address) as client:
            assert client.submit(sum, [1, 2]).result() == 3
        with pytest.raises(UserError, match=r"distributed\.comm\.tls"), connect(address):
            pass


@pytest.mark.parametrize("address", ["", "tcp://", "foo://x:1", "tcp://127.0.0.1:1", "no address"])
def test_an_address_without_a_scheduler_is_reported_in_one_line(address):
    with pytest.raises(UserError, match="no scheduler answers"), connect(address):
        pass
