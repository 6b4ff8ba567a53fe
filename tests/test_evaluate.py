"""PSNR and SSIM are right for any image: tiny, signed, from 0 to 1, or with NaN."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_noise2score import UserError
from napari_noise2score.cli.main import app
from napari_noise2score.denoising.evaluate import evaluate


@pytest.fixture
def save(tmp_path):
    def write(name, values):
        np.save(tmp_path / name, values)
        return str(tmp_path / name)

    return write


def noisy(values, sigma):
    return values + np.random.default_rng(1).normal(0, sigma, values.shape)


def test_an_image_is_equal_to_itself_whatever_its_size_and_sign(save):
    values = np.random.default_rng(0).integers(0, 900, (32, 40)).astype(np.int16)
    for name, image in [("h.npy", values - 300), ("t.npy", values[:5, :5]), ("u.npy", values)]:
        for data_range in (None, 1000):
            file = save(name, image)
            row = evaluate(file, file, data_range=data_range)[name]
            assert row["psnr"] == math.inf
            assert row["ssim"] == (None if name == "t.npy" else pytest.approx(1))


def test_the_data_range_is_that_of_the_clean_image(save):
    clean = np.random.default_rng(0).uniform(0, 1, (64, 64))
    row = evaluate(save("g.npy", noisy(clean, 0.1)), save("f.npy", clean))["mean"]
    assert row["data range"] == pytest.approx(1, abs=0.01)
    assert row["psnr"] == pytest.approx(20, abs=0.5)
    image_8_bit = (clean * 200).astype(np.uint8)
    assert (
        evaluate(save("a.npy", image_8_bit), save("b.npy", image_8_bit))["mean"]["data range"]
        == 255
    )
    with pytest.raises(UserError, match=r"f\.npy spans .* more than the data range 0\.5"):
        evaluate(save("g.npy", clean), save("f.npy", clean), data_range=0.5)
    with pytest.raises(UserError, match="one grey level"):
        evaluate(save("g.npy", clean), save("c.npy", np.ones((64, 64))))
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UserError, match="positive"):
            evaluate(save("g.npy", clean), save("f.npy", clean), data_range=wrong)


def test_a_file_with_nan_pixels_is_refused_by_name(save):
    clean = np.random.default_rng(0).uniform(0, 1, (16, 16))
    broken = clean.copy()
    broken[0, 0] = np.nan
    for pair in [("n.npy", "f.npy"), ("f.npy", "n.npy")]:
        files = [save(name, broken if name == "n.npy" else clean) for name in pair]
        with pytest.raises(UserError, match=r"n\.npy holds pixels that are not numbers"):
            evaluate(*files)


def test_the_output_is_valid_json_and_states_the_data_range(save):
    small = np.arange(25.0).reshape(5, 5)
    file = save("t.npy", small)
    output = CliRunner().invoke(app, ["evaluate", file, file, "--json"])

    def fail(constant):
        raise AssertionError(constant)

    facts = json.loads(output.stdout, parse_constant=fail)
    assert facts["t.npy"] == {"psnr": None, "ssim": None, "data range": 24}
    output = CliRunner().invoke(app, ["evaluate", file, file]).stdout
    assert "data range 24" in output
    assert "inf  –" in output


def test_padding_of_both_images_is_ignored(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.uniform(50, 200, (64, 64)).astype(np.float32)
    noisy = truth + rng.normal(0, 5, truth.shape).astype(np.float32)
    files = [tmp_path / "noisy.npy", tmp_path / "truth.npy"]
    psnr = {}
    for name, size in (("whole", 64), ("padded", 164)):
        for file, image in zip(files, (noisy, truth), strict=True):
            padded = np.zeros((size, 64), np.float32)
            padded[:64] = image
            np.save(file, padded)
        psnr[name] = evaluate(*map(str, files), data_range=255)["mean"]["psnr"]
    assert psnr["padded"] == pytest.approx(psnr["whole"], abs=1e-6)
