"""Every message that can appear in the dock wraps: none is cut off, and none widens the dock."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.window

TESTS = Path(__file__).parent
LONG_NAME = "/data/a_folder_of_the_microscope/2026-11-30_embryo_position_12_GFP_denoised.ome.zarr"
#: Width and height of the window, how many pixels of the screen are one of these, and the theme.
WINDOWS = [(1024, 700, 1, "dark"), (1440, 900, 1, "light"), (1024, 700, 2, "light")]


def all_messages():
    """Return what docs/window_messages.py lists, with long names in place of what is named."""
    path = TESTS.parent / "docs" / "window_messages.py"
    spec = importlib.util.spec_from_file_location("window_messages", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [text.replace(module.NAMED, LONG_NAME) for _, _, text in module.messages()]


def test_messages_are_found():
    texts = "\n".join(all_messages())
    for known in ("there is no image layer", "Press Denoise", "is too large for the live preview"):
        assert known in texts


def check(width: int, height: int, theme: str) -> None:
    """Show every message in every label of the dock that wraps, in a window of this size."""
    import napari
    import numpy as np
    from qtpy.QtWidgets import QApplication, QScrollArea
    from window import dock

    from napari_noise2score.widgets._message import WrappedLabel

    viewer = napari.Viewer()
    viewer.theme = theme
    viewer.add_image(np.zeros((3, 64, 64)), name=LONG_NAME, axis_labels="tyx")
    widget = dock(viewer)
    window = widget.window()
    window.resize(width, height)
    QApplication.processEvents()
    area = widget.findChild(QScrollArea)
    before = area.minimumWidth()
    labels = widget.findChildren(WrappedLabel)
    assert len(labels) > 8
    texts = all_messages()
    hardest = sorted(texts, key=lambda text: max(map(len, text.split())))[-10:]
    for label in labels:
        for text in texts if label is labels[0] else hardest:
            label.setText(text)
            assert label.text() == text
            needed = label.minimumSizeHint().width()
            assert needed < area.viewport().width() - 60, (needed, text)
    longest = max(texts, key=len)
    for label in labels:
        label.setText(longest)
        shown = label.isVisible()
        for _ in range(20):  # a scroll bar may appear, which makes the label narrower
            QApplication.processEvents()
            time.sleep(0.01)
        if shown:
            needed = label.heightForWidth(label.width())
            assert label.height() >= needed, (label.height(), needed, label.toolTip())
        label.setText("")
    QApplication.processEvents()
    assert area.minimumWidth() <= before
    assert window.width() == width
    viewer.close()


@pytest.mark.skipif(not shutil.which("xvfb-run"), reason="no screen of any size: install xvfb")
@pytest.mark.parametrize(("width", "height", "scale", "theme"), WINDOWS)
def test_every_message_fits(width, height, scale, theme):
    screen = f"-screen 0 {width * scale}x{height * scale}x24"
    program = f"import test_window_messages as t; t.check({width}, {height}, {theme!r})"
    environment = os.environ | {"QT_SCALE_FACTOR": str(scale), "PYTHONPATH": os.pathsep.join(
        [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    )}  # fmt: skip
    command = ["xvfb-run", "-a", "-s", screen, sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
