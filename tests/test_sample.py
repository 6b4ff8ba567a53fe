"""The simulated cells have the stated noise, and can be denoised."""

import subprocess
import sys

import numpy as np
import pytest

from napari_noise2score.errors import UserError
from napari_noise2score.sample import GAIN, NOISE, OFFSET, READ_NOISE, simulate_cells


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
