"""Denoising is lazy, has no seams between tiles, keeps the axes, and removes noise."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from shared import small_crops

from napari_noise2score import Gaussian, UserError, denoise, denoise_steps, train
from napari_noise2score.image.image import Image

NOISE = Gaussian(10)


def blobs(shape, seed=0):
    grid = np.indices(shape[-2:]) / 16
    clean = 100 + 40 * np.sin(grid[0]) * np.cos(grid[1]) + np.zeros(shape)
    return clean, clean + 10 * np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture(scope="module")
def model():
    return train(small_crops(blobs((6, 96, 96))[1]), axes="TYX", steps=100, context="none")


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((np.asarray(a) - b) ** 2))


@pytest.mark.slow
def test_noise_is_removed(model):
    clean, noisy = blobs((2, 100, 90), seed=1)
    assert psnr(denoise(noisy, model, NOISE, axes="TYX"), clean) > psnr(noisy, clean) + 6


@pytest.mark.slow
def test_one_training_serves_every_noise_model(model):
    clean, noisy = blobs((100, 90), seed=1)
    stronger, weaker = (denoise(noisy, model, f"gaussian(sigma={s})") for s in (10, 3))
    # a model with less noise removes less
    assert np.std(noisy - weaker) < np.std(noisy - stronger)
    # at intensities near 100, Poisson noise of gain 1 has a variance near 100, like NOISE
    assert psnr(denoise(noisy, model, "poisson(gain=1)"), clean) > psnr(noisy, clean) + 5


@pytest.mark.slow
@pytest.mark.parametrize("tile", [(8, 8), (24, 40), (64, 64)])
def test_tiles_leave_no_seam_even_at_the_edges(model, tile):
    _, noisy = blobs((83, 91))
    whole = denoise(noisy, model, NOISE).compute()
    tiled = denoise(noisy, model, NOISE, tile=tile).compute()
    assert np.abs(whole - tiled).max() < 1e-4 * np.ptp(noisy)


@pytest.mark.slow
def test_volumes_are_tiled_without_seams():
    _, noisy = blobs((6, 40, 44))
    model = train(noisy, axes="ZYX", ndim=3, steps=1)
    whole = denoise(noisy, model, NOISE, axes="ZYX").compute()
    tiled = denoise(noisy, model, NOISE, axes="ZYX", tile=(4, 32, 32)).compute()
    assert np.abs(whole - tiled).max() < 1e-4 * np.ptp(noisy)


@pytest.mark.slow
def test_numpy_dask_zarr_and_a_target_agree(model, tmp_path):
    _, noisy = blobs((2, 3, 50, 60))
    noisy = noisy.astype(np.float32)
    expected = denoise(noisy, model, NOISE, axes="TZYX").compute()
    store = zarr.create_array(str(tmp_path / "a.zarr"), data=noisy, chunks=(1, 1, 32, 32))
    for source in (da.from_array(noisy, chunks=(1, 2, 20, 20)), store):
        assert np.array_equal(denoise(source, model, NOISE, axes="TZYX").compute(), expected)
    target = np.zeros(noisy.shape, np.float32)
    steps = list(denoise_steps(noisy, model, NOISE, target, axes="TZYX", tile=(32, 32)))
    assert (steps[-1].done, steps[-1].total) == (24, 24)
    assert np.abs(target - expected).max() < 1e-4 * np.ptp(noisy)


@pytest.mark.slow
def test_only_the_requested_planes_are_read(model):
    pages_read = []

    def make_page(block_info=None):
        pages_read.append(block_info[None]["chunk-location"])
        return np.full((1, 64, 64), 100, np.uint16)

    stack = da.map_blocks(make_page, chunks=((1,) * 10_000, 64, 64), dtype=np.uint16)
    result = denoise(stack, model, NOISE, axes="TYX")
    assert result.shape == stack.shape
    assert not pages_read
    result[1234].compute()
    # four more planes are read to find padding
    assert (1234, 0, 0) in pages_read
    assert len(set(pages_read)) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["YXT", "XTY", "TYX"])
def test_axes_may_come_in_any_order(model, axes):
    _, noisy = blobs((3, 40, 56))
    expected = denoise(noisy, model, NOISE, axes="TYX").compute()
    order = ["TYX".index(a) for a in axes]
    result = denoise(noisy.transpose(order), model, NOISE, axes=axes).compute()
    assert np.allclose(result, expected.transpose(order), atol=1e-3)


@pytest.mark.slow
def test_the_result_is_in_the_grey_levels_of_the_image(model):
    clean, noisy = blobs((100, 90))
    shifted = denoise(noisy, model, "poisson(gain=2, offset=50)").compute()
    assert abs(shifted.mean() - clean.mean()) < 2


@pytest.mark.slow
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory")])
def test_if_memory_runs_out_the_job_continues_with_smaller_tiles(model, monkeypatch, error):
    _, noisy = blobs((2, 128, 100))
    expected = denoise(noisy, model, NOISE, axes="TYX").compute()
    score = type(model).score

    def score_with_little_memory(self, y, sigma_a=None, context=None):
        if y[0].numel() > max_pixels:
            raise error
        return score(self, y, sigma_a, context)

    monkeypatch.setattr(type(model), "score", score_with_little_memory)
    max_pixels = 160 * 160
    target = np.zeros(noisy.shape, np.float32)
    steps = list(denoise_steps(noisy, model, NOISE, target, axes="TYX"))
    assert np.abs(target - expected).max() < 1e-4 * np.ptp(noisy)
    assert "going on with tiles of" in steps[0].message
    assert not steps[1].message  # reported only once
    max_pixels = 10
    with pytest.raises(UserError, match=r"a tile of .* does not fit in the memory"):
        denoise(noisy, model, NOISE, axes="TYX").compute()


@pytest.mark.slow
def test_reading_a_dask_image_triggers_no_dask_callbacks(model):
    """Napari records the tasks of its own thread by callbacks, and fails if others intervene."""
    from dask.callbacks import Callback

    stack = da.full((2, 40, 40), 100.0, chunks=(1, 20, 20))
    tasks = []
    with Callback(pretask=lambda *task: tasks.append(task)):
        for _ in denoise_steps(stack, model, NOISE, np.zeros(stack.shape, np.float32), axes="TYX"):
            pass
    assert not tasks


@pytest.mark.slow
def test_closing_a_run_stops_it(model):
    _, noisy = blobs((20, 40, 40))
    target = np.zeros(noisy.shape, np.float32)
    run = denoise_steps(noisy, model, NOISE, target, axes="TYX")
    assert next(run).total == 20
    run.close()
    assert not target[10:].any()


@pytest.mark.slow
def test_integers_are_rounded_and_clipped(model):
    _, noisy = blobs((40, 40))
    target = np.zeros((40, 40), np.uint8)
    for _ in denoise_steps(noisy, model, NOISE, target):
        pass
    expected = denoise(noisy, model, NOISE).compute()
    assert np.array_equal(target, np.clip(np.rint(expected), 0, 255).astype(np.uint8))


@pytest.mark.slow
def test_the_input_is_not_altered(model):
    _, noisy = blobs((40, 40))
    before = noisy.copy()
    denoise(noisy, model, NOISE).compute()
    assert np.array_equal(noisy, before)


def test_many_channels_have_common_coordinates_and_are_denoised_separately():
    _, noisy = blobs((17, 40, 40))
    separate = train(noisy, axes="CYX", steps=2)
    assert denoise(noisy, separate, NOISE, axes="CYX").shape == noisy.shape
    # any number of channels, since each is a separate image
    assert denoise(noisy[:2], separate, NOISE, axes="CYX").compute().shape == (2, 40, 40)


@pytest.mark.slow
def test_mistakes_are_reported_in_one_line(model):
    _, noisy = blobs((40, 40))
    for call, phrase in [
        (lambda: denoise(np.zeros((40, 40, 3)), model, NOISE, axes="YXC"), "1 channel, but .* 3"),
        (lambda: denoise(np.zeros((3, 40, 40)), model, NOISE), "say which they are"),
        (lambda: denoise(noisy, model, "gauss(sigma=3)"), "did you mean 'gaussian'"),
        (lambda: denoise(noisy, model, NOISE, tile=(0, 8)), "above 0"),
        (lambda: denoise(noisy, model, NOISE, tile=(8,)), "for each of YX"),
        (lambda: denoise(noisy, model, NOISE, sigma_a=5), "trained for"),
        (
            lambda: denoise(np.full((40, 40), np.nan), model, NOISE).compute(),
            "holds no valid pixel",
        ),
        (lambda: denoise(np.zeros((0, 40)), model, NOISE), "empty"),
        (lambda: Image(np.zeros((3, 3), bool), "YX"), "type bool"),
    ]:
        with pytest.raises(UserError, match=phrase) as caught:
            call()
        assert "\n" not in str(caught.value)
