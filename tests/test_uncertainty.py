"""How certain a result is: right where it is known, and from the terminal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from shared import pieces

from napari_noise2score import denoise, train, uncertainty
from napari_noise2score.cli import main
from napari_noise2score.noise import Gamma, Gaussian, Poisson, Transform, make_solver
from napari_noise2score.volume.files import read_image, write_image
from napari_noise2score.volume.image import Image


@pytest.mark.parametrize("sigma_a", [0.3, 1.0])
def test_of_a_gaussian_pixel_under_gaussian_noise_it_is_the_posteriors(sigma_a):
    sigma, power = 10.0, 20.0**2
    table = make_solver(Gaussian(sigma), Transform(c0=sigma**2), sigma_a, -100, 100)
    noise = sigma**2 * (1 + sigma_a**2)
    y = torch.linspace(-40, 40, 81)
    # z = y / σ
    score = -sigma * y / (power + noise)
    slope = torch.full_like(y, -(sigma**2) / (power + noise))
    found = table.variance(y, score, slope)
    assert torch.allclose(found, torch.tensor(power * noise / (power + noise)), rtol=0.01)


@pytest.mark.parametrize(
    ("model", "transform"),
    [
        (Poisson(2), Transform(0, 4, 2)),
        (Poisson(2, 100) + Gaussian(4), Transform(100, 16, 2)),
        (Gamma(26), Transform(0, 4, 0.6, 0.04)),
    ],
)
def test_about_two_thirds_of_single_pixels_lie_within_it(model, transform):
    """By brute force: a prior, the exact score and its slope, and the share of truths within."""
    sigma_a = 0.5
    x = torch.linspace(1, 255, 509, dtype=torch.float64)
    weight = torch.exp(-(((x - 90) / 30) ** 2) / 2)
    weight /= weight.sum()
    ends = transform.forward(torch.tensor([-100.0, 700.0], dtype=torch.float64))
    bins = torch.arange(float(ends[0]), float(ends[1]), sigma_a / 8, dtype=torch.float64)
    middle = (bins[1:] + bins[:-1]) / 2
    marginal = weight @ model.masses(transform.inverse(bins), x)

    chance = np.random.default_rng(0)
    true = chance.choice(x.numpy(), 4000, p=weight.numpy())
    z = transform.forward(torch.tensor(model.sample(true, chance)))
    z = z + sigma_a * torch.tensor(chance.standard_normal(len(z)))

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


def stack():
    """Spots that stand out from the noise by little."""
    chance = np.random.default_rng(0)
    clean = 100 + 80 * gaussian_filter(chance.standard_normal((3, 72, 72)), (0, 1.5, 1.5))
    return clean, clean + 10 * chance.standard_normal(clean.shape)


@pytest.fixture(scope="module")
def model():
    return train(pieces(stack()[1], 36), "TYX", steps=80)


def test_of_a_trained_model_it_covers_the_truth_and_leaves_no_seams(model):
    clean, noisy = stack()
    std = uncertainty(noisy, model, "gaussian(sigma=10)", axes="TYX").compute()
    error = np.abs(denoise(noisy, model, "gaussian(sigma=10)", axes="TYX").compute() - clean)
    assert std.shape == noisy.shape
    assert np.all((std > 0) & (std < 11))  # never less certain than the noise itself
    assert np.mean(error < std) == pytest.approx(0.68, abs=0.08)
    assert np.mean(error < 2 * std) == pytest.approx(0.95, abs=0.05)
    tiled = uncertainty(noisy[0], model, "gaussian(sigma=10)", tile=(40, 36)).compute()
    assert np.abs(std[0] - tiled).max() < 1e-3 * np.ptp(noisy)


def test_the_terminal_writes_it_beside_the_result(model, tmp_path, monkeypatch, capsys):
    noisy = stack()[1][:2, :24, :24]
    write_image(tmp_path / "noisy.tif", Image(noisy.astype(np.float32), "TYX"))
    model.save(tmp_path / "m.n2s")

    def run(*words):
        monkeypatch.setattr("sys.argv", ["noise2score", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

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
