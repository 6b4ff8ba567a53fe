"""A divider on the canvas separates the image from what is denoised."""

from __future__ import annotations

import numpy as np
import pytest
from window import TIMEOUT, button, click, denoise, dock

NOISE = "gaussian(sigma=7)"

pytestmark = [pytest.mark.window, pytest.mark.usefixtures("short_polish")]


def lit(viewer):
    """Return which columns of the canvas are bright in its middle row."""
    picture = viewer.screenshot(flash=False)[..., 0]
    return picture[len(picture) // 2] > 128


@pytest.fixture
def split(make_napari_viewer, session, model, qtbot):
    """Return a function that opens a dark image, denoises it, and makes the result bright."""
    from window import set_noise, wait_until_idle

    def make(kind):
        viewer = make_napari_viewer(show=True)
        noisy = np.random.default_rng(0).normal(110, 7, (1, 1, 32, 32)).astype(np.float32)
        settings = {"axis_labels": "tzyx", "contrast_limits": (1000, 2000)}
        viewer.add_image(noisy, name="cells", **settings)
        session.add_model(model, "cells")
        widget = dock(viewer)
        set_noise(widget, NOISE)
        button(widget, "Live preview").setChecked(kind == "preview")
        if kind == "preview":
            qtbot.waitUntil(lambda: "cells preview" in viewer.layers, timeout=TIMEOUT)
        else:
            denoise(qtbot, widget, kind)
            wait_until_idle(qtbot, widget)
        after = viewer.layers[-1]
        assert after.name != "cells"
        after.contrast_limits = (-1000, 0)
        viewer.reset_view()
        qtbot.waitUntil(lambda: lit(viewer).any(), timeout=TIMEOUT)
        return viewer, widget, after

    return make


@pytest.mark.parametrize("kind", ["preview", "layer", "lazy layer"])
def test_the_line_is_dragged_across_the_picture(split, qtbot, kind):
    from qtpy.QtCore import QPoint, Qt

    from napari_noise2score.widgets._divider import Handle

    viewer, widget, after = split(kind)
    whole = lit(viewer).sum()
    values = np.asarray(after.data).copy()
    click(qtbot, button(widget, "Split"))
    qtbot.waitUntil(lambda: lit(viewer).sum() < 0.7 * whole, timeout=TIMEOUT)
    (line,) = viewer.window._qt_window.findChildren(Handle)
    assert line.isVisible()
    columns = np.flatnonzero(lit(viewer))
    assert columns.min() >= len(lit(viewer)) // 2 - 2  # the result is on the right
    middle = QPoint(line.width() // 2, 40)
    qtbot.mousePress(line, Qt.MouseButton.LeftButton, pos=middle)
    qtbot.mouseMove(line, middle + QPoint(-30, 0))
    qtbot.mouseRelease(line, Qt.MouseButton.LeftButton, pos=middle)
    qtbot.waitUntil(lambda: lit(viewer).sum() > len(columns) + 20, timeout=TIMEOUT)
    share = line.share
    qtbot.keyClick(line, Qt.Key.Key_Right)
    assert line.share == pytest.approx(share + 0.02)
    viewer.camera.zoom *= 2  # the line stays where it is on the canvas
    assert line.share == pytest.approx(share + 0.02)
    np.testing.assert_array_equal(np.asarray(after.data), values)
    click(qtbot, button(widget, "Split"))
    assert not line.isVisible()
    viewer.reset_view()
    qtbot.waitUntil(lambda: lit(viewer).sum() == whole, timeout=TIMEOUT)


def test_the_line_goes_with_what_is_denoised_and_with_the_dock(split, qtbot):
    from napari_noise2score.widgets._divider import Handle

    viewer, widget, after = split("layer")
    click(qtbot, button(widget, "Split"))
    (line,) = viewer.window._qt_window.findChildren(Handle)
    qtbot.waitUntil(line.isVisible, timeout=TIMEOUT)
    viewer.layers.remove(after)
    qtbot.waitUntil(lambda: not line.isVisible(), timeout=TIMEOUT)
    denoise(qtbot, widget)
    qtbot.waitUntil(line.isVisible, timeout=TIMEOUT)
    viewer.window.remove_dock_widget(widget)
    qtbot.waitUntil(lambda: not viewer.window._qt_window.findChildren(Handle), timeout=TIMEOUT)
