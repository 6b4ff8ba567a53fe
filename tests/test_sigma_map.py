"""The sigma of magnitude MRI that varies across the plane is measured from the images."""

from __future__ import annotations

import numpy as np
import pytest

from napari_noise2score import Image, UserError, estimate_sigma_map, parse_noise, write_image

SHAPE = (120, 128)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
# strongest in the middle, as where coils see the same
SIGMA = 6 + 12 * np.exp(-((Y - 60) ** 2 + (X - 70) ** 2) / (2 * 60**2))


def magnitudes(coils, planes=16):
    rng = np.random.default_rng(1)
    blocks = np.kron(rng.uniform(0, 150, (planes, 6, 8)), np.ones((20, 16)))
    # no signal outside the object
    blocks[:, :20] = blocks[:, :, -16:] = 0
    square = (blocks + SIGMA * rng.standard_normal(blocks.shape)) ** 2
    for _ in range(2 * coils - 1):
        square += (SIGMA * rng.standard_normal(blocks.shape)) ** 2
    return np.sqrt(square).astype(np.float32)


@pytest.mark.parametrize("coils", [1, 8])
def test_sigma_is_within_ten_percent_with_one_coil_and_with_eight(coils):
    found = estimate_sigma_map(magnitudes(coils), axes="ZYX", coils=coils)
    assert found.shape == SHAPE
    ratio = found / SIGMA
    assert np.median(ratio) == pytest.approx(1, abs=0.05)
    low, high = np.quantile(ratio, [0.05, 0.95])
    assert 0.9 < low < high < 1.1


def test_the_map_can_be_written_and_named_in_a_noise_model(tmp_path):
    found = estimate_sigma_map(magnitudes(1), axes="ZYX")
    write_image(tmp_path / "sigma.tif", Image(found, "YX"))
    noise = parse_noise(f"rician(sigma=map({tmp_path / 'sigma.tif'}))")
    assert noise.plain.sigma == pytest.approx(float(np.median(found)), rel=0.1)


@pytest.mark.parametrize(
    ("images", "axes", "message"),
    [
        (np.ones((4, 80, 80)), "ZYX", "at least 8 planes"),
        (np.ones((9, 40, 40)), "ZYX", "64×64"),
        (np.ones((9, 80, 80)), "ZYX", "no noise"),
        (np.ones((80, 80, 9)), "YXZ", "end with YX"),
    ],
)
def test_images_that_cannot_answer_are_refused(images, axes, message):
    with pytest.raises(UserError, match=message):
        estimate_sigma_map(images, axes=axes)
