"""The command line as a user runs it: real files, one-line errors, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from shared import ALL_NOISES, small_crops

from napari_noise2score import ScoreModel, read_image, train
from napari_noise2score.cli.main import main

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def run(monkeypatch, capfd):
    """Return a function that runs a command line and returns its exit code, stdout and stderr."""

    def run_command(*arguments):
        monkeypatch.setattr(sys, "argv", ["noise2score", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        return stopped.value.code, out, err

    return run_command


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Return a folder with two clean images, a noisy stack, and a model."""
    root = tmp_path_factory.mktemp("inputs")
    y, x = np.mgrid[:64, :72] / 12
    clean = np.rint(120 + 60 * np.sin(y) * np.cos(x)).astype(np.uint8)
    (root / "clean").mkdir()
    iio.imwrite(root / "clean" / "a.png", clean)
    iio.imwrite(root / "clean" / "b.png", clean[:50, ::-1].copy())
    noisy = clean + 10 * np.random.default_rng(0).standard_normal((6, 64, 72))
    tifffile.imwrite(
        root / "stack.tif", noisy.astype(np.float32), imagej=True, resolution=(10, 10),
        metadata={"axes": "TYX", "unit": "um", "finterval": 2.0},
    )  # fmt: skip
    model = train(small_crops(noisy), axes="TYX", steps=80, name="m", context="none")
    model.save(root / "m.n2s")
    return root


def test_simulate_train_denoise_evaluate(run, inputs, tmp_path):
    noise = "gaussian(sigma=10)"
    assert run("simulate", inputs / "clean", tmp_path / "noisy", "--noise", noise)[0] == 0
    code, _, stderr = run("train", tmp_path / "noisy", "--model", tmp_path / "m.n2s", "--steps", 2)
    assert (code, "2 steps" in stderr) == (0, True)
    model = inputs / "m.n2s"
    code, *_ = run(
        "denoise", tmp_path / "noisy", tmp_path / "done", "--model", model, "--noise", noise
    )
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "done").iterdir()) == ["a.tif", "b.tif"]
    scores = {}
    for name in ("noisy", "done"):
        code, out, _ = run("evaluate", tmp_path / name, inputs / "clean", "--json")
        scores[name] = json.loads(out)
    assert set(scores["done"]) == {"a.tif", "b.tif", "mean"}
    assert scores["noisy"]["mean"]["psnr"] == pytest.approx(28.1, abs=0.2)
    assert scores["done"]["mean"]["psnr"] > scores["noisy"]["mean"]["psnr"] + 4


@pytest.mark.parametrize("noise", ALL_NOISES)
def test_every_noise_model_can_be_simulated_and_denoised(run, inputs, tmp_path, noise):
    clean, noisy = inputs / "clean" / "a.png", tmp_path / "noisy.npy"
    assert run("simulate", clean, noisy, "--noise", noise)[0] == 0
    code, _, stderr = run(
        "denoise", noisy, tmp_path / "done.npy", "--model", inputs / "m.n2s", "--noise", noise
    )
    assert code == 0, stderr
    assert np.isfinite(np.load(tmp_path / "done.npy")).all()


def test_a_model_may_be_trained_for_correlated_noise(run, inputs, tmp_path):
    noise = "gaussian(sigma=10) @ A"
    run("simulate", inputs / "clean", tmp_path / "noisy", "--noise", noise)
    options = ("--model", tmp_path / "m.n2s", "--steps", 2)
    assert run("train", tmp_path / "noisy", *options, "--correlation", "A")[0] == 0
    assert "correlation" in run("info", tmp_path / "m.n2s")[1]
    target = (tmp_path / "noisy", tmp_path / "done", "--model", tmp_path / "m.n2s", "--noise")
    code, _, stderr = run("denoise", *target, "gaussian(sigma=10)")
    assert (code, "write it as '... @ A'" in stderr) == (2, True)
    assert run("denoise", *target, noise)[0] == 0
    code, _, stderr = run("train", inputs / "clean", *options, "--overwrite", "--correlation", "B")
    assert (code, "write A or kernel" in stderr) == (2, True)


def test_a_simulation_is_not_rounded_or_clipped_and_depends_on_its_seed_only(run, inputs, tmp_path):
    clean = inputs / "clean" / "a.png"
    for name, seed in (("a.npy", 0), ("b.npy", 0), ("c.npy", 1)):
        run("simulate", clean, tmp_path / name, "--noise", "gaussian(sigma=80)", "--seed", seed)
    a, b, c = (np.load(tmp_path / f"{n}.npy") for n in "abc")
    assert a.dtype == np.float32
    assert a.min() < 0
    assert a.max() > 255
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".npy", ".zarr"])
def test_a_result_keeps_the_metadata_and_records_model_and_noise(run, inputs, tmp_path, ending):
    out = tmp_path / f"out{ending}"
    noise = "poisson(gain=1) + gaussian(sigma=2)"
    code, _, err = run(
        "denoise", inputs / "stack.tif", out, "--model", inputs / "m.n2s", "--noise", noise
    )
    assert (code, err) == (0, "")
    image = read_image(out, "TYX")
    assert image.data.dtype == np.float32
    if ending != ".npy":
        assert dict(image.scale) == pytest.approx({"T": 2.0, "Y": 0.1, "X": 0.1}, rel=1e-4)
        assert (image.notes["model"], image.notes["noise"]) == ("m", noise)


def test_dtype_same_keeps_the_type_of_the_image(run, inputs, tmp_path):
    clean = inputs / "clean"
    options = ("--model", inputs / "m.n2s", "--noise", "gaussian(sigma=10)", "--tile", "24x32")
    assert run("denoise", clean, tmp_path / "o", *options, "--dtype", "same")[0] == 0
    assert read_image(tmp_path / "o" / "a.png").data.dtype == np.uint8


def test_settings_can_come_from_a_file_and_errors_name_the_line(run, inputs, tmp_path):
    good = tmp_path / "good.yaml"
    good.write_text("steps: 2\nseed: 7\n")
    model = tmp_path / "m.n2s"
    assert run("train", inputs / "stack.tif", "--model", model, "--config", good)[0] == 0
    assert ScoreModel.load(model).provenance["seed"] == 7
    for text, phrase in [
        ("steps: 2\nspeed: 9\n", "line 2: speed: no such setting"),
        ("seed: 1\n\nsteps: none\n", "line 3: steps"),
        ("steps: [1\n", "not a YAML file"),
        ("steps\n", "line 1: write settings as"),
        ("ndim: 4\n", "line 1: ndim"),
    ]:
        (tmp_path / "bad.yaml").write_text(text)
        options = ("--model", tmp_path / "no.n2s", "--config", tmp_path / "bad.yaml")
        code, _, err = run("train", inputs / "stack.tif", *options)
        assert (code, err.count("\n")) == (2, 1)
        assert phrase in err


@pytest.mark.parametrize(
    ("error", "exit_code"),
    # Ctrl-C between two steps, or a server that stops answering
    [(KeyboardInterrupt(), 130), (OSError("no answer"), 2)],
)
def test_an_interrupted_training_is_saved_and_resumed(
    run, inputs, tmp_path, monkeypatch, error, exit_code
):
    from napari_noise2score.cli import _checkpoints

    track = _checkpoints.track

    def until_stopped(steps, *about):
        for progress in track(steps, *about):
            yield progress
            if progress.result.step == 5:
                raise error

    monkeypatch.setattr(_checkpoints, "track", until_stopped)
    model = tmp_path / "m.n2s"
    np.save(tmp_path / "stack.npy", np.random.default_rng(0).normal(100, 10, (32, 32)))
    arguments = ("train", tmp_path / "stack.npy", "--model", model, "--steps")
    code, _, err = run(*arguments, 100_000)
    assert (code, "go on with --resume" in err) == (exit_code, True)
    assert ScoreModel.load(model).provenance["steps"] == 5
    monkeypatch.setattr(_checkpoints, "track", track)
    assert run(*arguments, 7, "--resume")[0] == 0
    assert ScoreModel.load(model).provenance["steps"] == 7
    assert not (tmp_path / "m.n2s.resume").exists()


def test_a_mistake_ends_in_one_line_and_exit_code_2_without_a_file(run, inputs, tmp_path):
    np.save(tmp_path / "nan.npy", np.full((64, 64), np.nan, np.float32))
    np.save(tmp_path / "flat.npy", np.ones((64, 64), np.float32))
    np.save(tmp_path / "none.npy", np.ones((0, 64), np.float32))
    np.save(tmp_path / "stack.npy", np.ones((3, 64, 64), np.float32))
    iio.imwrite(tmp_path / "rgb.png", np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "text.n2s").write_text("no model")
    out, m = tmp_path / "out.tif", inputs / "m.n2s"
    noise = ("--noise", "gaussian(sigma=10)")
    apply = ("--model", m, *noise)
    new = ("--model", tmp_path / "new.n2s", "--steps", 1)
    before = sorted(tmp_path.rglob("*"))
    for arguments, phrase in [
        (("train", inputs / "stack.tif", *new, "--axes", "TYQ"), "'Q' is not an axis"),
        (("train", tmp_path / "stack.npy", *new), "--axes"),
        (("train", tmp_path / "flat.npy", *new), "constant"),
        (("train", tmp_path / "none.npy", *new), "empty"),
        (("train", tmp_path / "nan.npy", *new), "no valid pixel"),
        (("train", tmp_path / "absent.tif", *new), "no such file"),
        (("train", inputs / "stack.tif", "--model", tmp_path / "new.n2s", "--steps", 0), "steps"),
        (("train", inputs / "stack.tif", *new, "--device", "abacus"), "abacus"),
        (("train", inputs / "stack.tif", *new, "--ndim", 3), "no Z"),
        (("train", inputs / "stack.tif", "--model", m, "--steps", 1), "--overwrite"),
        (("denoise", tmp_path / "nan.npy", out, *apply), "no valid pixel"),
        (("denoise", tmp_path / "none.npy", out, *apply), "empty"),
        (("denoise", tmp_path / "rgb.png", out, *apply), "1 channel, but"),
        (("denoise", tmp_path / "absent.tif", out, *apply), "no such file"),
        (("denoise", inputs / "stack.tif", out, "--model", m, "--noise", "gausian()"), "gaussian"),
        (("denoise", inputs / "stack.tif", out, "--model", m, *noise, "--tile", "9"), "tile"),
        (("denoise", inputs / "stack.tif", out, "--model", m, *noise, "--tile", "axb"), "512x512"),
        (("denoise", inputs / "stack.tif", out, "--model", m, *noise, "--dtype", "int"), "same"),
        (("denoise", inputs / "stack.tif", tmp_path / "o.jpg", *apply), "end the name"),
        (("denoise", inputs / "stack.tif", inputs / "stack.tif", *apply), "never overwritten"),
        (("denoise", inputs / "stack.tif", out, "--model", tmp_path / "text.n2s", *noise), "not a"),
        (("info", tmp_path / "text.n2s"), "not a score model"),
        (("evaluate", inputs / "clean", tmp_path / "rgb.png"), "shape"),
        (("evaluate", inputs / "stack.tif", inputs / "clean"), "no clean image of that name"),
        (("simulate", inputs / "clean" / "a.png", out, "--noise", "x"), "not understood"),
        (("denoise", inputs / "stack.tif", out, "--bogus"), "No such option"),
        (("denoise", inputs / "stack.tif"), "Missing"),
        (("dance",), "dance"),
    ]:
        code, _, err = run(*arguments)
        assert code == 2, arguments
        assert err.count("\n") == 1, err
        assert phrase in err, err
    assert sorted(tmp_path.rglob("*")) == before


def test_info_describes_a_model(run, inputs):
    _, out, _ = run("info", inputs / "m.n2s", "--json")
    facts = json.loads(out)
    assert (facts["name"], facts["steps"], facts["trained on axes"]) == ("m", 80, "TYX")
    assert "noise curve" in run("info", inputs / "m.n2s")[1]


def test_affine_evaluation_ignores_scale_and_offset(run, inputs, tmp_path):
    clean = iio.imread(inputs / "clean" / "a.png").astype(np.float32)
    np.save(tmp_path / "a.npy", clean / 2 + 40)
    plain, fitted = (
        json.loads(run("evaluate", tmp_path / "a.npy", inputs / "clean", "--json", *option)[1])
        for option in ((), ("--affine",))
    )
    assert plain["mean"]["psnr"] < 30
    assert fitted["mean"]["psnr"] > 100


def test_the_demo_writes_pictures_stacks_and_a_model(run, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_noise2score.cli._demo.BUDGET", {"steps": 40})
    code, out, err = run("demo", "--out", tmp_path / "d", "--headless")
    assert code == 0, err
    noisy, denoised = (float(line.split()[2]) for line in out.splitlines())
    assert denoised > noisy + 2
    names = {f"{n}.{e}" for n in ("noisy", "denoised", "truth") for e in ("tif", "png")}
    assert {p.name for p in (tmp_path / "d").iterdir()} == names | {"demo.n2s"}
    image = read_image(tmp_path / "d" / "denoised.tif")
    assert (image.axes, image.units["X"]) == ("TZYX", "micrometer")
    assert image.notes["noise"].startswith("poisson(gain=2, offset=100)")
    with tifffile.TiffFile(tmp_path / "d" / "noisy.tif") as file:
        assert file.is_ome


def test_the_demo_says_why_there_is_no_window(run, tmp_path, monkeypatch):
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux can lack a screen")
    monkeypatch.setattr("napari_noise2score.cli._demo.BUDGET", {"steps": 1})
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, _, err = run("demo", "--out", tmp_path / "d")
    assert (code, "no window: there is no screen" in err) == (0, True)


def test_every_command_has_a_help_page(run):
    for command in ("demo", "train", "denoise", "simulate", "evaluate", "info"):
        code, out, _ = run(command, "--help")
        assert (code, "Usage" in out) == (0, True)


def test_importing_the_package_imports_neither_torch_nor_qt():
    code = (
        "import sys, napari_noise2score, napari_noise2score.cli.main;"
        "heavy = {'torch', 'qtpy', 'napari', 'PyQt6'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not DATA.exists(), reason=f"no evaluation data in {DATA}")
def test_real_micrographs_are_denoised_after_training_on_four_frames(run, tmp_path):
    frames = f"{DATA}/fmd/raw/Confocal_MICE_*.png"
    clean = DATA / "fmd" / "gt" / "Confocal_MICE.png"
    run("train", frames, "--model", tmp_path / "m.n2s", "--steps", 60)
    options = ("--model", tmp_path / "m.n2s", "--noise", "poisson(gain=2)")
    frame = next((DATA / "fmd" / "raw").glob("Confocal_MICE_*.png"))
    run("denoise", frame, tmp_path / "done.tif", *options)
    before, after = (
        json.loads(run("evaluate", source, clean, "--json")[1])["mean"]["psnr"]
        for source in (frame, tmp_path / "done.tif")
    )
    assert after > before + 3


def test_the_version_is_printed(monkeypatch, capsys):
    from napari_noise2score import __version__

    monkeypatch.setattr(sys, "argv", ["noise2score", "--version"])
    with pytest.raises(SystemExit) as done:
        main()
    assert not done.value.code
    assert capsys.readouterr().out.strip() == __version__
