"""A layer is denoised to OME-Zarr from the window; the job can be stopped and resumed."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from window import (
    TIMEOUT,
    add_cells,
    answer_dialog,
    button,
    click,
    dock,
    running_jobs,
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
def choose_path(monkeypatch):
    """Return a function that sets the answer of the next file dialog."""
    from qtpy.QtWidgets import QFileDialog

    def choose(path):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))

    return choose


@pytest.fixture
def widget(viewer, session, model):
    """Return the dock without a preview, with a model to choose; results go to a file."""
    widget = dock(viewer)
    button(widget, "Live preview").setChecked(False)
    button(widget, "OME-Zarr file").setChecked(True)
    session.add_model(model, "cells")
    return widget


def write(qtbot, widget):
    """Set the noise, press the button to write, and wait for the job."""
    set_noise(widget, NOISE)
    click(qtbot, button(widget, "Denoise"))
    wait_until_idle(qtbot, widget)


def files(store):
    return {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_a_written_result_is_added_as_a_layer_with_the_metadata_of_its_source(
    viewer, qtbot, widget, cells, model, tmp_path, choose_path, notifications
):
    source = add_cells(viewer, cells[0])
    choose_path(tmp_path / "clean")  # the extension is added
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
    # the file has the same metadata
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
    viewer, qtbot, session, cells, tmp_path, choose_path, notifications, kind, widget
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
    elif kind == "channels":  # more channels than are denoised together
        axes, data = "TCZYX", np.stack([noisy] * 5, axis=1)
    else:
        axes, data = "ZTYX", noisy.swapaxes(0, 1)
    labels = axes.lower().rstrip("c" if kind == "rgb" else "")
    source = viewer.add_image(data, name="any", axis_labels=tuple(labels), **settings)
    choose_path(tmp_path / "any denoised.ome.zarr")
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
    viewer.dims.set_current_step(0, 1)  # the layer can be displayed


def test_a_stopped_job_is_resumed_with_an_identical_result(
    viewer, qtbot, widget, session, model, tmp_path, choose_path, notifications
):
    noisy = np.random.default_rng(0).normal(110, 5, (24, 64, 64)).astype(np.float32)
    viewer.add_image(noisy, name="movie", axis_labels="tyx")
    path = tmp_path / "movie.ome.zarr"
    choose_path(path)
    set_noise(widget, NOISE)
    click(qtbot, button(widget, "Denoise"))
    qtbot.waitUntil(lambda: status(widget).startswith("Denoising: tile"), timeout=TIMEOUT)
    click(qtbot, button(widget, "Stop"))
    wait_until_idle(qtbot, widget)
    assert "what is done is kept" in status(widget)
    assert len(viewer.layers) == 1
    assert not path.exists()
    assert left_of(path)
    n_files = len(files(tmp_path))

    # with another noise, or another image of this name and size, it is refused
    set_noise(widget, "gaussian(sigma=3)")
    answer_dialog("Finish it")
    click(qtbot, button(widget, "Denoise"))
    wait_until_idle(qtbot, widget)
    assert f"begun with another noise ({NOISE})" in notifications()[-1]
    viewer.layers["movie"].data = noisy + 1
    set_noise(widget, NOISE)
    answer_dialog("Finish it")
    click(qtbot, button(widget, "Denoise"))
    wait_until_idle(qtbot, widget)
    assert "begun with another content of the image" in notifications()[-1]
    assert len(notifications()) == 2
    answer_dialog("Cancel")
    click(qtbot, button(widget, "Denoise"))
    assert not widget.busy
    assert len(files(tmp_path)) == n_files  # no finished block was lost

    viewer.layers["movie"].data = noisy
    answer_dialog("Finish it")
    click(qtbot, button(widget, "Denoise"))
    wait_until_idle(qtbot, widget)
    assert viewer.layers["movie denoised"].data[0].shape == noisy.shape
    assert not left_of(path)
    image = Image(noisy, "TYX", name="movie")
    for _ in denoise_steps(image, model, NOISE, tmp_path / "alone.ome.zarr"):
        pass
    pixels = zarr.open_group(str(path), mode="r"), zarr.open_group(str(tmp_path / "alone.ome.zarr"))
    assert np.array_equal(pixels[0]["0"][:], pixels[1]["0"][:])


def test_a_job_can_be_started_again(viewer, qtbot, widget, tmp_path, choose_path, notifications):
    viewer.add_image(np.full((8, 8), 110.0), name="plane")
    path = tmp_path / "plane.ome.zarr"
    (tmp_path / ".part-plane.ome.zarr.journal").write_text("nonsense\n")
    choose_path(path)
    answer_dialog("Start again")
    write(qtbot, widget)
    assert notifications() == []
    assert read_image(path).data.shape == (8, 8)


def test_no_store_is_overwritten_or_written_into(
    viewer, qtbot, widget, tmp_path, choose_path, notifications
):
    write_image(tmp_path / "in.ome.zarr", Image(np.full((16, 16), 110.0), "YX"))
    before = files(tmp_path)
    data = zarr.open_group(str(tmp_path / "in.ome.zarr"), mode="r")["0"]
    viewer.add_image(data, name="plane")
    for name, phrase in [
        ("in.ome.zarr", "exists already: choose another name"),
        ("in.ome.zarr/new.ome.zarr", "would be inside"),
    ]:
        choose_path(tmp_path / name)
        write(qtbot, widget)
        assert phrase in notifications()[-1]
    assert files(tmp_path) == before


def test_the_uncertainty_is_written_beside_the_result(
    viewer, qtbot, widget, tmp_path, choose_path, notifications
):
    viewer.add_image(np.full((32, 32), 110.0), name="plane")
    button(widget, "Uncertainty as a separate layer").setChecked(True)
    choose_path(tmp_path / "plane denoised.ome.zarr")
    write(qtbot, widget)
    assert notifications() == []
    assert viewer.layers["plane uncertainty"].contrast_limits[0] == 0
    stores = sorted(p.name for p in tmp_path.iterdir())
    assert stores == ["plane denoised.ome.zarr", "plane uncertainty.ome.zarr"]
    assert [x.name for x in viewer.layers] == ["plane", "plane uncertainty", "plane denoised"]


def test_a_lazy_layer_computes_each_displayed_plane_once_and_in_a_thread(
    viewer, qtbot, widget, notifications
):
    from threading import Event

    from napari.settings import get_settings

    read, gate = [], Event()
    gate.set()

    def make_plane(block_info=None):
        # if the window waited for this, the gate would stay closed
        assert gate.wait(20), "the window's thread waits"
        read.append(block_info[None]["chunk-location"][0])
        return np.full((1, 32, 32), 110, np.uint16)

    stack = da.map_blocks(make_plane, chunks=((1,) * 1000, 32, 32), dtype=np.uint16)
    layer_settings = {"contrast_limits": (0, 200), "axis_labels": "tyx"}
    source = viewer.add_image(stack, name="stack", cache=False, **layer_settings)
    source.visible = False  # a visible source would be read too
    widget.choose(source)
    set_noise(widget, "gaussian(sigma=5)")
    qtbot.waitUntil(lambda: not running_jobs(), timeout=TIMEOUT)  # compared with the model
    read.clear()
    button(widget, "lazy layer").setChecked(True)
    click(qtbot, button(widget, "Denoise"))
    wait_until_idle(qtbot, widget)
    layer = viewer.layers["stack denoised"]

    def show(plane):
        viewer.dims.set_current_step(0, plane)
        qtbot.waitUntil(lambda: layer.loaded, timeout=TIMEOUT)

    show(3)
    show(700)
    # and the plane displayed before, and four to find padding
    assert len(set(read)) <= 3 + 4
    assert read.count(3) == read.count(700) == 1
    show(3)
    show(700)
    assert read.count(3) == read.count(700) == 1  # kept in memory
    gate.clear()
    viewer.dims.set_current_step(0, 5)
    assert not layer.loaded
    assert 5 not in read
    gate.set()
    qtbot.waitUntil(lambda: layer.loaded and 5 in read, timeout=TIMEOUT)
    assert get_settings().experimental.async_
    assert notifications() == []
