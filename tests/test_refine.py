"""For a given noise family, the level and the read noise are refined from the images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_estimate import noisy_frames, scene
from typer.testing import CliRunner

from napari_noise2score import Image, UserError, estimate_noise
from napari_noise2score.cli.main import app
from napari_noise2score.image.write import write_image
from napari_noise2score.noise import Empirical, parse_noise

pytestmark = pytest.mark.slow

# noise, true parameters, given parameters, tolerances of level and read noise from one frame
NOISES = [
    ("gaussian(sigma={})", (15,), (20,), 0.05, 0),
    ("poisson(gain={}, offset=20)", (3,), (5,), 0.05, 0),
    ("poisson(gain={}) + gaussian(sigma={})", (5, 10), (3, 14), 0.1, 0.15),
    ("rayleigh(sigma={}) + gaussian(sigma={})", (0.3, 10), (0.2, 7), 0.1, 0.15),
    ("gaussian(sigma={}) @ A", (20,), (14,), 0.1, 0),
    ("gamma(alpha={}) @ A", (26,), (40,), 0.1, 0),
    ("poisson(gain={}) @ A + gaussian(sigma={})", (5, 10), (7, 7), 0.2, 0.03),
    ("rayleigh(sigma={}) @ A + gaussian(sigma={})", (0.3, 10), (0.2, 7), 0.2, 0.03),
]


@pytest.mark.parametrize(("text", "true", "given", "tolerance", "read_tolerance"), NOISES)
@pytest.mark.parametrize("count", [1, 4])
def test_level_and_read_noise_are_found_from_wrong_parameters(
    text, true, given, tolerance, read_tolerance, count
):
    noise = parse_noise(text.format(*true))
    found = estimate_noise(noisy_frames(noise, count), noise=text.format(*given), axes="TYX").noise
    base, kernel, read = noise.components
    found_base, found_kernel, found_read = found.components
    assert type(found_base) is type(base)
    assert (found_kernel, found_base.offset) == (kernel, base.offset)
    mean = np.array([60.0, 150.0])
    expected, level = (
        one_base.variance(one_base.clean_from_mean(mean)) for one_base in (base, found_base)
    )
    assert level == pytest.approx(expected, rel=tolerance / (1 if count == 1 else 2))
    assert found_read == pytest.approx(read, rel=read_tolerance)


def test_the_given_parameters_do_not_change_the_result():
    noisy = noisy_frames(parse_noise("rayleigh(sigma=0.3) + gaussian(sigma=10)"), 1)[0]
    given = ("rayleigh(sigma=0.05) + gaussian(sigma=90)", "rayleigh(sigma=0.9) + gaussian(sigma=1)")
    first, second = (estimate_noise(noisy, noise=text).noise.components for text in given)
    assert first[0].sigma == pytest.approx(second[0].sigma, rel=1e-3)
    assert first[2] == pytest.approx(second[2], rel=1e-3)


def test_noise_that_cannot_be_refined_is_refused_with_the_reason():
    clean = scene()  # noise that decreases with intensity
    noisy = clean + (300 - clean) / 10 * np.random.default_rng(0).standard_normal(clean.shape)
    for noise, phrase in [
        ("poisson(gain=5) + gaussian(sigma=10)", "nothing like"),
        ("gaussian(sigma=5) + gaussian(sigma=3)", "the same noise"),
        (Empirical.from_pairs(scene(), noisy), "was measured"),
    ]:
        with pytest.raises(UserError, match=phrase):
            estimate_noise(noisy, noise=noise)


def test_the_command_line_refines(tmp_path):
    noise = "poisson(gain=5) @ A + gaussian(sigma=10)"
    write_image(
        tmp_path / "y.tif", Image(noisy_frames(parse_noise(noise), 1)[0].astype("f4"), "YX")
    )
    command = ["estimate", str(tmp_path / "y.tif"), "--noise"]
    run = CliRunner().invoke(app, [*command, "poisson(gain=7) @ A + gaussian(sigma=7)"])
    assert run.exit_code == 0, run.output
    base, _, read = parse_noise(run.stdout.splitlines()[0]).components
    assert base.gain == pytest.approx(5, rel=0.2)
    assert read == pytest.approx(10, rel=0.03)
    assert "explains the noise" in run.stdout
    run = CliRunner().invoke(app, [*command, noise, "--json"])
    assert json.loads(run.stdout)["noise"].startswith("poisson(gain=")
    run = CliRunner().invoke(app, [*command, noise, "--method", "curve"])
    assert "give only one of them" in str(run.exception)
