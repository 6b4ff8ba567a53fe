"""Pixels that were never recorded are found, ignored by all statistics, and left unchanged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_noise2score import (
    Image,
    UserError,
    check_noise,
    denoise,
    denoise_steps,
    estimate_noise,
    train,
    uncertainty,
)
from napari_noise2score.image.axes import layout
from napari_noise2score.image.valid import fill, find_valid, valid_of
from napari_noise2score.noise import parse_noise

NOISE = "poisson(gain=2, offset=100) + gaussian(sigma=3)"


def clean_image(size=256, seed=0):
    spots = np.zeros((size, size))
    rng = np.random.default_rng(seed)
    spots[tuple(rng.integers(0, size, (2, size // 3)))] = rng.uniform(2e3, 3e4, size // 3)
    return 20 + ndimage.gaussian_filter(spots, 5, mode="reflect")


def camera_frames(count=1, size=256):
    noise, rng = parse_noise(NOISE), np.random.default_rng(1)
    frames = np.stack([np.rint(noise.sample(clean_image(size), rng)) for _ in range(count)])
    return np.clip(frames, 0, 65535).astype(np.uint16)


def pad_border(frames, value=0):
    """Set the border of frames to a value, as a rotated or registered image has it."""
    padded = frames.copy()
    padded[..., :40, :] = padded[..., -40:, :] = padded[..., :60] = value
    return padded


def pad_background(frames, value=0):
    """Set the dark background of frames to a value, as a masked image has it."""
    padded = frames.copy()
    padded[..., clean_image(frames.shape[-1]) < 30] = value
    return padded


@pytest.mark.parametrize("pad", [pad_border, pad_background])
@pytest.mark.parametrize("value", [0, 65535, 300])
def test_padding_is_found_whatever_its_value(pad, value):
    frames = camera_frames(3)
    padded = pad(frames, value)
    valid = find_valid(padded, "TYX")
    invalid = valid.invalid(padded)
    padding = pad(np.zeros_like(frames), 1) == 1
    assert (invalid & ~padding).mean() < 1e-3
    assert (padding & ~invalid).mean() < 5e-3


@pytest.mark.parametrize("photons", [3.0, 1.0, 0.3, 0.1, 0.03, 0.01])
def test_zeros_from_few_photons_are_not_taken_for_padding(photons):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    for clean in (
        np.full((256, 256), photons),
        photons * np.exp(-((y - 128) ** 2 + (x - 128) ** 2) / 5000),
        20 * photons * clean_image(256) / clean_image(256).max(),
    ):
        assert find_valid(rng.poisson(clean), "YX").levels == ()


@pytest.mark.parametrize(
    "image",
    [
        np.minimum(200 + 100 * np.sin(np.arange(256) / 20) + np.zeros((256, 1)), 255).astype("u1"),
        np.full((64, 64), 7.0),
        np.zeros((3, 3)),
        np.repeat(np.repeat(np.arange(16.0).reshape(4, 4), 32, 0), 32, 1),
    ],
    ids=["saturated", "constant", "tiny", "flat areas"],
)
def test_recorded_pixels_are_not_taken_for_padding(image):
    assert find_valid(image, "YX").levels == ()


def test_padding_is_found_among_few_photons():
    counts = np.random.default_rng(0).poisson(0.3, (256, 256))
    counts[:60] = 0
    valid = find_valid(counts, "YX")
    invalid = valid.invalid(counts)
    assert invalid[:55].all()
    assert not invalid[70:].any()


def test_nan_infinity_and_float_fill_values_are_never_valid():
    frame = camera_frames(1)[0].astype(np.float32)
    for row, value in enumerate((np.nan, np.inf, -np.inf, -3.4e38, 9.97e36)):
        frame[row, 5] = value
    invalid = find_valid(frame, "YX").invalid(frame)
    assert invalid.sum() == 5
    assert invalid[:5, 5].all()


def test_blocks_agree_with_the_whole_image():
    counts = np.random.default_rng(0).poisson(1.0, (3, 200, 220)).astype(np.uint16)
    counts[:, :, :30] = 0
    counts[1, 90:140, 60:170] = 0
    valid, image_layout = find_valid(counts, "TYX"), layout("TYX", counts.shape)
    assert valid.halo > 0
    whole = np.stack([valid.invalid(plane) for plane in counts])
    rng = np.random.default_rng(1)
    for _ in range(50):
        t, y, x = (int(rng.integers(n)) for n in (3, 170, 190))
        space = [slice(y, y + 30), slice(x, x + 30)]
        block, invalid = valid.read(counts, image_layout, [t], space)
        assert np.array_equal(block[0], counts[t, space[0], space[1]])
        expected = whole[t, space[0], space[1]]
        assert np.array_equal(np.zeros_like(expected) if invalid is None else invalid[0], expected)


def test_the_mask_of_a_masked_array_is_kept():
    frames = camera_frames(2)
    mask = np.zeros(frames.shape, bool)
    mask[:, 100:120, 30:50] = True
    image = Image(np.ma.MaskedArray(frames, mask), "TYX")
    assert not isinstance(image.data, np.ma.MaskedArray)
    block, invalid = valid_of(image).read(
        image.data, layout("TYX", frames.shape), [1], [slice(90, 130), slice(20, 60)]
    )
    assert np.array_equal(invalid[0], mask[1, 90:130, 20:60])
    assert np.array_equal(block[0], frames[1, 90:130, 20:60])


def test_filling_is_smooth_and_keeps_valid_pixels():
    rng = np.random.default_rng(0)
    plane = np.linspace(100, 200, 64) + np.zeros((64, 1)) + rng.normal(0, 1, (64, 64))
    invalid = np.zeros((64, 64), bool)
    invalid[20:30] = True
    filled = fill(np.where(invalid, np.nan, plane), invalid, 20, 0.0)
    assert np.array_equal(filled[~invalid], plane[~invalid])
    assert np.abs(filled - plane)[invalid].max() < 10


@pytest.fixture(scope="module")
def stack():
    return camera_frames(4, 192)


@pytest.fixture(scope="module")
def padded_model(stack):
    return train(pad_background(stack), axes="TYX", steps=3)


def normalisation(model):
    return [model.mean, model.scale, model.low, model.high, model.transform.c0, model.transform.c1]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["hot", "fill value", "black frame", "white frame", "nan"])
def test_a_few_bad_pixels_do_not_change_the_normalisation_of_a_model(stack, damage):
    damaged = stack.astype(np.float32)
    if damage == "hot":
        damaged[:, [5, 70, 111], [9, 33, 150]] = 65535
    elif damage == "fill value":
        damaged[1, 5, 5] = -3.4e38
    elif damage == "nan":
        damaged[:, :30] = np.nan
    else:
        damaged[2] = 0 if damage == "black frame" else 65535
    clean = train(stack.astype(np.float32), axes="TYX", steps=1)
    tolerance = 0.1 if damage == "nan" else 0.02
    assert normalisation(train(damaged, axes="TYX", steps=1)) == pytest.approx(
        normalisation(clean), rel=tolerance
    )


@pytest.mark.slow
def test_small_bright_spots_stay_within_the_range():
    rng = np.random.default_rng(0)
    spots = np.zeros((256, 256))
    spots[[40, 90, 200], [50, 140, 80]] = 9000
    noisy = ndimage.gaussian_filter(spots, 0.8) + rng.normal(100, 5, (256, 256))
    assert train(noisy, axes="YX", steps=1).high > 0.9 * noisy.max()


@pytest.mark.slow
def test_the_loss_ignores_padding(stack, padded_model):
    plain = train(stack, axes="TYX", steps=3)
    assert np.isfinite(padded_model.provenance["loss"])
    # smooth fill values would have a loss far below that of noise
    assert padded_model.provenance["val_loss"] > plain.provenance["val_loss"] - 0.3


@pytest.mark.slow
@pytest.mark.parametrize("value", [0, np.nan, -9999.0])
def test_pixels_never_recorded_are_unchanged_in_the_result(stack, padded_model, value):
    dtype = np.uint16 if value == 0 else np.float32
    frames = pad_background(stack.astype(dtype), value)
    padding = pad_background(np.zeros(stack.shape), 1) == 1
    small = denoise(frames, padded_model, NOISE, axes="TYX", tile=(32, 48)).compute()
    large = denoise(frames, padded_model, NOISE, axes="TYX", tile=(192, 192)).compute()
    np.testing.assert_array_equal(small[padding], np.full(padding.sum(), value, np.float32))
    assert np.isfinite(small[~padding]).all()
    assert np.abs(small - large)[~padding].max() < 0.05


@pytest.mark.slow
def test_the_uncertainty_of_pixels_never_recorded_is_not_a_number(stack, padded_model):
    frame = pad_background(stack[0].astype(np.uint16), 0)
    padding = pad_background(np.zeros(frame.shape), 1) == 1
    std = uncertainty(frame, padded_model, NOISE, tile=(96, 96)).compute()
    assert np.isnan(std[padding]).all()
    assert np.isfinite(std[~padding]).all()


@pytest.mark.slow
def test_integer_results_keep_their_padding(stack, padded_model):
    frames = pad_border(stack[:2].astype(np.int32), -2147483648)
    target = np.zeros(frames.shape, np.int32)
    for _ in denoise_steps(frames, padded_model, NOISE, target, axes="TYX"):
        pass
    assert (target[frames == -2147483648] == -2147483648).all()
    assert (target[frames != -2147483648] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("pad", [pad_border, pad_background])
@pytest.mark.parametrize("count", [1, 6])
def test_the_noise_is_estimated_from_valid_pixels(pad, count):
    frames = camera_frames(count, 320)
    whole, found = (estimate_noise(stack, axes="TYX") for stack in (frames, pad(frames)))
    mean = np.array([160.0, 250.0])
    expected, variance = (
        np.interp(mean, one.curve.mean, one.curve.variance) for one in (whole, found)
    )
    assert variance == pytest.approx(expected, rel=0.05)
    if count > 1:
        assert variance == pytest.approx(2 * (mean - 100) + 9, rel=0.05)
    frames = pad(frames)
    check = check_noise(frames, NOISE, axes="TYX")
    assert check.curve.explained > 0.8, check.verdict


@pytest.mark.slow
def test_one_nan_does_not_prevent_an_estimate(padded_model):
    frame = camera_frames(1)[0].astype(np.float32)
    whole = estimate_noise(frame).noise
    frame[33, 77] = np.nan
    assert estimate_noise(frame).noise.gain == pytest.approx(whole.gain, rel=0.02)
    assert estimate_noise(frame, model=padded_model).curve is not None


@pytest.mark.slow
@pytest.mark.parametrize("image", [np.full((64, 64), np.nan), np.ma.masked_all((64, 64))])
def test_an_image_without_a_valid_pixel_is_refused_in_one_line(image, padded_model):
    for call in (
        lambda: train(image, axes="YX", steps=1),
        lambda: estimate_noise(image),
        lambda: denoise(image, padded_model, NOISE).compute(),
    ):
        with pytest.raises(UserError, match="no valid pixel") as caught:
            call()
        assert "\n" not in str(caught.value)
