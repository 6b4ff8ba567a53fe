"""Context: a network sees the neighbouring time points and planes beside the plane itself."""

from __future__ import annotations

import sys
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import torch

from napari_noise2score import (
    Image,
    ScoreModel,
    UserError,
    denoise,
    denoise_steps,
    estimate_noise,
    read_image,
    train,
    train_steps,
    uncertainty,
)
from napari_noise2score.cli.main import main
from napari_noise2score.denoising.live import LivePlanes
from napari_noise2score.errors import DataWarning
from napari_noise2score.image.axes import layout
from napari_noise2score.score.context import Context, neighbours_of
from napari_noise2score.score.training import describe_context

NOISE = "gaussian(sigma=10)"


def still_movie(shape=(6, 32, 32), sigma=10.0, seed=0):
    """Return frames of one scene with independent noise, and the scene."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    scene = 100 + 40 * np.sin(y / 3) * np.cos(x / 4)
    return (scene + rng.normal(0, sigma, shape)).astype(np.float32), scene


@pytest.fixture(scope="module")
def movie():
    return still_movie()[0]


@pytest.fixture(scope="module")
def model(movie):
    """Return a model that sees two neighbours on each side."""
    return train(movie, axes="TYX", steps=20, context="T", reach=2)


def random_weights(model, seed=0):
    """Return a model of the same architecture that depends on all of its input."""
    network = type(model.network).empty(**model.network.sizes)
    generator = torch.Generator().manual_seed(seed)
    for weights in network.parameters():
        weights.data = 0.05 * torch.randn(weights.shape, generator=generator)
    return replace(model, network=network.eval().requires_grad_(False))


@pytest.mark.parametrize(
    ("position", "reach", "expected"),
    [
        ((0, 1), 2, [(3, 1), (1, 1), (4, 1), (2, 1)]),
        ((3, 1), 1, [(2, 1), (4, 1)]),
        ((4, 0), 2, [(3, 0), (1, 0), (2, 0), (0, 0)]),
        ((1, 0), 2, [(0, 0), (2, 0), (4, 0), (3, 0)]),
        ((2, 0), 3, [(1, 0), (3, 0), (0, 0), (4, 0), None, None]),
    ],
)
def test_each_neighbour_is_given_once_also_at_the_ends(position, reach, expected):
    where = layout("TZYX", (5, 2, 8, 8))
    assert neighbours_of(where, position, Context.around("T", reach)) == expected


def test_a_plane_is_never_its_own_neighbour():
    where = layout("TYX", (3, 8, 8))
    found = [neighbours_of(where, [t], Context.around("T", 3)) for t in range(3)]
    assert all((t,) not in around for t, around in enumerate(found))
    assert neighbours_of(layout("TYX", (1, 8, 8)), [0], Context.around("T", 1)) == [None, None]
    assert neighbours_of(layout("YX", (8, 8)), [], Context.around("Z", 1)) == [None, None]


@pytest.mark.slow
def test_neighbours_lower_the_error_of_a_still_scene():
    movie, scene = still_movie((12, 16, 16))
    alone, beside = (
        train(movie, axes="TYX", steps=200, context=context, reach=1) for context in ("none", "T")
    )
    # what the scores themselves say, without a correction of their bias
    errors = [
        np.mean((denoise(movie, m, NOISE, axes="TYX").compute() - scene) ** 2)
        for m in (replace(alone, patches=None), replace(beside, patches=None))
    ]
    assert errors[1] < 0.75 * errors[0]


def test_the_plane_itself_is_perturbed_and_its_neighbours_are_not(model, movie):
    model = random_weights(model)
    changed = movie.copy()
    changed[0] += 3
    first, second = (
        denoise(frames, model, NOISE, axes="TYX").compute() for frames in (movie, changed)
    )
    differs = [bool((a != b).any()) for a, b in zip(first, second, strict=True)]
    # frame 0 is a neighbour of the two that follow it; the others are too far away
    assert differs == [True, True, True, False, False, False]


def test_neighbours_are_seen_as_a_mean_of_those_that_are_known():
    movie = still_movie((17, 16, 16))[0]
    model = random_weights(train(movie, axes="TYX", steps=1, context="T", reach=7))
    assert model.network.context_channels == 2 * 3  # 1, 2 to 3 and 4 to 7 away

    def middle(frames):
        return denoise(frames, model, NOISE, axes="TYX")[8].compute()

    swapped, nearer, gap, filled = (movie.copy() for _ in range(4))
    swapped[12:16] = movie[15:11:-1]
    nearer[[10, 12]] = movie[[12, 10]]
    gap[13] = np.nan
    filled[13] = movie[[1, 2, 3, 4, 12, 14, 15]].mean(0)
    np.testing.assert_allclose(middle(swapped), middle(movie), atol=1e-3)
    np.testing.assert_allclose(middle(movie[::-1].copy()), middle(movie), atol=1e-3)
    assert np.abs(middle(nearer) - middle(movie)).max() > 0.1
    np.testing.assert_allclose(middle(gap), middle(filled), atol=1e-3)


def test_a_model_file_keeps_the_context(model, movie, tmp_path):
    model.save(tmp_path / "m.n2s")
    loaded = ScoreModel.load(tmp_path / "m.n2s")
    assert loaded.context == Context.around("T", 2)
    assert loaded.fingerprint == model.fingerprint
    assert loaded.describe()["context"] == "the 4 neighbouring time points"
    whole, again = (denoise(movie, m, NOISE, axes="TYX").compute() for m in (model, loaded))
    assert np.array_equal(whole, again)


def test_a_model_without_context_has_no_trace_of_it(movie, tmp_path):
    from napari_noise2score.score._model_file import model_header

    header = model_header(train(movie, axes="TYX", steps=1, context="none"))
    assert "context" not in header
    assert "context_channels" not in header["network"]


@pytest.mark.parametrize(
    ("shape", "axes", "ndim", "context", "count"),
    [
        ((4, 32, 32), "TYX", 2, "T", 2),
        ((4, 32, 32), "ZYX", 2, "Z", 2),
        ((3, 4, 32, 32), "TZYX", 2, "TZ", 4),
        ((4, 2, 32, 32), "TCYX", 2, "T", 2),
        ((4, 32, 5, 32), "TXCY", 2, "T", 2),
        pytest.param((3, 2, 16, 16), "TZYX", 3, "T", 2, marks=pytest.mark.slow),
    ],
)
def test_tiles_lazy_results_and_previews_agree(shape, axes, ndim, context, count):
    noisy = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)
    model = train(noisy, axes=axes, ndim=ndim, steps=2, context=context, reach=1)
    assert len(model.context.offsets) == count
    model = random_weights(model)
    whole = denoise(noisy, model, NOISE, np.empty(shape, np.float32), axes=axes)
    tile = (16, 16) if ndim == 2 else (2, 16, 8)
    lazy = denoise(da.from_array(noisy), model, NOISE, axes=axes, tile=tile).compute()
    np.testing.assert_allclose(lazy, whole, atol=2e-3)
    planes = LivePlanes(noisy, model, axes)
    place = planes.place([n - 1 for n in shape])
    for _ in planes.prepare(place):
        pass
    index = tuple(
        slice(None) if a in "YX" or (a == "C" and model.joint) else slice(i, i + 1)
        for a, i in zip(axes, place, strict=True)
    )
    np.testing.assert_allclose(planes.solve(place, NOISE), whole[index], atol=2e-3)


def test_a_plane_is_read_once_for_all_uses(model, movie):
    class CountingArray:
        shape, dtype, ndim = movie.shape, movie.dtype, movie.ndim

        def __init__(self):
            self.reads = [0] * len(movie)

        def __getitem__(self, at):
            rows = range(*at[0].indices(len(movie))) if isinstance(at[0], slice) else [at[0]]
            for t in rows:
                self.reads[t] += 1
            return movie[at]

    counting = CountingArray()
    lazy = denoise(counting, model, NOISE, axes="TYX")
    lazy[:1].compute(scheduler="synchronous")
    before = list(counting.reads)
    lazy[1:].compute(scheduler="synchronous")
    # the first result needs all frames but the last, which is read once for those before it
    assert [a - b for a, b in zip(counting.reads, before, strict=True)] == [0, 0, 0, 0, 0, 1]


def test_missing_frames_and_images_without_neighbours_are_denoised(model, movie):
    gap = movie.copy()
    gap[2] = np.nan
    result = denoise(gap, model, NOISE, axes="TYX").compute()
    assert np.isnan(result[2]).all()
    assert np.isfinite(np.delete(result, 2, axis=0)).all()
    with pytest.warns(DataWarning, match="neighbouring time points"):
        single = denoise(movie[0], model, NOISE, np.empty(movie[0].shape))
    assert np.isfinite(single).all()


def test_an_interrupted_job_is_resumed_with_the_same_bytes(model, movie, tmp_path):
    image, paths = Image(movie, "TYX"), [tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr"]
    for _ in denoise_steps(image, model, NOISE, paths[0], tile=(16, 32)):
        pass
    steps = denoise_steps(image, model, NOISE, paths[1], tile=(16, 32))
    for _ in range(3):
        next(steps)
    steps.close()
    for _ in denoise_steps(image, model, NOISE, paths[1], tile=(16, 32), resume=True):
        pass
    a, b = (np.asarray(read_image(path).data) for path in paths)
    assert np.array_equal(a, b)


def test_the_uncertainty_and_the_noise_are_computed_with_context(model, movie):
    spread = uncertainty(movie, model, NOISE, axes="TYX").compute()
    assert spread.min() > 0
    assert spread.max() < 20
    frames, _ = still_movie((3, 96, 96))
    report = estimate_noise(frames, axes="TYX", model=model)
    assert 8 < float(report.noise.variance(torch.tensor(100.0)).sqrt()) < 12


def test_by_default_neighbours_that_look_alike_are_used_and_it_says_so():
    movie, _ = still_movie((6, 64, 64))
    model = train(movie, axes="TYX", steps=1)
    assert model.context == Context.around("T", 1)
    assert abs(model.provenance["context change"]["T"]) < 0.1
    assert describe_context(model).startswith(
        "It uses the 2 neighbouring time points. The images change from time point to time point by"
    )
    wider = train(movie, axes="TYX", steps=1, context="auto", reach=2)
    assert wider.context == Context.around("T", 2)


def test_auto_leaves_out_neighbours_that_differ():
    _, scene = still_movie((1, 64, 64))
    rng = np.random.default_rng(0)
    moving = np.stack([np.roll(scene, 9 * t, -1).reshape(64, 64) for t in range(6)])
    moving = moving + rng.normal(0, 10, moving.shape)
    model = train(moving, axes="TYX", steps=1, context="auto")
    assert model.context == Context()
    assert model.provenance["context change"]["T"] > 1
    assert describe_context(model).startswith("It uses no neighbours. The images change")
    # an axis that is asked for is used in any case
    assert train(moving, axes="TYX", steps=1, context="T").context == Context.around("T", 1)


def test_auto_measures_each_axis():
    _, scene = still_movie((1, 64, 64))
    rng = np.random.default_rng(0)
    planes = np.stack([np.roll(scene, 11 * z, -2).reshape(64, 64) for z in range(4)])
    volumes = planes + rng.normal(0, 10, (4, 4, 64, 64))
    model = train(volumes, axes="TZYX", steps=1, context="auto")
    assert model.context == Context.around("T", 1)
    assert set(model.provenance["context change"]) == {"T", "Z"}


def test_a_training_with_context_is_resumed_with_the_same_weights(tmp_path):
    movie, _ = still_movie((4, 16, 16))

    def run(**options):
        return train_steps(movie, axes="TYX", steps=36, **{"context": "T", **options})

    for whole in run():
        if whole.result.step == 5:
            whole.result.checkpoint(tmp_path / "half")
        if whole.result.step == 12:
            expected = whole.result.snapshot()
            break
    for again in run(resume=tmp_path / "half"):
        if again.result.step == 12:
            break
    assert again.result.snapshot().fingerprint == expected.fingerprint
    with pytest.raises(UserError, match="with other context"):
        next(run(resume=tmp_path / "half", context="none"))


def test_correlated_frames_are_no_context():
    rng = np.random.default_rng(0)
    white = rng.normal(0, 10, (16, 64, 64))
    averaged = 100 + (white[1:] + white[:-1]) / 2
    with pytest.raises(UserError, match=r"correlated \(0.5"):
        train(averaged[:2], axes="TYX", steps=1, context="T")
    model = train(averaged, axes="TYX", steps=1, context="T", reach=1)
    assert model.context.offsets == (("T", -2), ("T", 2))
    assert "those nearer than 2 are left out" in describe_context(model)
    independent = train(white + 100, axes="TYX", steps=1, context="T", reach=1)
    assert independent.context == Context.around("T", 1)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"context": "Z"}, "no neighbouring planes"),
        ({"context": "X"}, "choose one of auto, none, T, Z, TZ"),
        ({"reach": 8}, "from 1 to 7"),
        ({"reach": True}, "from 1 to 7"),
        ({"context": ""}, "choose one of"),
    ],
)
def test_an_impossible_context_is_refused_in_one_line(movie, options, phrase):
    with pytest.raises(UserError, match=phrase):
        train(movie, axes="TYX", steps=1, **options)
    with pytest.raises(UserError, match="3-D network"):
        train(movie, axes="ZYX", ndim=3, steps=1, context="Z")


@pytest.mark.parametrize("context", [[], ["--context", "T", "--reach", "1"]])
def test_the_command_line_trains_with_context(movie, tmp_path, capfd, monkeypatch, context):
    np.save(tmp_path / "movie.npy", movie)
    options = ["--axes", "TYX", "--steps", "2", *context]
    arguments = ["train", str(tmp_path / "movie.npy"), "--model", str(tmp_path / "m.n2s"), *options]
    monkeypatch.setattr(sys, "argv", ["noise2score", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert "the 2 neighbouring time points" in capfd.readouterr().err
    assert ScoreModel.load(tmp_path / "m.n2s").context == Context.around("T", 1)
