"""Files opened in napari have axes, pixel size and units, and keep them when they are saved."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner
from window import (
    PLUGIN,
    TIMEOUT,
    button,
    click,
    denoise,
    dock,
    enter_file_name,
    field,
    messages,
    noise_text,
    run_command,
    set_noise,
    wait_until_idle,
)

from napari_noise2score import Image, read_image, write_image
from napari_noise2score.cli.main import app
from napari_noise2score.sample import NOISE

pytestmark = pytest.mark.window
DATA = Path(__file__).parent / "data"


@pytest.fixture
def recording(tmp_path, cells):
    """Return the path of an ImageJ TIFF with pixels of 0.1 µm, every 30 s."""
    path = tmp_path / "cells.tif"
    facts = {"axes": "TYX", "finterval": 30, "unit": "um"}
    frames = cells[0][:, 0]
    tifffile.imwrite(path, frames, imagej=True, resolution=(10, 10), metadata=facts)
    return path


@pytest.fixture
def brain(tmp_path):
    """Return the path of the NIfTI file that nibabel ships, written by a scanner."""
    nib = pytest.importorskip("nibabel")
    source = Path(nib.__file__).parent / "tests/data/example4d.nii.gz"
    return shutil.copy(source, tmp_path / "brain.nii.gz")


def place(layer):
    """Return the axis labels, pixel size and units of a layer."""
    units = tuple(str(unit) for unit in layer.units)
    return layer.axis_labels, tuple(round(float(s), 6) for s in layer.scale), units


RECORDED = (("t", "y", "x"), (30, 0.1, 0.1), ("second", "micrometer", "micrometer"))


def test_a_tiff_opened_by_napari_keeps_its_pixel_size_and_time_step_through_denoise_and_write(
    viewer, qtbot, recording, session, model, tmp_path
):
    (layer,) = viewer.open(recording)
    assert layer.source.reader_plugin == "napari"
    assert tuple(layer.scale) == (1, 1, 1)  # napari reads the pixels only
    drawn = viewer.add_labels(np.zeros(layer.data.shape, int))
    zoom = viewer.camera.zoom
    viewer.dims.set_point(0, 1)
    session.add_model(model, "cells")
    widget = dock(viewer)
    qtbot.waitUntil(lambda: field(widget, "Axes").text() == "TYX", timeout=TIMEOUT)
    assert place(layer) == RECORDED
    # the view does not jump, and what was drawn on the layer stays on it
    assert viewer.camera.zoom == pytest.approx(zoom / 0.1)
    assert viewer.dims.current_step[0] == 1
    np.testing.assert_allclose(drawn.scale, layer.scale)

    set_noise(widget, NOISE)
    denoise(qtbot, widget)
    assert place(viewer.layers["cells denoised"]) == RECORDED
    enter_file_name(tmp_path / "written.ome.zarr")
    denoise(qtbot, widget, "OME-Zarr file")
    written = read_image(tmp_path / "written.ome.zarr")
    assert written.axes == "TYX"
    assert written.scale == pytest.approx({"T": 30, "Y": 0.1, "X": 0.1})
    assert written.units == {"T": "second", "Y": "micrometer", "X": "micrometer"}


def test_the_settings_and_the_command_give_the_same_bytes_on_the_command_line(
    viewer, qtbot, recording, session, tmp_path, monkeypatch
):
    from qtpy.QtWidgets import QApplication, QFileDialog

    viewer.open(recording)
    widget = dock(viewer)
    qtbot.waitUntil(lambda: field(widget, "Axes").text() == "TYX", timeout=TIMEOUT)
    set_noise(widget, NOISE)
    field(button(widget, "Train").parent(), "Steps").setValue(6)
    enter_file_name(tmp_path / "window.ome.zarr")
    denoise(qtbot, widget, "OME-Zarr file")
    path = tmp_path / "protocol.yaml"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    click(qtbot, button(widget, "Save settings…"))
    click(qtbot, button(widget, "Copy as command"))
    copied = [shlex.split(line) for line in QApplication.clipboard().text().splitlines()]
    assert [line[:2] for line in copied] == [["noise2score", "train"], ["noise2score", "denoise"]]

    def run(line, model, result=None):
        """Run a copied command with other names, as the window has written its own."""
        line[line.index("--model") + 1] = str(tmp_path / model)
        if result:
            line[3] = str(tmp_path / result)
        done = CliRunner().invoke(app, line[1:])
        assert done.exit_code == 0, done.output

    run(copied[0], "a.n2s")
    run(copied[1], "a.n2s", "command.ome.zarr")
    settings = ["--config", str(path)]
    run(["noise2score", "train", str(recording), "--model", "", *settings], "b.n2s")
    begin = ["noise2score", "denoise", str(recording), "", "--model", "", *settings]
    run(begin, "b.n2s", "settings.ome.zarr")
    stores = [tmp_path / f"{name}.ome.zarr" for name in ("window", "command", "settings")]
    first, *others = [
        # the metadata name the model
        {p.relative_to(x): p.read_bytes() for p in x.rglob("*") if p.is_file() and p.suffix == ""}
        for x in stores
    ]
    assert first
    assert all(other == first for other in others)


def test_one_click_waits_for_the_axes_of_the_file(viewer, qtbot, recording, session):
    viewer.open(recording)
    run_command("denoise_layer")
    widget = dock(viewer)
    qtbot.waitUntil(lambda: button(widget, "Stop").isEnabled(), timeout=TIMEOUT)
    widget.stop()
    wait_until_idle(qtbot, widget)


def test_what_a_layer_or_a_person_says_is_kept(viewer, qtbot, recording):
    (layer,) = viewer.open(recording)
    layer.scale, layer.units = (1, 0.2, 0.2), ("s", "um", "um")
    widget = dock(viewer)
    qtbot.waitUntil(lambda: field(widget, "Axes").text() == "TYX", timeout=TIMEOUT)
    assert tuple(layer.scale) == (1, 0.2, 0.2)


def test_a_file_that_does_not_describe_the_layer_is_not_used(viewer, qtbot, recording, session):
    (layer,) = viewer.open(recording)
    layer.data = layer.data[:, :-1]
    widget = dock(viewer)
    qtbot.waitUntil(lambda: layer in session.looked_up and layer not in session.lookups)
    assert field(widget, "Axes").text() == ""
    assert tuple(layer.scale) == (1, 1, 1)


def test_napari_is_offered_every_format_that_it_cannot_open_itself():
    from npe2 import PluginManifest

    from napari_noise2score.image.formats import FORMATS

    (reader,) = PluginManifest.from_distribution(PLUGIN).contributions.readers
    own = {"TIFF", "OME-Zarr, zarr", "NumPy", "PNG, JPEG"}
    suffixes = [s for each in FORMATS if each.name not in own for s in each.suffixes]
    assert set(reader.filename_patterns) == {f"*{suffix}" for suffix in suffixes}


def test_nifti_is_opened_lazily_and_saved_with_its_affine(viewer, brain, tmp_path):
    import nibabel as nib

    (layer,) = viewer.open(brain, plugin=PLUGIN)
    expected = nib.load(brain)
    assert layer.data.shape == expected.shape[::-1]
    assert hasattr(layer.data, "dask")
    assert layer.axis_labels == ("t", "z", "y", "x")
    np.testing.assert_allclose(layer.scale, expected.header.get_zooms()[::-1], rtol=1e-6)
    assert [str(unit) for unit in layer.units] == ["second", *["millimeter"] * 3]
    np.testing.assert_array_equal(np.asarray(layer.data[1]).T, expected.dataobj[..., 1])

    saved = tmp_path / "saved.nii.gz"
    assert viewer.layers.save(str(saved)) == [str(saved)]
    again = nib.load(saved)
    np.testing.assert_array_equal(again.affine, expected.affine)
    np.testing.assert_array_equal(again.dataobj, expected.dataobj)
    assert again.header.get_xyzt_units() == expected.header.get_xyzt_units()


def test_a_denoised_nifti_layer_is_saved_with_the_affine_of_its_source(
    viewer, qtbot, session, model, brain, tmp_path
):
    import nibabel as nib

    viewer.open(brain, plugin=PLUGIN)
    session.add_model(model, "cells")
    widget = dock(viewer)
    set_noise(widget, "rician(sigma=10)")
    denoise(qtbot, widget, "lazy layer")
    result = viewer.layers["brain denoised"]
    # the lazy layer is computed in a thread, which keeps the viewer alive
    qtbot.waitUntil(lambda: result.loaded, timeout=TIMEOUT)
    result.data = np.zeros(result.data.shape, np.float32)  # saved without waiting for the network
    qtbot.waitUntil(lambda: result.loaded, timeout=TIMEOUT)
    viewer.layers.selection = {result}
    viewer.layers.save(str(tmp_path / "out.nii.gz"), selected=True)
    written = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(written.affine, nib.load(brain).affine)
    assert read_image(tmp_path / "out.nii.gz").notes["noise"] == "rician(sigma=10)"
    with pytest.raises(OSError, match="never overwritten"):
        viewer.layers.save(str(brain), selected=True)


def test_channels_become_layers_and_are_saved_as_channels(viewer, tmp_path):
    pytest.importorskip("nd2")
    viewer.open(DATA / "cluster.nd2", plugin=PLUGIN)
    image = read_image(DATA / "cluster.nd2")
    assert [layer.name for layer in viewer.layers] == [f"cluster: {c}" for c in image.channels]
    for layer in viewer.layers:
        assert layer.scale[-1] == pytest.approx(image.scale["X"])
        assert str(layer.units[-1]) == image.units["X"]
        assert layer.blending == "additive"
    viewer.layers.save(str(tmp_path / "cluster.ome.tif"))
    saved = read_image(tmp_path / "cluster.ome.tif")
    assert saved.channels == tuple(layer.name for layer in viewer.layers)
    assert saved.scale == pytest.approx(dict(image.scale))
    at = image.axes.index("C")
    np.testing.assert_array_equal(
        np.moveaxis(np.asarray(saved.data), saved.axes.index("C"), 0),
        np.moveaxis(np.asarray(image.data), at, 0),
    )


def test_layers_that_do_not_fit_together_are_not_saved_as_one(viewer, tmp_path):
    for size in (8, 9):
        viewer.add_image(np.zeros((size, 8), np.uint8), name=f"size {size}")
    with pytest.raises(OSError, match="cannot be channels of one file"):
        viewer.layers.save(str(tmp_path / "both.ome.tif"))
    assert not list(tmp_path.iterdir())


def test_colours_and_contrast_of_a_file_are_shown():
    from napari_noise2score.widgets._open import image_layers

    window = {"min": 0, "start": 5, "end": 50, "max": 255}
    shown = {"channels": [{"color": "00FF00", "window": window}, {"color": "FF0000"}]}
    image = Image(np.arange(128.0).reshape(2, 8, 8), "CYX", omero=shown)
    (_, green, _), (_, red, _) = image_layers(image)
    np.testing.assert_array_equal(green["colormap"].colors[-1], (0, 1, 0, 1))
    assert green["contrast_limits"] == (5, 50)
    np.testing.assert_array_equal(red["colormap"].colors[-1], (1, 0, 0, 1))
    assert 64 <= red["contrast_limits"][0] < red["contrast_limits"][1] <= 127


def test_colours_of_a_pixel_are_one_layer():
    from napari_noise2score.widgets._open import image_layers

    image = Image(np.zeros((3, 2, 8, 9), np.uint8), "CZYX", rgb=True)
    ((data, settings, _),) = image_layers(image)
    assert data.shape == (2, 8, 9, 3)
    assert settings["rgb"]
    assert settings["axis_labels"] == ("z", "y", "x")


def test_a_missing_library_is_named_with_the_extra(viewer, brain, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(Exception, match=r"pip install .*\[formats\]"):
        viewer.open(brain, plugin=PLUGIN)
    assert not viewer.layers


def test_a_layer_without_axes_is_not_saved_and_typed_axes_are(viewer, qtbot, tmp_path):
    viewer.add_image(np.zeros((3, 8, 9), np.uint8), name="stack")
    path = tmp_path / "stack.ome.tif"
    with pytest.raises(OSError, match="does not say what its 3 dimensions are"):
        viewer.layers.save(str(path))
    widget = dock(viewer)
    field(widget, "Axes").clear()
    qtbot.keyClicks(field(widget, "Axes"), "zyx")
    viewer.layers.save(str(path))
    assert read_image(path).axes == "ZYX"


def test_the_window_is_drawn_while_a_file_is_saved(viewer, qtbot, tmp_path, monkeypatch):
    import time

    from qtpy.QtCore import QTimer

    import napari_noise2score.widgets._save as save

    def write_slowly(*arguments, **settings):
        time.sleep(0.5)
        write_image(*arguments, **settings)

    monkeypatch.setattr(save, "write_image", write_slowly)
    viewer.add_image(np.zeros((8, 9), np.uint8))
    ticks = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(1))
    timer.start(20)
    viewer.layers.save(str(tmp_path / "a.ome.tif"))
    timer.stop()
    assert len(ticks) > 10


@pytest.mark.parametrize("name", ["confocal", "scmos", "mri", "oct"])
def test_a_sample_is_opened_with_its_noise(viewer, name):
    from napari_noise2score.sample import SAMPLES

    layers = viewer.open_sample(PLUGIN, name)
    hidden, shown = layers[: len(layers) // 2], layers[len(layers) // 2 :]
    assert {layer.visible for layer in hidden} == {False}
    for layer in shown:
        assert layer.visible
        assert layer.metadata["noise2score"]["noise"] == SAMPLES[name].noise
        assert str(layer.units[-1]) in ("micrometer", "millimeter")
    if name == "scmos":
        assert [layer.name for layer in shown] == ["scmos: DAPI", "scmos: actin"]
        np.testing.assert_array_equal(shown[0].colormap.colors[-1], (0, 0, 1, 1))


def test_the_files_of_a_dicom_series_are_one_volume(tmp_path):
    pytest.importorskip("pydicom")
    from foreign import write_series

    from napari_noise2score.widgets._open import open_layers

    values = np.arange(4 * 16 * 20, dtype=np.int16).reshape(4, 16, 20)
    write_series(tmp_path / "scan", values)
    files = sorted(str(path) for path in (tmp_path / "scan").iterdir())
    ((data, settings, _),) = open_layers(files)
    np.testing.assert_array_equal(data, values)
    assert settings["scale"][0] == 3
    assert settings["units"] == ["millimeter"] * 3


def test_settings_from_a_file_are_those_that_were_saved(
    viewer, qtbot, recording, session, tmp_path, monkeypatch
):
    from qtpy.QtWidgets import QFileDialog

    viewer.open(recording)
    widget = dock(viewer)
    qtbot.waitUntil(lambda: field(widget, "Axes").text() == "TYX", timeout=TIMEOUT)
    noise = "poisson(gain=2, offset=100) + gaussian(sigma=3) + rows(sigma=4)"
    set_noise(widget, noise)
    click(qtbot, button(widget, "Result"))
    training = button(widget, "Train").parent()
    field(training, "Steps").setValue(6)
    field(training, "Seed").setValue(5)
    field(training, "Context").setCurrentIndex(2)
    path, again = tmp_path / "protocol.yaml", tmp_path / "again.yaml"
    chosen = [str(path)]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (chosen[0], ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    click(qtbot, button(widget, "Save settings…"))
    set_noise(widget, "gaussian(sigma=9)")
    for label in ("Steps", "Seed"):
        field(training, label).setValue(1)
    field(training, "Context").setCurrentIndex(0)
    click(qtbot, button(widget, "Load settings…"))
    assert any(text.startswith(f"Loaded {path}") for text in messages(widget))
    assert noise_text(widget) == noise
    chosen[0] = str(again)
    click(qtbot, button(widget, "Save settings…"))
    first, second = (file.read_text("utf-8").splitlines()[3:] for file in (path, again))
    assert first == second
    assert "correction: rows(sigma=4)" in first

    # a file that is no file of settings changes nothing, and says what is wrong
    path.write_text("stepz: 4\n", "utf-8")
    click(qtbot, button(widget, "Load settings…"))
    assert any("no such setting" in text for text in messages(widget))
    assert noise_text(widget) == noise
