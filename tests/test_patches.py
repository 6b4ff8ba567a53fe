"""Training draws patches with structure from stores of any size, and reads little else."""

from __future__ import annotations

import numpy as np
import pytest

from napari_noise2score import UserError, train
from napari_noise2score.image.axes import layout
from napari_noise2score.score.empty import is_empty
from napari_noise2score.score.patches import Patches


class LargeStore:
    """Simulate a store of 64 GB with few bright cells in the dark, and count the pixels read."""

    shape, dtype, ndim = (8000, 2000, 2000), np.dtype(np.uint16), 3

    def __init__(self):
        self.pixels_read, self.largest = 0, 0

    def __getitem__(self, index):
        z, y, x = index
        self.pixels_read += (y.stop - y.start) * (x.stop - x.start)
        self.largest = max(self.largest, (y.stop - y.start) * (x.stop - x.start))
        position = np.mgrid[y, x]
        inside = np.all(position // 100 % 5 == 0, axis=0)  # cells cover 1/25 of the area
        intensity = np.where(inside, 200 + 100 * np.sin(position / 7).prod(0), 20)
        rng = np.random.default_rng(z * 7919 + y.start)
        return rng.poisson(intensity).astype(np.uint16)


def test_empty_background_is_drawn_less_often():
    store = LargeStore()
    layouts = [layout("ZYX", store.shape)]
    rng = np.random.default_rng(0)
    sampler = Patches([store], layouts, (64, 64), rng)
    sampler.draw(1, rng)  # the first draw reads larger pieces to find valid pixels
    store.largest = 0
    patches = sampler.draw(60, rng)
    n_with_cells = sum(patch.max() > 80 for patch in patches)
    # a random position would include a cell in 1 of 10 patches
    assert n_with_cells > 24
    assert n_with_cells < 60  # the background is learned too
    assert store.largest == 64 * 64
    one_plane = [layout("ZYX", (1, 2000, 2000))]
    from_one_plane = Patches([store], one_plane, (64, 64), rng).draw(60, rng)
    assert sum(patch.max() > 80 for patch in from_one_plane) < 20


@pytest.mark.slow
def test_training_on_a_large_store_reads_a_few_pieces_only():
    store = LargeStore()
    model = train(store, axes="ZYX", steps=2)
    # rare bright cells were found in a few megabytes of 64 gigabytes
    assert model.high > 250
    assert store.largest <= 128 * 128
    assert 2 * store.pixels_read < 50e6


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 64, 64), (1, 8, 48, 48)])
def test_a_patch_of_noise_alone_is_empty_and_one_with_structure_is_not(shape):
    rng = np.random.default_rng(0)
    level = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)) * 100.0
    for noise in (rng.normal(0, 10, shape), rng.poisson(3, shape), np.zeros(shape)):
        assert is_empty(level + noise)
        edge = np.arange(shape[-1]) > 20
        assert not is_empty(level + noise + 3 * (noise.std() + 1) * edge)


def test_a_constant_store_is_refused_in_one_line():
    class Blank(LargeStore):
        def __getitem__(self, index):
            return np.zeros(super().__getitem__(index).shape, np.uint16)

    with pytest.raises(UserError, match="constant"):
        train(Blank(), axes="ZYX", steps=1)
