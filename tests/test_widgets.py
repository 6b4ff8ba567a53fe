"""The docks work in a real napari viewer, operated as a user does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from window import (
    PLUGIN,
    TIMEOUT,
    add_cells,
    button,
    click,
    dock,
    field,
    mean_square_error,
    noise_text,
    plot_curve,
    preview,
    run_command,
    running_jobs,
    set_noise,
    status,
    text_below,
    training_step,
    visible_texts,
    wait_for_form,
    wait_for_preview,
    wait_for_step,
    wait_until_idle,
)

from napari_noise2score import parse_noise
from napari_noise2score.sample import NOISE, OFFSET, simulate_cells

# a hardly trained model calls for a polish
pytestmark = [pytest.mark.window, pytest.mark.slow, pytest.mark.usefixtures("short_polish")]


def test_a_layer_is_trained_on_and_denoised(viewer, qtbot, cells, session, notifications):
    noisy, truth = cells
    source = add_cells(viewer, noisy)
    train = dock(viewer, "Train")
    assert field(train, "Axes").text() == "TZYX"
    assert "T 2 · Z 4 · Y 32 · X 32" in visible_texts(train)
    field(train, "Time").setValue(10)
    click(qtbot, button(train, "Train"))
    assert not button(train, "Train").isEnabled()
    train.train()  # a second start is ignored
    # wait for steps, not for a time, so that slow machines learn as much
    qtbot.waitUntil(lambda: training_step(train) >= 40, timeout=TIMEOUT)
    assert len(plot_curve(train, "training").xData) >= 40
    click(qtbot, button(train, "Stop"))
    wait_until_idle(qtbot, train)
    assert list(session.models) == ["cells"]
    assert button(train, "Train").isEnabled()

    denoise = dock(viewer, "Denoise")
    assert field(denoise, "Model").currentText() == "cells"
    set_noise(denoise, NOISE)
    click(qtbot, button(denoise, "Denoise"))
    wait_until_idle(qtbot, denoise)
    assert notifications() == []
    result = viewer.layers["cells denoised"]
    assert result.data.dtype == np.float32
    for kept in ("scale", "translate", "units", "axis_labels"):
        np.testing.assert_array_equal(getattr(result, kept), getattr(source, kept))
    assert result.colormap.name == "green"
    assert result.contrast_limits == source.contrast_limits
    origin = result.metadata["noise2score"]
    assert origin["model"] == "cells"
    assert origin["noise"] == NOISE
    assert set(origin) == {"source", "model", "fingerprint", "noise", "sigma_a", "version"}
    truth = truth + OFFSET
    assert mean_square_error(result.data, truth) < 0.5 * mean_square_error(noisy, truth)


def test_training_ends_after_the_given_time(viewer, qtbot, cells, session):
    add_cells(viewer, cells[0])
    train = dock(viewer, "Train")
    field(train, "Time").setValue(0.02)
    click(qtbot, button(train, "Train"))
    wait_until_idle(qtbot, train)
    assert session.models["cells"].axes == "TZYX"
    assert "Trained for" in status(train)


def test_a_lazy_layer_equals_the_denoised_layer(viewer, qtbot, cells, session, model):
    add_cells(viewer, cells[0])
    session.add_model(model, "cells")
    denoise = dock(viewer, "Denoise")
    set_noise(denoise, NOISE)
    click(qtbot, button(denoise, "Add lazy layer"))
    wait_until_idle(qtbot, denoise)
    click(qtbot, button(denoise, "Denoise"))
    wait_until_idle(qtbot, denoise)
    lazy, whole = viewer.layers["cells denoised"], viewer.layers["cells denoised [1]"]
    assert hasattr(lazy.data, "dask")
    np.testing.assert_allclose(lazy.data[1, 2].compute(), whole.data[1, 2], rtol=1e-5)


def test_stopping_keeps_the_model(viewer, qtbot, cells, session):
    add_cells(viewer, cells[0])
    train = dock(viewer, "Train")
    field(train, "Time").setValue(60)
    click(qtbot, button(train, "Train"))
    wait_for_step(qtbot, train)
    click(qtbot, button(train, "Stop"))
    wait_until_idle(qtbot, train)
    assert session.models["cells"].channels == 1
    assert "Stopped after" in status(train)
    click(qtbot, button(train, "Train"))  # another training can start
    wait_for_step(qtbot, train)
    train.stop()
    wait_until_idle(qtbot, train)
    assert list(session.models) == ["cells", "cells (2)"]


def test_resume_continues_where_training_stopped(viewer, qtbot, cells, session, notifications):
    layer = add_cells(viewer, cells[0])
    train = dock(viewer, "Train")
    field(train, "Time").setValue(60)
    assert not button(train, "Resume").isEnabled()
    click(qtbot, button(train, "Train"))
    qtbot.waitUntil(lambda: training_step(train) >= 5, timeout=TIMEOUT)
    assert not button(train, "Resume").isEnabled()
    click(qtbot, button(train, "Stop"))
    wait_until_idle(qtbot, train)
    first = session.models["cells"].provenance["steps"]
    click(qtbot, button(train, "Resume"))
    qtbot.waitUntil(lambda: training_step(train) >= first + 3, timeout=TIMEOUT)
    click(qtbot, button(train, "Stop"))
    wait_until_idle(qtbot, train)
    assert list(session.models) == ["cells", "cells (2)"]
    assert session.models["cells"].provenance["steps"] == first  # the first model is unchanged
    assert session.models["cells (2)"].provenance["steps"] >= first + 3
    # one curve without a gap or a repeated step
    steps, _ = plot_curve(train, "training").getData()
    assert list(steps) == list(range(1, steps[-1] + 1))
    assert button(train, "Resume").isEnabled()
    viewer.layers.remove(layer)
    assert not button(train, "Resume").isEnabled()
    assert notifications() == []


def test_removing_the_layer_stops_training(viewer, qtbot, cells, session):
    layer = add_cells(viewer, cells[0])
    train = dock(viewer, "Train")
    field(train, "Time").setValue(60)
    click(qtbot, button(train, "Train"))
    wait_for_step(qtbot, train)
    viewer.layers.remove(layer)
    wait_until_idle(qtbot, train)
    assert list(session.models) == ["cells"]
    assert field(train, "Layer").currentText() == ""


def test_closing_the_dock_stops_training(viewer, qtbot, cells):
    add_cells(viewer, cells[0])
    train = dock(viewer, "Train")
    field(train, "Time").setValue(60)
    click(qtbot, button(train, "Train"))
    wait_for_step(qtbot, train)
    train.parent().destroyOnClose()
    qtbot.waitUntil(lambda: not running_jobs(), timeout=TIMEOUT)


def test_closing_the_viewer_stops_training(viewer, qtbot, cells):
    add_cells(viewer, cells[0])
    train = dock(viewer, "Train")
    field(train, "Time").setValue(60)
    click(qtbot, button(train, "Train"))
    wait_for_step(qtbot, train)
    viewer.close()
    qtbot.waitUntil(lambda: not running_jobs(), timeout=TIMEOUT)


def test_a_script_that_ends_during_training_prints_no_errors():
    """A script has no event loop, at whose end napari would wait for running jobs."""
    import subprocess
    import sys

    program = """
import napari, numpy as np, time
from qtpy.QtWidgets import QApplication
from window import dock, training_step
viewer = napari.Viewer(show=False)
viewer.add_image(np.random.default_rng(0).poisson(50, (64, 64)))
train = dock(viewer, "Train")
train.train()
while not training_step(train):
    QApplication.processEvents()
    time.sleep(0.01)
viewer.close()
"""
    here = Path(__file__).parent  # the program imports from it
    run = subprocess.run([sys.executable, "-c", program], cwd=here, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr, run.stderr
    assert "deleted" not in run.stderr, run.stderr


def test_unknown_axes_are_required_and_not_guessed(viewer, qtbot, cells, notifications):
    viewer.add_image(cells[0], name="unnamed")
    train, denoise = dock(viewer, "Train"), dock(viewer, "Denoise")
    assert field(train, "Axes").text() == ""
    click(qtbot, button(train, "Train"))
    assert not train.busy
    assert "'unnamed' does not say what its 4 dimensions are" in notifications()[-1]
    qtbot.keyClicks(field(train, "Axes"), "tqyx")
    click(qtbot, button(train, "Train"))
    assert "'Q' is not an axis" in notifications()[-1]
    field(train, "Axes").clear()
    qtbot.keyClicks(field(train, "Axes"), "tzyx")
    for widget in (train, denoise):  # both docks take what was typed once
        assert field(widget, "Axes").text() == "tzyx"
        assert "T 2 · Z 4 · Y 32 · X 32" in visible_texts(widget)


def test_an_error_in_training_gives_a_notification(viewer, qtbot, session, notifications):
    viewer.add_image(np.zeros((64, 64)), name="black")
    train = dock(viewer, "Train")
    click(qtbot, button(train, "Train"))
    wait_until_idle(qtbot, train)
    assert len(notifications()) == 1
    assert not session.models
    assert "Failed" in status(train)


def test_the_uncertainty_is_added_as_a_layer(viewer, qtbot, cells, session, model, notifications):
    source = add_cells(viewer, cells[0][:1, :2, :16, :16])  # the uncertainty takes 30 times as long
    session.add_model(model, "cells")
    denoise = dock(viewer, "Denoise")
    set_noise(denoise, NOISE)
    field(denoise, "Uncertainty").setChecked(True)
    for name in ("Denoise", "Add lazy layer"):
        click(qtbot, button(denoise, name))
        wait_until_idle(qtbot, denoise)
    assert notifications() == []
    whole, lazy = (viewer.layers[name] for name in ("cells uncertainty", "cells uncertainty [1]"))
    # it may be 0 for the darkest pixels
    assert np.min(whole.data) >= 0
    assert np.median(whole.data) > 1
    np.testing.assert_allclose(np.asarray(lazy.data), whole.data, rtol=0.01)
    for kept in ("scale", "translate", "units", "axis_labels"):
        np.testing.assert_array_equal(getattr(whole, kept), getattr(source, kept))
    assert whole.metadata["noise2score"]["noise"] == NOISE
    qtbot.waitUntil(lambda: all(layer.loaded for layer in viewer.layers), timeout=TIMEOUT)


def test_a_model_is_trained_for_correlated_noise(viewer, qtbot, cells, session, notifications):
    add_cells(viewer, cells[0])
    train = dock(viewer, "Train")
    field(train, "Time").setValue(0.02)
    field(train, "Correlation").setCurrentText("kernel([[0.1, 0.8")
    click(qtbot, button(train, "Train"))
    wait_until_idle(qtbot, train)
    assert "not understood" in notifications()[-1]
    field(train, "Correlation").setCurrentText("A")
    click(qtbot, button(train, "Train"))
    wait_until_idle(qtbot, train)
    assert str(session.models["cells"].kernel) == "A"


def test_a_wrong_number_of_channels_is_refused(viewer, qtbot, session, model, notifications):
    viewer.add_image(np.full((2, 32, 32), 110.0), name="two", axis_labels=("c", "y", "x"))
    session.add_model(model, "one channel")
    denoise = dock(viewer, "Denoise")
    click(qtbot, button(denoise, "Denoise"))
    wait_until_idle(qtbot, denoise)
    assert "1 channel" in notifications()[-1]
    assert len(viewer.layers) == 1
    set_noise(denoise, "poisson(gane=2)")
    click(qtbot, button(denoise, "Denoise"))
    assert "did you mean 'gain'" in notifications()[-1]


def test_a_missing_layer_or_model_gives_a_notification(viewer, qtbot, notifications):
    denoise = dock(viewer, "Denoise")
    click(qtbot, button(denoise, "Denoise"))
    assert "no image layer" in notifications()[-1]
    viewer.add_image(np.zeros((32, 32)))
    click(qtbot, button(denoise, "Denoise"))
    assert "no model yet" in notifications()[-1]


def test_out_of_memory_suggests_smaller_tiles_and_offers_the_processor(
    viewer, qtbot, cells, session, model, monkeypatch
):
    """A RuntimeError, which torch raises, ends the job like any other error."""
    from napari.utils.notifications import notification_manager

    from napari_noise2score.denoising import denoise as module

    original = module.denoise_steps

    def fail_unless_on_cpu(*args, device, **settings):
        if device != "cpu":
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        yield from original(*args, device=device, **settings)

    monkeypatch.setattr(module, "denoise_steps", fail_unless_on_cpu)
    add_cells(viewer, cells[0])
    session.add_model(model, "cells")
    denoise = dock(viewer, "Denoise")
    button(denoise, "live").setChecked(False)
    notification_manager.records.clear()
    click(qtbot, button(denoise, "Denoise"))
    wait_until_idle(qtbot, denoise)
    assert len(viewer.layers) == 1
    (notice,) = notification_manager.records
    assert "smaller --tile" in notice.message
    ((text, press),) = notice.actions
    assert text == "Use the processor"
    press(None)
    wait_until_idle(qtbot, denoise)
    assert field(denoise, "Device").currentText() == "cpu"
    assert viewer.layers[-1].name == "cells denoised"


def test_a_job_is_shown_in_the_activity_dock_and_can_be_cancelled_there(
    viewer, qtbot, cells, session
):
    from qtpy.QtWidgets import QLabel

    add_cells(viewer, cells[0])
    train = dock(viewer, "Train")
    field(train, "Time").setValue(60)
    click(qtbot, button(train, "Train"))
    wait_for_step(qtbot, train)
    titles = train.window().findChildren(QLabel)
    (title,) = [title for title in titles if "Training on cells" in title.text()]
    click(qtbot, button(title.parentWidget(), "Cancel"))
    wait_until_idle(qtbot, train)
    assert list(session.models) == ["cells"]  # as with Stop, the model is kept


def test_changing_device_or_layer_does_not_affect_a_running_training(
    viewer, qtbot, cells, session, notifications
):
    source = add_cells(viewer, cells[0])
    train = dock(viewer, "Train")
    field(train, "Time").setValue(60)
    click(qtbot, button(train, "Train"))
    wait_for_step(qtbot, train)
    field(train, "Device").setCurrentText("cpu")
    other = add_cells(viewer, cells[0])
    field(train, "Layer").setCurrentText("cells [1]")
    source.data = source.data[:, :2]  # edited during training
    wait_for_step(qtbot, train, training_step(train) + 5)
    viewer.layers.remove(other)  # not the layer of the training
    assert train.busy
    click(qtbot, button(train, "Stop"))
    wait_until_idle(qtbot, train)
    assert list(session.models) == ["cells"]
    assert notifications() == []


def test_closing_the_viewer_stops_the_preview(viewer, qtbot, cells, session, model):
    viewer.add_image(np.tile(cells[0], (1, 1, 12, 12)), name="cells", axis_labels="tzyx")
    session.add_model(model, "cells")
    denoise = dock(viewer, "Denoise")
    qtbot.waitUntil(lambda: preview(denoise).busy, timeout=TIMEOUT)
    viewer.close()
    qtbot.waitUntil(lambda: not running_jobs(), timeout=TIMEOUT)


def test_a_model_is_saved_and_loaded(
    viewer, qtbot, session, model, tmp_path, notifications, monkeypatch
):
    from qtpy.QtWidgets import QFileDialog

    path = tmp_path / "cells.n2s"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    session.add_model(model, "trained")
    denoise = dock(viewer, "Denoise")
    click(qtbot, button(denoise, "Save…"))
    qtbot.waitUntil(path.exists, timeout=TIMEOUT)
    click(qtbot, button(denoise, "Load…"))
    qtbot.waitUntil(lambda: field(denoise, "Model").currentText() == "cells", timeout=TIMEOUT)
    path.write_text("nonsense")
    click(qtbot, button(denoise, "Load…"))
    qtbot.waitUntil(lambda: len(notifications()) == 1, timeout=TIMEOUT)
    assert list(session.models) == ["trained", "cells"]


def test_an_rgb_result_is_displayed_as_rgb(viewer, qtbot, session, notifications):
    rng = np.random.default_rng(0)
    photo = rng.integers(80, 120, (40, 40, 3), dtype=np.uint8)
    viewer.add_image(photo, name="photo", rgb=True)
    train = dock(viewer, "Train")
    assert field(train, "Axes").text() == "YXC"
    field(train, "Time").setValue(0.02)
    click(qtbot, button(train, "Train"))
    wait_until_idle(qtbot, train)
    denoise = dock(viewer, "Denoise")
    set_noise(denoise, "gaussian(sigma=10)")
    for name in ("Denoise", "Add lazy layer"):
        click(qtbot, button(denoise, name))
        wait_until_idle(qtbot, denoise)
        result = viewer.layers[-1]
        assert result.rgb
        assert result.data.dtype == np.uint8
    assert notifications() == []
    assert abs(float(np.mean(viewer.layers[1].data)) - photo.mean()) < 5
    # the lazy layer is computed in a thread, which keeps the viewer alive
    qtbot.waitUntil(lambda: all(layer.loaded for layer in viewer.layers), timeout=TIMEOUT)


def test_a_multiscale_dask_layer_is_denoised(viewer, qtbot, cells, session, model):
    import dask.array as da

    levels = [da.from_array(cells[0]), da.from_array(cells[0][..., ::2, ::2])]
    add_cells(viewer, levels, multiscale=True)
    session.add_model(model, "cells")
    denoise = dock(viewer, "Denoise")
    click(qtbot, button(denoise, "Denoise"))
    wait_until_idle(qtbot, denoise)
    assert viewer.layers[-1].data.shape == cells[0].shape


@pytest.mark.parametrize(
    "text",
    [
        "gaussian(sigma=25)",
        "gaussian(a=0.098, b=25)",
        "poisson(gain=5)",
        "poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)",
        "gamma(alpha=26) + gaussian(sigma=10)",
        "rayleigh(sigma=0.3)",
        "nakagami(m=1) + gaussian(sigma=2)",
        "rician(sigma=10)",
        "tweedie(power=1.5, dispersion=3)",
        "tweedie(power=1.5, dispersion=3, offset=100)",
        "emccd(gain=20)",
        "emccd(gain=4, offset=100, excess=1.25)",
        "gaussian(sigma=25) @ A",
        "poisson(gain=5) @ A + gaussian(sigma=10)",
        "gamma(alpha=26) @ kernel([[0.1, 0.8, 0.1]])",
    ],
)
def test_the_controls_represent_every_noise_text(viewer, qtbot, text):
    denoise = dock(viewer, "Denoise")
    set_noise(denoise, "gaussian(sigma=1)")
    wait_for_form(qtbot, denoise, "Gaussian: the same")
    set_noise(denoise, text)
    correlation = field(denoise, "Correlation")
    chosen = correlation.currentText()
    for kernel in ("none", "A", chosen):  # each change rewrites the text from all controls
        correlation.setCurrentText(kernel)
    assert noise_text(denoise) == text


def test_the_noise_text_follows_the_controls(viewer, qtbot):
    from qtpy.QtWidgets import QCheckBox

    from napari_noise2score.noise import families

    denoise = dock(viewer, "Denoise")
    set_noise(denoise, "gaussian(sigma=1)")
    wait_for_form(qtbot, denoise, "Gaussian: the same")
    names = [
        family.name for family in families() for _ in family.forms if family.name != "empirical"
    ]
    assert field(denoise, "Noise").count() == len(names)
    for i, name in enumerate(names):
        field(denoise, "Noise").setCurrentIndex(i)
        assert noise_text(denoise).startswith(name)
        assert text_below(denoise, "As text") == ""
    field(denoise, "Noise").setCurrentIndex(0)
    field(denoise, "Gain").setValue(2.5)
    field(denoise, "Read noise", QCheckBox).setChecked(True)
    field(denoise, "Read noise").setValue(4)
    assert noise_text(denoise) == "poisson(gain=2.5) + gaussian(sigma=4)"
    field(denoise, "Correlation").setCurrentText("A")
    assert noise_text(denoise) == "poisson(gain=2.5) @ A + gaussian(sigma=4)"
    field(denoise, "Correlation").setCurrentText("kernel([[1, 1")
    assert "write A or kernel" in text_below(denoise, "As text")
    field(denoise, "Correlation").setCurrentText("none")
    set_noise(denoise, "poisson(gain=")
    assert "not understood" in text_below(denoise, "As text")
    assert noise_text(denoise) == "poisson(gain="  # the typed text stays


def test_the_list_of_layers_is_kept_up_to_date(viewer):
    denoise = dock(viewer, "Denoise")
    layers = field(denoise, "Layer")
    assert layers.count() == 0
    assert "no image layer" in visible_texts(denoise)
    layer = viewer.add_image(np.zeros((8, 8)), name="first")
    viewer.add_labels(np.zeros((8, 8), int))
    assert [layers.itemText(i) for i in range(layers.count())] == ["first"]
    viewer.add_image(np.zeros((8, 8)), name="second")
    assert layers.currentText() == "first"  # the choice stays
    viewer.layers.remove(layer)
    assert layers.currentText() == "second"


def test_the_sample_and_the_menu_entries_are_available(viewer, qtbot):
    """The noise of the sample is taken from its metadata."""
    from napari._app_model import get_app_model

    denoise = dock(viewer, "Denoise")
    viewer.open_sample(PLUGIN, "cells")
    noisy = viewer.layers["cells"]
    assert field(denoise, "Layer").currentText() == "cells"
    assert [str(unit) for unit in noisy.units] == ["second", *["micrometer"] * 3]
    assert noisy.axis_labels == ("t", "z", "y", "x")
    qtbot.waitUntil(lambda: noise_text(denoise) == NOISE, timeout=TIMEOUT)
    commands = {
        item.command.id
        for item in get_app_model().menus.get_menu("napari/layers/filter")
        if hasattr(item, "command")
    }
    expected = ("train", "denoise", "check", "denoise_layer")
    assert {f"{PLUGIN}.{name}" for name in expected} <= commands


def test_every_control_has_a_tooltip(viewer):
    from qtpy.QtWidgets import QAbstractSpinBox, QCheckBox, QComboBox, QLineEdit, QPushButton

    for name in ("Train", "Denoise", "Noise check"):
        widget = dock(viewer, name)
        kinds = (QAbstractSpinBox, QCheckBox, QComboBox, QLineEdit, QPushButton)
        for kind in kinds:
            for control in widget.findChildren(kind):
                inner = control.objectName().startswith("qt_")  # the line edit of a spin box
                assert inner or control.toolTip(), f"{name}: a {kind.__name__} has no tooltip"


def test_every_control_has_a_name_for_a_screen_reader(viewer):
    from qtpy.QtWidgets import (
        QAbstractButton,
        QAbstractSpinBox,
        QComboBox,
        QLabel,
        QLineEdit,
        QSlider,
    )

    for name in ("Train", "Denoise", "Noise check"):
        widget = dock(viewer, name)
        labelled = [label.buddy() for label in widget.findChildren(QLabel)]
        for kind in (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QSlider):
            for control in widget.findChildren(kind):
                if isinstance(control.parent(), QAbstractSpinBox | QComboBox):
                    continue  # its line edit or arrow
                text = control.text() if kind is QAbstractButton else ""
                assert control.accessibleName() or text or control in labelled, control.toolTip()


def test_no_control_is_cut_off_in_a_small_window(viewer, qtbot):
    from qtpy.QtWidgets import QScrollArea

    docks = [dock(viewer, name) for name in ("Train", "Denoise", "Noise check")]
    docks[0].window().resize(1280, 800)
    # Qt does not lay out the scroll bars of a window that is not shown
    docks[0].window().show()
    for area in [each.findChild(QScrollArea) for each in docks]:
        qtbot.waitUntil(lambda area=area: area.widget().width() <= area.viewport().width())


def test_importing_the_docks_does_not_import_torch(viewer):
    """Torch is imported in a thread, as it would block the window."""
    import subprocess
    import sys

    program = (
        "import sys, napari_noise2score.widgets.train, napari_noise2score.widgets.denoise,"
        "napari_noise2score.widgets.check;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_training_in_the_window_gives_the_same_weights_as_in_python(
    viewer, qtbot, cells, session, monkeypatch
):
    """The preview does not influence training."""
    from itertools import count
    from types import SimpleNamespace

    from napari_noise2score import train
    from napari_noise2score.score import training

    def replace_clock():
        # every reading of the clock is a second later, so that the budget in minutes gives the same
        # number of steps on every machine
        ticks = count()
        monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: next(ticks)))

    replace_clock()
    expected = train(cells[0], axes="TZYX", minutes=0.2, seed=3)
    replace_clock()
    add_cells(viewer, cells[0])
    widget = dock(viewer, "Train")
    field(widget, "Time").setValue(0.2)
    field(widget, "Seed").setValue(3)
    click(qtbot, button(widget, "Train"))
    wait_until_idle(qtbot, widget)
    wait_for_preview(qtbot, widget)
    found = session.models["cells"]
    assert found.provenance["steps"] == expected.provenance["steps"] > 8
    expected_weights = expected.network.state_dict()
    for key, weights in found.network.state_dict().items():
        assert weights.equal(expected_weights[key]), key


def test_training_is_paused_and_continued(viewer, qtbot, cells, session):
    add_cells(viewer, cells[0])
    train = dock(viewer, "Train")
    assert "8 planes of 32 × 32 pixels" in visible_texts(train)
    field(train, "Time").setValue(60)
    pause = button(train, "Pause")
    assert not pause.isEnabled()
    click(qtbot, button(train, "Train"))
    wait_for_step(qtbot, train)
    click(qtbot, pause)
    qtbot.waitUntil(lambda: status(train) == "Paused.", timeout=TIMEOUT)

    def last_step():
        return plot_curve(train, "training").xData[-1]

    paused_at = last_step()
    qtbot.wait(300)
    assert status(train) == "Paused."
    assert last_step() == paused_at
    assert pause.text() == "Continue"
    click(qtbot, pause)
    wait_for_step(qtbot, train, paused_at + 2)
    click(qtbot, pause)
    qtbot.waitUntil(lambda: status(train) == "Paused.", timeout=TIMEOUT)
    click(qtbot, button(train, "Stop"))  # while it is paused
    wait_until_idle(qtbot, train)
    assert not pause.isChecked()
    assert list(session.models) == ["cells"]


def test_the_preview_improves_during_training(viewer, qtbot, cells, session, monkeypatch):
    noisy, truth = cells
    monkeypatch.setattr("napari_noise2score.widgets.train.PREVIEW_EVERY", 0.1)
    add_cells(viewer, noisy, metadata={"noise2score": {"noise": NOISE}})
    train = dock(viewer, "Train")
    field(train, "Time").setValue(10)
    click(qtbot, button(train, "Train"))
    wait_for_preview(qtbot, train)
    layer = viewer.layers["cells preview"]
    assert layer.metadata["noise2score"]["noise"] == NOISE
    first = mean_square_error(layer.data, truth[:1, :1] + OFFSET)
    qtbot.waitUntil(
        lambda: mean_square_error(layer.data, truth[:1, :1] + OFFSET) < 0.7 * first, timeout=TIMEOUT
    )
    assert train.busy
    click(qtbot, button(train, "Before"))
    assert layer.opacity == 0
    button(train, "live").setChecked(False)
    assert layer not in viewer.layers
    train.stop()
    wait_until_idle(qtbot, train)


def test_two_docks_share_one_preview(viewer, qtbot, cells, session):
    add_cells(viewer, cells[0])
    train, denoise = dock(viewer, "Train"), dock(viewer, "Denoise")
    click(qtbot, button(train, "Train"))
    wait_for_preview(qtbot, train)
    click(qtbot, button(train, "Stop"))
    wait_until_idle(qtbot, train)
    wait_for_preview(qtbot, denoise)
    assert [layer.name for layer in viewer.layers] == ["cells", "cells preview"]
    assert preview(train).layer is None


def test_one_command_trains_and_denoises(viewer, qtbot, cells, session, notifications):
    run_command("denoise_layer")
    assert "no image layer" in notifications()[-1]
    layer = add_cells(viewer, cells[0], metadata={"noise2score": {"noise": NOISE}})
    viewer.layers.selection.active = layer
    train = dock(viewer, "Train")
    run_command("denoise_layer")
    run_command("denoise_layer")  # while it is running
    assert "training is running" in notifications()[-1]
    wait_for_step(qtbot, train)
    click(qtbot, button(train, "Stop"))
    qtbot.waitUntil(lambda: viewer.layers[-1].name == "cells denoised", timeout=TIMEOUT)
    assert viewer.layers[-1].metadata["noise2score"]["noise"] == NOISE
    assert len(notifications()) == 2


def gain_of(text):
    """Return the gain of a camera; a stack this small leaves the read noise uncertain."""
    return parse_noise(text).components.base.gain


def test_estimate_finds_the_noise_of_the_layer(viewer, qtbot, session, notifications):
    noisy, _ = simulate_cells((4, 2, 128, 128))  # gain 2, offset 100, read noise 3
    layer = add_cells(viewer, noisy)
    denoise = dock(viewer, "Denoise")
    click(qtbot, button(denoise, "Estimate from the layer"))
    wait_until_idle(qtbot, denoise)
    assert notifications() == []
    assert gain_of(noise_text(denoise)) == pytest.approx(2, rel=0.15)
    assert session.noises[layer] == noise_text(denoise)
    assert "Found poisson(gain=" in status(denoise)


def test_refine_keeps_the_chosen_noise_family(viewer, qtbot, session, notifications):
    noisy, _ = simulate_cells((4, 2, 128, 128))  # gain 2, offset 100, read noise 3
    layer = add_cells(viewer, noisy)
    denoise = dock(viewer, "Denoise")
    set_noise(denoise, "poisson(gain=7, offset=100) + gaussian(sigma=1)")
    click(qtbot, button(denoise, "Refine"))
    wait_until_idle(qtbot, denoise)
    assert notifications() == []
    base, _, read = parse_noise(noise_text(denoise)).components
    assert base.offset == 100
    assert base.gain == pytest.approx(2, rel=0.1)
    assert read == pytest.approx(3, rel=0.2)
    assert session.noises[layer] == noise_text(denoise)


def test_one_command_estimates_the_noise_if_none_was_chosen(viewer, qtbot, session, notifications):
    noisy, _ = simulate_cells((4, 1, 128, 128))
    viewer.layers.selection.active = add_cells(viewer, noisy)
    train = dock(viewer, "Train")
    run_command("denoise_layer")
    wait_for_step(qtbot, train)
    click(qtbot, button(train, "Stop"))
    qtbot.waitUntil(lambda: viewer.layers[-1].name == "cells denoised", timeout=TIMEOUT)
    facts = viewer.layers[-1].metadata["noise2score"]
    assert gain_of(facts["noise"]) == pytest.approx(2, rel=0.2)
    assert facts["noise found by"] in ("images", "other frames")
    assert notifications() == []


def test_a_failed_estimate_gives_a_notification(viewer, qtbot, session, notifications):
    viewer.add_image(np.full((128, 128), 7.0), name="flat")
    denoise = dock(viewer, "Denoise")
    before = noise_text(denoise)
    click(qtbot, button(denoise, "Estimate from the layer"))
    wait_until_idle(qtbot, denoise)
    assert any("constant" in message for message in notifications())
    assert noise_text(denoise) == before


def test_training_estimates_the_noise_for_its_preview(viewer, qtbot, session):
    noisy, _ = simulate_cells((4, 2, 128, 128))
    layer = add_cells(viewer, noisy)
    train = dock(viewer, "Train")
    field(train, "Time").setValue(10)
    click(qtbot, button(train, "Train"))
    wait_for_step(qtbot, train)
    click(qtbot, button(train, "Stop"))
    wait_until_idle(qtbot, train)
    assert gain_of(session.noises[layer]) == pytest.approx(2, rel=0.15)


def test_a_polish_is_stopped_continued_and_kept(
    viewer, qtbot, cells, session, model, notifications, tmp_path, short_polish
):
    source = add_cells(viewer, cells[0][:1, :1])
    session.add_model(model, "cells")
    session.files[model.fingerprint] = tmp_path / "cells.n2s"
    denoise = dock(viewer, "Denoise")
    set_noise(denoise, NOISE)
    field(denoise, "Polish").setChecked(True)
    short_polish(40)
    click(qtbot, button(denoise, "Denoise"))
    qtbot.waitUntil(lambda: "Polishing: step" in status(denoise), timeout=TIMEOUT)
    first = int(status(denoise).split("step")[1].split()[0])
    qtbot.waitUntil(lambda: f"step {first} " not in status(denoise), timeout=TIMEOUT)
    click(qtbot, button(denoise, "Stop"))
    wait_until_idle(qtbot, denoise)
    assert "nothing was added" in status(denoise)
    assert list(viewer.layers) == [source]
    assert not list(tmp_path.iterdir())

    click(qtbot, button(denoise, "Denoise"))
    wait_until_idle(qtbot, denoise)
    assert notifications() == []
    (kept,) = tmp_path.glob("cells-*.polish")
    result = viewer.layers["cells denoised"]
    assert len(result.metadata["noise2score"]["polish"]) == 16
    # the next layer uses it again
    session.polishes.clear()
    click(qtbot, button(denoise, "Add lazy layer"))
    wait_until_idle(qtbot, denoise)
    lazy = viewer.layers["cells denoised [1]"]
    np.testing.assert_allclose(np.asarray(lazy.data), result.data, rtol=1e-4)
    assert lazy.metadata["noise2score"]["polish"] == result.metadata["noise2score"]["polish"]
    # another noise model needs another one
    field(denoise, "Polish").setChecked(False)
    set_noise(denoise, "gaussian(sigma=3)")
    click(qtbot, button(denoise, "Denoise"))
    wait_until_idle(qtbot, denoise)
    assert "polish" not in viewer.layers["cells denoised [2]"].metadata["noise2score"]
    assert [kept] == list(tmp_path.iterdir())
