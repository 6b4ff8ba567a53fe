"""With a trained model, the noise that denoises best is found without further training."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from shared import small_crops
from typer.testing import CliRunner

from napari_noise2score import (
    Image,
    ScoreModel,
    UserError,
    estimate_noise,
    estimate_steps,
    parse_noise,
    read_image,
    train,
)
from napari_noise2score.cli.main import app
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.errors import DataWarning
from napari_noise2score.estimation._score_pieces import Piece, with_independent
from napari_noise2score.image.axes import layout
from napari_noise2score.image.write import write_image
from napari_noise2score.noise import Emccd
from napari_noise2score.score.context import Context
from napari_noise2score.solve.transform import Transform

pytestmark = pytest.mark.slow

TRUE_NOISE = parse_noise("gaussian(sigma=20)")


def scene(size=128):
    y, x = np.indices((size, size))
    blocks = np.kron(np.random.default_rng(3).uniform(60, 200, (8, 8)), np.ones((size // 8,) * 2))
    return blocks + 8 * np.sin(x / 9) * np.cos(y / 7)


def noisy_frames(noise=TRUE_NOISE, count=4, clean=None):
    rng = np.random.default_rng(0)
    clean = scene() if clean is None else clean
    return np.stack([noise.sample(clean, rng) for _ in range(count)]).astype(np.float32)


@pytest.fixture(scope="module")
def noisy():
    return noisy_frames()


@pytest.fixture(scope="module")
def model(noisy):
    return train(small_crops(noisy), axes="TYX", steps=150, context="none")


def errors(noises, model, noisy):
    """Return the mean squared error of the denoised frames for each noise model."""
    planes, found = LivePlanes(noisy, model, "TYX"), []
    for t in range(len(noisy)):
        for _ in planes.prepare(place := planes.place((t, 0, 0))):
            pass
        found.append([float(np.mean((planes.solve(place, n) - scene()) ** 2)) for n in noises])
    return np.mean(found, axis=0)


def test_other_frames_choose_the_noise_level_that_a_clean_image_would(model, noisy):
    found = estimate_noise(noisy, axes="TYX", model=model)
    assert found.method == "other frames"
    levels = [TRUE_NOISE.scaled(f) for f in 2 ** np.arange(-1, 1.1, 0.25)]
    chosen, *swept = errors([found.noise, *levels], model, noisy)
    assert chosen < 1.02 * min(swept)  # 0.09 dB
    differences = found.notes["squared difference from other frames"]
    assert differences["denoised"] < 0.7 * differences["noisy"]
    assert found.check.noise == found.noise
    assert found.check.source == "denoised"


@pytest.mark.parametrize("count", [4, 6])
def test_with_context_frames_beyond_the_neighbours_choose_the_noise_level(count):
    noisy = noisy_frames(count=count)
    model = train(small_crops(noisy), axes="TYX", steps=150, context="T")
    assert model.context == Context.around("T", 1)
    found = estimate_noise(noisy, axes="TYX", model=model)
    assert found.method == "other frames"
    levels = [TRUE_NOISE.scaled(f) for f in 2 ** np.arange(-1, 1.1, 0.25)]
    chosen, *swept = errors([found.noise, *levels], model, noisy)
    assert chosen < 1.02 * min(swept)
    # of three frames, those at the ends are denoised with both of the others
    assert estimate_noise(noisy[:3], axes="TYX", model=model).method == "images"


@pytest.mark.parametrize(
    ("offsets", "count", "compared"),
    [
        ((), 5, {1: [0, 2], 2: [1, 3]}),
        ((), 2, {0: [1], 1: [0]}),
        ((-1, 1), 3, {0: [], 1: []}),
        ((-1, 1), 4, {1: [3], 2: [0]}),
        ((-1, 1), 6, {2: [0, 4], 3: [1, 5]}),
        ((-1, 1, -2, 2), 8, {3: [0, 6], 4: [1, 7]}),
        # the noise of frames next to one another is correlated, and so is that of 2, 3 and 4
        ((-2, 2), 8, {3: [7], 4: [0]}),
        ((-2, 2), 10, {4: [0, 8], 5: [1, 9]}),
    ],
)
def test_no_frame_is_compared_with_one_whose_noise_it_shares(offsets, count, compared):
    where = layout("TZYX", (count, 2, 32, 32))
    scene = [Piece(None, None, where, (t, 1), ()) for t in range(count)]
    context = Context((*(("T", by) for by in offsets), ("Z", -1), ("Z", 1)))
    found = with_independent(scene, context)
    assert {
        piece.position[0]: [other.position[0] for other in others] for piece, others in found
    } == compared


def test_with_context_and_copies_the_images_alone_decide():
    noisy = noisy_frames(count=6)
    noisy[2] = noisy[1]
    model = train(noisy[3:], axes="TYX", steps=1, context="T")
    with pytest.warns(DataWarning, match="repeats another"):
        found = estimate_noise(noisy, axes="TYX", model=model)
    assert found.method == "images"
    assert "other frames" not in found.notes  # they were not even tried


def test_for_a_moving_sample_or_a_single_frame_the_images_alone_are_used(model, noisy):
    moving = np.stack([np.roll(y, 9 * t, axis=1) for t, y in enumerate(noisy)])
    found = estimate_noise(moving, axes="TYX", model=model)
    assert (found.method, found.notes["other frames"]) == ("images", "not used: the sample moves")
    single = estimate_noise(noisy[0], model=model)
    assert single.method == "images"
    assert single.noise.sigma == pytest.approx(20, rel=0.1)


def test_for_a_single_frame_of_photons_the_likelihood_chooses_the_family():
    # by their variance alone, multiplied counts would pass for counts of twice the gain
    frame = Emccd(20, offset=20).sample(scene(256) / 2, np.random.default_rng(0)).round()
    found = estimate_noise(frame, model=train(small_crops(frame), steps=20))
    assert found.method == "likelihood"
    counts, _, _ = found.noise.components
    assert isinstance(counts, Emccd)
    assert (counts.gain, counts.excess) == (pytest.approx(20, rel=0.1), 2)
    likelihoods = found.notes["log-likelihood of a pixel"]
    assert max(likelihoods, key=likelihoods.get) == str(found.noise)


def test_a_hardly_trained_score_is_not_used(noisy):
    found = estimate_noise(noisy, axes="TYX", model=train(noisy, axes="TYX", steps=1))
    assert found.noise == estimate_noise(noisy, axes="TYX").noise
    assert "hardly trained" in found.notes["other frames"]


class FlatScore(torch.nn.Module):
    """Compute the exact score of a flat field with Gaussian noise, as a network would."""

    context_channels = 0

    stride, radius, channels, ndim, width = (1, 1), (0, 0), 1, 2, 1

    def __init__(self, variance):
        super().__init__()
        self.variance = torch.nn.Parameter(torch.tensor(variance), requires_grad=False)

    def forward(self, values):
        z, square = values[:, :1], torch.exp(2 * values[:, 1:])
        return -z * torch.sqrt(1 + square) / (self.variance + square)


@pytest.mark.parametrize("method", ["curve", "perturbation", "quality-gaussian"])
def test_each_method_finds_the_level_from_the_score(model, method):
    flat = noisy_frames(clean=np.full((128, 128), 120.0))
    transform = Transform(c0=500.0)
    z_mean = float(transform.forward(torch.tensor(120.0)))
    exact = replace(
        model, network=FlatScore(400 / 500), transform=transform, mean=z_mean, scale=1.0
    )  # fmt: skip
    found = estimate_noise(flat, axes="TYX", model=exact, method=method, device="cpu")
    # with only one intensity, every family can have this variance
    x = found.noise.clean_from_mean(torch.tensor(120.0, dtype=torch.float64))
    assert float(found.noise.variance(x)) ** 0.5 == pytest.approx(20, rel=0.05)
    assert found.notes["noise found by"] == method


def test_progress_is_reported_and_the_estimate_can_be_stopped(model, noisy):
    steps = list(estimate_steps(noisy, axes="TYX", model=model))
    done = [s.done for s in steps]
    assert done == sorted(done)
    assert set(range(1, int(steps[-1].total) + 1)) <= set(done)
    assert [s.result is None for s in steps] == [True] * (len(steps) - 1) + [False]
    estimate_steps(noisy, axes="TYX", model=model).close()
    with pytest.raises(UserError, match="there are auto, images"):
        estimate_noise(noisy, axes="TYX", model=model, method="guess")
    with pytest.raises(UserError, match="give only one of the two"):
        estimate_noise(noisy, axes="TYX", model=model, noise=TRUE_NOISE, method="curve")
    with pytest.raises(UserError, match="uses a trained model"):
        estimate_noise(noisy, axes="TYX", method="curve")


def test_denoising_with_noise_auto_records_how_the_noise_was_found(tmp_path, model, noisy):
    write_image(tmp_path / "noisy.tif", Image(noisy, "TYX"))
    model.save(tmp_path / "m.n2s")
    source_and_model = [str(tmp_path / "noisy.tif"), "--model", str(tmp_path / "m.n2s")]
    run = CliRunner().invoke(app, ["estimate", *source_and_model, "--json"])
    facts = json.loads(run.stdout)
    assert facts["noise found by"] == "other frames"
    command = [
        "denoise",
        source_and_model[0],
        str(tmp_path / "out.ome.zarr"),
        *source_and_model[1:],
        "--noise",
        "auto",
        "--no-polish",
    ]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    result = read_image(tmp_path / "out.ome.zarr")
    assert result.notes["noise"] == facts["noise"]
    assert result.notes["noise found by"] == "other frames"
    assert result.notes["variance factor"] == facts["variance factor"]
    run = CliRunner().invoke(app, ["estimate", *source_and_model, "--method", "perturbation"])
    assert "found by              perturbation" in run.output
    run = CliRunner().invoke(app, ["estimate", source_and_model[0], "--method", "curve"])
    assert isinstance(run.exception, UserError)
    assert ScoreModel.load(tmp_path / "m.n2s").fingerprint == result.notes["fingerprint"]
