"""The demo writes into one folder, and replaces only files that a demo wrote."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from test_model_file import small_model

from napari_noise2score import (
    Image,
    ScoreModel,
    UserError,
    read_image,
    sample,
    write_image,
)
from napari_noise2score.cli import _demo as demo


def run(folder):
    messages = []
    demo.run(folder, headless=True, track=lambda job, *_: job, say=messages.append)
    return messages


@pytest.fixture(autouse=True)
def small_demo(monkeypatch):
    monkeypatch.setattr(demo, "BUDGET", {"steps": 1})
    small = partial(sample.simulate_cells, (2, 2, 96, 96))
    monkeypatch.setattr(sample, "simulate_cells", small)


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_second_demo_replaces_the_files_of_the_first_only(tmp_path):
    (tmp_path / "mine.tif").write_bytes(b"precious")
    run(tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        name for name in demo.FILES if not name.endswith(".ome.tif")
    }
    assert ScoreModel.load(tmp_path / "out" / "demo.n2s").name == "demo"
    assert read_image(tmp_path / "out" / "denoised.tif").axes == "TZYX"
    (tmp_path / "out" / "mine.tif").write_bytes(b"precious")
    run(tmp_path / "out")
    assert (tmp_path / "out" / "mine.tif").read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["noisy.tif", "truth.ome.tif", "denoised.png", "demo.n2s"])
def test_a_file_that_the_demo_did_not_write_is_not_replaced(name, tmp_path):
    if name == "demo.n2s":
        small_model().save(tmp_path / name)
    else:
        write_image(tmp_path / name, Image(np.zeros((8, 8), np.uint8), "YX"))
    before = contents(tmp_path)
    with pytest.raises(UserError, match="was not written by the demo"):
        run(tmp_path)
    assert contents(tmp_path) == before


def test_damaged_files_and_folders_are_not_replaced(tmp_path):
    for name in ("noisy.tif", "demo.n2s"):
        (tmp_path / name).write_bytes(b"damaged")
        with pytest.raises(UserError, match="was not written by the demo"):
            run(tmp_path)
        (tmp_path / name).unlink()
    (tmp_path / "noisy.tif").mkdir()
    with pytest.raises(UserError):
        run(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"precious")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(UserError) as caught:
            run(folder)
        assert str(caught.value).isprintable()
    assert contents(tmp_path) == {"file": b"precious"}
