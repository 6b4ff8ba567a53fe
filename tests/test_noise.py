"""Noise models follow their formulas, and the solvers find the clean pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from napari_noise2score import UserError
from napari_noise2score.noise import (
    Emccd,
    Empirical,
    Gamma,
    Gaussian,
    LogGamma,
    Nakagami,
    NoncentralChi,
    Poisson,
    Rayleigh,
    Rician,
    Sum,
    Tweedie,
    parse_noise,
)
from napari_noise2score.solve.quantization import Quantization
from napari_noise2score.solve.solver import make_closed_form, make_solver
from napari_noise2score.solve.transform import Transform

NOISE_TEXTS = [
    "gaussian(sigma=25)",
    "gaussian(a=0.098, b=25)",
    "gamma(alpha=26)",
    "gamma(alpha=26) + gaussian(sigma=10)",
    "poisson(gain=5)",
    "poisson(gain=5) + gaussian(sigma=10)",
    "rayleigh(sigma=0.3)",
    "rayleigh(sigma=0.3) + gaussian(sigma=10)",
    "poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)",
    "gamma(alpha=1)",
    "nakagami(m=1)",
    "nakagami(m=0.5) + gaussian(sigma=10)",
    "log_gamma(scale=17, looks=1)",
    "log_gamma(scale=50, looks=4.5) + gaussian(sigma=10)",
    "rician(sigma=30)",
    "noncentral_chi(sigma=20, coils=8)",
    "noncentral_chi(sigma=10, coils=3.5) + gaussian(sigma=10)",
    "rician(sigma=30) + gaussian(sigma=10)",
    "tweedie(power=1.5, dispersion=3)",
    "tweedie(power=1.1, dispersion=2, offset=-100)",
    "tweedie(power=1.9, dispersion=0.2) + gaussian(sigma=10)",
    "emccd(gain=20, offset=100)",
    "emccd(gain=3, excess=1.25) + gaussian(sigma=10)",
    "emccd(gain=0.5, excess=1.4)",
]

positive = st.floats(1e-3, 1e4)
pixelwise = st.one_of(
    st.builds(Gaussian, positive),
    st.builds(lambda a, b: Gaussian(a=a, b=b), st.floats(0, 10), positive),
    st.builds(Poisson, positive, st.floats(-1e4, 1e4)),
    st.builds(Gamma, st.floats(1, 1e4)),
    st.builds(Rayleigh, positive),
    st.builds(Nakagami, st.floats(0.5, 1e4)),
    st.builds(LogGamma, positive, st.floats(0.05, 1e4)),
    st.builds(Rician, positive),
    st.builds(NoncentralChi, positive, st.floats(1, 64)),
    st.builds(Tweedie, st.floats(1.001, 1.999), positive, st.floats(-1e4, 1e4)),
)
models = st.one_of(pixelwise, st.builds(lambda base, s: base + Gaussian(s), pixelwise, positive))


@pytest.mark.parametrize("text", NOISE_TEXTS)
def test_a_parsed_text_is_printed_unchanged(text):
    assert str(parse_noise(text)) == text
    assert str(parse_noise(text.replace(" ", ""))) == text


@given(models)
def test_every_model_is_recovered_from_its_text(model):
    assert parse_noise(str(model)) == model
    assert hash(parse_noise(str(model))) == hash(model)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("poison(gain=5)", "did you mean 'poisson'"),
        ("gaussian(sgima=5)", "did you mean 'sigma'"),
        ("gaussian(sigma=-1)", "above 0"),
        ("gaussian(sigma=nan)", "above 0"),
        ("gamma(alpha=0.9)", "at least 1"),
        ("nakagami(m=0.4)", "at least 0.5"),
        ("log_gamma(scale=17)", "needs looks"),
        ("log_gamma(scale=17, looks=0)", "above 0"),
        ("rician(sigma=0)", "above 0"),
        ("noncentral_chi(sigma=10, coils=0)", "at least 1"),
        ("noncentral_chi(sigma=10)", "needs coils"),
        ("rican(sigma=3)", "did you mean 'rician'"),
        ("tweedie(power=2, dispersion=3)", "between 1 and 2"),
        ("tweedie(power=1.5)", "needs dispersion"),
        ("tweedie(power=1.5, dispersion=1, offset=inf)", "offset must be a number"),
        ("emccd(gain=0)", "above 0"),
        ("emccd(gain=20, excess=1)", "above 1"),
        ("emccd(gain=20, offset=inf)", "offset must be a number"),
        ("empirical()", "needs file"),
        ("empirical(unsaved)", "name=value"),
        ("empirical(file=there/is/none.npz)", "no file"),
        ("poisson()", "needs gain"),
        ("poisson(gain=two)", "not a number"),
        ("poisson(gain=2, gain=3)", "given twice"),
        ("gaussian(a=0.1)", "both a and b"),
        ("poisson(gain=2) + poisson(gain=3)", "only one"),
        ("poisson(gain=2) - gaussian(sigma=3)", "not understood"),
        ("", "not understood"),
        ("gaussian(sigma=3", "not understood"),
    ],
)
def test_an_invalid_text_is_refused_in_one_line(text, phrase):
    with pytest.raises(UserError, match=phrase) as caught:
        parse_noise(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", NOISE_TEXTS)
@pytest.mark.parametrize("level", [20.0, 150.0])
def test_samples_have_the_mean_and_variance_of_the_model(text, level):
    model = parse_noise(text)
    y = model.sample(np.full(200_000, level), np.random.default_rng(0))
    x = torch.tensor(level, dtype=torch.float64)
    mean, variance = float(model.mean(x)), float(model.variance(x))
    assert y.mean() == pytest.approx(mean, abs=5 * math.sqrt(variance / len(y)))
    assert y.var() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("text", NOISE_TEXTS)
@pytest.mark.parametrize("level", [20.0, 150.0])
def test_bin_probabilities_agree_with_samples(text, level):
    model = parse_noise(text)
    y = model.sample(np.full(200_000, level), np.random.default_rng(0))
    edges = np.linspace(y.min() - 50, y.max() + 50, 61)
    probabilities = model.bin_probabilities(
        torch.tensor(edges), torch.tensor([level], dtype=torch.float64)
    )[0]
    share = np.histogram(y, edges)[0] / len(y)
    # with read noise, the mass of a bin is moved to its centre before it is spread
    loose = 0.02 if isinstance(model, Sum) else 0.005
    assert probabilities.numpy() == pytest.approx(share, abs=loose)


@given(
    st.one_of(
        st.builds(Gaussian, st.floats(1, 100)),
        st.builds(Gamma, st.floats(2, 200)),
        st.builds(Rayleigh, st.floats(0.05, 1)),
        st.builds(Poisson, st.floats(0.1, 20)),
        st.builds(Gamma, st.just(1)),
        st.builds(Nakagami, st.floats(0.5, 50)),
        st.builds(LogGamma, st.floats(20, 100), st.floats(1, 50)),
        st.builds(Rician, st.floats(1, 100)),
        st.builds(NoncentralChi, st.floats(1, 100), st.floats(1, 64)),
    ),
    st.floats(5, 250),
    st.floats(0.3, 2.5),
)
def test_the_closed_form_undoes_the_score(model, x, ratio):
    x = torch.tensor(x, dtype=torch.float64)
    y = x * (1 + ratio) if isinstance(model, Rayleigh) else x * ratio
    assert float(model.solve(y, model.score(x, y))) == pytest.approx(float(x), rel=1e-5)


@pytest.mark.parametrize("power", [1.05, 1.3, 1.5, 1.8])
def test_the_saddlepoint_solution_approximately_undoes_the_score_for_many_pulses(power):
    model = Tweedie(power, 0.1, offset=10)
    x = torch.linspace(20, 250, 50, dtype=torch.float64)
    y = 10 + x[:, None] * torch.linspace(0.5, 2, 20, dtype=torch.float64)
    found = model.solve(y, model.score(x[:, None], y))
    assert torch.allclose(found, x[:, None].expand_as(found), rtol=0.01)


@pytest.mark.parametrize(
    "model",
    [
        Rician(20.0),
        NoncentralChi(15, 8),
        Tweedie(1.5, 3.0),
        Tweedie(1.9, 0.3),
        Nakagami(2),
        LogGamma(30, 1.5),
        Emccd(20),
        Emccd(2, 0, 1.3),
    ],
)
def test_the_score_is_the_slope_of_the_log_probabilities(model):
    x = torch.tensor([5.0, 50.0, 150.0], dtype=torch.float64)
    for y in (8.0, 40.0, 170.0):
        bins = model.bin_probabilities(y + torch.tensor([-0.1, 0, 0.1], dtype=torch.float64), x)
        slope = torch.log(bins[:, 1] / bins[:, 0]) / 0.1
        likely = bins[:, 0] > 1e-9
        assert torch.allclose(
            model.score(x, torch.tensor(y))[likely], slope[likely], rtol=0.02, atol=1e-3
        )


def test_the_solutions_are_finite_for_any_score():
    y = torch.linspace(-100, 1000, 111, dtype=torch.float64)[:, None]
    s = torch.linspace(-50, 50, 101, dtype=torch.float64)
    for model in (
        Gamma(1),
        Nakagami(0.5),
        LogGamma(17, 1),
        Rician(20),
        NoncentralChi(20, 8),
        Tweedie(1.05, 0.1),
        Tweedie(1.9, 20, 100),
        Emccd(20, 100),
    ):
        x = model.solve(y, s)
        assert torch.isfinite(x).all(), model
        assert (x >= model.lowest).all(), model


@pytest.mark.parametrize("sigma", [0.01, 1.0, 100.0])
def test_rician_moments_and_their_inverse_are_right_at_any_signal_to_noise_ratio(sigma):
    model = Rician(sigma)
    x = sigma * torch.logspace(-2, 8, 200, dtype=torch.float64)
    mean, variance = model.mean(x), model.variance(x)
    assert float(mean[0]) == pytest.approx(sigma * math.sqrt(math.pi / 2), rel=1e-4)
    assert float(variance[0]) == pytest.approx(sigma**2 * (2 - math.pi / 2), rel=1e-4)
    assert float(variance[-1]) == pytest.approx(sigma**2, rel=1e-6)
    assert (variance.diff() >= -1e-9 * sigma**2).all()
    assert torch.allclose(model.clean_from_mean(mean), x, rtol=1e-6, atol=1e-6 * sigma)
    assert float(model.clean_from_mean(torch.tensor(sigma))) == 0


@pytest.mark.parametrize("coils", [1, 2.5, 8, 64])
def test_the_magnitude_of_several_coils_has_the_moments_of_its_distribution(coils):
    model = NoncentralChi(10, coils)
    x = torch.tensor([0.0, 5, 30, 100, 500, 999, 1001, 3000], dtype=torch.float64)
    mean, variance = model.mean(x), model.variance(x)
    # of y², which is noncentral chi-square
    assert torch.allclose(mean**2 + variance, x**2 + 200 * coils, rtol=1e-6)
    edges = torch.linspace(0, 3200, 16_001, dtype=torch.float64)
    probabilities, y = model.bin_probabilities(edges, x), (edges[1:] + edges[:-1]) / 2
    exact = stats.ncx2.cdf((edges[::200] / 10) ** 2, 2 * coils, (x[1:4, None] / 10) ** 2)
    found = np.pad(probabilities[1:4].cumsum(1).numpy(), ((0, 0), (1, 0)))[:, ::200]
    np.testing.assert_allclose(found, exact, atol=1e-5)
    assert torch.allclose(probabilities @ y, mean, rtol=1e-5)
    third = (probabilities * (y - mean[:, None]) ** 3).sum(1)
    assert model.cumulants(mean.numpy())[1][:4] == pytest.approx(third[:4].numpy(), abs=1)
    assert torch.allclose(model.clean_from_mean(mean), x, rtol=1e-5, atol=1e-2)
    if coils == 1:
        assert torch.allclose(mean, Rician(10).mean(x), rtol=1e-5)
        assert torch.allclose(variance, Rician(10).variance(x), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("excess", [1.1, 1.25, 2.0, 3.0])
def test_probabilities_and_moments_of_multiplied_counts_are_right_at_any_intensity(excess):
    model = Emccd(4, offset=7, excess=excess)
    x = torch.tensor([0.4, 4.0, 40.0, 590.0, 610.0, 4000.0], dtype=torch.float64)
    edges = 7 + torch.linspace(-1, 8000, 40_001, dtype=torch.float64)
    probabilities, y = model.bin_probabilities(edges, x), model.bin_centers(edges)
    mean = probabilities @ y
    assert torch.allclose(probabilities.sum(1), torch.ones_like(x), atol=1e-5)
    assert torch.allclose(mean, model.mean(x), rtol=1e-3)
    assert torch.allclose(probabilities @ y**2 - mean**2, model.variance(x), rtol=5e-3)
    none = model.bin_probabilities(torch.tensor([6.9, 7 + 1e-12, 9999], dtype=torch.float64), x)
    assert torch.allclose(none[:, 0], torch.exp(-x / 4), atol=1e-3)


@pytest.mark.parametrize("dispersion", [0.1, 3.0, 50.0])
@pytest.mark.parametrize("power", [1.05, 1.2, 1.5, 1.8, 1.95])
def test_tweedie_probabilities_sum_to_one_over_seven_decades(power, dispersion):
    model = Tweedie(power, dispersion, offset=7)
    x = torch.logspace(-3, 4, 29, dtype=torch.float64)
    top = float((x + 60 * torch.sqrt(model.variance(x))).max())
    fine = torch.cat([torch.tensor([-1.0, 0.0]), torch.logspace(-6, math.log10(top), 1000)])
    for edges in (torch.tensor([-1, top]), torch.linspace(-50, top, 61), fine):
        probabilities = model.bin_probabilities(7 + edges.double(), x)
        assert torch.allclose(probabilities.sum(1), torch.ones_like(x), atol=1e-4)
    dark = torch.exp(-(x ** (2 - power)) / (dispersion * (2 - power)))
    atom = model.bin_probabilities(torch.tensor([6.0, 7.0, 7 + 1e-14, 1e9], dtype=torch.float64), x)
    assert (atom[:, 0] == 0).all()
    if power < 1.3:  # pulses with a height near 0 are rare
        assert torch.allclose(atom[:, 1], dark, atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [
        Gamma(1),
        Nakagami(1),
        LogGamma(17, 0.1),
        Rician(0.01),
        Rician(1e3),
        NoncentralChi(0.01, 64),
        NoncentralChi(1e3, 1),
        Tweedie(1.05, 0.1),
        Tweedie(1.95, 50),
        Emccd(9),
    ],
)
def test_bin_probabilities_are_finite_for_any_level_and_any_bin(model):
    x = torch.cat([torch.tensor([1e-300]), torch.logspace(-20, 12, 40)]).double()
    edges = torch.cat([torch.linspace(-1e6, 0, 10), torch.logspace(-20, 7, 300)]).double()
    for probabilities in (model.bin_probabilities(edges, x), model.bin_probabilities(edges[:5], x)):
        assert torch.isfinite(probabilities).all()
        assert (probabilities >= 0).all()
    assert torch.isfinite(model.mean(x)).all()
    assert torch.isfinite(model.variance(x)).all()


def test_the_signal_dependent_gaussian_agrees_with_the_papers_fixed_point():
    model = Gaussian(a=0.098, b=25)
    y = torch.linspace(20, 250, 100, dtype=torch.float64)
    s = torch.linspace(-0.01, 0.01, 100, dtype=torch.float64)
    x = y.clone()
    for _ in range(50):
        x = y + model.variance(x) * s
    assert torch.allclose(model.solve(y, s), x, rtol=1e-6)


@settings(max_examples=200)
@example(start=0.0, c0=1.0, c1=0.0, c2=2.2e-311, y=0.0)
@example(start=0.0, c0=1.0, c1=2.0, c2=1e-9, y=1000.0)
@given(
    st.floats(-100, 100), st.floats(1e-2, 1e3), st.floats(0, 50), st.floats(0, 1),
    st.floats(-1e3, 1e4),
)  # fmt: skip
def test_the_transform_is_inverted_and_its_slope_is_right(start, c0, c1, c2, y):
    transform = Transform(start, c0, c1, c2)
    at = torch.tensor([y, y + 1e-6 * (1 + abs(y))], dtype=torch.float64)
    z = transform.forward(at)
    assert torch.allclose(transform.inverse(z), at, rtol=1e-6, atol=1e-6)
    # images have single precision
    single = transform.inverse(transform.forward(at.float()))
    assert torch.allclose(single, at.float(), rtol=1e-4, atol=1e-3)
    slope = float(z.diff() / at.diff())
    middle = float(transform.slope(at).mean())
    assert slope == pytest.approx(middle, rel=0.02)


def test_the_score_has_no_step_where_the_noise_begins_to_grow():
    """Otherwise rounding, which differs between tiles, would make seams."""
    curve = Transform(start=80, c0=190, c1=3, c2=0.01)
    beside = torch.tensor([80 - 1e-4, 80 + 1e-4], dtype=torch.float64)
    s = torch.zeros(2, dtype=torch.float64)
    below, above = curve.raw_score(beside, s, 0.2)
    assert abs(above - below) < 1e-3 * abs(above)
    assert torch.allclose(curve.own_score(beside, curve.raw_score(beside, s, 0.2), 0.2), s)


@pytest.mark.parametrize(
    ("text", "curve", "low", "high"),
    [
        ("poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)", Transform(100, 10, 2), 80, 500),
        ("gaussian(a=0.098, b=25)", Transform(0, 625, 4.9, 0.0096), -100, 400),
    ],
)
def test_the_solution_has_no_step_in_the_score(text, curve, low, high):
    """This includes the scores at which the table is replaced by a search."""
    noise = parse_noise(text)
    solve = make_solver(noise, curve, 0.2, low, high)
    s = torch.linspace(-4, 4, 40_001)
    for y in torch.linspace(low, high, 50):
        x = solve(y.expand(len(s)), s)
        assert torch.diff(x).abs().max() < 0.005 * noise.variance(x.double()).sqrt().min()


# One-dimensional oracle: for a prior on x, the exact score of z = T(y) + σ_a u and the posterior
# mean given z are computed by brute force. Any loss against the posterior mean is then due to the
# solver.
ORACLE = [
    ("gaussian(sigma=25)", Transform(c0=625), 0.1),
    ("gaussian(a=0.098, b=25)", Transform(0, 625, 2 * 0.098 * 25, 0.098**2), 0.1),
    ("poisson(gain=5)", Transform(0, 5, 5), 0.1),
    ("poisson(gain=2, offset=100) + gaussian(sigma=3)", Transform(100, 9, 2), 0.1),
    ("poisson(gain=5) + gaussian(sigma=10)", Transform(0, 100, 5), 0.1),
    ("gamma(alpha=26)", Transform(0, 2.5, 16 / 26, 1 / 26), 0.25),
    ("gamma(alpha=26) + gaussian(sigma=10)", Transform(0, 100, 0, 1 / 26), 0.25),
    ("rayleigh(sigma=0.3)", Transform(0, 3, 0.5, 0.04), 0.05),
    ("rayleigh(sigma=0.3) + gaussian(sigma=10)", Transform(0, 100, 0.5, 0.04), 0.05),
    ("rician(sigma=20)", Transform(c0=400), 0.25),
    ("rician(sigma=20) + gaussian(sigma=10)", Transform(c0=500), 0.25),
    ("noncentral_chi(sigma=20, coils=8)", Transform(c0=300), 0.25),
    ("nakagami(m=10)", Transform(0, 2.5, 0.6, 0.025), 0.25),
    ("nakagami(m=10) + gaussian(sigma=10)", Transform(0, 100, 0, 0.025), 0.25),
    ("log_gamma(scale=50, looks=4.5)", Transform(c0=620), 0.25),
    ("tweedie(power=1.5, dispersion=0.5)", Transform(0, 2, 2, 0.025), 0.25),
    ("tweedie(power=1.5, dispersion=0.5) + gaussian(sigma=10)", Transform(0, 100, 2, 0.025), 0.25),
    ("emccd(gain=3)", Transform(0, 9, 6), 0.25),
    ("emccd(gain=4, excess=1.25, offset=100) + gaussian(sigma=5)", Transform(100, 25, 5), 0.25),
]
# training never uses so small a σ_a for discrete counts, whose density would have separate peaks
CASES = [
    (*case, sigma_a)
    for case in ORACLE
    for sigma_a in (0.3, 1.0)
    if (case[0], sigma_a) != ("poisson(gain=5)", 0.3)
]
PRIORS = {
    "wide": lambda x: np.ones_like(x),
    "dark": lambda x: np.exp(-0.5 * ((x - 20) / 6) ** 2),
    "bright": lambda x: np.exp(-0.5 * ((x - 180) / 15) ** 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize(("text", "transform", "excess", "sigma_a"), CASES)
def test_with_an_exact_score_the_table_is_as_good_as_the_posterior_mean(
    text, transform, excess, sigma_a, prior
):
    model = parse_noise(text)
    true, best, y, score = oracle(model, transform, sigma_a, prior)
    solve = make_solver(model, transform, sigma_a, model.offset - 100, model.offset + 700)
    assert decibels(solve(y, score), true, best) < excess


def oracle(model, transform, sigma_a, prior):
    """Return clean pixels, their best estimates, noisy pixels and their exact scores."""
    x = np.linspace(1, 255, 400)
    weight = PRIORS[prior](x)
    weight = torch.tensor(weight / weight.sum())
    ends = torch.tensor([model.offset - 100, model.offset + 700], dtype=torch.float64)
    ends = transform.forward(ends)
    bins = torch.arange(float(ends[0]) - 8, float(ends[1]) + 8, sigma_a / 8, dtype=torch.float64)
    probabilities = model.bin_probabilities(transform.inverse(bins), torch.tensor(x))
    middle = (bins[1:] + bins[:-1]) / 2

    rng = np.random.default_rng(0)
    true = rng.choice(x, 4000, p=weight.numpy())
    z = transform.forward(torch.tensor(model.sample(true, rng)))
    z = z + sigma_a * torch.tensor(rng.standard_normal(len(z)))
    away = middle - z[:, None]
    kernel = torch.exp(-((away / sigma_a) ** 2) / 2)
    marginal = kernel * (weight @ probabilities)
    score = (marginal * away).sum(1) / marginal.sum(1) / sigma_a**2
    posterior = (kernel @ probabilities.T) * weight
    best = (posterior @ torch.tensor(x)) / posterior.sum(1)
    return true, best.numpy(), transform.inverse(z), score


def decibels(found, true, best):
    """Return the mean squared error relative to that of the best estimate, in dB."""
    found = found.double().numpy()
    assert np.isfinite(found).all()
    return 10 * math.log10(np.mean((found - true) ** 2) / np.mean((best - true) ** 2))


@pytest.mark.parametrize("text", ["poisson(gain=5)", "poisson(gain=5) + gaussian(sigma=0.2)"])
def test_the_table_is_as_smooth_as_the_closed_form_for_bright_counts(text):
    # the bins of the table are not aligned with the counts, which must not shift any count
    y = torch.arange(20, 400, 5, dtype=torch.float32)
    solve = make_solver(parse_noise(text), Transform(0, 5, 5), 0.32, 0, 400)
    closed = make_closed_form(Poisson(5), Transform(0, 5, 5), 0.32)
    for score in (-0.5, 0.0, 0.5):
        s = torch.full_like(y, score)
        difference = solve(y, s) - closed(y, s)
        assert difference.diff().abs().max() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("sigma_a", [0.3, 1.0])
def test_in_single_look_speckle_the_table_solves_the_equation(sigma_a, prior):
    model, transform = Nakagami(1), Transform(0, 4, 1, 0.27)
    true, _, y, score = oracle(model, transform, sigma_a, prior)
    z = transform.forward(y)
    bins = torch.arange(-30, 30, sigma_a / 8, dtype=torch.float64)
    x = torch.linspace(0.5, 255, 510, dtype=torch.float64)
    away = (bins[1:] + bins[:-1]) / 2 - z[:, None]
    kernel, probabilities = (
        torch.exp(-((away / sigma_a) ** 2) / 2),
        model.bin_probabilities(transform.inverse(bins), x),
    )
    f = (
        ((kernel * away) @ probabilities.T)
        / (kernel @ probabilities.T).clamp(min=1e-250)
        / sigma_a**2
    )
    exact = x[torch.searchsorted(f, score[:, None]).clamp(max=len(x) - 1)[:, 0]].numpy()
    found = make_solver(model, transform, sigma_a, -100, 700)(y, score)
    assert decibels(found, true, exact) < 0.5
    assert (found >= 0).all()


@pytest.mark.parametrize(
    ("model", "transform", "sigma_a", "recording"),
    [
        (Gaussian(20), Transform(c0=400), 1.0, Quantization(1, 0, 0, 255)),
        (Gaussian(3), Transform(c0=9), 1.2, Quantization(5, 0, 0, 255)),
        (Poisson(2, 20) + Gaussian(3), Transform(20, 9, 2), 1.0, Quantization(1, 0, 0, 255)),
        (Poisson(5), Transform(0, 25, 5), 0.7, Quantization(5, 0, 0)),
    ],
)
@pytest.mark.parametrize("prior", ["dark", "bright", "saturated"])
def test_rounding_and_saturation_lose_almost_nothing(model, transform, sigma_a, recording, prior):
    """Compare with the posterior mean given rounded and clipped pixels."""
    x = np.linspace(1, 300, 600)
    weight = np.exp(-0.5 * ((x - 230) / 20) ** 2) if prior == "saturated" else PRIORS[prior](x)
    weight = torch.tensor(weight / weight.sum())
    top = min(recording.saturation, 600)
    levels = torch.arange(0, top + 1, recording.step, dtype=torch.float64)
    edges = torch.cat([levels - recording.step / 2, levels[-1:] + recording.step / 2])
    edges[0], edges[-1] = -1e4, 1e4
    probabilities = model.bin_probabilities(edges, torch.tensor(x))
    rng = np.random.default_rng(0)
    true = rng.choice(x, 4000, p=weight.numpy())
    y = recording.rounded(torch.tensor(model.sample(true, rng))).clamp(0, top)
    z = transform.forward(y) + sigma_a * torch.tensor(rng.standard_normal(len(y)))
    away = transform.forward(levels) - z[:, None]
    kernel = torch.exp(-((away / sigma_a) ** 2) / 2)
    marginal = kernel * (weight @ probabilities)
    score = (marginal * away).sum(1) / marginal.sum(1) / sigma_a**2
    posterior = (kernel @ probabilities.T) * weight
    best = ((posterior @ torch.tensor(x)) / posterior.sum(1)).numpy()
    solve = make_solver(model, transform, sigma_a, 0, float(top), recording)
    found = solve(transform.inverse(z), score)
    # the solution depends on the fraction that is not saturated, which lowers it
    assert decibels(found, true, best) < (0.6 if prior == "saturated" else 0.1)
    # a solver that ignores the saturation is worse
    if prior == "saturated" and recording.saturation < 600:
        unaware = make_solver(model, transform, sigma_a, 0, float(top))
        assert decibels(unaware(transform.inverse(z), score), true, best) > 0.6


LEVELS = np.linspace(0.5, 260, 64)


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize(
    ("text", "transform", "sigma_a"),
    [
        ("gaussian(sigma=25)", Transform(c0=625), 0.3),
        ("gaussian(sigma=25)", Transform(c0=625), 1.0),
        ("poisson(gain=5)", Transform(0, 5, 5), 1.0),
        ("poisson(gain=5) + gaussian(sigma=10)", Transform(0, 100, 5), 0.3),
    ],
)
def test_noise_known_by_samples_only_is_solved_as_well_as_its_model(
    text, transform, sigma_a, prior
):
    model = parse_noise(text)
    sampled = Empirical.from_sampler(model.sample, LEVELS, samples=50_000)
    true, _, y, score = oracle(model, transform, sigma_a, prior)
    known = make_solver(model, transform, sigma_a, -100, 700)(y, score).double().numpy()
    found = make_solver(sampled, transform, sigma_a, -100, 700)(y, score)
    assert decibels(found, true, known) < 0.1


def gaussian_density(x, y):
    return np.exp(-(((y - x) / 25) ** 2) / 2)


def test_noise_given_by_its_density_equals_its_model():
    model = Gaussian(25)
    given = Empirical.from_density(gaussian_density, LEVELS, np.arange(-200, 460))
    x = torch.linspace(1, 255, 100, dtype=torch.float64)
    edges = torch.linspace(-150, 400, 111, dtype=torch.float64)
    assert torch.allclose(
        given.bin_probabilities(edges, x), model.bin_probabilities(edges, x), atol=1e-4
    )
    assert torch.allclose(given.mean(x), x, atol=1e-6)
    assert torch.allclose(given.variance(x), model.variance(x), rtol=2e-3)
    assert torch.allclose(given.clean_from_mean(given.mean(x)), x)
    y = x[:, None] + torch.linspace(-60, 60, 13, dtype=torch.float64)
    score = given.score(x[:, None], y)
    # the score is that at the middle of a bin
    assert torch.allclose(score, model.score(x[:, None], y), atol=1.1 / 625)
    found = given.solve(y, score)
    assert torch.allclose(found, x[:, None].expand_as(found), atol=0.01)
    transform = Transform(c0=625)
    for prior in PRIORS:
        true, _, y, s = oracle(model, transform, 0.3, prior)
        known = make_solver(model, transform, 0.3, -100, 700)(y, s).double().numpy()
        assert decibels(make_solver(given, transform, 0.3, -100, 700)(y, s), true, known) < 0.02


def test_noise_measured_on_pairs_equals_its_model():
    rng = np.random.default_rng(0)
    clean = 200 * rng.random((400, 400)) ** 3  # most pixels are dark
    model = Poisson(2, offset=10)
    measured = Empirical.from_pairs(clean, model.sample(clean, rng))
    x = torch.tensor([20.0, 60.0, 150.0], dtype=torch.float64)
    assert torch.allclose(measured.mean(x), model.mean(x), rtol=0.02)
    assert torch.allclose(measured.variance(x), model.variance(x), rtol=0.06)
    y = measured.sample(np.full(100_000, 60.0), rng)
    assert y.mean() == pytest.approx(70, rel=0.02)
    assert y.var() == pytest.approx(120, rel=0.06)


def test_measured_noise_is_saved_and_read_by_its_file_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Empirical.from_density(gaussian_density, LEVELS, np.arange(-200, 460, 2))
    assert str(model) == "empirical(unsaved)"
    for name, text in (
        ("noise.npz", "empirical(file=noise.npz)"),
        ("a, (b) + c", 'empirical(file="a, (b) + c.npz")'),
    ):
        saved = model.save(name)
        assert str(saved) == text
        assert saved == model
        for read in (parse_noise(text), parse_noise(text.replace('"', "'"))):
            assert str(read) == text
            assert read == model
            assert hash(read) == hash(model)
    both = parse_noise("empirical(file = 'noise.npz')+gaussian(sigma=3)")
    assert str(both) == "empirical(file=noise.npz) + gaussian(sigma=3)"
    assert model != Empirical.from_density(gaussian_density, LEVELS + 1, np.arange(-200, 460, 2))


def test_invalid_measured_noise_is_refused_in_one_line(tmp_path):
    edges = np.arange(-200, 460, 2)
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", levels=LEVELS)
    wrong = [
        ("no file", lambda: Empirical.load(str(tmp_path / "none.npz"))),
        ("not a noise model", lambda: Empirical.load(str(tmp_path / "text.npz"))),
        ("not a noise model", lambda: Empirical.load(str(tmp_path / "other.npz"))),
        ("levels must", lambda: Empirical.from_density(gaussian_density, LEVELS[::-1], edges)),
        ("edges must", lambda: Empirical.from_density(gaussian_density, LEVELS, edges[::-1])),
        ("shape", lambda: Empirical.from_density(lambda x, y: y, LEVELS, edges)),
        ("0 or above", lambda: Empirical.from_density(lambda x, y: x - y, LEVELS, edges)),
        ("finite", lambda: Empirical.from_density(lambda x, y: x + y * np.nan, LEVELS, edges)),
        ("increase", lambda: Empirical.from_density(lambda x, y: 1 + 0 * (x + y), LEVELS, edges)),
        ("one finite y", lambda: Empirical.from_sampler(lambda x, rng: x[:5], LEVELS)),
        ("one finite y", lambda: Empirical.from_sampler(lambda x, rng: x / 0, LEVELS, 10)),
        ("same value at all", lambda: Empirical.from_sampler(lambda x, rng: 0 * x, LEVELS, 10)),
        ("noisy has shape", lambda: Empirical.from_pairs(np.zeros((3, 4)), np.zeros(4))),
        ("at least 2", lambda: Empirical.from_pairs(np.zeros(9), np.arange(9))),
        ("double quote", lambda: Empirical([0, 1], [0, 1, 2], [[1, 0], [0, 1]]).save('a".npz')),
    ]  # fmt: skip
    for phrase, build in wrong:
        with np.errstate(all="ignore"), pytest.raises(UserError, match=phrase) as caught:
            build()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dark", [-60.0, 0.0, 60.0])
def test_a_small_error_of_the_score_does_not_make_a_dark_outlier_bright(dark):
    # for such dark pixels and noise that grows with x, f hardly depends on x
    noise = parse_noise("gaussian(a=0.098, b=25)")
    solve = make_solver(noise, Transform(12, 689, 6.5, 0.0043), 0.2, -150, 400)
    s = torch.arange(0, 4.6, 0.5)
    x = solve(torch.full_like(s, dark), s)
    assert (x.diff() > 0).all()
    assert (x.diff() < 100).all()


def test_outliers_and_levels_beyond_the_table_have_finite_solutions():
    solve = make_solver(Poisson(2.0), Transform(0, 4, 2), 0.5, 0, 200)
    y = torch.tensor([-1e4, -5.0, 0.0, 200.0, 1e5])
    for s in (-50.0, 0.0, 50.0):
        x = solve(y, torch.full_like(y, s))
        assert torch.isfinite(x).all()
        assert (x.diff() >= 0).all()


@pytest.mark.parametrize("shape", [0.5, 1, 2.5, 26, 120, 1e5])
def test_the_distribution_of_speckle_is_the_incomplete_gamma_function(shape):
    x = torch.tensor(100.0, dtype=torch.float64)
    spread = shape**-0.5
    y = 100 * torch.cat([torch.logspace(-12, 2, 999), 1 + spread * torch.linspace(-6, 6, 999)])
    y = torch.cat([torch.zeros(1), y]).clamp(min=0).double()
    given = shape * y / x if shape >= 1 else shape * (y / x) ** 2
    expected = torch.special.gammainc(torch.full_like(given, shape), given)
    found = Gamma(shape).cdf(y, x) if shape >= 1 else Nakagami(shape).cdf(y, x)
    assert torch.allclose(found, expected, rtol=1e-7, atol=1e-9)
