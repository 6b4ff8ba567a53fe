"""From the sample to a tuned picture and a file of it, with mouse and keyboard alone."""

from __future__ import annotations

import numpy as np
import pytest
from window import (
    LONG,
    button,
    click,
    drag,
    field,
    jobs,
    mean_square_error,
    paste_name,
)

from napari_noise2score.sample import OFFSET, simulate_cells

pytestmark = [pytest.mark.window, pytest.mark.slow]


def choose(menu, *titles):
    """Choose an entry of a menu, by the beginnings of its titles."""
    menu.aboutToShow.emit()
    action = next(a for a in menu.actions() if a.text().replace("&", "").startswith(titles[0]))
    if titles[1:]:
        choose(action.menu(), *titles[1:])
    else:
        action.trigger()


def opened(viewer, title):
    """Return the open dock of this title, which names the plugin too."""
    found = [name for name in viewer.window.dock_widgets if name.startswith(title)]
    return viewer.window.dock_widgets[found[0]]


def test_from_the_sample_to_a_tuned_picture_and_its_file(
    make_napari_viewer, session, qtbot, notifications, tmp_path
):
    from qtpy.QtCore import Qt
    from superqt import QDoubleSlider

    viewer = make_napari_viewer(show=True)
    choose(viewer.window.file_menu, "Open Sample", "Simulated cells")
    noisy = viewer.layers["cells"]
    truth = simulate_cells()[1] + OFFSET

    def error(layer):
        t, z = viewer.dims.current_step[:2]
        return mean_square_error(np.squeeze(layer.data), truth[t, z])

    choose(viewer.window.plugins_menu, "Noise2Score", "Train")
    train = opened(viewer, "Train")
    minutes = field(train, "Time")
    minutes.selectAll()
    qtbot.keyClicks(minutes, "60")  # until it is stopped, however slow the machine is
    click(qtbot, button(train, "Train"))
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers, timeout=LONG)
    preview = viewer.layers["cells preview"]
    good = 0.6 * min(error(preview), mean_square_error(noisy.data, truth))
    qtbot.waitUntil(lambda: error(preview) < good, timeout=LONG)
    click(qtbot, button(train, "Before"))
    assert preview.opacity == 0
    click(qtbot, button(train, "Before"))
    assert preview.opacity == 1
    click(qtbot, button(train, "Stop"))
    qtbot.waitUntil(lambda: list(session.models) == ["cells"], timeout=LONG)

    choose(viewer.window.plugins_menu, "Noise2Score", "Denoise")
    denoise = opened(viewer, "Denoise")
    qtbot.waitUntil(lambda: preview not in viewer.layers, timeout=LONG)
    qtbot.waitUntil(lambda: "cells preview" in viewer.layers, timeout=LONG)
    preview = viewer.layers["cells preview"]
    before = np.array(preview.data)
    gain = field(denoise, "Gain", QDoubleSlider)
    right = (gain.value() - gain.minimum()) / (gain.maximum() - gain.minimum())
    drag(qtbot, gain, 0.8)
    qtbot.waitUntil(lambda: not np.array_equal(preview.data, before), timeout=LONG)
    qtbot.waitUntil(lambda: not jobs(), timeout=LONG)
    dragged = np.array(preview.data)
    qtbot.keyClick(gain, Qt.Key.Key_Left)
    qtbot.waitUntil(lambda: not np.array_equal(preview.data, dragged), timeout=LONG)
    drag(qtbot, gain, right)
    qtbot.waitUntil(lambda: error(preview) < good, timeout=LONG)
    qtbot.waitUntil(lambda: not jobs(), timeout=LONG)

    path = tmp_path / "tuned.ome.zarr"
    paste_name(path)
    click(qtbot, button(denoise, "Write OME-Zarr…"))
    qtbot.waitUntil(lambda: "cells denoised" in viewer.layers, timeout=LONG)
    written = viewer.layers["cells denoised"]
    assert mean_square_error(written.data[0], truth) < mean_square_error(noisy.data, truth)
    (again,) = viewer.open(path, plugin="napari-ome-zarr")
    assert "cells denoised" in again.name
    assert again.axis_labels == noisy.axis_labels
    assert again.units == noisy.units
    for kept in ("scale", "contrast_limits"):
        np.testing.assert_allclose(getattr(again, kept), getattr(noisy, kept))
    np.testing.assert_array_equal(again.data, written.data[0])
    assert noisy.data.dtype == np.uint16  # and the image is what it was
    np.testing.assert_array_equal(noisy.data, simulate_cells()[0])
    assert notifications() == []
