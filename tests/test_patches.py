"""Training draws from stores of any size what is worth learning from, and reads nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from napari_noise2score import UserError, train
from napari_noise2score.image.axes import layout
from napari_noise2score.score.patches import Patches, is_empty


class Sky:
    """A store of 64 GB with a few bright cells in the dark, that counts what is read of it."""

    shape, dtype, ndim = (8000, 2000, 2000), np.dtype(np.uint16), 3

    def __init__(self):
        self.read, self.most = 0, 0

    def __getitem__(self, index):
        z, y, x = index
        self.read += (y.stop - y.start) * (x.stop - x.start)
        self.most = max(self.most, (y.stop - y.start) * (x.stop - x.start))
        place = np.mgrid[y, x]
        inside = np.all(place // 100 % 5 == 0, axis=0)  # a cell in each 500, 1 part in 25
        light = np.where(inside, 200 + 100 * np.sin(place / 7).prod(0), 20)
        chance = np.random.default_rng(z * 7919 + y.start)
        return chance.poisson(light).astype(np.uint16)


def test_empty_background_is_passed_over():
    sky = Sky()
    where = [layout("ZYX", sky.shape)]
    rng = np.random.default_rng(0)
    drawn = Patches([sky], where, (64, 64), rng)
    drawn.draw(1, rng)  # valid pixels are looked for in larger pieces, once
    sky.most = 0
    patches = drawn.draw(60, rng)
    full = sum(patch.max() > 80 for patch in patches)
    # a place at random shows a part of a cell 1 time in 10
    assert full > 24
    assert full < 60  # the dark is learned too
    assert sky.most == 64 * 64
    small = [layout("ZYX", (1, 2000, 2000))]
    plain = Patches([sky], small, (64, 64), rng).draw(60, rng)
    assert sum(patch.max() > 80 for patch in plain) < 20


def test_a_store_of_any_size_is_trained_on_from_a_few_pieces_of_it():
    sky = Sky()
    model = train(sky, axes="ZYX", steps=2)
    # the bright was seen, rare as it is, in some megabytes out of 64 gigabytes
    assert model.high > 250
    assert sky.most <= 128 * 128
    assert 2 * sky.read < 50e6


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 64, 64), (1, 8, 48, 48)])
def test_noise_alone_is_empty_at_any_level_and_structure_is_not(shape):
    chance = np.random.default_rng(0)
    level = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)) * 100.0
    for noise in (chance.normal(0, 10, shape), chance.poisson(3, shape), np.zeros(shape)):
        assert is_empty(level + noise)
        edge = np.arange(shape[-1]) > 20
        assert not is_empty(level + noise + 3 * (noise.std() + 1) * edge)


def test_a_store_of_nothing_is_still_refused_in_one_line():
    class Blank(Sky):
        def __getitem__(self, index):
            return np.zeros(super().__getitem__(index).shape, np.uint16)

    with pytest.raises(UserError, match="constant"):
        train(Blank(), axes="ZYX", steps=1)
