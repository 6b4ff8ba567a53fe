"""The live preview follows the noise model and the plane in a real viewer."""

from __future__ import annotations

import numpy as np
import pytest
from shared import ALL_NOISES
from window import (
    TIMEOUT,
    add_cells,
    button,
    click,
    denoise,
    dock,
    drag,
    field,
    label_with_tooltip,
    noise_text,
    preview,
    set_noise,
    text_below,
    wait_for_form,
    wait_for_preview,
)

from napari_noise2score.sample import NOISE

pytestmark = [pytest.mark.window, pytest.mark.slow]


@pytest.fixture
def widget(viewer, qtbot, cells, session, model):
    """Return the dock with a preview."""
    add_cells(viewer, cells[0])
    session.add_model(model, "cells")
    widget = dock(viewer)
    set_noise(widget, NOISE)
    wait_for_form(qtbot, widget, "Poisson")
    qtbot.waitUntil(lambda: field(widget, "Gain").value() == 2, timeout=TIMEOUT)
    wait_for_preview(qtbot, widget)
    return widget


def pixels(viewer):
    return np.array(viewer.layers["cells preview"].data)


def test_dragging_a_slider_changes_the_displayed_plane(viewer, qtbot, widget, notifications):
    from superqt import QDoubleSlider

    source, layer = viewer.layers["cells"], viewer.layers["cells preview"]
    assert viewer.layers.selection.active is source  # the preview does not take over the selection
    before = pixels(viewer)
    assert before.shape == (1, 1, 32, 32)
    gain = field(widget, "Gain")
    drag(qtbot, field(widget, "Gain", QDoubleSlider), 0.75)
    assert gain.value() > 4
    assert f"gain={gain.value():g}" in noise_text(widget)
    qtbot.waitUntil(lambda: not np.array_equal(pixels(viewer), before), timeout=TIMEOUT)
    wait_for_preview(qtbot, widget)
    # more noise is removed
    assert np.std(np.diff(pixels(viewer))) < np.std(np.diff(before))
    assert viewer.layers["cells preview"] is layer
    assert layer.metadata["noise2score"]["noise"] == noise_text(widget)
    for kept in ("scale", "units", "axis_labels", "contrast_limits"):
        np.testing.assert_array_equal(getattr(layer, kept), getattr(source, kept))
    assert layer.colormap.name == source.colormap.name
    assert notifications() == []


def test_the_preview_equals_the_denoised_layer_and_is_replaced_by_it(viewer, qtbot, widget):
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(1, 3)
    wait_for_preview(qtbot, widget)
    previewed = pixels(viewer)
    denoise(qtbot, widget)
    assert [layer.name for layer in viewer.layers] == ["cells", "cells denoised"]
    np.testing.assert_allclose(previewed[0, 0], viewer.layers[-1].data[1, 3], rtol=1e-4)
    field(widget, "Gain").setValue(4)  # the preview returns when the noise changes
    wait_for_preview(qtbot, widget)
    assert viewer.layers[-1].name == "cells preview"
    viewer.layers.remove("cells")  # the remaining layer is denoised already
    qtbot.waitUntil(lambda: not preview(widget).busy, timeout=TIMEOUT)
    assert [layer.name for layer in viewer.layers] == ["cells denoised"]


def test_the_preview_follows_the_plane(viewer, qtbot, widget):
    source = viewer.layers["cells"]
    for t, z in ((1, 3), (0, 2)):
        viewer.dims.set_current_step(0, t)
        viewer.dims.set_current_step(1, z)
        wait_for_preview(qtbot, widget)
        layer = viewer.layers["cells preview"]
        np.testing.assert_allclose(
            layer.data_to_world((0, 0, 0, 0)), source.data_to_world((t, z, 0, 0))
        )
    assert viewer.dims.current_step[:2] == (0, 2)  # the preview does not change the plane


def test_every_noise_model_is_solved_live(viewer, qtbot, widget, notifications):
    previewed = pixels(viewer)
    for text in ALL_NOISES:
        set_noise(widget, text)
        assert text_below(widget, "As text") == ""
        wait_for_preview(qtbot, widget)
        assert viewer.layers["cells preview"].metadata["noise2score"]["noise"] == text
        last, previewed = previewed, pixels(viewer)
        assert np.isfinite(previewed).all(), text
        assert not np.array_equal(previewed, last), text
    assert notifications() == []


def test_the_before_button_hides_the_preview(viewer, qtbot, widget):
    layer = viewer.layers["cells preview"]
    click(qtbot, button(widget, "Before"))
    assert layer.opacity == 0
    click(qtbot, button(widget, "Before"))
    assert layer.opacity == 1


def test_the_before_button_hides_results_too_and_is_off_without_any(viewer, qtbot, widget):
    denoise(qtbot, widget)
    result, before = viewer.layers["cells denoised"], button(widget, "Before")
    result.opacity = 0.8
    click(qtbot, before)
    assert result.opacity == 0
    click(qtbot, before)
    assert result.opacity == 0.8
    viewer.layers.remove(result)
    assert not before.isEnabled()


def test_a_removed_preview_returns_only_on_request_or_with_another_layer(
    viewer, qtbot, widget, cells
):
    viewer.layers.remove("cells preview")
    assert not button(widget, "Live preview").isChecked()
    set_noise(widget, "gaussian(sigma=3)")
    assert "cells preview" not in viewer.layers
    button(widget, "Live preview").setChecked(True)
    wait_for_preview(qtbot, widget)
    assert "cells preview" in viewer.layers
    viewer.layers.remove("cells preview")
    add_cells(viewer, cells[0])
    assert button(widget, "Live preview").isChecked()


@pytest.mark.parametrize("removed_by", ["Live preview", "a user", "its source"])
def test_a_hidden_preview_can_be_removed(
    make_napari_viewer, qtbot, cells, session, model, notifications, removed_by
):
    viewer = make_napari_viewer(show=True)  # only a visible canvas is drawn
    source = add_cells(viewer, cells[0])
    session.add_model(model, "cells")
    widget = dock(viewer)
    set_noise(widget, NOISE)
    wait_for_preview(qtbot, widget)
    layer = preview(widget).layer
    qtbot.waitExposed(widget.window())
    layer.visible = False
    assert (layer.opacity, button(widget, "Before").isChecked()) == (0, True)
    layer.visible = False  # a second click on the eye
    assert (layer.opacity, button(widget, "Before").isChecked()) == (1, False)
    layer.visible = False
    set_noise(widget, "gaussian(sigma=3)")  # it is still updated
    wait_for_preview(qtbot, widget)
    # removing an invisible layer crashed the canvas, so it is transparent instead
    assert (layer.opacity, layer.visible) == (0, True)
    if removed_by == "Live preview":
        button(widget, "Live preview").setChecked(False)
    elif removed_by == "a user":
        viewer.layers.remove(layer)
    else:
        viewer.layers.remove(source)
    qtbot.wait(100)  # for the canvas to be drawn
    assert layer not in viewer.layers
    assert notifications() == []


def test_the_preview_follows_edits_and_removal_of_the_image(
    viewer, qtbot, widget, cells, notifications
):
    before = pixels(viewer)
    viewer.layers["cells"].data = cells[0][:, ::-1] + 50
    wait_for_preview(qtbot, widget)
    assert np.mean(pixels(viewer)) > np.mean(before) + 40
    viewer.layers.remove("cells")
    qtbot.waitUntil(lambda: not preview(widget).busy, timeout=TIMEOUT)
    assert len(viewer.layers) == 0
    assert notifications() == []


def test_the_reason_for_a_missing_preview_is_shown(viewer, qtbot, widget, notifications):
    reason = label_with_tooltip(widget, "Why there is no preview")
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: "switch it to 2-D" in reason.text(), timeout=TIMEOUT)
    viewer.dims.ndisplay = 2
    viewer.dims.order = (2, 3, 0, 1)
    qtbot.waitUntil(lambda: "does not show Y and X" in reason.text(), timeout=TIMEOUT)
    viewer.dims.order = (0, 1, 2, 3)
    qtbot.waitUntil(lambda: "No preview" not in reason.text(), timeout=TIMEOUT)
    set_noise(widget, "gaussian(sigma=2) @ kernel([[1, 1]])")
    qtbot.waitUntil(lambda: "No preview" in reason.text(), timeout=TIMEOUT)
    set_noise(widget, NOISE)
    wait_for_preview(qtbot, widget)
    assert notifications() == []


@pytest.mark.parametrize("kind", ["dask", "zarr", "multiscale", "rgba", "5-D", "3-D network"])
def test_any_layer_has_a_preview(viewer, qtbot, session, cells, model, notifications, kind):
    import dask.array as da
    import zarr

    from napari_noise2score import train

    noisy = cells[0]
    labels = {"axis_labels": "tzyx"}
    if kind == "dask":
        viewer.add_image(da.from_array(noisy, chunks=(1, 1, 20, 20)), **labels)
    elif kind == "zarr":
        viewer.add_image(zarr.array(noisy, chunks=(1, 1, 16, 16)), **labels)
    elif kind == "multiscale":
        viewer.add_image([noisy, noisy[..., ::2, ::2]], multiscale=True, **labels)
    elif kind == "rgba":
        photo = np.random.default_rng(0).integers(80, 120, (40, 40, 4), dtype=np.uint8)
        viewer.add_image(photo, rgb=True)
        model = train(photo[..., :3], axes="YXC", steps=2)
    elif kind == "5-D":
        viewer.add_image(np.stack([noisy] * 6, axis=1), axis_labels="tczyx")
    else:
        viewer.add_image(noisy, **labels)
        model = train(noisy, axes="TZYX", ndim=3, steps=2)
    viewer.add_labels(np.zeros((2, 2, 3, 4, 32, 32), int))  # gives the viewer more dimensions
    session.add_model(model, "model")
    widget = dock(viewer)
    set_noise(widget, "gaussian(sigma=5)")
    wait_for_preview(qtbot, widget)
    source, layer = viewer.layers[0], preview(widget).layer
    assert layer.rgb == source.rgb
    assert layer.ndim == source.ndim
    assert abs(float(np.mean(layer.data)) - float(np.mean(source.data[0]))) < 20
    assert notifications() == []
