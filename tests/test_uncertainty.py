"""The uncertainty agrees with known posteriors, covers the truth, and is written to files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from shared import small_crops

from napari_noise2score import denoise, train, uncertainty
from napari_noise2score.cli.main import main
from napari_noise2score.image.files import read_image
from napari_noise2score.image.image import Image
from napari_noise2score.image.write import write_image
from napari_noise2score.noise import A, Gamma, Gaussian, Poisson
from napari_noise2score.solve.solver import make_shift, make_solver
from napari_noise2score.solve.transform import Transform


@pytest.mark.parametrize("sigma_a", [0.3, 1.0])
def test_for_a_gaussian_pixel_it_is_the_posterior_variance(sigma_a):
    sigma, power = 10.0, 20.0**2
    table = make_solver(Gaussian(sigma), Transform(c0=sigma**2), sigma_a, -100, 100)
    noise = sigma**2 * (1 + sigma_a**2)
    y = torch.linspace(-40, 40, 81)
    # z = y / σ
    score = -sigma * y / (power + noise)
    slope = torch.full_like(y, -(sigma**2) / (power + noise))
    found = table.variance(y, score, slope)
    assert torch.allclose(found, torch.tensor(power * noise / (power + noise)), rtol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "transform"),
    [
        (Poisson(2), Transform(0, 4, 2)),
        (Poisson(2, 100) + Gaussian(4), Transform(100, 16, 2)),
        (Gamma(26), Transform(0, 4, 0.6, 0.04)),
    ],
)
def test_about_two_thirds_of_pixels_are_within_it(model, transform):
    """The score and its slope are computed exactly from a prior."""
    sigma_a = 0.5
    x = torch.linspace(1, 255, 509, dtype=torch.float64)
    weight = torch.exp(-(((x - 90) / 30) ** 2) / 2)
    weight /= weight.sum()
    ends = transform.forward(torch.tensor([-100.0, 700.0], dtype=torch.float64))
    bins = torch.arange(float(ends[0]), float(ends[1]), sigma_a / 8, dtype=torch.float64)
    middle = (bins[1:] + bins[:-1]) / 2
    marginal = weight @ model.bin_probabilities(transform.inverse(bins), x)

    rng = np.random.default_rng(0)
    true = rng.choice(x.numpy(), 4000, p=weight.numpy())
    z = transform.forward(torch.tensor(model.sample(true, rng)))
    z = z + sigma_a * torch.tensor(rng.standard_normal(len(z)))

    def score(z):
        away = middle - z[:, None]
        kernel = torch.exp(-((away / sigma_a) ** 2) / 2) * marginal
        return (kernel * away).sum(1) / kernel.sum(1) / sigma_a**2

    s, slope = score(z), (score(z + 1e-3) - score(z - 1e-3)) / 2e-3
    table = make_solver(model, transform, sigma_a, -100, 700)
    y = transform.inverse(z)
    away = (table(y, s) - torch.tensor(true)).abs() / table.variance(y, s, slope).sqrt()
    assert float((away < 1).double().mean()) == pytest.approx(0.683, abs=0.04)
    assert float((away < 2).double().mean()) == pytest.approx(0.954, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("learned", [None, A])
@pytest.mark.parametrize(
    ("model", "level"), [(Gaussian(10) @ A, 0), (Poisson(0.01) @ A + Gaussian(4), 10_000)]
)
def test_for_a_gaussian_image_with_correlated_noise_it_is_the_posterior_deviation(
    model, level, learned
):
    """For an image with a known spectrum, score and posterior are known in Fourier space."""
    size, sigma_a, power = 32, 0.5, 100.0
    f = torch.fft.fftfreq(size, dtype=torch.float64)
    image_power = 400 / (1 + 20 * (f[:, None] ** 2 + f**2))
    blur = A._spectrum((size, size)).real
    learned_response = blur if learned else torch.ones_like(blur)
    # in w = K⁻¹ y: the response to the image, and the power of the noise including the perturbation
    response = (blur if level else 1) / learned_response
    noise = (power * blur**2 + (16 if level else 0)) / learned_response**2 + sigma_a**2 * power
    inverse = 1 / (response**2 * image_power + noise)
    truth = (image_power - image_power**2 * response**2 * inverse).mean()

    transform = Transform(c0=power)
    solve = make_solver(model, transform, sigma_a, level - 500, level + 500, kernel=learned)
    shift = make_shift(model, transform, sigma_a, learned)

    def clean(w):
        away = torch.fft.ifft2(torch.fft.fft2(w - level) * inverse).real
        return solve(w, -away * np.sqrt(power))

    flat = torch.full((size, size), float(level), dtype=torch.float64)
    probe = torch.zeros_like(flat)
    probe[16, 16] = 1.0
    along = shift(clean(flat), flat, probe / 10)
    moved = (clean(flat + along) - clean(flat - along))[16, 16] / 2 * 10
    assert float(moved) == pytest.approx(float(truth), rel=0.03)


def clean_and_noisy():
    """Return spots of low contrast, and the same with noise."""
    rng = np.random.default_rng(0)
    clean = 100 + 80 * gaussian_filter(rng.standard_normal((3, 72, 72)), (0, 1.5, 1.5))
    return clean, clean + 10 * rng.standard_normal(clean.shape)


@pytest.fixture(scope="module")
def model():
    return train(small_crops(clean_and_noisy()[1], 36), axes="TYX", steps=150)


@pytest.mark.slow
def test_with_a_trained_model_it_covers_the_truth_and_has_no_seams(model):
    clean, noisy = clean_and_noisy()
    std = uncertainty(noisy, model, "gaussian(sigma=10)", axes="TYX").compute()
    error = np.abs(denoise(noisy, model, "gaussian(sigma=10)", axes="TYX").compute() - clean)
    assert std.shape == noisy.shape
    assert np.all((std > 0) & (std < 11))  # never larger than the noise itself
    assert np.mean(error < std) == pytest.approx(0.68, abs=0.08)
    assert np.mean(error < 2 * std) == pytest.approx(0.95, abs=0.05)
    tiled = uncertainty(noisy[0], model, "gaussian(sigma=10)", tile=(40, 36)).compute()
    assert np.abs(std[0] - tiled).max() < 1e-3 * np.ptp(noisy)


@pytest.mark.slow
def test_it_is_at_least_a_tenth_of_the_noise(model, monkeypatch):
    def overconfident_score(self, y, sigma_a, apart, context=None):
        return self.score(y, sigma_a), torch.full_like(y, -2.0)

    monkeypatch.setattr(type(model), "score_and_slope", overconfident_score)
    exact = replace(model, score_errors=())  # the error of the score would be added
    std = uncertainty(clean_and_noisy()[1], exact, "gaussian(sigma=10)", axes="TYX").compute()
    assert std.min() == pytest.approx(1)  # a tenth of the noise
    assert np.median(std) == pytest.approx(1)


@pytest.mark.slow
def test_for_correlated_noise_it_covers_the_truth_and_has_no_seams():
    clean = clean_and_noisy()[0]
    noisy = (Gaussian(14) @ A).sample(clean, np.random.default_rng(1))
    model = train(small_crops(noisy, 36), axes="TYX", steps=80, correlation="A")
    noise = "gaussian(sigma=14) @ A"
    std = uncertainty(noisy[0], model, noise).compute()
    error = np.abs(denoise(noisy[0], model, noise).compute() - clean[0])
    assert std.shape == noisy[0].shape
    assert np.mean(error < std) == pytest.approx(0.68, abs=0.1)
    assert np.mean(error < 2 * std) == pytest.approx(0.95, abs=0.05)
    tiled = uncertainty(noisy[0], model, noise, tile=(40, 36)).compute()
    assert np.abs(std - tiled).max() < 0.02 * std.max()


@pytest.mark.slow
def test_the_command_line_writes_it_together_with_the_result(model, tmp_path, monkeypatch, capsys):
    noisy = clean_and_noisy()[1][:2, :24, :24]
    write_image(tmp_path / "noisy.tif", Image(noisy.astype(np.float32), "TYX"))
    model.save(tmp_path / "m.n2s")

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["noise2score", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capsys.readouterr().err

    inputs = ("denoise", tmp_path / "noisy.tif", tmp_path / "clean.tif", "--model")
    options = (tmp_path / "m.n2s", "--noise", "gaussian(sigma=10)", "--uncertainty")
    assert run(*inputs, *options, tmp_path / "std.tif")[0] == 0
    std = read_image(tmp_path / "std.tif")
    assert std.axes == "TYX"
    assert std.notes["noise"] == "gaussian(sigma=10)"
    expected = uncertainty(noisy, model, "gaussian(sigma=10)", axes="TYX").compute()
    assert np.allclose(np.asarray(std.data[:]), expected, rtol=1e-3, atol=1e-3)

    (tmp_path / "clean.tif").unlink()
    code, error = run(*inputs, *options, tmp_path / "std.tif")
    assert (code, "exists already" in error) == (2, True)
    assert not (tmp_path / "clean.tif").exists()
