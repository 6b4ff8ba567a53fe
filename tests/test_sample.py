"""The samples have the axes, units and noise that they state, and can be denoised."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from napari_noise2score import parse_noise, read_sample
from napari_noise2score.errors import UserError
from napari_noise2score.sample import (
    GAIN,
    NOISE,
    OFFSET,
    READ_NOISE,
    SAMPLES,
    simulate_cells,
)


@pytest.fixture(scope="module")
def cells():
    return simulate_cells()


def test_the_noise_is_that_of_the_camera(cells):
    noisy, truth = cells
    error = noisy.astype(float) - OFFSET - truth
    expected = GAIN * truth + READ_NOISE**2 + 1 / 12  # 1/12 from rounding
    assert abs(error.mean()) < 0.05
    assert np.mean(error**2 / expected) == pytest.approx(1, abs=0.02)


def test_the_noise_model_is_a_normalised_text():
    from napari_noise2score.noise import parse_noise

    assert str(parse_noise(NOISE)) == NOISE


def test_the_noise_is_strong_enough_to_denoise(cells):
    noisy, truth = cells
    mse = np.mean((noisy - OFFSET - truth) ** 2)
    assert 20 < 10 * np.log10(np.ptp(truth) ** 2 / mse) < 24


def test_the_cells_move(cells):
    _, truth = cells
    assert np.abs(truth[0] - truth[-1]).max() > 10


def test_the_seed_determines_the_image():
    small = (1, 2, 16, 16)
    first, again, other = (simulate_cells(small, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 17, 40)])
def test_any_shape_is_simulated(shape):
    noisy, truth = simulate_cells(shape)
    assert noisy.shape == truth.shape == shape
    assert noisy.dtype == np.uint16
    assert truth.dtype == np.float32


@pytest.mark.parametrize("shape", [(8, 8), (1, 0, 8, 8)])
def test_an_invalid_shape_is_refused(shape):
    with pytest.raises(UserError, match="four sizes"):
        simulate_cells(shape)


def test_the_module_imports_neither_torch_nor_qt():
    program = (
        "import sys, napari_noise2score.sample;"
        "assert not {'torch', 'qtpy', 'napari'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.fixture(scope="module")
def samples():
    return {name: (read_sample(name), read_sample(name, clean=True)) for name in SAMPLES}


@pytest.mark.parametrize(
    ("name", "axes", "scale", "units"),
    [
        ("cells", "TZYX", (1, 0.5, 0.1, 0.1), ("second", *["micrometer"] * 3)),
        ("confocal", "TYX", (2, 0.08, 0.08), ("second", "micrometer", "micrometer")),
        ("scmos", "CZYX", (0.5, 0.1, 0.1), ("micrometer",) * 3),
        ("mri", "ZYX", (4, 1.4, 1.4), ("millimeter",) * 3),
        ("oct", "YX", (3.5, 11.7), ("micrometer",) * 2),
    ],
)
def test_a_sample_has_axes_pixel_size_and_units(samples, name, axes, scale, units):
    for image in samples[name]:
        assert image.axes == axes
        assert image.scale == dict(zip(axes.replace("C", ""), scale, strict=True))
        assert image.units == dict(zip(axes.replace("C", ""), units, strict=True))
    noisy, truth = samples[name]
    assert noisy.data.shape == truth.data.shape
    assert noisy.data.nbytes < 2e6
    assert noisy.name == name


@pytest.mark.parametrize("name", SAMPLES)
def test_the_noise_of_a_sample_has_the_variance_of_its_model(samples, name):
    """At every brightness, within the pixel-to-pixel differences of a real detector."""
    noisy, truth = samples[name]
    noise = parse_noise(SAMPLES[name].noise)
    x = truth.data.astype(float).ravel()
    offset = getattr(getattr(noise, "base", noise), "offset", 0.0)
    signal = torch.tensor(x - offset)
    error = noisy.data.astype(float).ravel() - noise.mean(signal).numpy()
    expected = noise.variance(signal).numpy() + 1 / 12
    if name == "oct":  # the detector noise in the dark has the same speckle, and 8 bits end there
        bright = x > 60
        x, error, expected = x[bright], error[bright], expected[bright]
    edges = np.quantile(x, [0, 0.3, 0.6, 0.9, 1])
    for low, high in pairwise(edges):
        here = (x >= low) & (x <= high)
        middle = np.abs(error[here]) < 6 * np.sqrt(expected[here])  # without hot pixels
        ratio = np.mean(error[here][middle] ** 2 / expected[here][middle])
        assert ratio == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_always_the_same_and_its_noise_model_is_a_normalised_text(samples, name):
    np.testing.assert_array_equal(read_sample(name).data, samples[name][0].data)
    assert str(parse_noise(SAMPLES[name].noise)) == SAMPLES[name].noise


def test_the_channels_of_the_camera_have_names_and_its_pixels_differ(samples):
    noisy, truth = samples["scmos"]
    assert noisy.channels == ("DAPI", "actin")
    error = noisy.data.astype(float) - truth.data
    # the offset of a pixel is the same in both channels
    first, second = error.mean(axis=1)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.3


def test_the_background_of_the_mri_is_not_zero(samples):
    noisy, truth = samples["mri"]
    air = truth.data < 5
    sigma = 60.0
    assert noisy.data[air].mean() == pytest.approx(np.sqrt(np.pi / 2) * sigma, rel=0.02)


def test_an_unknown_sample_is_refused_by_name():
    with pytest.raises(UserError, match="there is no sample 'brain'; there are cells, confocal"):
        read_sample("brain")
