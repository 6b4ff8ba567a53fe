"""Warnings and errors of a job are shown in full below its progress bar."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from window import (
    button,
    click,
    dock,
    notice,
    set_noise,
    wait_until_idle,
)

from napari_noise2score.errors import DataWarning, UserError

pytestmark = pytest.mark.window


@pytest.fixture
def bar(viewer, qtbot):
    from napari_noise2score.widgets._job_bar import JobBar

    bar = JobBar(viewer)
    qtbot.addWidget(bar)
    bar.show()
    return bar


def run(bar, qtbot, steps):
    with qtbot.waitSignal(bar.ended, timeout=20_000) as ended:
        bar.run(steps, "a job")
    return ended.args[0]


def test_warnings_of_a_job_are_shown_once_until_the_next_job(bar, qtbot):
    def steps_with_warnings():
        for _ in range(3):
            warnings.warn("series 1 of 2 is read\x1b[31m", DataWarning, stacklevel=1)
            yield 1

    received = []
    bar.progressed.connect(received.extend)
    assert run(bar, qtbot, steps_with_warnings()) == "done"
    assert notice(bar).isVisible()
    assert notice(bar).text() == "⚠ series 1 of 2 is read\\x1b[31m"
    assert received == [1, 1, 1]
    assert run(bar, qtbot, (step for step in ())) == "done"
    assert not notice(bar).isVisible()


def test_a_user_error_is_shown_below_the_bar(bar, qtbot, notifications):
    def steps_with_user_error():
        yield 1
        raise UserError("axes 'TY' lack X: name both Y and X")

    assert run(bar, qtbot, steps_with_user_error()) == "failed"
    assert "axes 'TY' lack X: name both Y and X" in notice(bar).text()


def test_an_internal_error_is_shown_in_one_line_with_the_path_of_a_log(bar, qtbot, notifications):
    def steps_with_internal_error():
        yield 1
        raise IndexError("list index out of range")

    assert run(bar, qtbot, steps_with_internal_error()) == "failed"
    text = notice(bar).text()
    assert "\n" not in text
    assert "A fault of this program" in text
    log = Path(re.search(r"report it with (\S+)$", text)[1])
    assert "list index out of range" in log.read_text()
    log.unlink()


def test_an_image_in_another_unit_is_refused_with_the_factor(
    viewer, qtbot, session, model, cells, notifications
):
    widget = dock(viewer)
    button(widget, "Live preview").setChecked(False)
    session.add_model(model, "cells")
    scaled = (cells[0] / 65535).astype(np.float32)
    viewer.add_image(scaled, name="scaled", axis_labels=("t", "z", "y", "x"))
    set_noise(widget, "gaussian(sigma=0.0001)")
    click(qtbot, button(widget, "Denoise"))
    wait_until_idle(qtbot, widget)
    assert re.search(r"times those the model was trained on", notice(widget).text())
    assert len(viewer.layers) == 1
