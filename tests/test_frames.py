"""Unusable frames are left out and named; the assumptions of an estimate are checked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from napari_noise2score import UserError, check_noise, estimate_noise
from napari_noise2score.errors import DataWarning
from napari_noise2score.estimation import estimate
from napari_noise2score.estimation.estimate import estimate_for_denoising
from napari_noise2score.noise import parse_noise
from napari_noise2score.progress import run_to_end

NOISE = "poisson(gain=3, offset=20)"


def picture(size=192):
    levels = np.random.default_rng(3).uniform(20, 220, (6, 6))
    flat = np.kron(levels, np.ones((size // 6, size // 6)))
    return ndimage.uniform_filter(flat, 5)


def frames(count=6, text=NOISE, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([np.rint(parse_noise(text).sample(picture(), rng)) for _ in range(count)])


def stack_with_bad_frame(kind):
    stack = frames()
    if kind == "black":
        stack[2] = 0
    elif kind == "dark":
        stack[2] = np.random.default_rng(5).normal(20, 1, stack[2].shape)
    elif kind == "copy":
        stack[2] = stack[1]
    elif kind == "saturated":
        stack[2] = 4095
    elif kind == "nan":
        stack[2] = np.nan
    return stack


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "phrase"),
    [
        ("black", "is black|holds no valid pixel"),
        ("dark", "is black"),
        ("copy", "repeats another"),
        ("saturated", "is saturated|holds no valid pixel"),
        ("nan", "holds no valid pixel"),
    ],
)
def test_one_bad_frame_is_left_out_and_named(kind, phrase):
    with pytest.warns(DataWarning, match=f"frame 3 of 6 ({phrase}) and is left out"):
        found = estimate_noise(stack_with_bad_frame(kind), axes="TYX")
    assert found.source == "repeats"
    assert found.noise.gain == pytest.approx(3, rel=0.03)
    assert "frame 3 of 6" in found.describe()["left out"][0]


@pytest.mark.slow
def test_black_planes_of_a_stack_are_left_out():
    stack = frames(4)
    stack[1] = 0
    with pytest.warns(DataWarning, match="1 of 4 planes"):
        found = estimate_noise(stack, axes="ZYX").noise
    assert found.gain == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize(
    ("stack", "phrase"),
    [
        (np.zeros((4, 128, 128)), "constant"),
        (np.full((4, 128, 128), np.nan), "no valid pixel"),
        (np.stack([frames(1)[0]] * 4), "identical"),
    ],
)
def test_a_stack_without_a_usable_frame_is_refused(stack, phrase):
    with pytest.raises(UserError, match=phrase):
        estimate_noise(stack, axes="TYX")


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e9])
def test_the_noise_scales_with_the_unit_of_the_image(unit):
    stack = frames(4)
    plain, other = (estimate_noise(stack * factor, axes="TYX") for factor in (1, unit))
    assert other.noise.gain == pytest.approx(plain.noise.gain * unit, rel=0.01)
    assert other.noise.offset == pytest.approx(plain.noise.offset * unit, rel=0.01)
    ends = tuple(end / unit for end in other.intervals["gain"])
    assert ends == pytest.approx(plain.intervals["gain"], rel=0.01)
    assert other.check.curve.explained > 0.95


RNG = np.random.default_rng(0)
UNUSUAL_IMAGES = {
    "one row": RNG.poisson(30, (1, 4000)),
    "one column": RNG.poisson(30, (4000, 1)),
    "small": RNG.poisson(30, (3, 3)),
    "huge": RNG.poisson(30, (128, 128)) * 1e300,
    "large": RNG.poisson(30, (128, 128)) * 1e25,
    "subnormal": RNG.poisson(30, (128, 128)) * 5e-324,
    "int64": RNG.choice([np.iinfo(np.int64).min, np.iinfo(np.int64).max, 0], (128, 128)),
    "uint64": RNG.integers(0, 2**64 - 1, (128, 128), dtype=np.uint64),
    "one pixel differs": np.where(np.arange(16384).reshape(128, 128) == 99, 9.0, 5.0),
    "two levels": RNG.integers(0, 2, (128, 128)),
    "checkerboard": np.indices((128, 128)).sum(0) % 2 * 1.0,
    "ramp": np.add.outer(np.arange(128.0), np.arange(128.0)),
    "every second row": np.where(np.arange(128)[:, None] % 2, 0, RNG.poisson(30, (128, 128))),
    "half nan": np.where(RNG.random((128, 128)) < 0.5, np.nan, RNG.poisson(30, (128, 128))),
    "few photons": RNG.poisson(0.01, (128, 128)),
    "heavy tails": RNG.standard_cauchy((128, 128)),
    "large offset": 1e8 + RNG.normal(size=(128, 128)),
    "half precision": RNG.poisson(30, (128, 128)).astype(np.float16),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNUSUAL_IMAGES)
@pytest.mark.filterwarnings("error::RuntimeWarning", "ignore::UserWarning")
def test_unusual_images_are_estimated_or_refused_in_one_line(name, capfd):
    try:
        found = estimate_noise(UNUSUAL_IMAGES[name])
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(found.curve.variance).all()
        assert "\n" not in found.check_sentence
    assert "On entry to" not in "".join(capfd.readouterr())  # LAPACK prints no errors


@pytest.mark.slow
def test_the_check_has_no_findings_for_good_images():
    for stack, axes in ((frames(4), "TYX"), (frames(1)[0], "YX")):
        check = estimate_noise(stack, axes=axes).check
        assert check.findings == ()
        assert check.explains, check.verdict


@pytest.mark.slow
@pytest.mark.parametrize("method", ["running", "kalman"])
def test_averaging_in_time_is_detected(method):
    raw = frames(8) if method == "running" else frames(24)
    if method == "running":
        stack = (raw[1:] + raw[:-1]) / 2
    else:
        stack = raw.copy()
        for i in range(1, len(raw)):
            stack[i] = 0.7 * stack[i - 1] + 0.3 * raw[i]
        stack = stack[-6:]
    check = estimate_noise(stack, axes="TYX").check
    assert "Successive frames share noise" in check.verdict
    assert not check.explains


def test_a_fixed_pattern_is_detected():
    pattern = np.random.default_rng(9).normal(0, 20, picture().shape)
    check = estimate_noise(frames(6) + pattern, axes="TYX").check
    assert "a fixed pattern of the camera" in check.verdict
    assert not check.explains


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("axis", [0, 1])
def test_noise_of_rows_and_columns_is_detected(axis, count):
    stack = frames(count)
    rng = np.random.default_rng(2)
    shape = (count, 192, 1) if axis == 0 else (count, 1, 192)
    noisy = stack + rng.normal(0, 8, shape)
    report = estimate_noise(noisy, axes="TYX")
    correlated, other = ("rows", "columns") if axis == 0 else ("columns", "rows")
    (correction,) = report.noise.corrections
    assert getattr(correction, correlated) == pytest.approx(8, rel=0.2)
    assert getattr(correction, other) == 0
    assert report.check.findings == ()
    # a noise model that leaves them out does not explain them
    verdict = check_noise(noisy, report.noise.plain, axes="TYX").verdict
    assert f"Whole {correlated} have offsets of their own" in verdict
    assert f"Whole {other} have" not in verdict


@pytest.mark.slow
def test_channels_of_different_noise_are_detected():
    stack = np.stack([frames(3, f"poisson(gain={gain}, offset=20)") for gain in (2, 6)])
    check = estimate_noise(stack, axes="CTYX", per_channel=False).check
    assert "The noise of the channels differs" in check.verdict
    alike = np.stack([frames(3, NOISE, seed) for seed in (1, 2)])
    assert estimate_noise(alike, axes="CTYX").check.findings == ()


@pytest.mark.slow
def test_the_check_warns_that_texture_may_be_mistaken_for_noise():
    noisy = data.grass().astype(float) + np.random.default_rng(0).normal(0, 20, (512, 512))
    check = estimate_noise(noisy).check
    assert "texture may be mistaken for noise" in check.verdict
    assert not check.explains


def test_a_failed_check_before_denoising_is_a_warning_only():
    pattern = np.random.default_rng(9).normal(0, 20, picture().shape)
    with pytest.warns(DataWarning, match="a fixed pattern of the camera"):
        report = run_to_end(estimate_for_denoising(frames(6) + pattern, axes="TYX"))
    assert "explains the noise: 0.9" in report.provenance()["noise check"]
    unchecked = replace(report, check=None, check_error="too small")
    assert unchecked.provenance()["noise check"] == "the noise could not be checked: too small"


def test_the_noise_is_estimated_once_for_estimate_and_check(monkeypatch):
    calls = []
    original = estimate.estimate_from_frames
    monkeypatch.setattr(
        estimate, "estimate_from_frames", lambda *args: calls.append(1) or original(*args)
    )
    for steps in (estimate.estimate_steps, estimate_for_denoising):
        calls.clear()
        assert run_to_end(steps(frames(2), axes="TYX")).check is not None
        assert len(calls) == 1
