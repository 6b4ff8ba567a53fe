"""Correlated noise is decorrelated up to the edges, and solved exactly in known cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_noise2score import ScoreModel, UserError, denoise, parse_noise, train
from napari_noise2score.noise import A, Gamma, Gaussian, Kernel, Poisson, Rayleigh, measure_kernel
from napari_noise2score.score.decorrelation import decorrelated
from napari_noise2score.solve.solver import make_closed_form, make_solver
from napari_noise2score.solve.transform import Transform

ROW = Kernel([[0.1, 0.8, 0.1]])
SKEW = Kernel([[0.0, 0.1, 0.2], [0.0, 0.7, 0.0], [0.05, 0.0, 0.0]])


@pytest.mark.parametrize(
    "text",
    [
        "gaussian(sigma=25) @ A",
        "gaussian(a=0.098, b=25) @ A",
        "gamma(alpha=26) @ A",
        "poisson(gain=5) @ A + gaussian(sigma=10)",
        "rayleigh(sigma=0.3) @ kernel([[0.1, 0.8, 0.1]]) + gaussian(sigma=10)",
    ],
)
def test_the_text_of_a_model_is_preserved_and_samples_have_its_moments(text):
    model = parse_noise(text)
    assert str(model) == text
    assert parse_noise(text.replace(" ", "").replace(",", " , ")) == model
    y = model.sample(np.full((600, 600), 120.0), np.random.default_rng(0))
    x = torch.tensor(120.0, dtype=torch.float64)
    assert y.mean() == pytest.approx(float(model.mean(x)), rel=0.005)
    assert y.var() == pytest.approx(float(model.variance(x)), rel=0.02)


def test_operators_in_python_build_the_same_model_as_the_text():
    assert Poisson(gain=5) @ A + Gaussian(sigma=10) == parse_noise(
        "poisson(gain=5) @ A + gaussian(sigma=10)"
    )
    assert "A" in str(Gamma(26) @ Kernel(A.taps))


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("gamma(alpha=26) @ B", "write A or kernel"),
        ("gamma(alpha=26) @ kernel([[1, 2], [3, 4]])", "odd number of rows"),
        ("gamma(alpha=26) @ kernel([[1, x, 1]])", "not understood"),
        ("gamma(alpha=26) @ kernel([[0.25, 0.5, 0.25]])", "cannot be undone: .* falls to 0 "),
        ("gamma(alpha=26) + gaussian(sigma=10) @ A", "only one"),
    ],
)
def test_an_invalid_text_is_refused_in_one_line(text, phrase):
    with pytest.raises(UserError, match=phrase) as caught:
        parse_noise(text)
    assert "\n" not in str(caught.value)


def test_a_kernel_is_measured_from_the_difference_of_two_frames():
    noise = Poisson(4, 10) @ A
    scene = 60 + 40 * np.random.default_rng(0).random((8, 8))
    scene = np.kron(scene, np.ones((64, 64)))  # flat areas of different intensity
    rng = np.random.default_rng(1)
    first, second = noise.sample(scene, rng), noise.sample(scene, rng)
    difference = (first - second) / np.sqrt(2 * 4 * scene)
    found = measure_kernel(difference)
    assert np.abs(np.array(found.taps) - A.taps).max() < 0.02
    assert parse_noise(str(Poisson(4) @ found)).kernel == found
    white = measure_kernel(rng.standard_normal((400, 400)))
    assert np.abs(np.array(white.taps) - np.pad([[1.0]], 1)).max() < 0.02


@pytest.mark.parametrize("kernel", [A, ROW])
def test_a_symmetric_kernel_is_undone_up_to_the_edges_of_an_image(kernel):
    x = 200 * np.random.default_rng(0).random((50, 37))
    y = kernel.apply_to_image(x)
    # tiles are padded by reflection
    padded = np.pad(y, kernel.reach, mode="reflect")
    assert np.abs(decorrelated(padded, kernel) - x).max() < 0.01


def test_an_asymmetric_kernel_is_undone_except_at_the_edges():
    x = 200 * np.random.default_rng(0).random((70, 80))
    y = SKEW.apply_to_image(x)
    r = SKEW.reach
    inside = (slice(r, -r), slice(r, -r))
    assert np.abs(decorrelated(y, SKEW) - x[inside])[inside].max() < 0.01


@pytest.mark.parametrize("kernel", [A, SKEW])
@pytest.mark.parametrize("base", [Gaussian(25), Gamma(26), Poisson(5), Rayleigh(0.3)])
def test_the_solution_undoes_the_score(base, kernel):
    rng = np.random.default_rng(0)
    x = torch.tensor(50 + 150 * rng.random((48, 40)))
    model = base @ kernel
    z = torch.tensor(base.sample(x.numpy(), rng)) + (0.5 if isinstance(base, Poisson) else 0)
    y = x + kernel.apply_transposed(z - x) if isinstance(base, Gaussian) else kernel.apply(z)
    assert torch.allclose(model.solve(y, model.score(x, y)), x, rtol=1e-4)


def test_noise_that_grows_with_the_signal_is_solved_by_the_papers_fixed_point():
    model = Gaussian(a=0.098, b=25) @ A
    s = 0.002 * torch.randn(48, 40, dtype=torch.float64)
    y = 150 + 30 * torch.randn(48, 40, dtype=torch.float64)
    x = model.solve(y, s)
    again = y + A.apply_transposed(model.base.variance(x) * A.apply(s))
    assert torch.allclose(x, again, atol=0.01)


@pytest.mark.parametrize("kernel", [A, SKEW])
@pytest.mark.parametrize("base", [Gaussian(25), Gaussian(a=0.01, b=5)])
def test_a_score_learned_of_the_decorrelated_image_gives_the_clean_image(base, kernel):
    """An asymmetric kernel blurs the noise by its mirror image."""
    rng = torch.Generator().manual_seed(0)
    x = 100 + 30 * torch.randn(48, 40, generator=rng, dtype=torch.float64)
    y = x + 5 * torch.randn(48, 40, generator=rng, dtype=torch.float64)
    score = kernel.apply_transposed((base @ kernel).score(x, y))
    solve = make_solver(base @ kernel, Transform(), 1e-6, 0, 255, kernel=kernel)
    assert torch.allclose(solve(kernel.undo(y), score), x, atol=0.01)


@pytest.mark.parametrize("read", [0.0, 8.0])
@pytest.mark.parametrize("learned", [None, A, ROW])
def test_for_a_gaussian_image_the_solution_is_the_posterior_mean(learned, read):
    """White Gaussian pixels with correlated Gaussian noise have a linear posterior mean."""
    sigma, sigma_a, power = 25.0, 0.5, 40.0**2
    noise = Gaussian(sigma) @ A + Gaussian(read) if read else Gaussian(sigma) @ A
    transform = Transform(c0=sigma**2)
    shape = (64, 64)
    spectrum = A._spectrum(shape).real
    rng = torch.Generator().manual_seed(0)
    y = 40 * torch.randn(shape, generator=rng, dtype=torch.float64)
    learned_response = learned._spectrum(shape).real if learned else 1.0
    total = power + sigma**2 * spectrum**2 + read**2 + (sigma * sigma_a * learned_response) ** 2

    def filtered(image, response):
        return torch.fft.ifft2(torch.fft.fft2(image) * response).real

    best = filtered(y, power / total)
    score = -filtered(y, learned_response / total)
    solve = make_solver(noise, transform, sigma_a, -200, 200, kernel=learned)
    x = solve(learned.undo(y) if learned else y, sigma * score)
    assert torch.allclose(x, best, atol=1e-6)


def test_the_closed_forms_agree_with_the_table_where_both_are_exact():
    transform = Transform(c0=100)
    y = torch.linspace(20, 230, 64 * 64).reshape(64, 64)
    s = torch.randn(64, 64)
    table = make_solver(Gaussian(10), transform, 0.3, 0, 255)
    closed = make_closed_form(Gaussian(10), transform, 0.3)
    assert torch.allclose(table(y, s), closed(y, s), atol=0.1)


def blobs(noise, seed=0, shape=(6, 32, 32)):
    grid = np.indices(shape[-2:]) / 16
    clean = 100 + 40 * np.sin(grid[0]) * np.cos(grid[1]) + np.zeros(shape)
    return clean, noise.sample(clean, np.random.default_rng(seed)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return train(blobs(Poisson(5) @ A)[1], axes="TYX", steps=60, correlation="A")


@pytest.mark.slow
def test_correlated_noise_is_removed_without_seams(model, tmp_path):
    noise = Poisson(5) @ A
    clean, noisy = blobs(noise, 1, (100, 90))
    whole = denoise(noisy, model, noise).compute()
    # A blurs the image too, so compare with the noise of the unblurred image
    unblurred = decorrelated(np.pad(noisy, A.reach, mode="reflect"), A)
    assert np.mean((whole - clean) ** 2) < 0.3 * np.mean((unblurred - clean) ** 2)
    tiled = denoise(noisy, model, noise, tile=(24, 40)).compute()
    assert np.abs(whole - tiled).max() < 1e-4 * np.ptp(noisy)
    model.save(tmp_path / "m.n2s")
    again = ScoreModel.load(tmp_path / "m.n2s")
    assert again.kernel == A
    assert again.describe()["correlation"] == "A"
    assert np.array_equal(denoise(noisy, again, noise).compute(), whole)


@pytest.mark.slow
def test_a_model_trained_for_correlated_noise_refuses_white_noise(model):
    _, noisy = blobs(Poisson(5), 1, (64, 64))
    with pytest.raises(UserError, match=r"has no correlation: write it as '\.\.\. @ A'"):
        denoise(noisy, model, "poisson(gain=5)")


@pytest.mark.slow
def test_the_correlation_can_be_changed_after_training(model):
    noise = Poisson(5) @ A + Gaussian(8)
    clean, noisy = blobs(noise, shape=(12, 48, 48))
    other = train(noisy, axes="TYX", steps=60, correlation=ROW)
    unblurred = decorrelated(np.pad(noisy, [(0, 0)] + 2 * [(A.reach,) * 2], mode="reflect"), A)
    found = denoise(noisy, other, noise, axes="TYX")
    assert np.mean((found.compute() - clean) ** 2) < 0.1 * np.mean((unblurred - clean) ** 2)
    tiled = denoise(noisy, other, noise, axes="TYX", tile=(24, 40))
    assert np.abs(found - tiled).max() < 1e-4 * np.ptp(noisy)


@pytest.mark.slow
def test_a_score_learned_without_correlation_serves_correlated_noise_too():
    noise = Gaussian(20) @ A
    clean, noisy = blobs(noise)
    model = train(noisy, axes="TYX", steps=60)
    found = denoise(noisy, model, noise, axes="TYX").compute()
    assert np.mean((found - clean) ** 2) < 0.5 * np.mean((noisy - clean) ** 2)


@pytest.mark.slow
def test_flipped_patches_do_not_change_a_correlation_along_rows():
    """Patches are flipped and rotated after decorrelation, so any kernel is allowed."""
    noise = Gaussian(20) @ ROW
    clean, noisy = blobs(noise)
    model = train(noisy, axes="TYX", steps=60, correlation=ROW)
    found = denoise(noisy, model, noise, axes="TYX").compute()
    loss = np.mean((found - clean) ** 2) / np.mean((noisy - clean) ** 2)
    assert 10 * math.log10(loss) < -4
