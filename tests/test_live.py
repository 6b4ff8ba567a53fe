"""A plane is denoised live as in the whole image, and its score is computed once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_noise2score import UserError, denoise, train
from napari_noise2score.denoising import live
from napari_noise2score.denoising.live import LivePlanes

GAUSSIAN = "gaussian(sigma=10)"


def noisy(*shape):
    rows = np.linspace(0, 200, shape[-1])
    return np.random.default_rng(0).normal(100 + rows, 10, shape).astype(np.float32)


def prepare(planes, index, noise=GAUSSIAN):
    place = planes.place(index)
    for _ in planes.prepare(place, noise):
        pass
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "shape", "settings", "noise"),
    [
        ("YX", (50, 61), {}, GAUSSIAN),
        ("TZYX", (2, 3, 40, 48), {}, "poisson(gain=1) + gaussian(sigma=2)"),
        ("ZTYX", (6, 2, 40, 44), {"ndim": 3}, GAUSSIAN),
        ("CYX", (2, 40, 48), {}, GAUSSIAN),
        ("TYXC", (2, 40, 48, 3), {}, GAUSSIAN),
        ("TCYX", (2, 6, 40, 48), {}, GAUSSIAN),  # too many channels to denoise together
        ("TYX", (2, 48, 50), {"correlation": "A"}, "gaussian(sigma=10) @ A"),
        ("TYX", (2, 48, 50), {}, "poisson(gain=1) @ A"),
    ],
)
def test_a_live_plane_equals_that_of_the_denoised_image(axes, shape, settings, noise, monkeypatch):
    monkeypatch.setattr(live, "TILE_SIDE", 32)  # so that the plane has several tiles
    image = noisy(*shape)
    model = train(image, axes=axes, steps=3, **settings)
    whole = np.asarray(denoise(image, model, noise, axes=axes))
    planes = LivePlanes(image, model, axes)
    index = tuple(n - 1 for n in shape)
    place = prepare(planes, index, noise)
    found = planes.solve(place, noise)
    region = tuple(slice(p, p + n) for p, n in zip(place, found.shape, strict=True))
    np.testing.assert_allclose(found, whole[region], rtol=1e-3)
    assert found.shape[axes.index("Y")] == shape[axes.index("Y")]


@pytest.mark.slow
def test_the_network_runs_once_for_all_noise_models(monkeypatch):
    image = noisy(3, 40, 40)
    # not pooled: after two steps, the error of the score would hide the noise model
    model = replace(train(image, axes="TYX", steps=2), score_errors=())
    planes = LivePlanes(image, model, "TYX")
    place = prepare(planes, (1, 0, 0))
    assert planes.is_ready(place, "poisson(gain=3)")
    assert not planes.is_ready(planes.place((2, 0, 0)), GAUSSIAN)
    monkeypatch.setattr(type(model), "score", None)  # any further call fails
    results = [planes.solve(place, f"gaussian(sigma={sigma})") for sigma in (1, 5, 10)]
    changed = [float(np.abs(r - image[1]).mean()) for r in results]
    assert changed == sorted(changed)
    assert changed[2] > 3 * changed[0]


def test_correlated_noise_needs_a_wider_margin(monkeypatch):
    monkeypatch.setattr(live, "MIN_MARGIN", 4)
    image = noisy(60, 60)
    planes = LivePlanes(image, train(image, steps=2), "YX")
    place = prepare(planes, (0, 0))
    assert not planes.is_ready(place, f"{GAUSSIAN} @ A")
    prepare(planes, (0, 0), f"{GAUSSIAN} @ A")
    assert planes.is_ready(place, f"{GAUSSIAN} @ A")


def test_an_interrupted_plane_is_not_kept(monkeypatch):
    monkeypatch.setattr(live, "TILE_SIDE", 32)
    image = noisy(40, 80)
    planes = LivePlanes(image, train(image, steps=2), "YX")
    steps = planes.prepare((0, 0))
    assert next(steps).total == 2 * 3
    steps.close()
    assert not planes.is_ready((0, 0), GAUSSIAN)


@pytest.mark.slow
def test_only_the_last_planes_are_kept_in_memory():
    image = noisy(live.MAX_PLANES + 1, 32, 32)
    planes = LivePlanes(image, train(image, axes="TYX", steps=2), "TYX")
    places = [prepare(planes, (t, 0, 0)) for t in range(len(image))]
    assert [planes.is_ready(p, GAUSSIAN) for p in places] == [False, *[True] * live.MAX_PLANES]


def test_impossible_requests_are_refused(monkeypatch):
    image = noisy(40, 40)
    model = train(image, steps=2)
    with monkeypatch.context() as small_limit:
        small_limit.setattr(live, "MAX_PIXELS", 1000)
        with pytest.raises(UserError, match="40 × 40 pixels is too large"):
            prepare(LivePlanes(image, model, "YX"), (0, 0))
    with pytest.raises(UserError, match="1 channel"):
        LivePlanes(noisy(2, 40, 40), model, "CYX")
    with pytest.raises(UserError, match="no valid pixel"):
        LivePlanes(np.full((40, 40), np.nan), model, "YX")


def test_pixels_that_were_never_recorded_stay_as_they_are():
    image = noisy(40, 40).astype(np.float32)
    model = train(image, steps=2)
    image[3, 3] = np.nan
    planes = LivePlanes(image, model, "YX")
    found = planes.solve(prepare(planes, (0, 0)), GAUSSIAN)
    assert np.isnan(found[3, 3])
    assert np.isfinite(found).sum() == found.size - 1
