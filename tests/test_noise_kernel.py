"""Noise that is correlated without the image being blurred is removed without an inverse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_noise2score import (
    UserError,
    check_noise,
    denoise,
    estimate_noise,
    parse_noise,
    polish,
    train,
    uncertainty,
)
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.errors import DataWarning
from napari_noise2score.noise import Gaussian, Kernel
from napari_noise2score.sample import simulate_cells
from napari_noise2score.solve.solver import make_solver
from napari_noise2score.solve.transform import Transform

# binomial: its spectrum falls to 0, so that no kernel(...) can be written
TAPS = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])
SMOOTH = Kernel((TAPS / np.sqrt((TAPS**2).sum())).round(4).tolist(), of_noise=True)


def smooth_noise(clean, deviation, seed=0):
    white = np.random.default_rng(seed).standard_normal(clean.shape)
    return clean + deviation * SMOOTH.apply_to_image(white)


@pytest.mark.parametrize(
    "base",
    ["gaussian(sigma=25)", "poisson(gain=2, offset=100)", "gamma(alpha=26)", "rician(sigma=9)"],
)
@pytest.mark.parametrize("read", ["", " + gaussian(sigma=3)"])
def test_samples_have_the_moments_of_the_family_and_edges_stay_sharp(base, read):
    model = parse_noise(f"{base} @ {SMOOTH}{read}")
    assert parse_noise(str(model)) == model
    clean = np.full((400, 400), 120.0)
    clean[:, 200:] = 240
    y = model.sample(clean, np.random.default_rng(0))
    for side in (slice(0, 200), slice(200, 400)):
        x = torch.tensor(clean[0, side.start], dtype=torch.float64)
        assert y[:, side].mean() == pytest.approx(float(model.mean(x)), rel=0.01)
        assert y[:, side].var() == pytest.approx(float(model.variance(x)), rel=0.05)
    # the columns on both sides of the edge have the means of their sides
    jump = y[:, 200].mean() - y[:, 199].mean()
    far = y[:, 250:].mean() - y[:, :150].mean()
    assert jump == pytest.approx(far, rel=0.1)


@pytest.mark.parametrize("base", ["gaussian(sigma=12)", "poisson(gain=2, offset=-20)"])
def test_strength_of_smooth_noise_is_found_in_one_frame_with_a_background_without_noise(base):
    rng = np.random.default_rng(4)
    clean = 60 + 400 * ndimage.gaussian_filter(rng.standard_normal((256, 256)), 8)
    model = parse_noise(f"{base} @ {SMOOTH}")
    noisy = model.sample(clean, rng)
    # as reconstructions leave it outside the object
    noisy[:, 150:] = 1e-4 * rng.random((256, 106))
    found = estimate_noise(noisy.astype(np.float32), axes="YX").noise
    for level in torch.tensor([40.0, 60.0, 80.0], dtype=torch.float64):
        deviation, expected = (
            float(own.variance(own.clean_from_mean(level))) ** 0.5 for own in (found, model)
        )
        assert deviation == pytest.approx(expected, rel=0.15)


def test_the_same_kernel_cannot_be_undone():
    with pytest.raises(UserError, match="cannot be undone"):
        Kernel(SMOOTH.taps)
    with pytest.raises(UserError, match="write A"):
        parse_noise("gaussian(sigma=3) @ noise_kernel(nothing)")


def test_for_a_gaussian_image_the_solution_is_the_posterior_mean():
    rng = np.random.default_rng(0)
    sigma, sigma_a, contrast = 10.0, 0.5, 30.0
    size = (64, 64)
    spectrum = np.abs(np.fft.fft2(np.pad(SMOOTH.taps, ((0, 61), (0, 61))))) ** 2
    x = 100 + contrast * rng.standard_normal(size)
    y = x + np.fft.ifft2(np.fft.fft2(sigma * rng.standard_normal(size)) * spectrum**0.5).real
    noise = sigma**2 * spectrum
    total = contrast**2 + noise + sigma_a**2 * sigma**2
    score = -np.fft.ifft2(np.fft.fft2(y - 100) / total).real
    expected = 100 + np.fft.ifft2(np.fft.fft2(y - 100) * contrast**2 / total).real
    transform = Transform(c0=sigma**2)
    solve = make_solver(Gaussian(sigma) @ SMOOTH, transform, sigma_a, 0, 255)
    s = torch.from_numpy(score * sigma)  # of z = y / σ
    found = solve(torch.from_numpy(y), s).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.fixture(scope="module")
def cells():
    clean = simulate_cells((1, 1, 160, 160))[1][0] * 4 + 50
    return np.stack([smooth_noise(clean, 12, seed)[0] for seed in range(4)]), clean[0]


def test_smooth_noise_is_found_in_repeats_and_in_single_frames(cells):
    noisy, _ = cells
    for images, tolerance in ((noisy, 0.1), (noisy[:1], 0.15)):
        report = estimate_noise(images, axes="TYX")
        kernel = report.noise.components.kernel
        assert kernel.of_noise
        deviation = float(report.noise.variance(torch.tensor(60.0))) ** 0.5
        assert deviation == pytest.approx(12, rel=tolerance)
    right, white = (
        check_noise(noisy, f"gaussian(sigma=12){kernel}", axes="TYX")
        for kernel in (f" @ {SMOOTH}", "")
    )
    assert right.curve.explained > 0.8
    assert abs(right.residual.correlation) < 0.1
    assert not white.explains


@pytest.fixture(scope="module")
def model(cells):
    return train(cells[0], axes="TYX", steps=100, correlation=SMOOTH)


def test_training_learns_how_strong_smooth_noise_is(model):
    # its finest detail alone would show a tenth of the variance
    deviation = float(model.transform.variance(torch.tensor([60.0])).sqrt())
    assert deviation == pytest.approx(12, rel=0.3)
    assert model.describe()["correlation of the noise"] == str(SMOOTH)


@pytest.mark.slow
def test_smooth_noise_is_removed(cells, model):
    noisy, clean = cells
    noise = f"gaussian(sigma=12) @ {SMOOTH}"
    x = denoise(noisy, model, noise, axes="TYX").compute()
    assert np.mean((x - clean) ** 2) < 0.5 * np.mean((noisy - clean) ** 2)
    np.testing.assert_allclose(
        denoise(noisy, model, noise, axes="TYX", tile=(64, 64)).compute(), x, atol=0.02
    )
    planes = LivePlanes(noisy, model, "TYX")
    place = planes.place((2, 0, 0))
    for _ in planes.prepare(place, noise):
        pass
    np.testing.assert_allclose(planes.solve(place, noise)[0], x[2], atol=0.02)
    spread = uncertainty(noisy[0], model, noise).compute()
    assert 0 < np.median(spread) < 12
    taught = polish(noisy, model, noise, axes="TYX", steps=3)
    assert np.isfinite(denoise(noisy, model, noise, axes="TYX", polish=taught).compute()).all()


def test_a_model_trained_without_the_kernel_of_smooth_noise_says_so(cells):
    plain = train(cells[0], axes="TYX", steps=2)
    with pytest.warns(DataWarning, match=r"train with --correlation 'noise_kernel\("):
        denoise(
            cells[0], plain, f"gaussian(sigma=12) @ {SMOOTH}", np.empty(cells[0].shape), axes="TYX"
        )
