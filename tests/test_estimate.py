"""The noise model is estimated from images alone, or the error states why it cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_noise2score import Image, UserError, denoise, estimate_noise, train
from napari_noise2score.cli.main import app
from napari_noise2score.estimation._fit import fit_families
from napari_noise2score.estimation._flatness import smooth
from napari_noise2score.estimation._moments import Moments, measure_moments
from napari_noise2score.estimation._repeats import is_still
from napari_noise2score.image.write import write_image
from napari_noise2score.noise import (
    A,
    Gaussian,
    LogGamma,
    NoncentralChi,
    Poisson,
    Rician,
    parse_noise,
)
from napari_noise2score.sample import read_sample, simulate_cells


def scene(size=384):
    """Return an image of patches with soft edges and some texture, grey levels from 10 to 230."""
    rng = np.random.default_rng(3)
    y, x = np.indices((size, size))
    flat = np.kron(rng.uniform(20, 220, (8, 8)), np.ones((size // 8, size // 8)))
    spectrum = np.fft.fft2(flat) * np.exp(
        -((np.hypot(*np.meshgrid(*[np.fft.fftfreq(size)] * 2)) * 12) ** 2)
    )
    return np.fft.ifft2(spectrum).real + 8 * np.sin(x / 9) * np.cos(y / 7)


def noisy_frames(noise, count, seed=0):
    """Return noisy frames of the scene, shape ``(count, Y, X)``."""
    rng = np.random.default_rng(seed)
    return np.stack([noise.sample(scene(), rng) for _ in range(count)])


def standard_deviation(noise, mean):
    mean = torch.tensor(mean, dtype=torch.float64)
    return float(noise.variance(noise.clean_from_mean(mean)) ** 0.5)


FAMILIES = [
    "gaussian(sigma=15)",
    "gaussian(a=0.098, b=25)",
    "poisson(gain=3)",
    "poisson(gain=5) + gaussian(sigma=10)",
    "gamma(alpha=26)",
    "gamma(alpha=26) + gaussian(sigma=10)",
    "rayleigh(sigma=0.3)",
    "rayleigh(sigma=0.3) + gaussian(sigma=10)",
    "nakagami(m=4)",
    "rician(sigma=30)",
    "noncentral_chi(sigma=20, coils=8)",
    "log_gamma(scale=17, looks=1)",
    "log_gamma(scale=30, looks=4.5)",
]


def family_of(noise):
    base = getattr(noise, "base", noise)
    return type(base).__name__, bool(getattr(base, "growth", 0))


@pytest.mark.slow
@pytest.mark.parametrize("text", FAMILIES)
@pytest.mark.parametrize("count", [4, 1])
def test_the_family_and_the_level_are_estimated(text, count):
    noise = parse_noise(text)
    y = noisy_frames(noise, count)
    found = (estimate_noise(y, axes="TYX") if count > 1 else estimate_noise(y[0])).noise
    assert family_of(found) == family_of(noise), found
    for mean in (60, 120, 180):
        expected = standard_deviation(noise, mean)
        assert standard_deviation(found, mean) == pytest.approx(
            expected, rel=0.05 if count > 1 else 0.1
        )


def test_texture_does_not_bias_the_skewness_of_signal_dependent_noise():
    texture = blurred(blurred(np.random.default_rng(1).standard_normal((384, 384))))
    clean = np.clip(scene() + 12 * texture / texture.std(), 5, None)
    noise = parse_noise("nakagami(m=16)")
    found = measure_moments([noise.sample(clean, np.random.default_rng(0))])
    # in dark areas beside bright ones, it used to come out two to three times as large
    skew = (found.third / found.variance**1.5)[2:10]
    assert skew.mean() == pytest.approx(0.127, abs=0.06)


def test_the_variance_of_noise_is_right_in_bright_blurred_spots():
    spots = np.zeros((384, 384))
    rng = np.random.default_rng(1)
    spots[tuple(rng.integers(0, 384, (2, 600)))] = rng.uniform(0.5, 1, 600)
    clean = 5 + 6000 * smooth(spots, 2.5)
    found = measure_moments([clean + 5 * rng.standard_normal(clean.shape)])
    bright = found.variance[found.mean > 10]
    assert len(bright) >= 6
    # treated like photographs, bright spots had up to a third less variance
    assert bright == pytest.approx(25, rel=0.1)


def test_the_variance_of_single_look_speckle_is_right():
    clean = scene()
    found = measure_moments([parse_noise("gamma(alpha=1)").sample(clean, np.random.default_rng(0))])
    # linear interpolation between ranges of intensity made it a quarter smaller
    assert np.median(found.variance / found.mean**2) == pytest.approx(1, rel=0.05)


def test_speckle_in_decibels_is_log_gamma_although_the_dark_is_clipped_at_zero():
    found = estimate_noise(read_sample("oct")).noise
    assert isinstance(found, LogGamma)
    assert standard_deviation(found, 100) == pytest.approx(22.3, rel=0.06)
    assert found.looks == pytest.approx(1, rel=0.15)


def test_gaussian_noise_that_is_clipped_at_zero_is_neither_weakened_nor_taken_for_counts():
    clean = scene() - scene().min() + 10
    y = Gaussian(sigma=30).sample(clean, np.random.default_rng(0)).clip(min=0).round()
    found = estimate_noise(y.astype(np.uint16)).noise
    assert isinstance(found, Gaussian)
    assert standard_deviation(found, 100) == pytest.approx(30, rel=0.03)


def test_sigma_and_coils_of_magnitude_images_are_estimated_from_background_and_signal():
    clean = scene() - scene().min()
    clean[:120] = 0
    y = parse_noise("noncentral_chi(sigma=20, coils=8)").sample(clean, np.random.default_rng(0))
    found = estimate_noise(y.round().astype(np.uint16))
    assert isinstance(found.noise, NoncentralChi)
    assert found.noise.sigma == pytest.approx(20, rel=0.05)
    assert found.noise.coils == pytest.approx(8, rel=0.1)
    low, high = found.intervals["coils"]
    assert low < 8 < high


def test_coils_are_found_where_tissue_has_three_times_the_noise():
    # its moments are nearly those of Poisson noise, but nothing is darker than coils without signal
    clean = 4 * scene() / scene().max()
    clean[:120] = 0
    y = parse_noise("noncentral_chi(sigma=1, coils=8)").sample(clean, np.random.default_rng(0))
    found = estimate_noise(y.astype(np.float32)).noise
    assert isinstance(found, NoncentralChi)
    assert found.sigma == pytest.approx(1, rel=0.1)
    assert found.coils == pytest.approx(8, rel=0.1)


def test_a_background_that_was_set_to_zero_is_not_taken_for_clipped_noise():
    y = noisy_frames(parse_noise("rician(sigma=30)"), 1)[0].round()
    y[:100] = 0
    assert isinstance(estimate_noise(y.astype(np.uint16)).noise, Rician)


def test_film_grain_does_not_count_as_read_noise_of_speckle():
    rng = np.random.default_rng(1)
    clean = np.clip(scene() - scene().min() + 3 + rng.standard_normal((384, 384)), 0.5, None)
    noise = parse_noise("rayleigh(sigma=0.1)")
    found = estimate_noise(noise.sample(clean, np.random.default_rng(0))).noise
    assert type(found) is type(noise)
    assert found.sigma == pytest.approx(0.1, rel=0.02)


@pytest.mark.slow
def test_grainy_planes_among_others_do_not_change_the_estimate():
    rng = np.random.default_rng(1)
    clean = np.stack([np.roll(scene(), 60 * i, axis=0)[:256, :256] for i in range(6)])
    clean[::2] += 4 * rng.standard_normal(clean[::2].shape)
    noise = estimate_noise(clean + 5 * rng.standard_normal(clean.shape), axes="ZYX").noise
    assert noise.sigma == pytest.approx(5, rel=0.05)


def test_repeats_determine_offset_and_read_noise_without_dark_areas():
    found = estimate_noise(
        noisy_frames(parse_noise("poisson(gain=2, offset=100) + gaussian(sigma=5)"), 4), axes="TYX"
    )
    camera = found.noise
    assert camera.base.gain == pytest.approx(2, rel=0.01)
    assert camera.base.offset == pytest.approx(100, rel=0.03)
    assert camera.read.sigma == pytest.approx(5, rel=0.1)
    low, high = found.intervals["offset"]
    assert low < 100 < high < low + 15


def test_cosmic_rays_count_neither_as_noise_nor_as_motion():
    y = noisy_frames(parse_noise("poisson(gain=3, offset=20)"), 4)
    rng = np.random.default_rng(2)
    for frame, row, column in zip(*(rng.integers(0, n - 2, 40) for n in y.shape), strict=True):
        y[frame, row : row + 2, column : column + 2] += 3000
    found = estimate_noise(y, axes="TYX").noise
    assert found.gain == pytest.approx(3, rel=0.02)
    assert found.offset == pytest.approx(20, abs=1)


@pytest.mark.slow
def test_texture_does_not_bias_the_variances_of_still_repeats():
    rng = np.random.default_rng(1)
    clean = np.clip(scene() + 30 * rng.standard_normal((384, 384)), 5, None)
    noise = parse_noise("tweedie(power=1.7, dispersion=0.5)")
    y = np.stack([noise.sample(clean, rng) for _ in range(4)])
    found = estimate_noise(y, axes="TYX").noise
    assert found.power == pytest.approx(1.7, rel=0.01)
    assert found.dispersion == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("change", ["shift", "bleaching", "a spot"])
def test_changes_between_frames_are_detected(change):
    clean = np.stack([scene()] * 4)
    if change == "shift":
        clean[1:] = np.roll(clean[1:], 1, axis=2)
    elif change == "bleaching":
        clean *= 0.98 ** np.arange(4)[:, None, None]
    else:
        clean[2, 100:110, 100:110] += 60
    rng = np.random.default_rng(0)
    noise = parse_noise("poisson(gain=3)")
    all_valid = [np.full(clean[0].shape, True)]
    assert is_still([noise.sample(np.stack([scene()] * 4), rng)], all_valid)
    assert not is_still([noise.sample(clean, rng)], all_valid)


def test_negative_pixels_rule_out_rician_noise():
    mean, ones = np.linspace(60, 150, 14), np.ones(14)
    moments = Moments(mean, 400 * ones, 0 * ones, 4 * ones, 80 * ones)

    def misfit(fraction):
        fits = fit_families(
            moments, single_frames=True, negative_fraction=fraction, decorrelated=True
        )
        return {type(f.noise): f.misfit for f in reversed(fits)}

    few_negative, many_negative = misfit(1e-4), misfit(0.02)
    assert many_negative[Gaussian] == few_negative[Gaussian]
    assert many_negative[Rician] > few_negative[Rician] + 10


@pytest.mark.slow
def test_the_camera_is_estimated_from_a_moving_sample():
    noisy, _ = simulate_cells((4, 8, 256, 256))  # poisson(gain=2, offset=100) + gaussian(sigma=3)
    found = estimate_noise(noisy, axes="TZYX")
    camera = found.noise
    assert camera.base.gain == pytest.approx(2, rel=0.05)
    assert camera.base.offset == pytest.approx(100, abs=1)
    assert camera.read.sigma == pytest.approx(3, rel=0.1)
    low, high = found.intervals["gain"]
    assert low < 2 < high
    assert found.quantization.step == 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 1])
@pytest.mark.parametrize(
    "text", ["gaussian(sigma=20) @ A", "poisson(gain=3) @ A", "gamma(alpha=26) @ A"]
)
def test_correlation_is_estimated_with_its_kernel(text, count):
    noise = parse_noise(text)
    found = estimate_noise(noisy_frames(noise, count), axes="TYX").noise
    assert np.array(found.kernel.taps).shape == (3, 3)
    assert np.abs(np.array(found.kernel.taps) - A.taps).max() < 0.02
    assert type(found.base) is type(noise.base)
    expected, estimated = (standard_deviation(n.base, 120) for n in (noise, found))
    assert estimated == pytest.approx(expected, rel=0.05 if count > 1 else 0.1)


def test_bleaching_drift_and_defects_do_not_count_as_noise():
    rng = np.random.default_rng(0)
    noise = Poisson(4, 20)
    frames = []
    for t in range(4):
        moved = np.roll(scene(), t, axis=1) * 0.97**t
        frame = noise.sample(moved, rng)
        frame[::97, ::89] = 4000  # hot pixels
        frame[5::97, 7::89] = 0
        frames.append(frame)
    found = estimate_noise(np.stack(frames), axes="TYX").noise
    assert found.gain == pytest.approx(4, rel=0.05)
    assert found.offset == pytest.approx(20, abs=4)


@pytest.mark.slow
def test_several_images_and_colour_channels_are_one_data_set():
    images = [Image(noisy_frames(Poisson(3), 1, seed)[0], "YX") for seed in range(3)]
    assert estimate_noise(images).noise.gain == pytest.approx(3, rel=0.1)
    colour = np.moveaxis(noisy_frames(Poisson(3), 3), 0, -1)
    assert estimate_noise(colour, axes="YXC").noise.gain == pytest.approx(3, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "read"), [(1, 3), (2, 5)])
def test_one_frame_with_a_dark_background_determines_offset_and_read_noise(gain, read):
    rng = np.random.default_rng(0)
    spots = np.zeros((512, 512))
    spots[*rng.integers(0, 512, (2, 60))] = rng.uniform(2e4, 2e5, 60)
    camera = parse_noise(f"poisson(gain={gain}, offset=100) + gaussian(sigma={read})")
    found = estimate_noise(camera.sample(smooth(spots, 12.0) + 2, rng)).noise
    assert found.base.gain == pytest.approx(gain, rel=0.05)
    assert found.base.offset == pytest.approx(100, abs=2)
    assert found.read.sigma == pytest.approx(read, rel=0.1)


@pytest.mark.slow
def test_textured_images_of_a_data_set_do_not_hide_a_correlation():
    rng = np.random.default_rng(0)
    y, x = np.indices((256, 256))
    smooth_image = 128 + 60 * np.sin(y / 40) * np.cos(x / 50)
    textured_images = [128 + 60 * smooth(rng.standard_normal((256, 256)), 1.0) for _ in range(9)]
    noise = parse_noise("gaussian(sigma=15) @ A")
    frames = [Image(noise.sample(clean, rng), "YX") for clean in [*textured_images, smooth_image]]
    found = estimate_noise(frames).noise
    assert np.abs(np.array(found.components.kernel.taps) - A.taps).max() < 0.01
    assert found.base.sigma == pytest.approx(15, rel=0.05)


@pytest.mark.parametrize("gain", [1, 2.55])
def test_counts_in_steps_of_the_gain_determine_it_exactly(gain):
    counts = Poisson(gain).sample(scene(256), np.random.default_rng(0))
    assert estimate_noise(counts.astype(np.float32)).noise == Poisson(gain)
    # rounded grey levels have steps of 1, whatever the gain
    assert estimate_noise((1.25 * counts).round()).noise.gain == pytest.approx(1.25 * gain, rel=0.1)


def blurred(image):
    for axis in (0, 1):
        image = sum(np.roll(image, k, axis) for k in (-1, 0, 1)) / 3
    return image


@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_noise_of_filtered_repeats_is_measured(times):
    noisy, share = noisy_frames(Poisson(3), 2), np.ones((1, 1))
    for _ in range(times):
        noisy = [blurred(frame) for frame in noisy]
        share = np.convolve(share.ravel(), np.ones(3) / 3)
    found = estimate_noise(np.stack(noisy), axes="TYX").noise
    assert found.components.kernel.of_noise
    variance = float(found.variance(torch.tensor(100.0, dtype=torch.float64)))
    assert variance == pytest.approx(300 * (share**2).sum() ** 2, rel=0.1)


@pytest.mark.parametrize(
    ("image", "axes", "phrase"),
    [
        (np.full((128, 128), 7.0), "YX", "constant"),
        (np.minimum(noisy_frames(Poisson(3), 1)[0], 60), "YX", "saturated"),
        (np.stack([noisy_frames(Poisson(3), 1)[0]] * 2), "TYX", "identical"),
        (noisy_frames(Poisson(3), 1)[0, :32, :32], "YX", "too small"),
        (blurred(blurred(blurred(noisy_frames(Poisson(3), 1)[0]))), "YX", "filtered"),
        (np.zeros((3, 128, 128)), None, "say which they are"),
    ],
)
def test_an_image_whose_noise_cannot_be_estimated_is_refused_with_the_reason(image, axes, phrase):
    with pytest.raises(UserError, match=phrase) as caught:
        estimate_noise(image, axes=axes)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_command_line_estimates_the_noise_and_denoises_with_it(tmp_path):
    noisy, _ = simulate_cells((4, 2, 128, 128))
    write_image(tmp_path / "noisy.tif", Image(noisy, "TZYX"))
    run = CliRunner().invoke(app, ["estimate", str(tmp_path / "noisy.tif"), "--json"])
    facts = json.loads(run.stdout)
    camera = parse_noise(facts["noise"]).components.base
    assert camera.gain == pytest.approx(2, rel=0.15)
    # a stack this small leaves the read noise uncertain, which its interval shows
    low, high = facts["95 % interval"]["read noise"]
    assert low < 3 < high
    assert facts["measured from"] == "repeats"
    model = train(noisy, axes="TZYX", steps=2)
    model.save(tmp_path / "m.n2s")
    command = ["denoise", str(tmp_path / "noisy.tif"), str(tmp_path / "out.npy")]
    command += ["--model", str(tmp_path / "m.n2s"), "--noise", "auto", "--no-polish"]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.output
    assert f"noise, estimated: {facts['noise']}" in run.output
    expected = denoise(noisy, model, facts["noise"], axes="TZYX").compute()
    assert np.allclose(np.load(tmp_path / "out.npy"), expected)


@pytest.mark.slow
def test_the_estimate_keeps_the_correlation_of_the_trained_model():
    y = noisy_frames(parse_noise("poisson(gain=3) @ A"), 4)
    model = train(y, axes="TYX", steps=2, correlation="A")
    assert estimate_noise(y, axes="TYX", model=model).noise.kernel == A
