"""Each channel of an image may have a noise model of its own, and is learned by itself."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_noise2score import (
    Image,
    ScoreModel,
    UserError,
    check_noise,
    denoise,
    estimate_noise,
    parse_noise,
    train,
    uncertainty,
    write_image,
)
from napari_noise2score.cli.main import app
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.denoising.polishing import polish
from napari_noise2score.sample import simulate_cells

DIM = "poisson(gain=2, offset=100) + gaussian(sigma=3)"
BRIGHT = "poisson(gain=8, offset=200) + gaussian(sigma=10)"
BOTH = f"{DIM} ; {BRIGHT}"
START = " ; ".join(f"poisson(gain=5, offset={n}) + gaussian(sigma=1)" for n in (100, 200))


def two_channels(frames: int, planes: int, side: int, noise: str = BOTH) -> np.ndarray:
    """Return cells seen by two detectors, axes TCZYX."""
    rng = np.random.default_rng(0)
    clean = [simulate_cells((frames, planes, side, side), seed=s)[1] for s in (0, 5)]
    clean[1] = 4 * clean[1]
    noisy = parse_noise(noise).sample(np.stack(clean).astype(np.float64), rng)
    return np.rint(noisy).swapaxes(0, 1).astype(np.uint16)


@pytest.fixture(scope="module")
def noisy():
    return two_channels(2, 1, 40)[:, :, 0]


@pytest.fixture(scope="module")
def model(noisy):
    return train(noisy, axes="TCYX", steps=3)


def test_one_line_of_text_names_the_noise_of_each_channel():
    noise = parse_noise("gaussian(sigma=3) @ A;poisson( gain=2 )")
    assert str(noise) == "gaussian(sigma=3) @ A ; poisson(gain=2)"
    assert parse_noise(str(noise)) == noise
    assert hash(parse_noise(str(noise))) == hash(noise)
    for wrong, says in [
        ("gaussian(sigma=3) ;", "on each side of ';'"),
        ("gaussian(sigma=3) ; gausian(sigma=2)", "did you mean 'gaussian'"),
    ]:
        with pytest.raises(UserError, match=says):
            parse_noise(wrong)


def test_each_channel_is_denoised_as_if_it_were_alone(noisy, model, tmp_path):
    """By tiles, lazily, in the live preview, and with the model that was read from a file."""
    assert [own.low for own in model.channel_coordinates] == noisy.min((0, 2, 3)).tolist()
    model.save(tmp_path / "both.n2s")
    read = ScoreModel.load(tmp_path / "both.n2s")
    assert read.fingerprint == model.fingerprint
    assert read.describe() == model.describe()
    out = denoise(noisy, read, BOTH, np.empty(noisy.shape, np.float32), axes="TCYX", tile=(16, 16))
    live = LivePlanes(noisy, model, "TCYX")
    for channel, noise in enumerate(parse_noise(BOTH).models):
        one = noisy[:, channel]
        alone = denoise(one, model.of_channel(channel), noise, axes="TYX").compute()
        np.testing.assert_allclose(out[:, channel], alone, atol=1e-2)
        place = live.place((1, channel, 0, 0))
        list(live.prepare(place))
        np.testing.assert_allclose(live.solve(place, BOTH)[0], alone[1:2], atol=1e-2)
    lazy = denoise(noisy, model, BOTH, axes="TCYX")
    np.testing.assert_array_equal(lazy[1, 1].compute(), lazy.compute()[1, 1])


def test_the_uncertainty_of_a_channel_is_that_of_its_noise(noisy, model):
    frame = noisy[:1, :, :12, :12]
    both = uncertainty(frame, model, BOTH, axes="TCYX").compute()
    bright = parse_noise(BRIGHT)
    alone = uncertainty(frame[:, 1], model.of_channel(1), bright, axes="TYX").compute()
    np.testing.assert_allclose(both[:, 1], alone, rtol=1e-3)


@pytest.mark.parametrize("correlation", [None, pytest.param("A", marks=pytest.mark.slow)])
def test_channels_that_are_seen_together_have_their_own_noise_too(noisy, correlation):
    together = train(noisy, axes="TCYX", steps=2, channels="joint", correlation=correlation)
    after = " @ A" if correlation else ""
    noises = [f"gaussian(sigma={sigma}){after}" for sigma in (20, 60)]
    piece = noisy[:1, :, :12, :12]
    for quantity in (denoise, uncertainty):
        both = quantity(piece, together, " ; ".join(noises), axes="TCYX").compute()
        alone = quantity(piece, together, noises[1], axes="TCYX").compute()
        np.testing.assert_allclose(both[:, 1], alone[:, 1], rtol=1e-3, atol=1e-2)


def test_a_number_of_models_that_does_not_fit_is_said_in_one_line(noisy, model):
    three = f"{BOTH} ; gaussian(sigma=5)"
    with pytest.raises(UserError, match="3 models, and the image has 2 channels"):
        denoise(noisy, model, three, axes="TCYX")
    with pytest.raises(UserError, match="2 models, and the image has 1 channel:"):
        check_noise(noisy[:, 0], BOTH, axes="TYX")
    with pytest.raises(UserError, match=r"2 channels, each by itself.* \(axes TYX\) has 1"):
        denoise(noisy[:, 0], model, DIM, axes="TYX")
    with pytest.raises(UserError, match="channel 2 of 2: offset=9000 lies above"):
        denoise(noisy, model, f"{DIM} ; poisson(gain=1, offset=9000)", axes="TCYX")
    with pytest.raises(UserError, match="of_channel"):
        model.score(torch.zeros(1, 1, 16, 16))


def test_the_noise_of_each_channel_is_found_and_the_worst_is_checked():
    images = two_channels(4, 8, 128)
    report = estimate_noise(images, axes="TCZYX")
    gains = [own.components.base.gain for own in report.noise.models]
    assert gains == pytest.approx([2, 8], rel=0.05)
    assert "each of the 2 channels" in report.channels_sentence
    assert report.check.explains
    known = estimate_noise(images, axes="TCZYX", noise=START).noise
    assert [own.components.base.gain for own in known.models] == pytest.approx([2, 8], rel=0.05)
    wrong = check_noise(images, f"{DIM} ; {DIM}", axes="TCZYX")
    assert not wrong.explains
    assert wrong.verdict.startswith("Channel 2, the worst of 2: The noise is")
    assert str(wrong.image_noise) == f"{DIM} ; {DIM}"
    pooled = estimate_noise(images, axes="TCZYX", per_channel=False)
    assert ";" not in str(pooled.noise)
    assert "as requested" in pooled.channels_sentence


def test_channels_of_one_detector_have_one_noise_model():
    images = two_channels(4, 8, 128, f"{DIM} ; {DIM}")
    report = estimate_noise(images, axes="TCZYX")
    assert report.noise.components.base.gain == pytest.approx(2, rel=0.05)
    assert "one noise model for all 2 channels, whose estimates agree" in report.channels_sentence


def test_each_channel_has_a_polish_of_its_own(noisy, model):
    taught = polish(noisy[:2], model, BOTH, axes="TCYX", steps=3)
    both = denoise(noisy[:2], model, BOTH, axes="TCYX", polish=taught).compute()
    one = model.of_channel(1)
    alone = denoise(noisy[:2, 1], one, BRIGHT, axes="TYX", polish=taught[1]).compute()
    np.testing.assert_allclose(both[:, 1], alone, atol=1e-2)
    with pytest.raises(UserError, match="1 polishes are given, and 2 are needed"):
        denoise(noisy[:2], model, BOTH, axes="TCYX", polish=taught[:1])


@pytest.mark.slow
def test_from_a_file_to_a_file(tmp_path):
    """The noise is added, found, removed and written down for each channel."""
    clean = np.stack([simulate_cells((4, 1, 96, 96), seed=s)[1][:, 0] for s in (0, 5)], axis=1)
    clean[:, 1] *= 4
    write_image(tmp_path / "clean.ome.tif", Image(clean, "TCYX", channels=("DAPI", "actin")))

    def run(*words):
        result = CliRunner().invoke(app, [str(tmp_path / w) if "." in w[-9:] else w for w in words])
        assert result.exit_code == 0, result.output
        return result.output

    run("simulate", "clean.ome.tif", "noisy.ome.tif", "--noise", BOTH + " ")
    run("train", "noisy.ome.tif", "--model", "m.n2s", "--steps", "3")
    run(
        "denoise", "noisy.ome.tif", "out.ome.zarr", "--model", "m.n2s", "--noise", "auto",
        "--no-polish", "--workers", "1",
    )  # fmt: skip
    said = json.loads((tmp_path / "out.ome.zarr" / "zarr.json").read_text())
    notes = json.dumps(said)
    assert "poisson(gain=2" in notes or "poisson(gain=1.9" in notes
    assert " ; poisson(gain=" in notes
    facts = run("info", "m.n2s")
    assert "channel 2: grey levels" in facts


def test_a_model_file_with_impossible_channels_is_refused(model, tmp_path):
    broken = replace(model, channel_coordinates=model.channel_coordinates[:1])
    broken.save(tmp_path / "one.n2s")
    with pytest.raises(UserError, match="not a complete score model"):
        ScoreModel.load(tmp_path / "one.n2s")
