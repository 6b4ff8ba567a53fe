"""Polish teaches the network one noise model; it is kept in a file and can be resumed."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from napari_noise2score import (
    Image,
    Polish,
    ScoreModel,
    UserError,
    denoise,
    estimate_noise,
    parse_noise,
    polish,
    polish_steps,
    train,
    uncertainty,
)
from napari_noise2score.cli.main import main
from napari_noise2score.denoising._clean_images import (
    MAX_NOISE_LEFT,
    noise_left_in,
)
from napari_noise2score.denoising.polish_need import measure_polish_need
from napari_noise2score.score.polish import path_beside

NOISE = "nakagami(m=1)"


def speckle(shape=(96, 96), seed=0):
    """Return a smooth scene with one-look speckle, and the scene."""
    y, x = np.indices(shape[-2:])
    clean = 60 + 40 * np.sin(y / 12) * np.cos(x / 15) + np.zeros(shape)
    clean[..., 30:60, 30:60] += 60
    return parse_noise(NOISE).sample(clean, np.random.default_rng(seed)), clean


@pytest.fixture(scope="module")
def noisy():
    return speckle()[0].astype(np.float32)


@pytest.fixture(scope="module")
def model(noisy):
    return train(noisy, steps=4)


@pytest.fixture(scope="module")
def polished(noisy, model):
    return polish(noisy, model, NOISE, steps=6)


def error(estimate, clean):
    return float(np.sqrt(np.mean((estimate - clean) ** 2)))


@pytest.mark.slow
def test_speckle_is_removed_where_the_equation_says_little(wide_networks):
    noisy, clean = speckle((64, 64))
    model = train(noisy, steps=40)
    polished = polish(noisy, model, NOISE, steps=60)
    solved = denoise(noisy, model, NOISE, np.empty_like(noisy))
    result = denoise(noisy, model, NOISE, np.empty_like(noisy), polish=polished)
    assert error(result, clean) < 0.5 * error(solved, clean)
    # which is known without the clean image: the mean of y is in proportion to x
    per_x = np.sqrt(np.pi) / 2
    lowered = (error(solved, clean) ** 2 - error(result, clean) ** 2) * per_x**2
    variance = np.mean(clean**2) * (1 - per_x**2)
    assert 0.5 < polished.gain / (lowered / variance) < 2
    assert polished.sentence.startswith("the polish lowers the mean squared error by about")
    # the standard error is of the size of the error
    predicted = uncertainty(noisy, model, NOISE, np.empty_like(noisy), polish=polished)
    assert 0.5 < np.sqrt(np.mean(predicted**2)) / error(result, clean) < 2


def test_a_stopped_polish_goes_on_from_its_checkpoint(noisy, model, polished, tmp_path):
    # in each of the rounds, and between two of them
    for stop in (1, 2, 3, 5, 6):
        steps = polish_steps(noisy, model, NOISE, steps=6)
        for progress in steps:
            if progress.result and progress.result.step == stop:
                progress.result.checkpoint(tmp_path / "resume")
                break
        steps.close()
        resumed = polish(noisy, model, NOISE, steps=6, resume=tmp_path / "resume")
        assert resumed.fingerprint == polished.fingerprint
    with pytest.raises(UserError, match="begun with other noise"):
        polish(noisy, model, "nakagami(m=2)", steps=6, resume=tmp_path / "resume")


def test_progress_ends_complete(noisy, model):
    last = list(polish_steps(noisy, model, NOISE, steps=4))[-1]
    assert last.done == last.total
    assert last.result.step == last.result.steps == 4


def test_a_file_keeps_it(noisy, polished, model, tmp_path):
    file = tmp_path / "one.polish"
    polished.save(file)
    loaded = Polish.load(file)
    assert loaded.fingerprint == polished.fingerprint
    assert loaded.noise == NOISE
    with pytest.raises(UserError, match="belongs to a score model"):
        ScoreModel.load(file)
    model.save(tmp_path / "model.n2s")
    with pytest.raises(UserError, match="not a complete polish"):
        Polish.load(tmp_path / "model.n2s")
    damaged = bytearray(file.read_bytes())
    damaged[-9] ^= 255
    file.write_bytes(damaged)
    with pytest.raises(UserError, match="damaged"):
        Polish.load(file)


def test_it_serves_no_other_model_or_noise(noisy, model, polished):
    with pytest.raises(UserError, match=r"belongs to the noise model nakagami\(m=1\)"):
        denoise(noisy, model, "nakagami(m=2)", polish=polished)
    with pytest.raises(UserError, match="another score model"):
        denoise(noisy, train(noisy, steps=2), NOISE, polish=polished)


def test_lazy_array_and_file_agree_and_name_the_polish(noisy, model, polished, tmp_path):
    image = Image(noisy, "YX", name="sar")
    result = denoise(noisy, model, NOISE, np.empty_like(noisy), polish=polished)
    lazy = denoise(image, model, NOISE, polish=polished)
    np.testing.assert_array_equal(lazy.data.compute(), result)
    assert lazy.notes["polish"] == polished.fingerprint
    file = denoise(image, model, NOISE, tmp_path / "out.tif", polish=polished)
    np.testing.assert_array_equal(tifffile.imread(file), result)
    tiled = denoise(noisy, model, NOISE, np.empty_like(noisy), tile=(32, 32), polish=polished)
    np.testing.assert_allclose(tiled, result, atol=1e-3)
    # another result is not taken for this one
    with pytest.raises(UserError, match="exists already"):
        denoise(image, model, NOISE, file, resume=True)


def test_the_result_stays_within_what_can_be_recorded(noisy):
    recorded = np.rint(noisy).clip(0, 255).astype(np.uint8)
    model = train(recorded, steps=2)
    polished = polish(recorded, model, "gaussian(sigma=40)", steps=3)
    extreme = recorded.copy()
    extreme[:20], extreme[50:70] = 0, 255
    shape = np.empty(noisy.shape)
    result = denoise(extreme, model, "gaussian(sigma=40)", shape, polish=polished)
    assert result.min() >= 0
    assert result.max() <= 255


@pytest.mark.parametrize(
    ("axes", "shape", "noise", "how"),
    [
        ("ZYX", (5, 40, 44), "poisson(gain=2, offset=100)", {"ndim": 3}),
        ("TCYX", (2, 2, 40, 44), "gaussian(sigma=5) + gaussian(sigma=1)", {}),
        ("TYX", (3, 48, 44), "gaussian(sigma=10) @ A", {"correlation": "A"}),
        ("YX", (40, 44), "gamma(alpha=26) @ A + gaussian(sigma=10)", {"correlation": "A"}),
    ],
)
def test_volumes_channels_and_correlated_noise(axes, shape, noise, how):
    if noise.startswith("gaussian(sigma=5)"):
        noise = "gaussian(sigma=5)"
    y = parse_noise(noise).sample(np.full(shape, 150.0), np.random.default_rng(0))
    model = train(y, axes=axes, steps=2, **how)
    polished = polish(y, model, noise, axes=axes, steps=3)
    for quantity in (denoise, uncertainty):
        values = quantity(y, model, noise, np.empty(shape), axes=axes, polish=polished)
        assert np.isfinite(values).all()


def test_invalid_pixels_stay_as_they_are(model, noisy):
    padded = noisy.copy()
    padded[:30], padded[50, 50:70] = 0, np.nan
    polished = polish(padded, model, NOISE, steps=2)
    result = denoise(padded, model, NOISE, np.empty_like(noisy), polish=polished)
    np.testing.assert_array_equal(result[:30], 0)
    assert np.isnan(result[50, 50:70]).all()
    assert np.isfinite(result[31:50]).all()
    unknown = uncertainty(padded, model, NOISE, np.empty_like(noisy), polish=polished)
    assert np.isnan(unknown[:30]).all()


def test_the_command_line_keeps_it_beside_the_model(
    noisy, model, tmp_path, capfd, monkeypatch, short_polish
):
    tifffile.imwrite(tmp_path / "sar.tif", noisy)
    model.save(tmp_path / "sar.n2s")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["noise2score", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 0

    arguments = ["denoise", "sar.tif", "--model", "sar.n2s", "--noise", NOISE, "--polish"]
    run(*arguments, "a.tif")
    (kept,) = tmp_path.glob("sar-*.polish")
    assert kept.name in capfd.readouterr().err
    before = kept.stat().st_mtime_ns
    run(*arguments, "b.tif", "--uncertainty", "u.tif")
    assert kept.stat().st_mtime_ns == before
    assert (tmp_path / "a.tif").exists()
    np.testing.assert_array_equal(tifffile.imread("a.tif"), tifffile.imread("b.tif"))
    loaded = Polish.load(kept)
    expected = denoise(noisy, model, NOISE, np.empty_like(noisy), polish=loaded)
    np.testing.assert_array_equal(tifffile.imread("a.tif"), expected)
    assert not list(tmp_path.glob("*.resume"))

    # where the folder of the model cannot be written to, a polish is not kept
    kept.unlink()
    (tmp_path / f"{kept.name}.resume").mkdir()
    run(*arguments, "c.tif")
    assert "the polish will not be kept" in capfd.readouterr().err
    np.testing.assert_array_equal(tifffile.imread("a.tif"), tifffile.imread("c.tif"))
    assert not kept.exists()
    loaded.save(kept)
    run("info", kept.name)
    assert NOISE in capfd.readouterr().out


def test_a_polish_that_does_harm_is_not_used(noisy, model, polished, tmp_path, monkeypatch, capfd):
    harmful = replace(polished, provenance={**polished.provenance, "gain": -0.02})
    tifffile.imwrite(tmp_path / "sar.tif", noisy)
    model.save(tmp_path / "sar.n2s")
    harmful.save(path_beside(tmp_path / "sar.n2s", model, parse_noise(NOISE)))
    files = [str(tmp_path / name) for name in ("sar.tif", "out.tif", "sar.n2s")]
    arguments = ["noise2score", "denoise", *files[:2], "--model", files[2], "--noise", NOISE]
    monkeypatch.setattr(sys, "argv", [*arguments, "--polish"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert "the polish is not used, as it would increase the mean" in capfd.readouterr().err
    plain = denoise(noisy, model, NOISE, np.empty_like(noisy))
    np.testing.assert_array_equal(tifffile.imread(files[1]), plain)


def crops_of(values):
    """Return flat images of grey level 100 with these values added, as denoised crops."""
    return [np.full((1, 64, 64), 100.0) + values]


def test_noise_left_in_single_pixels_is_found():
    noise = parse_noise("gaussian(sigma=10)")
    rng = np.random.default_rng(0)
    everywhere = rng.normal(0, 5, (1, 64, 64))
    assert noise_left_in(crops_of(everywhere), noise) == pytest.approx(0.25, rel=0.1)
    few = np.where(rng.random((1, 64, 64)) < 0.005, -60.0, 0.0)
    assert noise_left_in(crops_of(few), noise) > MAX_NOISE_LEFT
    # structure is no noise: edges and thin bright lines
    lines = np.zeros((1, 64, 64))
    lines[:, 20:40] += 80
    lines[:, :, 50:52] += 80
    assert noise_left_in(crops_of(lines), noise) < 0.01


@pytest.mark.slow
def test_an_estimate_says_whether_a_polish_pays(noisy, model):
    need = measure_polish_need(noisy, model, NOISE)
    assert need.pays
    assert need.sentence.startswith("a polish may pay: ")
    y, x = np.indices((96, 96))
    mild = 100 + 40 * np.sin(y / 12) * np.cos(x / 15)
    mild = mild + np.random.default_rng(0).normal(0, 10, (2, 96, 96))
    model = train(mild, axes="TYX", steps=150)
    report = estimate_noise(mild, axes="TYX", model=model)
    assert not report.polish.pays
    assert report.polish.sentence == "a polish would change little"
    assert report.describe()["polish"] == report.polish.sentence


def test_a_polish_sees_the_neighbours_that_the_score_sees():
    frames = np.random.default_rng(0).poisson(3, (6, 64, 64)).astype(np.float32)
    model = train(frames, axes="TYX", steps=2, context="T")
    polished = polish(frames, model, "poisson(gain=1)", axes="TYX", steps=30)
    other = frames.copy()
    other[0] += 5
    both = [
        denoise(y, model, "poisson(gain=1)", np.empty(y.shape), axes="TYX", polish=polished)
        for y in (frames, other)
    ]
    assert not np.allclose(both[0][1], both[1][1], atol=0.01)
    np.testing.assert_array_equal(both[0][2:], both[1][2:])
