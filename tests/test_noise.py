"""Noise models do what their formulas say, and the solvers find the clean pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_noise2score import UserError
from napari_noise2score.noise import (
    Gamma,
    Gaussian,
    Poisson,
    Rayleigh,
    Sum,
    Transform,
    make_solver,
    parse_noise,
)

SPELLINGS = [
    "gaussian(sigma=25)",
    "gaussian(a=0.098, b=25)",
    "gamma(alpha=26)",
    "gamma(alpha=26) + gaussian(sigma=10)",
    "poisson(gain=5)",
    "poisson(gain=5) + gaussian(sigma=10)",
    "rayleigh(sigma=0.3)",
    "rayleigh(sigma=0.3) + gaussian(sigma=10)",
    "poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)",
]

positive = st.floats(1e-3, 1e4)
pixelwise = st.one_of(
    st.builds(Gaussian, positive),
    st.builds(lambda a, b: Gaussian(a=a, b=b), st.floats(0, 10), positive),
    st.builds(Poisson, positive, st.floats(-1e4, 1e4)),
    st.builds(Gamma, st.floats(1.01, 1e4)),
    st.builds(Rayleigh, positive),
)
models = st.one_of(pixelwise, st.builds(lambda base, s: base + Gaussian(s), pixelwise, positive))


@pytest.mark.parametrize("text", SPELLINGS)
def test_the_spelling_reads_and_prints_back_the_same(text):
    assert str(parse_noise(text)) == text
    assert str(parse_noise(text.replace(" ", ""))) == text


@given(models)
def test_every_model_survives_its_text(model):
    assert parse_noise(str(model)) == model
    assert hash(parse_noise(str(model))) == hash(model)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("poison(gain=5)", "did you mean 'poisson'"),
        ("gaussian(sgima=5)", "did you mean 'sigma'"),
        ("gaussian(sigma=-1)", "above 0"),
        ("gaussian(sigma=nan)", "above 0"),
        ("gamma(alpha=1)", "above 1"),
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
def test_nonsense_is_told_in_one_line(text, says):
    with pytest.raises(UserError, match=says) as caught:
        parse_noise(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", SPELLINGS)
@pytest.mark.parametrize("level", [20.0, 150.0])
def test_samples_have_the_mean_and_variance_of_the_model(text, level):
    model = parse_noise(text)
    y = model.sample(np.full(200_000, level), np.random.default_rng(0))
    x = torch.tensor(level, dtype=torch.float64)
    mean, variance = float(model.mean(x)), float(model.variance(x))
    assert y.mean() == pytest.approx(mean, abs=5 * math.sqrt(variance / len(y)))
    assert y.var() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("text", SPELLINGS)
@pytest.mark.parametrize("level", [20.0, 150.0])
def test_the_masses_of_the_bins_are_those_of_the_samples(text, level):
    model = parse_noise(text)
    y = model.sample(np.full(200_000, level), np.random.default_rng(0))
    edges = np.linspace(y.min() - 50, y.max() + 50, 61)
    masses = model.masses(torch.tensor(edges), torch.tensor([level], dtype=torch.float64))[0]
    share = np.histogram(y, edges)[0] / len(y)
    # the models with read noise place the mass of a bin at its centre before they spread it
    loose = 0.02 if isinstance(model, Sum) else 0.005
    assert masses.numpy() == pytest.approx(share, abs=loose)


@given(
    st.one_of(
        st.builds(Gaussian, st.floats(1, 100)),
        st.builds(Gamma, st.floats(2, 200)),
        st.builds(Rayleigh, st.floats(0.05, 1)),
        st.builds(Poisson, st.floats(0.1, 20)),
    ),
    st.floats(5, 250),
    st.floats(0.3, 2.5),
)
def test_the_closed_form_undoes_the_score(model, x, ratio):
    x = torch.tensor(x, dtype=torch.float64)
    y = x * (1 + ratio) if isinstance(model, Rayleigh) else x * ratio
    assert float(model.solve(y, model.score(x, y))) == pytest.approx(float(x), rel=1e-5)


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
def test_coordinates_are_undone_and_stabilise(start, c0, c1, c2, y):
    transform = Transform(start, c0, c1, c2)
    at = torch.tensor([y, y + 1e-6 * (1 + abs(y))], dtype=torch.float64)
    z = transform.forward(at)
    assert torch.allclose(transform.inverse(z), at, rtol=1e-6, atol=1e-6)
    # images come in single precision
    single = transform.inverse(transform.forward(at.float()))
    assert torch.allclose(single, at.float(), rtol=1e-4, atol=1e-3)
    slope = float(z.diff() / at.diff())
    middle = float(transform.slope(at).mean())
    assert slope == pytest.approx(middle, rel=0.02)


# One-dimensional oracle: a prior on x, the exact score of z = T(y) + σ_a u, and the posterior
# mean given that same z, all by brute force. What the solution loses to the posterior mean is then
# the solver's alone.
ORACLE = [
    ("gaussian(sigma=25)", Transform(c0=625), 0.1),
    ("gaussian(a=0.098, b=25)", Transform(0, 625, 2 * 0.098 * 25, 0.098**2), 0.1),
    ("poisson(gain=5)", Transform(0, 5, 5), 0.1),
    ("poisson(gain=2, offset=100) + gaussian(sigma=3)", Transform(100, 9, 2), 0.1),
    ("poisson(gain=5) + gaussian(sigma=10)", Transform(0, 100, 5), 0.1),
    ("gamma(alpha=26)", Transform(0, 2.5, 16 / 26, 1 / 26), 0.25),
    ("gamma(alpha=26) + gaussian(sigma=10)", Transform(0, 100, 0, 1 / 26), 0.25),
    ("rayleigh(sigma=0.3)", Transform(0, 3, 0.5, 0.04), 0.25),
    ("rayleigh(sigma=0.3) + gaussian(sigma=10)", Transform(0, 100, 0.5, 0.04), 0.25),
]
# no training uses so little where single counts show: their density would be a comb
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


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize(("text", "transform", "excess", "sigma_a"), CASES)
def test_with_an_exact_score_the_table_is_as_good_as_the_posterior_mean(
    text, transform, excess, sigma_a, prior
):
    model = parse_noise(text)
    x = np.linspace(1, 255, 400)
    weight = PRIORS[prior](x)
    weight = torch.tensor(weight / weight.sum())
    low, high = model.offset - 100, model.offset + 700
    ends = transform.forward(torch.tensor([low, high], dtype=torch.float64))
    bins = torch.arange(float(ends[0]) - 8, float(ends[1]) + 8, sigma_a / 8, dtype=torch.float64)
    masses = model.masses(transform.inverse(bins), torch.tensor(x))
    middle = (bins[1:] + bins[:-1]) / 2

    chance = np.random.default_rng(0)
    true = chance.choice(x, 4000, p=weight.numpy())
    z = transform.forward(torch.tensor(model.sample(true, chance)))
    z = z + sigma_a * torch.tensor(chance.standard_normal(len(z)))
    away = middle - z[:, None]
    kernel = torch.exp(-((away / sigma_a) ** 2) / 2)
    marginal = kernel * (weight @ masses)
    score = (marginal * away).sum(1) / marginal.sum(1) / sigma_a**2
    posterior = (kernel @ masses.T) * weight
    best = (posterior @ torch.tensor(x)) / posterior.sum(1)

    solve = make_solver(model, transform, sigma_a, low, high)
    found = solve(transform.inverse(z), score).double().numpy()
    assert np.isfinite(found).all()
    loss = np.mean((found - true) ** 2) / np.mean((best.numpy() - true) ** 2)
    assert 10 * math.log10(loss) < excess


def test_an_outlier_and_a_level_beyond_the_table_give_finite_answers():
    solve = make_solver(Poisson(2.0), Transform(0, 4, 2), 0.5, 0, 200)
    y = torch.tensor([-1e4, -5.0, 0.0, 200.0, 1e5])
    for s in (-50.0, 0.0, 50.0):
        x = solve(y, torch.full_like(y, s))
        assert torch.isfinite(x).all()
        assert (x.diff() >= 0).all()
