"""Of a noise whose kind is known, the level and the read noise are found in the images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_estimate import scene, shots
from typer.testing import CliRunner

from napari_noise2score import Image, UserError, estimate_noise
from napari_noise2score.cli.main import app
from napari_noise2score.image.write import write_image
from napari_noise2score.noise import Empirical, parse_noise

# what it is, what is said it were, and how well one frame tells its level and its read noise
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


@pytest.mark.parametrize(("text", "true", "said", "off", "read_off"), NOISES)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_level_and_read_noise_are_found_whatever_was_said(text, true, said, off, read_off, count):
    noise = parse_noise(text.format(*true))
    found = estimate_noise(shots(noise, count), noise=text.format(*said), axes="TYX").noise
    own, kernel, read = noise.components
    got, got_kernel, got_read = found.components
    assert type(got) is type(own)
    assert (got_kernel, got.offset) == (kernel, own.offset)
    mean = np.array([60.0, 150.0])
    wanted, level = (base.variance(base.clean_from_mean(mean)) for base in (own, got))
    assert level == pytest.approx(wanted, rel=off / (1 if count == 1 else 2))
    assert got_read == pytest.approx(read, rel=read_off)


def test_what_was_said_makes_no_difference():
    noisy = shots(parse_noise("rayleigh(sigma=0.3) + gaussian(sigma=10)"), 1)[0]
    said = ("rayleigh(sigma=0.05) + gaussian(sigma=90)", "rayleigh(sigma=0.9) + gaussian(sigma=1)")
    first, second = (estimate_noise(noisy, noise=text).noise.components for text in said)
    assert first[0].sigma == pytest.approx(second[0].sigma, rel=1e-3)
    assert first[2] == pytest.approx(second[2], rel=1e-3)


def test_what_cannot_be_refined_says_so():
    clean = scene()  # the brighter, the less noise
    noisy = clean + (300 - clean) / 10 * np.random.default_rng(0).standard_normal(clean.shape)
    for noise, says in [
        ("poisson(gain=5) + gaussian(sigma=10)", "nothing like"),
        ("gaussian(sigma=5) + gaussian(sigma=3)", "the same noise"),
        (Empirical.from_pairs(scene(), noisy), "was measured"),
    ]:
        with pytest.raises(UserError, match=says):
            estimate_noise(noisy, noise=noise)


@pytest.mark.slow
def test_the_command_line_refines(tmp_path):
    noise = "poisson(gain=5) @ A + gaussian(sigma=10)"
    write_image(tmp_path / "y.tif", Image(shots(parse_noise(noise), 1)[0].astype("f4"), "YX"))
    line = ["estimate", str(tmp_path / "y.tif"), "--noise"]
    run = CliRunner().invoke(app, [*line, "poisson(gain=7) @ A + gaussian(sigma=7)"])
    assert run.exit_code == 0, run.output
    base, _, read = parse_noise(run.stdout.splitlines()[0]).components
    assert base.gain == pytest.approx(5, rel=0.2)
    assert read == pytest.approx(10, rel=0.03)
    assert "explains the noise" in run.stdout
    run = CliRunner().invoke(app, [*line, noise, "--json"])
    assert json.loads(run.stdout)["noise"].startswith("poisson(gain=")
    run = CliRunner().invoke(app, [*line, noise, "--method", "curve"])
    assert "give only one of them" in str(run.exception)
