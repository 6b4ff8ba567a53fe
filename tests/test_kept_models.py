"""A model that was learned and not saved is not lost."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta

import numpy as np
import pytest
from window import (
    TIMEOUT,
    add_cells,
    answer_dialog,
    button,
    close_by_hand,
    dock,
    enter_file_name,
    field,
    learn,
    set_noise,
)

NOISE = "gaussian(sigma=7)"

pytestmark = pytest.mark.window


@pytest.fixture
def folder(session):
    from napari_noise2score.widgets import _kept_models

    return _kept_models.folder()


def forget_session(session):
    """Let the session know nothing, as the next day."""
    session.models.clear()
    session.kept.clear()
    session.model_of.clear()


def test_the_model_is_offered_the_next_day_with_its_noise(viewer, qtbot, cells, session, folder):
    add_cells(viewer, cells[0])
    widget = dock(viewer)
    set_noise(widget, NOISE)
    learn(qtbot, widget)
    (model,) = session.models.values()
    (kept,) = folder.iterdir()
    viewer.window.remove_dock_widget(widget)
    forget_session(session)
    viewer.layers.clear()
    viewer.add_image(cells[0], name="other", axis_labels="tzyx")
    widget = dock(viewer)
    use = field(widget, "Use")
    (line,) = [use.itemText(i) for i in range(use.count()) if "not saved" in use.itemText(i)]
    assert line.startswith("cells (not saved, ")
    use.setCurrentIndex(use.findText(line))
    use.activated.emit(use.currentIndex())
    qtbot.waitUntil(lambda: "cells" in session.models, timeout=TIMEOUT)
    assert session.models["cells"].fingerprint == model.fingerprint
    qtbot.waitUntil(lambda: use.currentText() == "cells", timeout=TIMEOUT)
    assert field(widget, "As text").text() == NOISE
    assert kept.exists()
    # once a person saves it, it is not kept twice
    path = folder.parent / "mine.n2s"
    enter_file_name(path)
    button(widget, "Save…").click()
    qtbot.waitUntil(lambda: not kept.exists(), timeout=TIMEOUT)
    assert path.exists()


@pytest.fixture
def window(qtbot, session):
    """Return a window with a dock whose models are asked about."""
    from qtpy.QtWidgets import QMainWindow, QWidget

    from napari_noise2score.widgets._closing import Closing

    window = QMainWindow()
    qtbot.addWidget(window)
    dock = QWidget()
    window.setCentralWidget(dock)
    window.show()
    closing = Closing(dock)
    closing.watch()
    qtbot.waitExposed(window)
    return window


@pytest.mark.skipif(sys.platform != "linux", reason="closes the window by a message of X11")
@pytest.mark.parametrize("answer", ["Cancel", "Keep for later", "Discard"])
def test_a_person_who_closes_the_window_is_asked(window, qtbot, session, folder, model, answer):
    from napari_noise2score.widgets import _kept_models

    session.add_model(model, "cells")
    _kept_models.keep(model, "cells")
    (kept,) = folder.iterdir()
    asked = answer_dialog(answer)
    close_by_hand(window)
    qtbot.waitUntil(lambda: asked == ["A model was not saved."], timeout=TIMEOUT)
    qtbot.waitUntil(lambda: window.isVisible() == (answer == "Cancel"), timeout=TIMEOUT)
    assert kept.exists() == (answer != "Discard")


def test_a_person_who_exits_by_the_menu_is_asked_and_a_script_is_not(
    viewer, qtbot, session, folder, model, monkeypatch
):
    from napari._app_model import get_app_model
    from napari.settings import get_settings
    from qtpy.compat import isalive
    from qtpy.QtWidgets import QMainWindow

    from napari_noise2score.widgets import _kept_models

    monkeypatch.setattr(get_settings().application, "confirm_close_window", False)
    viewer.add_image(np.zeros((16, 16)))
    widget = dock(viewer)
    session.add_model(model, "cells")
    _kept_models.keep(model, "cells")
    window, other = widget.window(), QMainWindow()
    qtbot.addWidget(other)
    other.show()  # Exit closes it, too
    qtbot.waitUntil(lambda: "close" in vars(window), timeout=TIMEOUT)
    asked = answer_dialog("Cancel")
    get_app_model().commands.execute_command("napari.window.file.quit_dialog").result()
    assert asked == ["A model was not saved."]
    assert isalive(widget)
    assert list(folder.iterdir())
    viewer.close()
    assert asked == ["A model was not saved."]


@pytest.mark.skipif(sys.platform != "linux", reason="closes the window by a message of X11")
def test_nobody_is_asked_when_nothing_is_unsaved(window, qtbot, session, model):
    session.add_model(model, "cells")
    close_by_hand(window)
    qtbot.waitUntil(lambda: not window.isVisible(), timeout=TIMEOUT)


def test_the_newest_models_are_kept(session, folder, model):
    from napari_noise2score.widgets import _kept_models

    now = datetime.fromtimestamp(time.time())
    for days in range(_kept_models.MOST + 5):
        stamp = f"{now - timedelta(days=1 + days):{_kept_models.STAMP}}"
        (folder / f"old {stamp}.n2s").touch()
    (folder / "a file of a person.n2s").touch()
    _kept_models.keep(model, "cells: DAPI")
    files = {path.name for path in folder.iterdir()}
    assert "a file of a person.n2s" in files
    assert len(files) == _kept_models.MOST + 1
    assert [kept.name for kept in _kept_models.kept_models()].count("old") == _kept_models.MOST - 1
