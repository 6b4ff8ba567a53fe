"""A layer is denoised to OME-Zarr from the window, stopped, finished, and opened."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from window import (
    LONG,
    add_cells,
    answer,
    button,
    click,
    dock,
    field,
    set_noise,
    status,
    wait_until_idle,
)

from napari_noise2score import denoise, denoise_steps, read_image, train, write_image
from napari_noise2score.denoising.jobs import left_of
from napari_noise2score.image.image import Image
from napari_noise2score.sample import NOISE

pytestmark = [pytest.mark.window, pytest.mark.slow]


@pytest.fixture
def named(monkeypatch):
    """Let the next name that is asked for be this one."""
    from qtpy.QtWidgets import QFileDialog

    def named(path):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))

    return named


@pytest.fixture
def widget(viewer, session, model):
    """The Denoise dock without a preview, and a model to choose."""
    widget = dock(viewer, "Denoise")
    button(widget, "live").setChecked(False)
    session.add_model(model, "cells")
    return widget


def write(qtbot, widget):
    set_noise(widget, NOISE)
    click(qtbot, button(widget, "Write OME-Zarr…"))
    wait_until_idle(qtbot, widget)


def files(store):
    return {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_what_is_written_is_added_with_all_that_is_known_of_its_source(
    viewer, qtbot, widget, cells, model, tmp_path, named, notifications
):
    source = add_cells(viewer, cells[0])
    named(tmp_path / "clean")  # the ending is added
    write(qtbot, widget)
    assert notifications() == []
    assert "Added 'cells denoised'" in status(widget)
    path = tmp_path / "clean.ome.zarr"
    layer = viewer.layers["cells denoised"]
    assert layer.multiscale
    for kept in ("scale", "translate", "units", "axis_labels", "contrast_limits"):
        np.testing.assert_array_equal(getattr(layer, kept), getattr(source, kept))
    assert layer.colormap.name == "green"
    origin = layer.metadata["noise2score"]
    assert (origin["model"], origin["noise"], origin["path"]) == ("cells", NOISE, str(path))
    expected = denoise(cells[0], model, NOISE, axes="TZYX").compute()
    np.testing.assert_allclose(layer.data[0], expected, rtol=1e-4)
    # and the file knows it, too
    kept = read_image(path)
    assert kept.axes == "TZYX"
    assert [kept.scale[a] for a in "TZYX"] == pytest.approx(list(source.scale))
    assert [kept.translate.get(a, 0) for a in "TZYX"] == pytest.approx([0, 1, 2, 3])
    assert kept.units == {"T": "second", **dict.fromkeys("ZYX", "micrometer")}
    assert kept.notes["noise"] == NOISE
    (channel,) = kept.omero["channels"]
    assert channel["color"] == "00FF00"
    assert (channel["window"]["start"], channel["window"]["end"]) == (100, 180)


@pytest.mark.parametrize("kind", ["dask", "zarr", "multiscale", "rgb", "channels", "order"])
def test_any_layer_is_written(
    viewer, qtbot, session, cells, tmp_path, named, notifications, kind, widget
):
    noisy = cells[0]
    axes, settings, data, model = "TZYX", {}, noisy, session.models["cells"]
    if kind == "dask":
        data = da.from_array(noisy, chunks=(1, 1, 20, 20))
    elif kind == "zarr":
        data = zarr.create_array(str(tmp_path / "a.zarr"), data=noisy, chunks=(1, 1, 16, 16))
    elif kind == "multiscale":
        data, settings = [noisy, noisy[..., ::2, ::2]], {"multiscale": True}
    elif kind == "rgb":
        data = np.random.default_rng(0).integers(80, 120, (40, 40, 3), dtype=np.uint8)
        axes, settings, model = "YXC", {"rgb": True}, train(data, axes="YXC", steps=2)
        session.add_model(model, "photo")
    elif kind == "channels":  # more than are seen together
        axes, data = "TCZYX", np.stack([noisy] * 5, axis=1)
    else:
        axes, data = "ZTYX", noisy.swapaxes(0, 1)
    labels = axes.lower().rstrip("c" if kind == "rgb" else "")
    source = viewer.add_image(data, name="any", axis_labels=tuple(labels), **settings)
    named(tmp_path / "any denoised.ome.zarr")
    write(qtbot, widget)
    assert notifications() == []
    layer = viewer.layers["any denoised"]
    sharpest = data[0] if kind == "multiscale" else data
    assert (layer.multiscale, layer.rgb) == (True, kind == "rgb")
    assert layer.data[0].shape == sharpest.shape
    assert layer.axis_labels == source.axis_labels
    expected = np.asarray(denoise(sharpest, model, NOISE, axes=axes))
    if kind == "rgb":
        expected = np.clip(np.rint(expected), 0, 255)
    np.testing.assert_allclose(layer.data[0], expected, rtol=1e-4, atol=kind == "rgb")
    viewer.dims.set_current_step(0, 1)  # and it is shown


def test_what_was_stopped_is_finished_and_the_same_to_the_byte(
    viewer, qtbot, widget, session, model, tmp_path, named, notifications
):
    noisy = np.random.default_rng(0).normal(110, 5, (24, 64, 64)).astype(np.float32)
    viewer.add_image(noisy, name="movie", axis_labels="tyx")
    path = tmp_path / "movie.ome.zarr"
    named(path)
    set_noise(widget, NOISE)
    click(qtbot, button(widget, "Write OME-Zarr…"))
    qtbot.waitUntil(lambda: status(widget).startswith("Tile"), timeout=LONG)
    click(qtbot, button(widget, "Stop"))
    wait_until_idle(qtbot, widget)
    assert "what is done is kept" in status(widget)
    assert len(viewer.layers) == 1
    assert not path.exists()
    assert left_of(path)
    begun = len(files(tmp_path))

    # with another noise, or another image of this name and size, it is refused
    set_noise(widget, "gaussian(sigma=3)")
    answer("Finish it")
    click(qtbot, button(widget, "Write OME-Zarr…"))
    wait_until_idle(qtbot, widget)
    assert f"begun with another noise ({NOISE})" in notifications()[-1]
    viewer.layers["movie"].data = noisy + 1
    set_noise(widget, NOISE)
    answer("Finish it")
    click(qtbot, button(widget, "Write OME-Zarr…"))
    wait_until_idle(qtbot, widget)
    assert "begun with another content of the image" in notifications()[-1]
    assert len(notifications()) == 2
    answer("Cancel")
    click(qtbot, button(widget, "Write OME-Zarr…"))
    assert not widget.busy
    assert len(files(tmp_path)) == begun  # nothing was lost by that

    viewer.layers["movie"].data = noisy
    answer("Finish it")
    click(qtbot, button(widget, "Write OME-Zarr…"))
    wait_until_idle(qtbot, widget)
    assert viewer.layers["movie denoised"].data[0].shape == noisy.shape
    assert not left_of(path)
    image = Image(noisy, "TYX", name="movie")
    for _ in denoise_steps(image, model, NOISE, tmp_path / "alone.ome.zarr"):
        pass
    pixels = zarr.open_group(str(path), mode="r"), zarr.open_group(str(tmp_path / "alone.ome.zarr"))
    assert np.array_equal(pixels[0]["0"][:], pixels[1]["0"][:])


def test_begin_anew(viewer, qtbot, widget, tmp_path, named, notifications):
    viewer.add_image(np.full((8, 8), 110.0), name="plane")
    path = tmp_path / "plane.ome.zarr"
    (tmp_path / ".part-plane.ome.zarr.journal").write_text("nonsense\n")
    named(path)
    answer("Start again")
    write(qtbot, widget)
    assert notifications() == []
    assert read_image(path).data.shape == (8, 8)


def test_nothing_is_written_over_or_into_a_store(
    viewer, qtbot, widget, tmp_path, named, notifications
):
    write_image(tmp_path / "in.ome.zarr", Image(np.full((16, 16), 110.0), "YX"))
    before = files(tmp_path)
    data = zarr.open_group(str(tmp_path / "in.ome.zarr"), mode="r")["0"]
    viewer.add_image(data, name="plane")
    for name, says in [
        ("in.ome.zarr", "exists already: choose another name"),
        ("in.ome.zarr/new.ome.zarr", "would be inside"),
    ]:
        named(tmp_path / name)
        write(qtbot, widget)
        assert says in notifications()[-1]
    assert files(tmp_path) == before


def test_the_uncertainty_is_written_beside_it(
    viewer, qtbot, widget, tmp_path, named, notifications
):
    viewer.add_image(np.full((32, 32), 110.0), name="plane")
    field(widget, "Uncertainty").setChecked(True)
    named(tmp_path / "plane denoised.ome.zarr")
    write(qtbot, widget)
    assert notifications() == []
    assert viewer.layers["plane uncertainty"].contrast_limits[0] == 0
    stores = sorted(p.name for p in tmp_path.iterdir())
    assert stores == ["plane denoised.ome.zarr", "plane uncertainty.ome.zarr"]
    assert [x.name for x in viewer.layers] == ["plane", "plane uncertainty", "plane denoised"]


def test_a_lazy_layer_computes_what_is_looked_at_once_and_off_the_windows_thread(
    viewer, qtbot, widget, notifications
):
    from threading import Event

    from napari.settings import get_settings

    read, gate = [], Event()
    gate.set()

    def page(block_info=None):
        # a window that waited for this could not open the gate
        assert gate.wait(20), "the window's thread waits"
        read.append(block_info[None]["chunk-location"][0])
        return np.full((1, 32, 32), 110, np.uint16)

    stack = da.map_blocks(page, chunks=((1,) * 1000, 32, 32), dtype=np.uint16)
    looks = {"contrast_limits": (0, 200), "axis_labels": "tyx"}
    source = viewer.add_image(stack, name="stack", cache=False, **looks)
    source.visible = False  # it would be read, too
    widget.choose(source)
    set_noise(widget, "gaussian(sigma=5)")
    read.clear()
    click(qtbot, button(widget, "Add lazy layer"))
    wait_until_idle(qtbot, widget)
    layer = viewer.layers["stack denoised"]

    def look_at(plane):
        viewer.dims.set_current_step(0, plane)
        qtbot.waitUntil(lambda: layer.loaded, timeout=LONG)

    look_at(3)
    look_at(700)
    # and the one that was on view, and four in which padding is looked for
    assert len(set(read)) <= 3 + 4
    assert read.count(3) == read.count(700) == 1
    look_at(3)
    look_at(700)
    assert read.count(3) == read.count(700) == 1  # remembered
    gate.clear()
    viewer.dims.set_current_step(0, 5)
    assert not layer.loaded
    assert 5 not in read
    gate.set()
    qtbot.waitUntil(lambda: layer.loaded and 5 in read, timeout=LONG)
    assert get_settings().experimental.async_
    assert notifications() == []
