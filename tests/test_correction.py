"""Calibration maps, and offsets of rows and columns, are undone before the score is learned."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_noise2score import (
    Image,
    ScoreModel,
    UserError,
    check_noise,
    denoise,
    denoise_steps,
    estimate_noise,
    parse_noise,
    polish,
    read_image,
    train,
    uncertainty,
)
from napari_noise2score.cli.main import app
from napari_noise2score.denoising.cluster import connect
from napari_noise2score.denoising.export import export_model
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.estimation.camera import calibrate_camera
from napari_noise2score.image.corrected import PixelCorrection, corrected
from napari_noise2score.noise import CalibrationMap, Corrected, Correction, parse_correction
from napari_noise2score.sample import NOISE, simulate_cells
from napari_noise2score.score.correction import corrected_image

ROWS = f"{NOISE} + rows(sigma=4)"


def with_rows(noisy, sigma=4.0, seed=1):
    offsets = np.random.default_rng(seed).normal(0, sigma, (*noisy.shape[:-1], 1))
    return (noisy + offsets).astype(np.float32)


@pytest.fixture(scope="module")
def cells():
    return simulate_cells((2, 4, 96, 96))


@pytest.fixture
def maps(tmp_path, monkeypatch):
    """Write the maps of a camera of 96 × 96 pixels, two of them defective, and go to them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    gain = 2 * (1 + 0.05 * rng.standard_normal((96, 96)))
    gain[3, 4] = gain[50, 60] = np.nan
    offset = 100 + 3 * rng.standard_normal((96, 96))
    read = 3 * np.exp(0.4 * rng.standard_normal((96, 96)))
    for name, values in (("gain", gain), ("offset", offset), ("read", read)):
        tifffile.imwrite(f"{name}.tif", values.astype(np.float32))
    text = "poisson(gain=map(gain.tif), offset=map(offset.tif)) + gaussian(sigma=map(read.tif))"
    return text, gain, offset, read


# ---------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    "extra",
    [
        "", " + rows(sigma=4)", " + columns(sigma=0.5)", " + rows(sigma=4) + columns(sigma=2)",
        " + pattern(file=offset.tif)",
    ],
)  # fmt: skip
def test_the_text_of_a_correction_is_read_back(maps, extra):
    noise = parse_noise(maps[0] + extra)
    assert str(noise) == maps[0] + extra
    assert parse_noise(str(noise)) == noise
    # a slider changes the typical values, and the maps stay
    changed = noise.scaled(1.3)
    assert "map(gain.tif, value=" in str(changed)
    assert parse_noise(str(changed)) == changed
    assert changed.correction == noise.correction


def test_a_correction_alone_is_read(maps):
    assert parse_correction("rows(sigma=4) + columns(sigma=1)")[0] == Correction(rows=4, columns=1)
    (own,) = parse_correction(maps[0])
    assert [*own.maps] == ["offset", "gain", "read_noise"]
    assert parse_correction(str(own)) == (own,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("poisson(gain=map(none.tif))", "none.tif: there is no such file"),
        ("rows(sigma=4)", "name the noise as well"),
        ("gaussian(sigma=3) + rows(4)", "write rows(sigma=4)"),
        ("gaussian(sigma=3) + rows(sigma=-4)", "above 0"),
        ("gaussian(sigma=3) + rows(sigma=4) + rows(sigma=4)", "given twice"),
        ("gaussian(sigma=3) + pattern(dark.tif)", "write pattern(file=dark.tif)"),
        ("poisson(gain=map())", "write a map as map(gain.tif)"),
        ("poisson(gain=map(gain.tif, y=3))", "y=0, x=0"),
        ("gamma(alpha=map(gain.tif))", "alpha cannot be a map"),
    ],
)
def test_a_correction_that_is_not_understood_is_refused_in_one_line(maps, text, says):
    with pytest.raises(UserError, match=r"^[^\n]*$") as refused:
        parse_noise(text)
    assert says in str(refused.value)


def test_a_map_of_another_size_is_refused_and_a_part_of_the_detector_can_be_named(maps):
    image = Image(np.full((40, 50), 130, np.uint16), "YX")
    with pytest.raises(UserError, match=r"96 × 96 pixels, and the image 40 × 50.*y=0, x=0"):
        corrected_image(image, parse_correction(maps[0]), fills=True)
    part = maps[0].replace(".tif", ".tif, y=10, x=20")
    y = corrected_image(image, parse_correction(part), fills=False).data[:]
    gain, offset = (values[10:50, 20:70] for values in maps[1:3])
    expected = (130 - offset) * np.nanmedian(maps[1]) / gain + np.median(maps[2])
    known = np.isfinite(gain)
    np.testing.assert_allclose(y[known], expected[known], rtol=1e-5)
    with pytest.raises(UserError, match="does not cover"):
        corrected_image(image, parse_correction(part.replace("y=10", "y=70")), fills=True)


# ------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize(
    "index",
    [
        (0, 1), (slice(None), 2, slice(3, 9), slice(5, 40)), (..., 5), (1, 3, 7, 8), slice(1, 2),
        (0, slice(None, None, 2), slice(None, None, 3), slice(40, 3, -1)), (-1, -1, slice(0, 0)),
    ],
)  # fmt: skip
def test_a_part_of_a_corrected_image_is_a_part_of_all_of_it(cells, index):
    noisy = with_rows(cells[0])
    before = noisy.copy()
    correction = PixelCorrection(
        shift=np.arange(96.0)[:, None] + np.zeros(96), defective=np.eye(96) > 0, rows=4.0
    )
    image = corrected(Image(noisy, "TZYX"), [correction], fills=True)
    np.testing.assert_array_equal(image.data[index], image.data[:][index])
    np.testing.assert_array_equal(noisy, before)


def test_padding_and_missing_pixels_stay_what_they_are(cells):
    noisy = with_rows(cells[0])
    noisy[..., :20] = 0
    noisy[0, 0, 50, 50] = np.nan
    model = train(noisy, axes="TZYX", steps=2, correction="rows(sigma=4)")
    # of some tiles nothing is valid
    for tile in (None, (16, 16)):
        clean = denoise(noisy, model, ROWS, axes="TZYX", tile=tile).compute()
        assert (clean[..., :20] == 0).all()
        assert np.isnan(clean[0, 0, 50, 50])
        assert np.isfinite(clean).sum() == clean.size - 1


def test_defective_pixels_are_not_learned_from_and_filled_in_the_result(maps, cells):
    rng = np.random.default_rng(5)
    raw = parse_noise(maps[0]).sample(cells[1], rng)
    raw[..., 3, 4] = raw[..., 50, 60] = 4000
    masked = corrected_image(Image(raw, "TZYX"), parse_correction(maps[0]), fills=False)
    assert masked.valid.excluded[0, 0].sum() == 2
    model = train(raw, axes="TZYX", steps=2, correction=maps[0])
    assert model.high < 1000
    clean = denoise(raw, model, maps[0], axes="TZYX").compute()
    assert np.isfinite(clean).all()
    assert clean[..., 3, 4].max() < 1000


def test_maps_bring_the_noise_back_to_one_gain(maps, cells):
    raw = parse_noise(maps[0]).sample(cells[1], np.random.default_rng(5))
    y = corrected_image(Image(raw, "TZYX"), parse_correction(maps[0]), fills=True).data[:]
    clean = cells[1] + np.median(maps[2])
    good = np.isfinite(maps[1])
    assert np.var((y - clean)[..., good]) < 0.9 * np.var((raw - clean)[..., good])
    assert abs(np.mean((y - clean)[..., good])) < 0.2


def test_a_map_of_sigma_is_divided_out_and_back():
    rng = np.random.default_rng(0)
    sigma = np.geomspace(5, 20, 64)[None, :] * np.ones((64, 1))
    clean = 200 + 50 * np.sin(np.indices((4, 64, 64))[1] / 9)
    noisy = clean + sigma * rng.standard_normal(clean.shape)
    noise = Corrected(parse_noise("gaussian(sigma=10)"), Correction(sigma=CalibrationMap(sigma)))
    model = train(noisy, axes="TYX", steps=100, correction=noise.correction)
    x = denoise(noisy, model, noise, axes="TYX").compute()
    factor = np.median(sigma.astype(np.float32)) / sigma
    plain = replace(model, provenance={})
    same = denoise(noisy * factor, plain, "gaussian(sigma=10)", axes="TYX").compute() / factor
    np.testing.assert_allclose(x, same, atol=1e-2)
    assert np.mean((x - clean) ** 2) < 0.25 * np.mean((noisy - clean) ** 2)
    assert uncertainty(noisy, model, noise, axes="TYX")[0].compute()[:, 50:].mean() > 0


# --------------------------------------------------------------------------------------- rows


def test_offsets_of_rows_and_columns_are_found_and_the_gain_is_right(cells):
    noisy = with_rows(simulate_cells((2, 4, 128, 128))[0])
    found = estimate_noise(noisy, axes="TZYX").noise
    assert found.correction.rows == pytest.approx(4, rel=0.15)
    assert found.correction.columns == 0
    assert found.model.base.gain == pytest.approx(2, rel=0.05)
    turned = estimate_noise(np.swapaxes(noisy, -1, -2), axes="TZYX").noise
    assert (turned.correction.rows, turned.correction.columns) == (0, found.correction.rows)
    assert not estimate_noise(cells[0], axes="TZYX").noise.corrections


def test_the_check_looks_at_corrected_images(cells):
    noisy = with_rows(simulate_cells((2, 4, 128, 128))[0])
    assert check_noise(noisy, ROWS, axes="TZYX").explains
    assert not check_noise(noisy, NOISE, axes="TZYX").explains


def test_removing_row_offsets_is_better_than_ignoring_them(cells):
    noisy, clean = with_rows(cells[0]), cells[1] + 100
    errors = []
    for correction in (None, "rows(sigma=4)"):
        model = train(noisy, axes="TZYX", steps=60, correction=correction)
        x = denoise(noisy, model, NOISE, axes="TZYX").compute()
        errors.append(np.mean((x - clean) ** 2))
    assert errors[1] < 0.7 * errors[0]


def test_every_way_to_denoise_gives_the_same_pixels(cells, tmp_path):
    noisy = with_rows(cells[0])
    image = Image(noisy, "TZYX", scale={"Y": 0.1, "X": 0.1})
    model = train(image, steps=2, correction="rows(sigma=4)")
    model.save(tmp_path / "m.n2s")
    model = ScoreModel.load(tmp_path / "m.n2s")
    whole = denoise(image, model, ROWS).data.compute()
    # the model knows what it undoes, and the strength of the rows is that of training
    for noise in (NOISE, f"{NOISE} + rows(sigma=5)"):
        np.testing.assert_array_equal(denoise(image, model, noise).data.compute(), whole)
    np.testing.assert_allclose(denoise(image, model, ROWS, tile=(32, 32)).data, whole, atol=1e-3)
    planes = LivePlanes(noisy, model, "TZYX")
    place = planes.place((1, 2, 0, 0))
    for _ in planes.prepare(place):
        pass
    np.testing.assert_allclose(planes.solve(place, ROWS)[0, 0], whole[1, 2], atol=1e-3)
    out = tmp_path / "x.ome.zarr"
    steps = denoise_steps(image, model, ROWS, out, tile=(32, 32))
    next(steps)
    steps.close()
    for _ in denoise_steps(image, model, ROWS, out, tile=(32, 32), resume=True):
        pass
    result = read_image(out)
    np.testing.assert_allclose(result.data[:], whole, atol=1e-3)
    assert result.notes["noise"] == ROWS
    assert result.notes["correction"] == ["rows(sigma=4)"]
    assert result.scale["X"] == 0.1


@pytest.mark.slow
def test_workers_undo_what_the_model_undoes(cells, tmp_path):
    noisy = with_rows(cells[0])
    tifffile.imwrite(tmp_path / "n.tif", noisy, imagej=True, metadata={"axes": "TZYX"})
    image = read_image(tmp_path / "n.tif")
    model = train(image, steps=2, correction="rows(sigma=4)")
    with connect(workers=1) as client:
        for _ in denoise_steps(image, model, ROWS, tmp_path / "x.zarr", client=client):
            pass
    whole = denoise(image, model, ROWS).data.compute()
    np.testing.assert_allclose(read_image(tmp_path / "x.zarr").data[:], whole, atol=1e-3)


def test_a_polish_is_taught_on_corrected_images(cells):
    noisy = with_rows(cells[0])
    model = train(noisy, axes="TZYX", steps=2, correction="rows(sigma=4)")
    taught = polish(noisy, model, ROWS, axes="TZYX", steps=2)
    x = denoise(noisy, model, NOISE, axes="TZYX", polish=taught).compute()
    assert np.isfinite(x).all()
    # maps that are arrays are in the noise model only
    pattern = Correction(pattern=CalibrationMap(np.arange(96.0) + np.zeros((96, 1))))
    noise = Corrected(parse_noise(NOISE), pattern)
    model = train(noisy, axes="TZYX", steps=2, correction=pattern)
    taught = polish(noisy, model, noise, axes="TZYX", steps=2)
    assert np.isfinite(denoise(noisy, model, noise, axes="TZYX", polish=taught).compute()).all()
    assert check_noise(noisy, noise, axes="TZYX", model=model).summary


def test_a_model_and_a_noise_model_must_undo_the_same(cells, tmp_path):
    noisy = with_rows(cells[0])
    plain = train(noisy, axes="TZYX", steps=2)
    with pytest.raises(UserError, match=r"on images without a correction.*rows"):
        denoise(noisy, plain, ROWS, axes="TZYX")
    model = train(noisy, axes="TZYX", steps=2, correction="rows(sigma=4)")
    with pytest.raises(UserError, match=r"with the correction rows\(sigma=4\).*columns"):
        denoise(noisy, model, f"{NOISE} + columns(sigma=4)", axes="TZYX")
    with pytest.raises(UserError, match="cannot be part of an exported model"):
        export_model(model, NOISE, tmp_path / "exported")


def test_a_model_says_if_its_map_is_gone_or_has_changed(maps, cells):
    raw = parse_noise(maps[0]).sample(cells[1], np.random.default_rng(5))
    model = train(
        raw, axes="TZYX", steps=2, correction="gaussian(sigma=1) + pattern(file=gain.tif)"
    )
    tifffile.imwrite("gain.tif", np.ones((96, 96), np.float32))
    with pytest.raises(UserError, match="has changed since the model was trained"):
        denoise(raw, model, NOISE, axes="TZYX")


def test_each_channel_has_its_own_correction(cells):
    noisy = np.stack([with_rows(cells[0][0]), np.swapaxes(with_rows(cells[0][0]), -1, -2)])
    correction = "rows(sigma=4) ; columns(sigma=4)"
    model = train(noisy, axes="CZYX", steps=2, correction=correction)
    each = " ; ".join(f"{NOISE} + {one}" for one in correction.split(" ; "))
    x = denoise(noisy, model, each, axes="CZYX").compute()
    assert x.shape == noisy.shape
    found = estimate_noise(noisy, axes="CZYX", per_channel=True).noise
    assert [bool(own.rows) for own in found.corrections] == [True, False]


# ------------------------------------------------------------------------------------- camera


def frames(level, offset, gain, read, count, seed):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(level, (count, *gain.shape))
    noise = read * rng.standard_normal(counts.shape)
    return np.clip(np.rint(counts * gain + offset + noise), 0, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def camera():
    rng = np.random.default_rng(3)
    offset = 100 + 3 * rng.standard_normal((64, 64))
    gain = 2 * (1 + 0.1 * rng.standard_normal((64, 64)))
    read = 3 * np.exp(0.3 * rng.standard_normal((64, 64)))
    read[10, 20] = read[30, 40] = 40
    return offset, gain, read


def test_a_camera_is_calibrated_from_dark_and_flat_frames(camera):
    offset, gain, read = camera
    dark = frames(0, *camera, 100, 0)
    flat = [frames(level, *camera, 200, level) for level in (50, 400)]
    found = calibrate_camera(dark, flat)
    assert {(10, 20), (30, 40)} <= {(y, x) for y, x, _ in found.defects}
    assert len(found.defects) < 8
    good = np.isfinite(found.gain)
    assert np.std((found.offset - offset)[good]) < 0.5
    assert np.corrcoef(found.read_noise[good], read[good])[0, 1] > 0.95
    assert np.corrcoef(found.gain[good], gain[good])[0, 1] > 0.7
    assert np.median(found.gain[good]) == pytest.approx(2, rel=0.03)
    assert found.gain_spread == pytest.approx(0.1, rel=0.3)


def test_a_few_flat_frames_give_a_flat_gain_map_rather_than_a_noisy_one(camera):
    offset, _, read = camera
    even = (offset, np.full((64, 64), 2.0), read)
    found = calibrate_camera(frames(0, *even, 50, 0), frames(300, *even, 20, 1))
    good = np.isfinite(found.gain)
    assert np.std(found.gain[good]) < 0.2
    assert found.gain_error > 0.2


@pytest.mark.parametrize(
    ("dark", "flat", "says"),
    [
        (np.full((3, 8, 8), 100), np.full((20, 8, 8), 200), "3 dark frames are too few"),
        (np.full((20, 8, 8), 100), np.full((20, 8, 9), 200), "one size"),
        (np.full((20, 8, 8), 100), np.full((20, 8, 8), 200), "all the same"),
        ("normal", "normal", "must be lit"),
    ],
)
def test_frames_that_cannot_calibrate_are_refused(dark, flat, says):
    rng = np.random.default_rng(0)
    dark, flat = (rng.normal(100, 3, (20, 8, 8)) if isinstance(f, str) else f for f in (dark, flat))
    with pytest.raises(UserError, match=says):
        calibrate_camera(dark, flat)


def test_the_commands_calibrate_train_and_denoise_with_maps(camera, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, levels in (("dark", [0]), ("flat", [50, 300])):
        (tmp_path / name).mkdir()
        for level in levels:
            tifffile.imwrite(f"{name}/{level}.tif", frames(level, *camera, 40, level))
    tifffile.imwrite(
        "cells.tif", frames(10, *camera, 6, 9), imagej=True, metadata={"axes": "TYX"}
    )  # fmt: skip
    run = CliRunner()
    done = run.invoke(app, ["calibrate-camera", "dark", "flat", "maps"])
    assert done.exit_code == 0, done.output
    noise = next(line for line in done.output.splitlines() if line.startswith("poisson("))
    assert (tmp_path / "maps" / "defective_pixels.csv").read_text().startswith("y,x,reason")
    notes = read_image("maps/gain.tif").notes
    assert notes["dark frames"] == 40
    model = ["--model", "m.n2s"]
    done = run.invoke(app, ["train", "cells.tif", *model, "--steps", "2", "--correction", noise])
    assert done.exit_code == 0, done.output
    done = run.invoke(app, ["denoise", "cells.tif", "clean.tif", *model, "--noise", noise])
    assert done.exit_code == 0, done.output
    assert np.isfinite(read_image("clean.tif").data[:]).all()
    assert read_image("clean.tif").notes["noise"] == noise
    done = run.invoke(app, ["info", "m.n2s", "--json"])
    assert "gain" in json.loads(done.output)["correction"]
    again = run.invoke(app, ["calibrate-camera", "dark", "flat", "maps"])
    assert isinstance(again.exception, UserError)


def test_estimate_says_how_to_undo_row_offsets(tmp_path):
    noisy = with_rows(simulate_cells((2, 2, 128, 128))[0])
    tifffile.imwrite(tmp_path / "n.tif", noisy, imagej=True, metadata={"axes": "TZYX"})
    done = CliRunner().invoke(app, ["estimate", str(tmp_path / "n.tif")])
    assert done.exit_code == 0, done.output
    assert "train --correction 'rows(sigma=" in done.output
