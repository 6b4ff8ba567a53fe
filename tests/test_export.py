"""A model is exported with its solver, and other programs compute what denoise does."""

from __future__ import annotations

import importlib.util
import zipfile
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import yaml
from typer.testing import CliRunner

from napari_noise2score import (
    Image,
    UserError,
    denoise,
    export_model,
    parse_noise,
    polish,
    train,
)
from napari_noise2score.cli.main import app
from napari_noise2score.denoising import export
from napari_noise2score.errors import DataWarning
from napari_noise2score.sample import simulate_cells

pytestmark = pytest.mark.slow


CAMERA = "poisson(gain=2, offset=100) + gaussian(sigma=3)"


def scene(shape=(96, 90)):
    return simulate_cells((1, 1, *shape))[1][0, 0].astype(np.float64)


def sampled(noise, clean):
    return parse_noise(noise).sample(clean, np.random.default_rng(0)).astype(np.float32)


@pytest.fixture(scope="module")
def noisy():
    return sampled(CAMERA, scene())


@pytest.fixture(scope="module")
def camera_model(noisy):
    return train(noisy, steps=10, name="cells, 20×")


def run_onnx(path, y):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"noisy": y.astype(np.float32)})[0]


def same(found, expected):
    return np.abs(found - expected).max() < 1e-4 * np.ptp(expected)


def test_the_zoo_accepts_an_export_and_onnxruntime_alone_gives_our_result(
    noisy, camera_model, tmp_path
):
    folder = export_model(camera_model, CAMERA, tmp_path / "cells", authors=["Ada Lovelace"])
    # bioimageio.core asks for one version of bioimageio.spec, so that it is no part of an extra
    if importlib.util.find_spec("bioimageio.core"):
        from bioimageio.core import test_model

        summary = test_model(folder / "rdf.yaml")
        assert summary.status == "passed", [d for d in summary.details if d.status == "failed"]
    # of any size, also smaller than the network sees
    for y in (noisy, noisy[:61, :83], noisy[:5, :7]):
        expected = denoise(y, camera_model, CAMERA).compute()
        assert same(run_onnx(folder / "weights.onnx", y[None, None])[0, 0], expected)
    # grey levels beyond those of the table
    bright = np.where(noisy > np.quantile(noisy, 0.999), 4 * noisy, noisy)
    expected = denoise(bright, camera_model, CAMERA).compute()
    assert same(run_onnx(folder / "weights.onnx", bright[None, None])[0, 0], expected)
    facts = yaml.safe_load((folder / "rdf.yaml").read_text(encoding="utf-8"))
    assert facts["format_version"].startswith("0.5")
    assert facts["authors"][0]["name"] == "Ada Lovelace"
    notes = facts["config"]["napari_noise2score"]
    assert (notes["noise"], notes["fingerprint"]) == (CAMERA, camera_model.fingerprint)
    said = (folder / "README.md").read_text(encoding="utf-8")
    assert CAMERA in said
    assert "Invalid pixels" in said


@pytest.mark.parametrize("noise", ["rician(sigma=10)", "rayleigh(sigma=0.3)"])
def test_every_kind_of_noise_gives_our_result(noise, tmp_path):
    y = sampled(noise, scene((64, 64)))
    model = train(y, steps=4)
    # the export compares itself with denoise, at the size of a patch
    folder = export_model(model, noise, tmp_path / "a")
    expected = denoise(y[:40], model, noise).compute()
    assert same(run_onnx(folder / "weights.onnx", y[None, None, :40])[0, 0], expected)


@pytest.mark.parametrize(
    ("axes", "shape", "options", "noise"),
    [
        ("CYX", (2, 48, 44), {"channels": "separate"}, "gaussian(sigma=5) ; gaussian(sigma=20)"),
        ("CYX", (3, 48, 44), {"channels": "joint"}, "gaussian(sigma=10)"),
        ("ZYX", (5, 40, 44), {"ndim": 3}, "gaussian(sigma=10)"),
    ],
)
def test_channels_and_volumes_are_exported(axes, shape, options, noise, tmp_path):
    y = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)
    y[0] *= 0.5
    model = train(y, axes=axes, steps=2, **options)
    image = Image(y, axes)
    folder = export_model(model, noise, tmp_path / "a", image=image)
    piece = y[..., :41, :37]
    expected = denoise(piece, model, noise, axes=axes).compute()
    given = piece[None] if axes[0] == "C" else piece[None, None]
    assert same(run_onnx(folder / "weights.onnx", given).reshape(expected.shape), expected)


def test_a_polish_is_exported_by_the_command_line_as_one_file(
    noisy, camera_model, tmp_path, monkeypatch
):
    taught = polish(noisy, camera_model, CAMERA, steps=2)
    taught.save(tmp_path / "m.polish")
    camera_model.save(tmp_path / "m.n2s")
    monkeypatch.chdir(tmp_path)
    words = ["export", "m.n2s", "--noise", CAMERA, "--out", "m.zip", "--polish", "m.polish"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.exception
    with zipfile.ZipFile("m.zip") as file:
        file.extractall("unpacked")
    expected = denoise(noisy, camera_model, CAMERA, polish=taught).compute()
    found = run_onnx(tmp_path / "unpacked" / "weights.onnx", noisy[None, None])[0, 0]
    assert same(found, expected)
    assert "exists already" in str(CliRunner().invoke(app, words).exception)


def test_what_cannot_be_exported_is_refused_in_one_line(noisy, camera_model, tmp_path, monkeypatch):
    out = tmp_path / "a"
    hole = noisy.copy()
    hole[40, 40] = np.nan
    without = replace(camera_model, patches=None)
    for arguments, options, phrase in [
        ((camera_model, "gaussian(sigma=5) @ A", out), {}, "correlated between pixels"),
        ((camera_model, CAMERA, tmp_path), {}, "is a folder"),
        ((camera_model, CAMERA, out), {"licence": "none of it"}, "license"),
        ((camera_model, CAMERA, out), {"image": hole}, "invalid pixels"),
        ((camera_model, CAMERA, out), {"image": Image(np.ones((2, 40, 40)), "CYX")}, "1 channel,"),
        ((without, CAMERA, out), {}, "--image"),
    ]:
        with pytest.raises(UserError, match=phrase) as caught:
            export_model(*arguments, **options)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(export, "PACKAGES", ("onnx", "not_installed.core"))
    with pytest.raises(UserError, match=r"needs not_installed.core: pip install .*\[export\]"):
        export_model(camera_model, CAMERA, out)
    assert not list(tmp_path.iterdir())


def test_an_export_says_that_it_leaves_out_the_neighbours(tmp_path):
    movie = np.random.default_rng(0).normal(100, 10, (4, 32, 32)).astype(np.float32)
    model = train(movie, axes="TYX", steps=2, context="T", reach=1)
    with pytest.warns(DataWarning, match="neighbouring time points"):
        folder = export_model(model, "gaussian(sigma=10)", tmp_path / "a", image=movie[0])
    assert "the 2 neighbouring time points" in (folder / "README.md").read_text(encoding="utf-8")
