"""Grey levels that differ from those in training give a warning or an error."""

from __future__ import annotations

import warnings
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_model_file import small_model

from napari_noise2score import (
    Emccd,
    Gamma,
    Gaussian,
    LogGamma,
    Nakagami,
    NoncentralChi,
    Poisson,
    Rayleigh,
    Rician,
    Tweedie,
    UserError,
    denoise,
    denoise_steps,
    estimate_noise,
    parse_noise,
    train,
)
from napari_noise2score.denoising.grey_level_range import check_range
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.errors import DataWarning
from napari_noise2score.image.axes import layout
from napari_noise2score.noise.kernel import A
from napari_noise2score.score._survey import survey
from napari_noise2score.solve.quantization import estimate_quantization
from napari_noise2score.solve.solver import check_grey_levels, make_solver
from napari_noise2score.solve.transform import Transform

RNG = np.random.default_rng(0)


def scene(seed=0, size=160):
    """Return bright blobs on a dark background, grey levels from 10 to about 100."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    image = np.full((size, size), 10.0)
    for at_y, at_x, wide in rng.uniform((0, 0, 3), (size, size, 12), (25, 3)):
        image += 60 * np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * wide**2))
    return image


NOISES = {
    "camera": "poisson(gain=2, offset=100) + gaussian(sigma=3)",
    "photons": "poisson(gain=4)",
    "gaussian": "gaussian(sigma=8)",
    "speckle": "gamma(alpha=20)",
}


def noisy(kind, seed=0, intensity=1.0):
    values = parse_noise(NOISES[kind]).sample(intensity * scene(seed), np.random.default_rng(seed))
    return np.clip(np.rint(values), 0, 65535).astype(np.uint16) if kind == "camera" else values


def trained(image, kernel=None):
    """Return a model with the statistics of an image and an untrained network."""
    facts = survey([image], [layout("YX", image.shape)], np.random.default_rng(0), kernel)
    names = (
        "transform",
        "mean",
        "scale",
        "sigma_a",
        "sigma_a_range",
        "low",
        "high",
        "quantization",
    )
    return small_model(**{name: facts[name] for name in names})


MODELS = {kind: trained(noisy(kind)) for kind in NOISES}


def range_warnings(image, model):
    """Return the warnings from comparing an image with a model."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_range(image, layout("YX", image.shape), model)
    assert all(issubclass(w.category, DataWarning) for w in caught)
    texts = [str(w.message) for w in caught]
    assert all(text.isprintable() for text in texts)
    return texts


@pytest.mark.parametrize(
    ("kind", "intensity"),
    # speckle is proportional to the image, so a tenth of the intensity looks like another unit
    [(kind, b) for kind in NOISES for b in (1.0, 0.3, 0.1) if (kind, b) != ("speckle", 0.1)],
)
def test_a_similar_or_darker_image_gives_no_warning(kind, intensity):
    assert range_warnings(noisy(kind, seed=1, intensity=intensity), MODELS[kind]) == []


@pytest.mark.parametrize("kind", ["camera", "photons", "gaussian"])
def test_a_brighter_image_gives_a_warning(kind):
    (text,) = range_warnings(noisy(kind, seed=1, intensity=3), MODELS[kind])
    assert "darker or brighter" in text
    assert f"{MODELS[kind].high:.4g}" in text


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("factor", [20, 1 / 255, 257, 1 / 65535])
def test_another_unit_is_refused_with_the_factor(kind, factor):
    image = noisy(kind, seed=1) * factor
    with pytest.raises(UserError, match=r"times those the model was trained on") as caught:
        check_range(image, layout("YX", image.shape), MODELS[kind])
    message = str(caught.value)
    assert message.isprintable()
    assert "or train a model on it" in message
    assert ("multiply the image by" if factor < 1 else "divide the image by") in message
    if kind == "camera":
        # the step between counts determines the factor exactly
        exact = f"{1 / factor:.3g}" if factor < 1 else f"{factor:.3g}"
        assert f"the image by {exact}, or" in message


def test_8_bit_images_are_refused_by_a_model_for_16_bits():
    image_16_bit = (noisy("camera", seed=1).astype(int) * 257).clip(0, 65535)
    model = trained(image_16_bit + RNG.integers(-100, 101, image_16_bit.shape))
    assert model.quantization.step == 1
    image = noisy("camera", seed=2).clip(0, 255).astype(np.uint8)
    with pytest.raises(UserError, match="multiply the image by"):
        check_range(image, layout("YX", image.shape), model)


@pytest.mark.parametrize("value", [0.0, 100.0, 1e6])
def test_a_constant_image_is_not_taken_for_another_unit(value):
    assert range_warnings(np.full((64, 64), value), MODELS["camera"]) == []


def test_a_noise_free_image_in_another_unit_is_refused():
    smooth = np.add.outer(np.linspace(0.1, 0.4, 200), np.linspace(0, 0.5, 200))
    with pytest.raises(UserError, match="multiply"):
        check_range(smooth, layout("YX", smooth.shape), MODELS["camera"])


def test_far_weaker_noise_at_the_same_grey_levels_gives_a_warning():
    mean = np.mean([noisy("camera", seed=1) for _ in range(1)], axis=0)
    weak_noise = 100 + scene(1) + RNG.normal(0, 0.8, mean.shape)
    (text,) = range_warnings(weak_noise, MODELS["camera"])
    assert "times as strong" in text


def test_nan_and_infinite_pixels_are_ignored():
    image = noisy("gaussian", seed=1)
    image[:40] = np.nan
    image[50, 50] = np.inf
    assert range_warnings(image, MODELS["gaussian"]) == []
    assert range_warnings(np.full((64, 64), np.nan), MODELS["gaussian"]) == []


def test_correlated_noise_is_compared_after_decorrelation():
    noise = parse_noise("gaussian(sigma=20) @ A")
    first, second = (noise.sample(scene(s), np.random.default_rng(s)) for s in (0, 1))
    model = replace(trained(first, A), kernel=A)
    assert range_warnings(second, model) == []
    with pytest.raises(UserError, match="divide the image by"):
        check_range(second * 257, layout("YX", second.shape), model)


def test_only_a_few_planes_of_a_large_image_are_read():
    read = 0

    def make_page(block_info=None):
        nonlocal read
        read += 1
        return np.random.default_rng(0).normal(150, 12, (1, 512, 512)).astype(np.float32)

    meta = np.empty((0, 0, 0), np.float32)
    stack = da.map_blocks(make_page, chunks=((1,) * 2000, 512, 512), meta=meta)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        check_range(stack, layout("TYX", stack.shape), small_model())
    assert read <= 9


def test_denoising_compares_grey_levels():
    image = noisy("camera", seed=1)
    with pytest.raises(UserError, match="times those the model was trained on"):
        denoise(image / 255, MODELS["camera"], "poisson(gain=2)").compute()
    with pytest.raises(UserError, match="times those the model was trained on"):
        next(denoise_steps(image / 255, MODELS["camera"], "poisson(gain=2)", np.zeros(image.shape)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        denoise(image, MODELS["camera"], NOISES["camera"]).compute()
    bright = noisy("camera", seed=1, intensity=3)
    with pytest.warns(DataWarning, match="darker or brighter"):
        denoise(bright, MODELS["camera"], NOISES["camera"]).compute()
    with pytest.warns(DataWarning, match="darker or brighter"):
        next(denoise_steps(bright, MODELS["camera"], NOISES["camera"], np.zeros(image.shape)))


def test_the_preview_and_the_estimate_compare_grey_levels():
    image, model = noisy("camera", seed=1), MODELS["camera"]
    planes = LivePlanes(image / 255, model, "YX")
    with pytest.raises(UserError, match="times those the model was trained on"):
        list(planes.prepare((0, 0)))
    list(LivePlanes(image, model, "YX").prepare((0, 0)))
    stack = np.stack([noisy("camera", seed=1), noisy("camera", seed=1)]) / 255
    with pytest.raises(UserError, match="times those the model was trained on"):
        estimate_noise(stack, axes="TYX", model=model, method="curve")


# the noise model and the grey levels


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("poisson(gain=2, offset=5000)", "offset=5000 lies above all grey levels, 92 to 225"),
        ("emccd(gain=2, offset=225)", "offset=225 lies above"),
        ("tweedie(power=1.5, dispersion=2, offset=300)", "offset=300 lies above"),
        ("poisson(gain=2, offset=300) @ A", "offset=300 lies above"),
        ("poisson(gain=2, offset=300) + gaussian(sigma=2)", "offset=300 lies above"),
        ("gaussian(sigma=1e6)", r"gaussian\(sigma=1000000\)' is too strong for the grey levels"),
        ("poisson(gain=2) + gaussian(sigma=5000)", "sigma=5000 is too large for the grey levels"),
        ("rician(sigma=300)", "too strong for the grey levels"),
        ("poisson(gain=1e9)", "too strong for the grey levels"),
    ],
)
def test_a_parameter_outside_the_grey_levels_is_refused_by_name(text, phrase):
    noise = parse_noise(text)
    kernel = A if "@" in text else None
    with pytest.raises(UserError, match=phrase):
        make_solver(noise, Transform(90, 9, 2, 0), 0.3, 92, 225, kernel=kernel)
    with pytest.raises(UserError, match=phrase):
        check_grey_levels(noise, 92, 225)
    if kernel is None:
        with pytest.raises(UserError, match=phrase):
            denoise(noisy("camera"), small_model(), noise)


def test_too_many_grey_levels_for_the_noise_are_refused_before_memory_runs_out():
    with pytest.raises(UserError, match="clip extreme grey levels"):
        make_solver(Gaussian(1), Transform(0, 1, 0, 0), 0.3, 0, 1e6)


size = st.floats(-14, 14).map(lambda power: 10.0**power)
offset = st.one_of(st.just(0.0), st.floats(-1e4, 1e4), size)
noises = st.one_of(
    st.builds(Gaussian, size),
    st.builds(lambda a, b: Gaussian(a=a, b=b), st.floats(0, 10), size),
    st.builds(Poisson, size, offset),
    st.builds(Gamma, st.floats(1, 1e6)),
    st.builds(Rayleigh, size),
    st.builds(Nakagami, st.floats(0.5, 1e6)),
    st.builds(NoncentralChi, size, st.floats(1, 64)),
    st.builds(LogGamma, size, st.floats(0.05, 1e6)),
    st.builds(Rician, size),
    st.builds(Tweedie, st.floats(1.01, 1.99), size, offset),
    st.builds(Emccd, size, offset, st.floats(1.01, 10)),
)


@settings(max_examples=60)
@given(
    noises,
    st.one_of(st.none(), size),
    st.booleans(),
    st.sampled_from([(92, 225), (0, 1), (-50, 300), (0, 4000)]),
    st.sampled_from([0.2, 0.7]),
)
def test_every_noise_has_finite_solutions_or_is_refused(noise, read, correlated, levels, sigma_a):
    low, high = levels
    noise = noise @ A if correlated else noise
    noise = noise + Gaussian(read) if read else noise
    wide = high - low
    curve = Transform(low + 0.1 * wide, (0.03 * wide) ** 2, 0.01 * wide, 1e-3)
    quantization = estimate_quantization(np.array([low, high]))
    try:
        solve = make_solver(
            noise, curve, sigma_a, low, high, quantization, A if correlated else None
        )
    except UserError as error:
        assert str(error).isprintable()
        return
    y = torch.linspace(low - 0.3 * wide, high + 0.3 * wide, 48).expand(48, 48)
    s = torch.linspace(-6, 6, 48)[:, None].expand(48, 48)
    assert torch.isfinite(solve(y.clone(), s.clone())).all()


@pytest.mark.slow
@pytest.mark.parametrize(("sigma", "warns"), [(0.5, True), (8, False), (12, False), (80, True)])
def test_a_noise_model_far_from_the_noise_in_training_gives_a_warning(sigma, warns):
    noisy = np.random.default_rng(0).normal(100, 10, (4, 64, 64)).astype(np.float32)
    noisy += 100 * (np.indices((64, 64))[0] > 32)
    model = train(noisy, axes="TYX", steps=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in denoise_steps(
            noisy, model, f"gaussian(sigma={sigma})", np.empty_like(noisy), axes="TYX"
        ):
            pass
    assert any("predicts a standard deviation of" in str(w.message) for w in caught) == warns
