"""The mean of a result is that of the data, at every intensity."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_noise2score import ScoreModel, denoise, parse_noise, train
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.errors import UserError
from napari_noise2score.noise import Gaussian, Poisson
from napari_noise2score.solve.bias_correction import bins_by_neighbours, measure_bias_correction
from napari_noise2score.solve.pooling import neighbour_mean

PHOTONS = "poisson(gain=4, offset=10)"
EVERYWHERE = (-np.inf, np.inf)


def few_photons(size=96, seed=0):
    """Return a smooth scene of 0.1 to 2 photons per pixel, and its counts in grey levels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    truth = 10 + 4 * (0.1 + 1.9 * np.exp(-((x - 0.5) ** 2 + (y - 0.4) ** 2) / 0.05))
    return truth, parse_noise(PHOTONS).sample(truth - 10, rng).astype(np.float32)


@pytest.fixture(scope="module")
def scene():
    return few_photons()


@pytest.fixture(scope="module")
def trained(scene):
    return train(scene[1], axes="YX", steps=25)


def denoised(y, model, **options):
    return denoise(y, model, PHOTONS, np.empty_like(y), axes="YX", **options)


def bias(x, truth):
    """Return the largest bias of a quarter of the pixels, sorted by their true intensity."""
    quarters = np.array_split(np.argsort(truth.ravel()), 4)
    return max(abs(float((x - truth).ravel()[q].mean())) for q in quarters)


def patches(levels, seed=0):
    """Return clean patches with the grey levels of a ramp, and the noise of σ = 10 on them."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.linspace(*levels, 64).expand(16, 1, 64, 64)
    return clean, clean + 10 * torch.randn(clean.shape, generator=generator)


def test_few_photons_have_the_right_mean(scene, trained):
    truth, noisy = scene
    without = denoised(noisy, replace(trained, patches=None))
    corrected = denoised(noisy, trained)
    assert bias(corrected, truth) < 0.5 * bias(without, truth)
    assert np.mean((corrected - truth) ** 2) < np.mean((without - truth) ** 2)


def test_the_live_preview_shows_the_same(scene, trained):
    noisy = scene[1]
    planes = LivePlanes(noisy, trained, "YX")
    place = planes.place((0, 0))
    for _ in planes.prepare(place):
        pass
    assert np.allclose(planes.solve(place, PHOTONS), denoised(noisy, trained), atol=1e-3)


def test_tiles_do_not_show(scene, trained):
    noisy = scene[1]
    whole = denoised(noisy, trained)
    assert np.allclose(denoised(noisy, trained, tile=(32, 32)), whole, atol=1e-3)


def measured(x, y, noise, limits=EVERYWHERE, valid=None):
    return measure_bias_correction(bins_by_neighbours([(y, valid)]), [x], noise, limits)


def corrected(found, x, y):
    return found.apply(x, found.locate(neighbour_mean(y)))


def test_a_bias_that_depends_on_intensity_is_removed():
    clean, y = patches((0, 200))
    x = clean * 0.9 + 5
    unbiased = corrected(measured(x, y, Gaussian(10)), x, y)
    assert float((x - clean)[..., 4:-4].square().mean()) > 50
    assert float((unbiased - clean)[..., 4:-4].square().mean()) < 5


def test_an_estimate_without_bias_stays():
    clean, y = patches((50, 60))
    same = corrected(measured(clean, y, Gaussian(10)), clean, y)
    assert float((same - clean).square().mean()) < 0.05


def test_defective_and_invalid_pixels_do_not_matter():
    clean, y = patches((50, 60))
    y[:, :, 10, 10] = 60_000
    found = measured(clean, y, Gaussian(10))
    assert max(abs(float(s)) for s in found.shift[0]) < 1
    valid = torch.ones_like(y)
    valid[..., :32] = 0
    dark = clean - 20 * (1 - valid)
    found = measured(dark, y, Gaussian(10), valid=valid)
    assert max(abs(float(s)) for s in found.shift[0]) < 1


def test_too_few_pixels_correct_nothing():
    y = torch.full((1, 1, 8, 8), 10.0)
    assert torch.equal(corrected(measured(y - 5, y, Gaussian(10)), y - 5, y), y - 5)


def test_images_of_several_sizes_are_measured_together():
    clean, y = patches((0, 200))
    x = clean * 0.9 + 5
    each = [(y[:4, :, :40], None), (y[4:], None)]
    solutions = [x[:4, :, :40], x[4:]]
    found = measure_bias_correction(bins_by_neighbours(each), solutions, Gaussian(10), EVERYWHERE)
    assert float((corrected(found, x, y) - clean)[..., 4:-4].square().mean()) < 5


def test_results_stay_within_what_noise_and_detector_allow():
    y = torch.zeros(16, 1, 32, 32)
    x = torch.ones_like(y)
    found = measured(x, y, Poisson(gain=100), (0.5, 250))
    assert float(corrected(found, x, y).min()) == 0.5
    # one that is outside already is not moved inwards
    brighter = found._replace(shift=(torch.tensor([7.0] * len(found.at[0])),))
    assert float(corrected(brighter, x + 400, y).max()) == 401


def test_the_model_file_keeps_the_patches(tmp_path, trained):
    trained.save(tmp_path / "a.n2s")
    again = ScoreModel.load(tmp_path / "a.n2s")
    assert torch.equal(again.patches.y, trained.patches.y)
    assert again.fingerprint == trained.fingerprint
    assert replace(trained, patches=None).fingerprint != trained.fingerprint
    assert 0 < trained.patches.y.numel() <= 2**16
    assert json.dumps(trained.provenance)


def test_a_model_of_an_earlier_version_is_not_corrected(tmp_path, trained):
    replace(trained, patches=None).save(tmp_path / "a.n2s")
    again = ScoreModel.load(tmp_path / "a.n2s")
    assert again.bias_correction(parse_noise(PHOTONS)) is None


@pytest.mark.parametrize("shape", [(4, 2, 64, 64), (4, 1, 62, 64), (4, 1, 64)])
def test_patches_that_do_not_fit_the_network_are_refused(tmp_path, trained, shape):
    replace(trained, patches=trained.patches._replace(y=torch.zeros(shape))).save(
        tmp_path / "a.n2s"
    )
    with pytest.raises(UserError, match="patches do not fit"):
        ScoreModel.load(tmp_path / "a.n2s")


def test_patches_with_context(tmp_path):
    movie = np.stack([few_photons(64, seed)[1] for seed in range(5)])
    model = train(movie, axes="TYX", steps=3, context="T", reach=1)
    assert model.patches.around.shape[1] == 1  # the mean of both neighbours
    model.save(tmp_path / "a.n2s")
    again = ScoreModel.load(tmp_path / "a.n2s")
    assert again.bias_correction(parse_noise(PHOTONS)) is not None
