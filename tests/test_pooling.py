"""Where a pixel says little, its neighbours decide; where it says much, it stays."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_noise2score import Image, ScoreModel, denoise, parse_noise, train, uncertainty
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.errors import UserError
from napari_noise2score.noise import Gaussian, Poisson
from napari_noise2score.solve.pooling import POOLING_REACH, pool, pooled_solution, without_specks
from napari_noise2score.solve.quantization import Quantization
from napari_noise2score.solve.table import make_table
from napari_noise2score.solve.transform import Transform


def speckled(size=96, seed=0):
    """Return a scene of two flat halves, and the scene in speckle of one look."""
    rng = np.random.default_rng(seed)
    scene = np.full((size, size), 50.0)
    scene[:, size // 2 :] = 200
    noise = parse_noise("nakagami(m=1)")
    return scene, noise.sample(scene, rng).astype(np.float32)


@pytest.fixture(scope="module")
def scene():
    return speckled()


@pytest.fixture(scope="module")
def trained(scene):
    return train(scene[1], axes="YX", steps=30)


def denoised(y, model, noise, **options):
    return denoise(y, model, noise, np.empty_like(y), axes="YX", **options)


def squared_error(x, truth):
    return float(np.mean((x - truth) ** 2))


def test_the_dark_of_mri_is_pooled_more_than_what_is_well_conditioned():
    def conditioning(text, y, s=0.0):
        table = make_table(parse_noise(text), Transform(c0=100), 0.3, 0, 400)
        return float(table.look_up(table.locate(torch.tensor([y]), torch.tensor([s])))[1])

    gaussian = 10 * (1 + 0.3**2)
    assert conditioning("gaussian(sigma=10)", 200.0) == pytest.approx(0.5**0.5 * gaussian, rel=0.01)
    assert conditioning("rician(sigma=10)", 200.0) == pytest.approx(0.5**0.5 * gaussian, rel=0.05)
    assert conditioning("rician(sigma=10)", 13.0, -0.3) > 1.2 * gaussian


def isolated(x):
    """Return which inner pixels are above or below all eight neighbours, and by how much."""
    shifts = [
        x[1 + i : x.shape[0] - 1 + i, 1 + j : x.shape[1] - 1 + j]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
        if (i, j) != (0, 0)
    ]
    inner = x[1:-1, 1:-1]
    return np.maximum(inner - np.max(shifts, 0), np.min(shifts, 0) - inner)


def test_training_measures_the_error_of_the_score(trained):
    (first, error), *_ = trained.score_errors
    assert first == trained.sigma_a
    assert 0 < error < 1
    assert trained.score_error(first) == error
    assert "error of the score" in trained.describe()


def test_dark_pixels_of_speckle_are_estimated_from_their_neighbours(scene, trained):
    truth, noisy = scene
    alone = denoised(noisy, replace(trained, score_errors=()), "nakagami(m=1)")
    pooled = denoised(noisy, trained, "nakagami(m=1)")
    assert squared_error(pooled, truth) < 0.7 * squared_error(alone, truth)


def test_isolated_specks_that_the_noise_explains_are_removed(scene, trained):
    truth, noisy = scene
    noise = parse_noise("nakagami(m=1)")
    spread = np.sqrt(noise.variance(torch.from_numpy(truth)).numpy())[1:-1, 1:-1]
    explained = np.abs(noisy - noise.mean(torch.from_numpy(truth)).numpy())[1:-1, 1:-1] < 3 * spread
    alone, pooled = (
        isolated(denoised(noisy, model, noise)) > 0.5 * spread
        for model in (replace(trained, score_errors=()), trained)
    )
    assert alone[explained].mean() > 0.001
    assert pooled[explained].sum() < alone[explained].sum() / 10


def test_a_point_that_noise_cannot_explain_stays():
    x = torch.full((9, 9), 100.0)
    x[4, 4] = 400
    y = x.clone()
    assert without_specks(x, y, Poisson(gain=2))[4, 4] == 400
    # noise of 120 explains it
    assert without_specks(x, y, Gaussian(120))[4, 4] == 130


def test_pairs_of_specks_are_removed_and_lines_stay():
    x = torch.full((9, 9), 100.0)
    x[2, 3] = x[3, 4] = 150
    assert without_specks(x, x, Gaussian(20)).max() == 105
    x = torch.full((9, 9), 100.0)
    x[4] = 150
    assert torch.equal(without_specks(x, x, Gaussian(20)), x)


def test_pooling_changes_nothing_where_the_score_is_exact():
    x = torch.from_numpy(np.random.default_rng(0).normal(100, 10, (32, 32))).float()
    pooled, share = pool(x, torch.full_like(x, 10.0), error=1e-3)
    assert torch.allclose(pooled, x, atol=1e-3)
    assert float(share.max()) < 1e-4


def test_pooling_averages_what_the_error_of_the_score_explains():
    x = torch.from_numpy(np.random.default_rng(0).normal(100, 1, (32, 32))).float()
    pooled, _ = pool(x, torch.full_like(x, 10.0), error=0.5)
    assert float(pooled.std()) < 0.3


@pytest.mark.parametrize("tile", [(16, 16), (48, 32)])
def test_tiles_do_not_show(scene, trained, tile):
    noisy = scene[1]
    whole = denoised(noisy, trained, "nakagami(m=1)", tile=(96, 96))
    tiled = denoised(noisy, trained, "nakagami(m=1)", tile=tile)
    np.testing.assert_allclose(tiled, whole, rtol=1e-3)
    assert POOLING_REACH == 5


def test_the_preview_shows_what_denoising_writes(scene, trained):
    noisy = scene[1]
    planes = LivePlanes(noisy, trained, "YX", device="cpu")
    for _ in planes.prepare((0, 0)):
        pass
    shown = planes.solve((0, 0), "nakagami(m=1)")
    np.testing.assert_allclose(shown, denoised(noisy, trained, "nakagami(m=1)"), rtol=1e-3)


def test_the_uncertainty_includes_the_error_of_the_score(scene, trained):
    noisy = scene[1]
    image = Image(noisy, "YX")
    known, unknown = (
        uncertainty(image, model, "nakagami(m=1)", np.empty_like(noisy))
        for model in (trained, replace(trained, score_errors=()))
    )
    assert (known > unknown).mean() > 0.5


def test_a_result_stays_within_what_can_be_recorded():
    table = make_table(Gaussian(30), Transform(c0=900), 0.3, 0, 255, Quantization(1, 0, 0, 255))
    y = torch.tensor([[0.0, 0.0, 255.0, 255.0]])
    s = torch.tensor([[-3.0, 3.0, 3.0, -3.0]])
    x = pooled_solution(table, table.locate(y, s), y, Gaussian(30), 0.0)
    assert float(x.min()) >= 0
    assert float(x.max()) <= 255


def test_a_model_file_keeps_the_error_and_old_files_have_none(trained, tmp_path):
    trained.save(tmp_path / "a.n2s")
    again = ScoreModel.load(tmp_path / "a.n2s")
    assert again.score_errors == trained.score_errors
    assert again.fingerprint == trained.fingerprint
    without = replace(trained, score_errors=())
    assert without.fingerprint != trained.fingerprint
    without.save(tmp_path / "b.n2s")
    assert ScoreModel.load(tmp_path / "b.n2s").score_error(without.sigma_a) == 0


def test_impossible_errors_in_a_file_are_refused(trained, tmp_path):
    replace(trained, score_errors=((0.3, -1.0),)).save(tmp_path / "a.n2s")
    with pytest.raises(UserError, match="score_errors"):
        ScoreModel.load(tmp_path / "a.n2s")
    assert json.dumps(trained.score_errors)
