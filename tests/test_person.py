"""A user opens the sample, denoises, tunes and writes the result, by mouse and keyboard."""

from __future__ import annotations

import numpy as np
import pytest
from window import (
    TIMEOUT,
    button,
    click,
    drag,
    enter_file_name,
    field,
    mean_square_error,
    running_jobs,
    wait_until_idle,
)

from napari_noise2score.sample import OFFSET, simulate_cells

pytestmark = [pytest.mark.window, pytest.mark.slow]

WIDE_NETWORKS = True


def choose(menu, *titles):
    """Choose a menu entry by the beginnings of its titles."""
    menu.aboutToShow.emit()
    action = next(a for a in menu.actions() if a.text().replace("&", "").startswith(titles[0]))
    if titles[1:]:
        choose(action.menu(), *titles[1:])
    else:
        action.trigger()


def open_dock(viewer, title):
    """Return the open dock whose title begins so."""
    found = [name for name in viewer.window.dock_widgets if name.startswith(title)]
    return viewer.window.dock_widgets[found[0]]


def test_denoise_tune_and_write_the_sample_by_mouse_and_keyboard(
    make_napari_viewer, session, qtbot, notifications, tmp_path
):
    from qtpy.QtCore import Qt
    from superqt import QDoubleSlider

    viewer = make_napari_viewer(show=True)
    choose(viewer.window.file_menu, "Open Sample", "Noise2Score", "Simulated cells")
    noisy = viewer.layers["cells"]
    truth = simulate_cells()[1] + OFFSET

    def error(layer):
        t, z = viewer.dims.current_step[:2]
        return mean_square_error(np.squeeze(layer.data), truth[t, z])

    choose(viewer.window.plugins_menu, "Noise2Score")
    widget = open_dock(viewer, "Noise2Score")
    click(qtbot, button(widget, "Model"))
    minutes = field(widget, "Time")
    minutes.selectAll()
    qtbot.keyClicks(minutes, "60")  # longer than any machine needs; the test ends it
    click(qtbot, button(widget, "Model"))
    button(widget, "Denoise").setFocus()
    qtbot.keyClick(button(widget, "Denoise"), Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers, timeout=TIMEOUT)
    preview = viewer.layers["cells preview"]
    max_error = 0.6 * min(error(preview), mean_square_error(noisy.data, truth))
    qtbot.waitUntil(lambda: error(preview) < max_error, timeout=TIMEOUT)
    click(qtbot, button(widget, "Before"))
    assert preview.opacity == 0
    click(qtbot, button(widget, "Before"))
    assert preview.opacity == 1
    click(qtbot, button(widget, "Denoise with what is learned"))
    qtbot.waitUntil(lambda: "cells denoised" in viewer.layers, timeout=TIMEOUT)
    assert list(session.models) == ["cells"]
    wait_until_idle(qtbot, widget)

    click(qtbot, button(widget, "Family and numbers"))
    gain = field(widget, "Gain", QDoubleSlider)
    qtbot.keyClick(gain, Qt.Key.Key_Left)  # the preview returns
    qtbot.keyClick(gain, Qt.Key.Key_Right)
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers, timeout=TIMEOUT)
    qtbot.waitUntil(lambda: not running_jobs(), timeout=TIMEOUT)
    preview = viewer.layers["cells preview"]
    before = np.array(preview.data)
    original_position = (gain.value() - gain.minimum()) / (gain.maximum() - gain.minimum())
    drag(qtbot, gain, 0.8)
    qtbot.waitUntil(lambda: not np.array_equal(preview.data, before), timeout=TIMEOUT)
    qtbot.waitUntil(lambda: not running_jobs(), timeout=TIMEOUT)
    dragged_data = np.array(preview.data)
    qtbot.keyClick(gain, Qt.Key.Key_Left)
    qtbot.waitUntil(lambda: not np.array_equal(preview.data, dragged_data), timeout=TIMEOUT)
    drag(qtbot, gain, original_position)
    qtbot.waitUntil(lambda: error(preview) < max_error, timeout=TIMEOUT)
    qtbot.waitUntil(lambda: not running_jobs(), timeout=TIMEOUT)

    path = tmp_path / "tuned.ome.zarr"
    enter_file_name(path)
    click(qtbot, button(widget, "Result"))
    click(qtbot, button(widget, "OME-Zarr file"))
    click(qtbot, button(widget, "Denoise"))
    qtbot.waitUntil(lambda: "cells denoised [1]" in viewer.layers, timeout=TIMEOUT)
    written = viewer.layers["cells denoised [1]"]
    assert mean_square_error(written.data[0], truth) < mean_square_error(noisy.data, truth)
    (reopened,) = viewer.open(path, plugin="napari-ome-zarr")
    assert "cells denoised" in reopened.name
    assert reopened.axis_labels == noisy.axis_labels
    assert reopened.units == noisy.units
    for kept in ("scale", "contrast_limits"):
        np.testing.assert_allclose(getattr(reopened, kept), getattr(noisy, kept))
    np.testing.assert_array_equal(reopened.data, written.data[0])
    assert noisy.data.dtype == np.uint16  # the image is unchanged
    np.testing.assert_array_equal(noisy.data, simulate_cells()[0])
    assert notifications() == []
