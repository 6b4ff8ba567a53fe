"""The information of the data shows structure that noise of a model cannot have."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_model_file import refusal, small_model
from typer.testing import CliRunner

from napari_noise2score import Gaussian, Poisson, ScoreModel, train
from napari_noise2score.cli.main import app
from napari_noise2score.estimation.information import check_information, compare_information
from napari_noise2score.noise.kernel import A
from napari_noise2score.score._trainer import Trainer
from napari_noise2score.score.information import MAX_BINS, QUANTILES, Information
from napari_noise2score.solve.information import noise_information
from napari_noise2score.solve.transform import Transform


def information(**changes):
    """Return the information of images that hold about as much as unit Gaussian noise."""
    values = {
        "sigma_a": 0.3,
        "grey_levels": (100.0, 200.0),
        "denoised": ((100.0,) * len(QUANTILES), (200.0,) * len(QUANTILES)),
        "share": (0.5, 0.5),
        "information": (0.9, 0.9),
        "loss": (-0.9, -0.9),
        "error": (0.01, 0.01),
        "training_information": 0.9,
        "training_loss": -0.9,
        "held_out": True,
    }
    return Information(**(values | changes))


def model_with(found, **changes):
    """Return a model of images with noise of variance 25 in which this was measured."""
    facts = {"transform": Transform(c0=25), "low": 80.0, "high": 220.0, **changes}
    return small_model(provenance={"information": found.as_json()}, **facts)


@pytest.fixture(scope="module")
def trained():
    stack = np.random.default_rng(0).normal(100, 10, (2, 64, 64))
    return train(stack, axes="TYX", steps=2)


def test_a_trained_model_keeps_the_information_of_held_out_pixels_in_its_file(trained, tmp_path):
    trained.save(tmp_path / "a.n2s")
    found = ScoreModel.load(tmp_path / "a.n2s").information
    assert found == trained.information
    assert found.held_out
    assert len(found.share) <= MAX_BINS
    assert found.sigma_a == trained.sigma_a


def test_measuring_changes_neither_the_fingerprint_nor_the_training(trained, monkeypatch):
    assert replace(trained, provenance={}).fingerprint == trained.fingerprint
    monkeypatch.setattr(Trainer, "measure", lambda self: None)
    stack = np.random.default_rng(0).normal(100, 10, (2, 64, 64))
    unmeasured = train(stack, axes="TYX", steps=2)
    assert unmeasured.information is None
    assert unmeasured.fingerprint == trained.fingerprint


def test_a_model_without_information_opens_and_says_nothing(tmp_path):
    small_model().save(tmp_path / "old.n2s")
    model = ScoreModel.load(tmp_path / "old.n2s")
    assert model.information is None
    assert compare_information(model, Gaussian(5)) == []
    assert check_information(model, Gaussian(5)) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", [-0.9]),
        ("loss", ["-0.9", 1]),
        ("share", [0.5, 0.2]),
        ("information", [-1.0, 1.0]),
        ("grey_levels", [200.0, 100.0]),
        ("denoised", [[100.0], [200.0]]),
        ("training_loss", None),
        ("held_out", 1),
        ("levels", [[0.0, 2.0]]),
        ("sigma_a", 0),
        ("unknown", 1),
    ],
)
def test_impossible_information_is_refused(name, value, tmp_path):
    broken = information().as_json() | {name: value}
    small_model(provenance={"information": broken}).save(tmp_path / "broken.n2s")
    assert "not a complete score model" in refusal(ScoreModel.load, tmp_path / "broken.n2s")


def test_gaussian_noise_of_unit_variance_has_information_1():
    found = noise_information(Gaussian(5), Transform(c0=25), 0.3, 80, 220)
    assert found.information.numpy() == pytest.approx(1, abs=0.01)
    weaker = noise_information(Gaussian(2.5), Transform(c0=25), 0.3, 80, 220)
    assert weaker.information.numpy() == pytest.approx(1.09 / (0.25 + 0.09), rel=0.02)


def test_few_photons_have_more_information_than_gaussian_noise():
    transform = Transform(c0=4, c1=5)
    found = noise_information(Poisson(5), transform, 0.5, 0, 200)
    assert found.information[0] > 1.5
    assert float(found.information[-1]) == pytest.approx(1, abs=0.1)


def test_correlated_noise_has_the_information_of_its_spectrum():
    correlated = noise_information(Gaussian(5) @ A, Transform(c0=25), 0.3, 80, 220)
    impulse = torch.zeros(32, 32)
    impulse[0, 0] = 1
    spectrum = torch.fft.fft2(A.apply(impulse)).abs() ** 2
    expected = float((1.09 / (spectrum + 0.09)).mean())
    assert correlated.information.numpy() == pytest.approx(expected, rel=0.03)
    undone = noise_information(Gaussian(5) @ A, Transform(c0=25), 0.3, 80, 220, kernel=A)
    assert undone.information.numpy() == pytest.approx(1, abs=0.01)


def test_nothing_is_said_if_the_noise_model_fits():
    assert check_information(model_with(information()), Gaussian(5)) == ""


def test_weaker_noise_is_not_mistaken_for_structure():
    found = information(information=(2.5, 2.5), loss=(-2.5, -2.5))
    model = model_with(found)
    assert "2.5 times its information" in check_information(model, Gaussian(5))
    assert check_information(model, Gaussian(5), strengths=(0.6, 0.6)) == ""


def test_the_check_names_the_grey_level_that_too_many_pixels_have():
    found = information(loss=(-1.6, -0.9), levels=((92.0, 0.036),))
    said = check_information(model_with(found), Gaussian(5))
    assert "structure that independent noise of this model cannot have" in said
    assert "where they are dark" in said
    assert "3.6% of the pixels are exactly 92" in said


def test_the_check_names_correlated_neighbours():
    found = information(loss=(-3.0, -3.0), correlation=0.44)
    said = check_information(model_with(found), Gaussian(5))
    assert "neighbouring pixels are correlated (0.44)" in said


def test_the_check_names_coarse_grey_levels():
    from napari_noise2score.solve.quantization import Quantization

    found = information(loss=(-3.0, -3.0))
    coarse = model_with(found, quantization=Quantization(step=20.0))
    assert "grey levels are 20 apart" in check_information(coarse, Gaussian(5))


def test_overfitting_is_distinguished_from_structure():
    found = information(
        information=(1.8, 1.8), loss=(-0.4, -0.4), training_information=3.0, training_loss=-3.0
    )
    said = check_information(model_with(found), Gaussian(5))
    assert "memorized single pixels" in said
    assert "structure" not in said
    too_small = information(information=(3, 3), loss=(-3, -3), held_out=False)
    assert "too small" in check_information(model_with(too_small), Gaussian(5))


def test_grey_levels_that_stand_out_are_kept_with_their_shares():
    rng = np.random.default_rng(0)
    image = np.rint(rng.normal(100, 10, (1, 128, 128)))
    image[rng.random(image.shape) < 0.1] = 0
    ((level, share),) = train(image, axes="TYX", steps=1).information.levels
    assert level == 0
    assert share == pytest.approx(0.1, abs=0.02)


def test_info_compares_a_model_with_a_noise_model(tmp_path):
    found = information(loss=(-3.0, -3.0), correlation=0.44)
    model_with(found).save(tmp_path / "a.n2s")
    run = CliRunner().invoke(app, ["info", str(tmp_path / "a.n2s"), "--noise", "gaussian(sigma=5)"])
    assert "times that of Gaussian noise" in run.output
    assert "neighbouring pixels are correlated" in run.output
    run = CliRunner().invoke(
        app, ["info", str(tmp_path / "a.n2s"), "--noise", "gaussian(sigma=2)", "--json"]
    )
    assert "no more information" in json.loads(run.output)["noise check"]
    small_model().save(tmp_path / "old.n2s")
    run = CliRunner().invoke(
        app, ["info", str(tmp_path / "old.n2s"), "--noise", "gaussian(sigma=5)"]
    )
    assert "no information was measured" in run.output
