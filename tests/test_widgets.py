"""The dock works in a real napari viewer, operated as a user does."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import numpy as np
import pytest
from window import (
    PLUGIN,
    TIMEOUT,
    add_cells,
    button,
    click,
    denoise,
    dock,
    field,
    label_with_tooltip,
    learn,
    mean_square_error,
    messages,
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

from napari_noise2score import UserError, parse_noise
from napari_noise2score.sample import NOISE, OFFSET, simulate_cells

# a hardly trained model calls for a polish
pytestmark = [pytest.mark.window, pytest.mark.slow, pytest.mark.usefixtures("short_polish")]

WIDE_NETWORKS = True


def test_a_layer_is_trained_on_and_denoised(viewer, qtbot, cells, session, notifications):
    noisy, truth = cells
    source = add_cells(viewer, noisy)
    widget = dock(viewer)
    assert field(widget, "Axes").text() == "TZYX"
    assert any(
        t.startswith("T 2 · Z 4 · Y 32 · X 32, 0.1\N{NO-BREAK SPACE}µm")
        for t in visible_texts(widget)
    )
    set_noise(widget, NOISE)
    field(widget, "Time").setValue(10)
    click(qtbot, button(widget, "Train"))
    assert not button(widget, "Train").isEnabled()
    widget.train()  # a second start is ignored
    # wait for steps, not for a time, so that slow machines learn as much
    wait_for_step(qtbot, widget, 40)
    assert len(plot_curve(widget, "training").xData) >= 40
    click(qtbot, button(widget, "Stop"))
    wait_until_idle(qtbot, widget)
    assert list(session.models) == ["cells"]
    assert field(widget, "Use").currentText() == "cells"
    denoise(qtbot, widget)
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


def test_one_press_estimates_trains_and_denoises_and_the_next_uses_the_model(
    viewer, qtbot, session, notifications
):
    noisy, _ = simulate_cells((4, 1, 128, 128))  # gain 2, offset 100, read noise 3
    layer = add_cells(viewer, noisy)
    widget = dock(viewer)
    assert any("not known yet" in text for text in visible_texts(widget))
    field(widget, "Time").setValue(0.02)
    click(qtbot, button(widget, "Denoise"))
    wait_until_idle(qtbot, widget)
    assert session.models["cells"].axes == "TZYX"
    assert "Added 'cells denoised', made with the 2 neighbouring time points." in status(widget)
    facts = viewer.layers["cells denoised"].metadata["noise2score"]
    assert facts["noise"] == noise_text(widget) == session.noises[layer]
    assert gain_of(facts["noise"]) == pytest.approx(2, rel=0.2)
    assert facts["noise found by"] in ("images", "other frames")
    assert any("Photon counting (Poisson): gain" in text for text in visible_texts(widget))
    assert any(text.startswith("explains 9") for text in visible_texts(widget))
    # a training of a second says that it was too short
    assert "Resume under Model" in status(widget)
    assert field(widget, "Layer").currentText() == "cells"  # not the result
    denoise(qtbot, widget)
    assert list(session.models) == ["cells"]
    assert viewer.layers[-1].name == "cells denoised [1]"
    assert notifications() == []


def test_a_lazy_layer_equals_the_denoised_layer(viewer, qtbot, cells, session, model):
    add_cells(viewer, cells[0])
    session.add_model(model, "cells")
    widget = dock(viewer)
    set_noise(widget, NOISE)
    denoise(qtbot, widget, "lazy layer")
    denoise(qtbot, widget)
    lazy, whole = viewer.layers["cells denoised"], viewer.layers["cells denoised [1]"]
    assert hasattr(lazy.data, "dask")
    np.testing.assert_allclose(lazy.data[1, 2].compute(), whole.data[1, 2], rtol=1e-5)


def test_stopping_keeps_the_model(viewer, qtbot, cells, session):
    add_cells(viewer, cells[0])
    widget = dock(viewer)
    set_noise(widget, NOISE)
    learn(qtbot, widget)
    assert session.models["cells"].channels == 1
    assert "Stopped after" in status(widget)
    click(qtbot, button(widget, "Train"))  # another training can start
    wait_for_step(qtbot, widget)
    widget.stop()
    wait_until_idle(qtbot, widget)
    assert list(session.models) == ["cells", "cells (2)"]


def test_a_press_while_the_network_learns_denoises_with_what_is_learned(
    viewer, qtbot, cells, session, notifications
):
    add_cells(viewer, cells[0])
    widget = dock(viewer)
    set_noise(widget, NOISE)
    field(widget, "Time").setValue(60)
    press = button(widget, "Denoise")
    click(qtbot, button(widget, "Train"))  # which alone adds no result
    wait_for_step(qtbot, widget)
    assert press.text() == "&Denoise with what is learned"
    click(qtbot, press)
    wait_until_idle(qtbot, widget)
    assert viewer.layers[-1].name == "cells denoised"
    assert press.text() == "&Denoise"
    assert notifications() == []


def test_stop_while_the_network_learns_denoises_nothing(viewer, qtbot, cells, session):
    add_cells(viewer, cells[0])
    widget = dock(viewer)
    set_noise(widget, NOISE)
    field(widget, "Time").setValue(60)
    click(qtbot, button(widget, "Denoise"))
    wait_for_step(qtbot, widget)
    click(qtbot, button(widget, "Stop"))
    wait_until_idle(qtbot, widget)
    assert list(session.models) == ["cells"]
    assert not any("denoised" in layer.name for layer in viewer.layers)


def test_stop_ends_the_work_even_if_the_first_job_fails_meanwhile(
    viewer, qtbot, cells, session, monkeypatch
):
    from napari_noise2score.widgets import _noise_section
    from napari_noise2score.widgets._job_bar import JobBar

    failed = Event()

    def fail(*_image, **_how):
        try:
            raise UserError("too small to measure")
        finally:
            failed.set()
        yield  # a generator, as every job

    def stop(busy):
        if busy and failed.wait(60):  # without the event loop, which would take note of the end
            widget.stop()

    monkeypatch.setattr(_noise_section, "find_noise", fail)
    add_cells(viewer, cells[0])
    widget = dock(viewer)
    widget.findChild(JobBar).busy_changed.connect(stop)
    click(qtbot, button(widget, "Denoise"))
    # failed, or stopped between the failure and its report
    qtbot.waitUntil(lambda: "the noise model was not changed" in status(widget), timeout=TIMEOUT)
    qtbot.wait(100)
    assert not button(widget, "Stop").isEnabled()
    assert session.models == {}


def test_resume_continues_where_training_stopped(viewer, qtbot, cells, session, notifications):
    layer = add_cells(viewer, cells[0])
    widget = dock(viewer)
    set_noise(widget, NOISE)
    assert not button(widget, "Resume").isEnabled()
    learn(qtbot, widget, 5)
    first = session.models["cells"].provenance["steps"]
    click(qtbot, button(widget, "Resume"))
    wait_for_step(qtbot, widget, first + 3)
    assert not button(widget, "Resume").isEnabled()
    click(qtbot, button(widget, "Stop"))
    wait_until_idle(qtbot, widget)
    assert list(session.models) == ["cells", "cells (2)"]
    assert session.models["cells"].provenance["steps"] == first  # the first model is unchanged
    assert session.models["cells (2)"].provenance["steps"] >= first + 3
    # one curve without a gap or a repeated step
    steps, _ = plot_curve(widget, "training").getData()
    assert list(steps) == list(range(1, steps[-1] + 1))
    assert button(widget, "Resume").isEnabled()
    viewer.layers.remove(layer)
    assert not button(widget, "Resume").isEnabled()
    assert notifications() == []


@pytest.mark.parametrize("phase", ["estimate", "learn", "denoise"])
def test_removing_the_layer_stops_the_job(viewer, qtbot, cells, session, model, phase):
    noisy = simulate_cells((4, 1, 128, 128))[0]
    layer = add_cells(viewer, noisy)
    if phase == "denoise":
        session.add_model(model, "cells")
    widget = dock(viewer)
    field(widget, "Time").setValue(60)
    if phase != "estimate":
        set_noise(widget, NOISE)
    click(qtbot, button(widget, "Denoise"))
    if phase == "learn":
        wait_for_step(qtbot, widget)
    viewer.layers.remove(layer)
    wait_until_idle(qtbot, widget)
    qtbot.waitUntil(lambda: not running_jobs(), timeout=TIMEOUT)
    assert list(session.models) == {"estimate": []}.get(phase, ["cells"])
    assert field(widget, "Layer").currentText() == ""
    assert list(viewer.layers) == []


def test_closing_the_dock_stops_training(viewer, qtbot, cells):
    add_cells(viewer, cells[0])
    widget = dock(viewer)
    set_noise(widget, NOISE)
    field(widget, "Time").setValue(60)
    click(qtbot, button(widget, "Denoise"))
    wait_for_step(qtbot, widget)
    widget.parent().destroyOnClose()
    qtbot.waitUntil(lambda: not running_jobs(), timeout=TIMEOUT)


def test_closing_the_viewer_stops_training(viewer, qtbot, cells):
    add_cells(viewer, cells[0])
    widget = dock(viewer)
    set_noise(widget, NOISE)
    field(widget, "Time").setValue(60)
    click(qtbot, button(widget, "Denoise"))
    wait_for_step(qtbot, widget)
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
widget = dock(viewer)
widget.choose(viewer.layers[0], noise="poisson(gain=1)")
widget.train()
while not training_step(widget):
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
    widget = dock(viewer)
    assert field(widget, "Axes").text() == ""
    click(qtbot, button(widget, "Denoise"))
    assert not widget.busy
    # beside the axes, and as a notification too, as the window of this test is not shown
    (message,) = messages(widget)
    assert "'unnamed' does not say what its 4 dimensions are" in message
    assert "'unnamed' does not say what its 4 dimensions are" in notifications()[-1]
    qtbot.keyClicks(field(widget, "Axes"), "tqyx")
    assert "'Q' is not an axis" in messages(widget)[0]  # as it is typed
    click(qtbot, button(widget, "Denoise"))
    assert "'Q' is not an axis" in notifications()[-1]
    field(widget, "Axes").clear()
    qtbot.keyClicks(field(widget, "Axes"), "tzyx")
    assert messages(widget) == []
    assert "T 2 · Z 4 · Y 32 · X 32" in visible_texts(widget)


def test_an_error_in_training_is_shown(viewer, qtbot, session, notifications):
    viewer.add_image(np.zeros((64, 64)), name="black")
    widget = dock(viewer)
    set_noise(widget, NOISE)
    click(qtbot, button(widget, "Train"))
    wait_until_idle(qtbot, widget)
    assert len(notifications()) == 1
    assert notifications()[0] in messages(widget)[0]
    assert not session.models
    assert "Failed" in status(widget)


def test_the_uncertainty_is_added_as_a_layer(viewer, qtbot, cells, session, model, notifications):
    source = add_cells(viewer, cells[0][:1, :2, :16, :16])  # the uncertainty takes 30 times as long
    session.add_model(model, "cells")
    widget = dock(viewer)
    set_noise(widget, NOISE)
    button(widget, "Uncertainty as a separate layer").setChecked(True)
    for kind in ("layer", "lazy layer"):
        denoise(qtbot, widget, kind)
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
    widget = dock(viewer)
    set_noise(widget, f"{NOISE.split(' + ')[0]} @ A")
    field(widget, "Time").setValue(0.02)
    training = button(widget, "Train").parent()
    field(training, "Correlation").setCurrentText("kernel([[0.1, 0.8")
    click(qtbot, button(widget, "Train"))
    wait_until_idle(qtbot, widget)
    assert "not understood" in notifications()[-1]
    field(training, "Correlation").setCurrentText("A")
    click(qtbot, button(widget, "Train"))
    wait_until_idle(qtbot, widget)
    assert str(session.models["cells"].kernel) == "A"


def test_a_wrong_number_of_channels_is_refused(viewer, qtbot, session, model, notifications):
    viewer.add_image(np.full((2, 32, 32), 110.0), name="two", axis_labels=("c", "y", "x"))
    session.add_model(model, "one channel")
    widget = dock(viewer)
    set_noise(widget, NOISE)
    # beside the model before anything is pressed
    qtbot.waitUntil(lambda: any("1 channel" in x for x in messages(widget)), timeout=TIMEOUT)
    denoise(qtbot, widget)
    assert "1 channel" in notifications()[-1]
    assert len(viewer.layers) == 1
    set_noise(widget, "poisson(gane=2)")
    click(qtbot, button(widget, "Denoise"))
    assert "did you mean 'gain'" in notifications()[-1]


def test_a_missing_layer_is_said_below_the_axes(viewer, qtbot, notifications):
    widget = dock(viewer)
    click(qtbot, button(widget, "Denoise"))
    assert "no image layer" in notifications()[-1]
    assert "no image layer" in messages(widget)[0]


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
    widget = dock(viewer)
    set_noise(widget, NOISE)
    button(widget, "Live preview").setChecked(False)
    notification_manager.records.clear()
    denoise(qtbot, widget)
    assert len(viewer.layers) == 1
    (notice,) = notification_manager.records
    assert "smaller --tile" in notice.message
    ((text, press),) = notice.actions
    assert text == "Use the processor"
    press(None)
    wait_until_idle(qtbot, widget)
    assert field(widget, "Device").currentText() == "cpu"
    assert viewer.layers[-1].name == "cells denoised"


def test_a_job_is_shown_in_the_activity_dock_and_can_be_cancelled_there(
    viewer, qtbot, cells, session
):
    from qtpy.QtWidgets import QLabel

    add_cells(viewer, cells[0])
    widget = dock(viewer)
    set_noise(widget, NOISE)
    field(widget, "Time").setValue(60)
    click(qtbot, button(widget, "Train"))
    wait_for_step(qtbot, widget)
    titles = widget.window().findChildren(QLabel)
    (title,) = [title for title in titles if "Training on cells" in title.text()]
    click(qtbot, button(title.parentWidget(), "Cancel"))
    wait_until_idle(qtbot, widget)
    assert list(session.models) == ["cells"]  # as with Stop, the model is kept


def test_choosing_another_layer_does_not_affect_a_running_job(
    viewer, qtbot, cells, session, notifications
):
    source = add_cells(viewer, cells[0])
    widget = dock(viewer)
    set_noise(widget, NOISE)
    field(widget, "Time").setValue(60)
    press = button(widget, "Denoise")
    click(qtbot, press)
    wait_for_step(qtbot, widget)
    field(widget, "Device").setCurrentText("cpu")
    other = add_cells(viewer, cells[0])  # napari selects it
    assert field(widget, "Layer").currentText() == "cells [1]"
    set_noise(widget, "gaussian(sigma=3)")
    third = add_cells(viewer, cells[0])
    viewer.layers.remove(third)  # not the layer of the training
    source.name = "renamed"
    wait_for_step(qtbot, widget, training_step(widget) + 5)
    assert widget.busy
    click(qtbot, press)
    wait_until_idle(qtbot, widget)
    result = viewer.layers["renamed denoised"]
    assert result.metadata["noise2score"]["noise"] == NOISE
    assert session.model_of[source] == "renamed"
    assert other not in session.model_of
    assert notifications() == []


def test_all_selected_layers_are_denoised_with_one_model_and_their_own_noise(
    viewer, qtbot, cells, session, model
):
    layers = [add_cells(viewer, cells[0]) for _ in range(3)]
    broken = viewer.add_image(np.zeros((2, 9, 9)), name="two channels", axis_labels="cyx")
    widget = dock(viewer)
    for layer, noise in zip(layers, (NOISE, "gaussian(sigma=3)", "gaussian(sigma=4)"), strict=True):
        viewer.layers.selection.active = layer
        set_noise(widget, noise)
    viewer.layers.selection.active = broken
    set_noise(widget, NOISE)
    viewer.layers.selection.active = layers[0]
    session.add_model(model, "first", layers[0])
    viewer.layers.selection = {layers[0], layers[2], broken}
    button(widget, "All selected layers").setChecked(True)
    field(widget, "Layer").setCurrentText("cells")
    denoise(qtbot, widget)
    noises = [x.metadata["noise2score"]["noise"] for x in viewer.layers if "denoised" in x.name]
    assert noises == [NOISE, "gaussian(sigma=4)"]
    assert any("two channels: " in message for message in messages(widget))
    assert session.model_of[layers[2]] == "first"


def test_noise_and_model_belong_to_their_layer(viewer, qtbot, cells, session, model):
    first, second = add_cells(viewer, cells[0]), add_cells(viewer, cells[0])
    widget = dock(viewer)
    viewer.layers.selection.active = first
    set_noise(widget, NOISE)
    session.add_model(model, "first", first)
    assert field(widget, "Use").currentText() == "first"
    viewer.layers.selection.active = second
    assert field(widget, "Layer").currentText() == "cells [1]"
    assert any("not known yet" in text for text in visible_texts(widget))
    assert field(widget, "Use").currentText() == "learn from this layer"
    set_noise(widget, "gaussian(sigma=3)")
    viewer.layers.selection.active = first
    assert noise_text(widget) == NOISE
    assert field(widget, "Use").currentText() == "first"
    field(widget, "Layer").setCurrentText("cells [1]")  # by hand
    assert noise_text(widget) == "gaussian(sigma=3)"


def test_closing_the_viewer_stops_the_preview(viewer, qtbot, cells, session, model):
    viewer.add_image(np.tile(cells[0], (1, 1, 12, 12)), name="cells", axis_labels="tzyx")
    session.add_model(model, "cells")
    widget = dock(viewer)
    set_noise(widget, NOISE)
    qtbot.waitUntil(lambda: preview(widget).busy, timeout=TIMEOUT)
    viewer.close()
    qtbot.waitUntil(lambda: not running_jobs(), timeout=TIMEOUT)


def test_a_model_is_saved_and_loaded_with_its_noise(
    viewer, qtbot, session, cells, model, tmp_path, notifications, monkeypatch
):
    from qtpy.QtWidgets import QFileDialog

    path = tmp_path / "cells.n2s"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    add_cells(viewer, cells[0])
    session.add_model(model, "trained")
    widget = dock(viewer)
    set_noise(widget, NOISE)
    click(qtbot, button(widget, "Save…"))
    qtbot.waitUntil(path.exists, timeout=TIMEOUT)
    add_cells(viewer, cells[0])  # the next day
    click(qtbot, button(widget, "Load…"))
    qtbot.waitUntil(lambda: field(widget, "Use").currentText() == "cells", timeout=TIMEOUT)
    assert noise_text(widget) == NOISE
    path.write_text("nonsense")
    click(qtbot, button(widget, "Load…"))
    qtbot.waitUntil(lambda: len(notifications()) == 1, timeout=TIMEOUT)
    assert notifications()[0] in messages(widget)[-1]
    assert list(session.models) == ["trained", "cells"]


def test_an_rgb_result_is_displayed_as_rgb(viewer, qtbot, session, notifications):
    rng = np.random.default_rng(0)
    photo = rng.integers(80, 120, (40, 40, 3), dtype=np.uint8)
    viewer.add_image(photo, name="photo", rgb=True)
    widget = dock(viewer)
    assert field(widget, "Axes").text() == "YXC"
    set_noise(widget, "gaussian(sigma=10)")
    field(widget, "Time").setValue(0.02)
    for kind in ("layer", "lazy layer"):
        denoise(qtbot, widget, kind)
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
    widget = dock(viewer)
    set_noise(widget, NOISE)
    denoise(qtbot, widget)
    assert viewer.layers[-1].data.shape == cells[0].shape


NOISE_TEXTS = [
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
]


def test_the_controls_represent_every_noise_text(viewer, qtbot):
    widget = dock(viewer)
    correlation = field(widget, "Correlation")
    for text in NOISE_TEXTS:
        set_noise(widget, "gaussian(sigma=1)")
        wait_for_form(qtbot, widget, "Gaussian: the same")
        set_noise(widget, text)
        chosen = correlation.currentText()
        for kernel in ("none", "A", chosen):  # each change rewrites the text from all controls
            correlation.setCurrentText(kernel)
        assert noise_text(widget) == text


def test_the_noise_text_follows_the_controls(viewer, qtbot):
    from qtpy.QtWidgets import QCheckBox

    from napari_noise2score.noise import families

    widget = dock(viewer)
    set_noise(widget, "gaussian(sigma=1)")
    wait_for_form(qtbot, widget, "Gaussian: the same")
    names = [
        family.name for family in families() for _ in family.forms if family.name != "empirical"
    ]
    assert field(widget, "Family").count() == len(names)
    for i, name in enumerate(names):
        field(widget, "Family").setCurrentIndex(i)
        assert noise_text(widget).startswith(name)
        assert text_below(widget, "As text") == ""
    field(widget, "Family").setCurrentIndex(0)
    field(widget, "Gain").setValue(2.5)
    field(widget, "Read noise", QCheckBox).setChecked(True)
    field(widget, "Read noise").setValue(4)
    assert noise_text(widget) == "poisson(gain=2.5) + gaussian(sigma=4)"
    field(widget, "Correlation").setCurrentText("A")
    assert noise_text(widget) == "poisson(gain=2.5) @ A + gaussian(sigma=4)"
    field(widget, "Correlation").setCurrentText("kernel([[1, 1")
    assert "write A or kernel" in text_below(widget, "As text")
    field(widget, "Correlation").setCurrentText("none")
    set_noise(widget, "poisson(gain=")
    assert "not understood" in text_below(widget, "As text")
    assert noise_text(widget) == "poisson(gain="  # the typed text stays


def test_the_list_of_layers_is_kept_up_to_date(viewer):
    widget = dock(viewer)
    layers = field(widget, "Layer")
    assert layers.count() == 0
    assert "no image layer" in visible_texts(widget)
    first = viewer.add_image(np.zeros((8, 8)), name="first")
    viewer.add_labels(np.zeros((8, 8), int))
    assert [layers.itemText(i) for i in range(layers.count())] == ["first"]
    second = viewer.add_image(np.zeros((8, 8)), name="second")
    assert layers.currentText() == "second"  # it follows what is selected
    first.name = "renamed"
    assert [layers.itemText(i) for i in range(layers.count())] == ["renamed", "second"]
    viewer.layers.remove(second)
    assert layers.currentText() == "renamed"
    viewer.layers.clear()
    assert "no image layer" in visible_texts(widget)


def test_the_sample_and_the_menu_entries_are_available(viewer, qtbot):
    """The noise of the sample is taken from its metadata."""
    from napari._app_model import get_app_model

    widget = dock(viewer)
    viewer.open_sample(PLUGIN, "cells")
    noisy = viewer.layers["cells"]
    assert field(widget, "Layer").currentText() == "cells"
    assert [str(unit) for unit in noisy.units] == ["second", *["micrometer"] * 3]
    assert noisy.axis_labels == ("t", "z", "y", "x")
    qtbot.waitUntil(lambda: noise_text(widget) == NOISE, timeout=TIMEOUT)
    commands = {
        item.command.id
        for item in get_app_model().menus.get_menu("napari/layers/filter")
        if hasattr(item, "command")
    }
    expected = ("dock", "denoise_layer")
    assert {f"{PLUGIN}.{name}" for name in expected} <= commands


def test_every_control_has_a_tooltip(viewer):
    from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QSlider

    widget = dock(viewer)
    kinds = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QSlider)
    for kind in kinds:
        for control in widget.findChildren(kind):
            inner = control.objectName().startswith("qt_")  # the line edit of a spin box
            assert inner or control.toolTip(), f"a {kind.__name__} has no tooltip"


def test_every_control_has_a_name_for_a_screen_reader(viewer):
    from qtpy.QtWidgets import (
        QAbstractButton,
        QAbstractSpinBox,
        QComboBox,
        QLabel,
        QLineEdit,
        QSlider,
    )

    widget = dock(viewer)
    labelled = [label.buddy() for label in widget.findChildren(QLabel)]
    for kind in (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QSlider):
        for control in widget.findChildren(kind):
            if isinstance(control.parent(), QAbstractSpinBox | QComboBox):
                continue  # its line edit or arrow
            text = control.text() if kind is QAbstractButton else ""
            assert control.accessibleName() or text or control in labelled, control.toolTip()


def test_all_that_is_pressed_is_seen_in_a_small_window(viewer, qtbot, session):
    from qtpy.QtWidgets import QScrollArea

    name = "a rather long name of a recording from the microscope, position 12.ome.tif"
    viewer.add_image(np.zeros((3, 64, 64)), name=name, axis_labels="tyx")
    widget = dock(viewer)
    window = widget.window()
    # Qt does not lay out the scroll bars of a window that is not shown
    window.show()
    window.resize(1024, 700)
    area = widget.findChild(QScrollArea)
    qtbot.waitUntil(lambda: window.width() == 1024, timeout=TIMEOUT)
    qtbot.waitUntil(lambda: area.widget().width() <= area.viewport().width(), timeout=TIMEOUT)
    qtbot.waitUntil(lambda: area.widget().height() <= area.viewport().height(), timeout=TIMEOUT)
    for title in ("Family and numbers", "Noise check", "Model", "Result"):
        fold = button(widget, title)
        fold.setChecked(True)
        qtbot.waitUntil(lambda: area.widget().width() <= area.viewport().width(), timeout=TIMEOUT)
        assert window.width() == 1024
        fold.setChecked(False)


def test_importing_the_dock_does_not_import_torch(viewer):
    """Torch is imported in a thread, as it would block the window."""
    import subprocess
    import sys

    program = (
        "import sys, napari_noise2score.widgets.dock, napari_noise2score.widgets.command;"
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
    widget = dock(viewer)
    set_noise(widget, NOISE)
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
    widget = dock(viewer)
    set_noise(widget, NOISE)
    assert "8 planes of 32 × 32 pixels" in visible_texts(button(widget, "Train").parent())
    field(widget, "Time").setValue(60)
    pause = button(widget, "Pause")
    assert not pause.isEnabled()
    click(qtbot, button(widget, "Train"))
    wait_for_step(qtbot, widget)
    click(qtbot, pause)
    qtbot.waitUntil(lambda: status(widget) == "Paused.", timeout=TIMEOUT)

    def last_step():
        return plot_curve(widget, "training").xData[-1]

    paused_at = last_step()
    qtbot.wait(300)
    assert status(widget) == "Paused."
    assert last_step() == paused_at
    assert pause.text() == "Continue"
    click(qtbot, pause)
    wait_for_step(qtbot, widget, paused_at + 2)
    click(qtbot, pause)
    qtbot.waitUntil(lambda: status(widget) == "Paused.", timeout=TIMEOUT)
    click(qtbot, button(widget, "Stop"))  # while it is paused
    wait_until_idle(qtbot, widget)
    assert not pause.isChecked()
    assert list(session.models) == ["cells"]


def test_the_preview_improves_during_training_and_follows_the_sliders(
    viewer, qtbot, cells, session, monkeypatch
):
    noisy, truth = cells
    monkeypatch.setattr("napari_noise2score.widgets._model_section.PREVIEW_EVERY", 0.1)
    add_cells(viewer, noisy, metadata={"noise2score": {"noise": NOISE}})
    widget = dock(viewer)
    field(widget, "Time").setValue(10)
    click(qtbot, button(widget, "Denoise"))
    wait_for_preview(qtbot, widget)
    layer = viewer.layers["cells preview"]
    assert layer.metadata["noise2score"]["noise"] == NOISE
    first = mean_square_error(layer.data, truth[:1, :1] + OFFSET)
    qtbot.waitUntil(
        lambda: mean_square_error(layer.data, truth[:1, :1] + OFFSET) < 0.7 * first, timeout=TIMEOUT
    )
    assert widget.busy
    set_noise(widget, "gaussian(sigma=3)")
    qtbot.waitUntil(
        lambda: layer.metadata["noise2score"]["noise"] == "gaussian(sigma=3)", timeout=TIMEOUT
    )
    assert widget.busy
    click(qtbot, button(widget, "Before"))
    assert layer.opacity == 0
    button(widget, "Live preview").setChecked(False)
    assert layer not in viewer.layers
    widget.stop()
    wait_until_idle(qtbot, widget)


def test_the_command_of_the_layers_menu_presses_the_button(
    viewer, qtbot, cells, session, notifications
):
    run_command("denoise_layer")
    assert "no image layer" in notifications()[-1]
    layer = add_cells(viewer, cells[0], metadata={"noise2score": {"noise": NOISE}})
    other = add_cells(viewer, cells[0])
    widget = dock(viewer)
    field(widget, "Time").setValue(60)
    viewer.layers.selection.active = layer
    run_command("denoise_layer")
    viewer.layers.selection.active = other
    run_command("denoise_layer")  # while it is running
    assert "a job is running" in notifications()[-1]
    wait_for_step(qtbot, widget)
    click(qtbot, button(widget, "Denoise with what is learned"))
    wait_until_idle(qtbot, widget)
    assert viewer.layers[-1].name == "cells denoised"
    assert viewer.layers[-1].metadata["noise2score"]["noise"] == NOISE
    assert len(notifications()) == 2


def gain_of(text):
    """Return the gain of a camera; a stack this small leaves the read noise uncertain."""
    return parse_noise(text).components.base.gain


def test_estimate_finds_the_noise_of_the_layer_and_undo_returns(
    viewer, qtbot, session, notifications
):
    from qtpy.QtWidgets import QSlider

    noisy, _ = simulate_cells((4, 2, 128, 128))  # gain 2, offset 100, read noise 3
    layer = add_cells(viewer, noisy)
    widget = dock(viewer)
    set_noise(widget, "gaussian(sigma=7)")
    click(qtbot, button(widget, "Estimate"))
    wait_until_idle(qtbot, widget)
    assert notifications() == []
    found = noise_text(widget)
    assert gain_of(found) == pytest.approx(2, rel=0.15)
    assert session.noises[layer] == found
    assert "Found poisson(gain=" in status(widget)
    (strength,) = (x for x in widget.findChildren(QSlider) if x.accessibleName() == "Strength")
    strength.setValue(0.5)  # the standard deviation times the root of 3
    assert gain_of(noise_text(widget)) == pytest.approx(3 * gain_of(found), rel=0.01)
    # the share that is explained follows
    shown = label_with_tooltip(widget, "The part of the noise's variance")
    qtbot.waitUntil(lambda: shown.text() == "explains 33%", timeout=TIMEOUT)
    for expected in (found, "gaussian(sigma=7)"):
        click(qtbot, button(widget, "Undo"))
        assert noise_text(widget) == expected
    assert not button(widget, "Undo").isEnabled()
    click(qtbot, button(widget, "Redo"))
    assert noise_text(widget) == found


def test_a_noise_model_for_each_channel_is_said_in_words_and_scaled(viewer, session):
    from qtpy.QtWidgets import QSlider

    viewer.add_image(np.full((2, 32, 32), 110.0), axis_labels="cyx")
    widget = dock(viewer)
    set_noise(widget, "poisson(gain=2) ; poisson(gain=4)")
    words = "Photon counting (Poisson): gain 2 ; Photon counting (Poisson): gain 4"
    assert words in visible_texts(widget)
    (strength,) = (x for x in widget.findChildren(QSlider) if x.accessibleName() == "Strength")
    strength.setValue(1)  # three times the standard deviation
    assert noise_text(widget) == "poisson(gain=18) ; poisson(gain=36)"


def test_another_family_is_refined_at_once(viewer, qtbot, session, notifications):
    from qtpy.QtCore import Qt

    noisy, _ = simulate_cells((4, 2, 128, 128))  # gain 2, offset 100, read noise 3
    layer = add_cells(viewer, noisy)
    widget = dock(viewer)
    set_noise(widget, "poisson(gain=7, offset=100) + gaussian(sigma=1)")
    click(qtbot, button(widget, "Refine"))
    wait_until_idle(qtbot, widget)
    assert notifications() == []
    base, _, read = parse_noise(noise_text(widget)).components
    assert base.offset == 100
    assert base.gain == pytest.approx(2, rel=0.1)
    assert read == pytest.approx(3, rel=0.2)
    assert session.noises[layer] == noise_text(widget)
    # with the keyboard, as a person does
    qtbot.keyClick(field(widget, "Family"), Qt.Key.Key_Down)
    assert field(widget, "Family").currentText() == "Gaussian: the same everywhere"
    wait_until_idle(qtbot, widget)
    assert parse_noise(noise_text(widget)).components.base.sigma == pytest.approx(8, rel=0.5)


def test_a_failed_estimate_says_what_to_do(viewer, qtbot, session, notifications):
    viewer.add_image(np.full((128, 128), 7.0), name="flat")
    widget = dock(viewer)
    before = noise_text(widget)
    click(qtbot, button(widget, "Estimate"))
    wait_until_idle(qtbot, widget)
    assert any("constant" in message for message in notifications())
    assert any("constant" in message for message in messages(widget))
    assert noise_text(widget) == before


def test_a_polish_is_stopped_continued_and_kept(
    viewer, qtbot, cells, session, model, notifications, tmp_path, short_polish
):
    source = add_cells(viewer, cells[0][:1, :1])
    session.add_model(model, "cells")
    session.files[model.fingerprint] = tmp_path / "cells.n2s"
    widget = dock(viewer)
    set_noise(widget, NOISE)
    button(widget, "Live preview").setChecked(False)
    polish = button(widget, "Polish first (1 to 5 min)")
    polish.setChecked(True)
    short_polish(40)
    click(qtbot, button(widget, "Denoise"))
    qtbot.waitUntil(lambda: "Polishing: step" in status(widget), timeout=TIMEOUT)
    first = int(status(widget).split("step")[1].split()[0])
    qtbot.waitUntil(lambda: f"step {first} " not in status(widget), timeout=TIMEOUT)
    click(qtbot, button(widget, "Stop"))
    wait_until_idle(qtbot, widget)
    assert "nothing was added" in status(widget)
    assert list(viewer.layers) == [source]
    assert not list(tmp_path.iterdir())

    denoise(qtbot, widget)
    assert notifications() == []
    (kept,) = tmp_path.glob("cells-*.polish")
    result = viewer.layers["cells denoised"]
    assert len(result.metadata["noise2score"]["polish"]) == 16
    # the next layer uses it again
    session.polishes.clear()
    denoise(qtbot, widget, "lazy layer")
    lazy = viewer.layers["cells denoised [1]"]
    np.testing.assert_allclose(np.asarray(lazy.data), result.data, rtol=1e-4)
    assert lazy.metadata["noise2score"]["polish"] == result.metadata["noise2score"]["polish"]
    # another noise model needs another one
    polish.setChecked(False)
    set_noise(widget, "gaussian(sigma=3)")
    denoise(qtbot, widget)
    assert "polish" not in viewer.layers["cells denoised [2]"].metadata["noise2score"]
    assert [kept] == list(tmp_path.iterdir())


def test_offsets_of_rows_are_undone_in_training_preview_and_result(viewer, qtbot, cells, session):
    from qtpy.QtWidgets import QSlider

    noisy, _ = cells
    offsets = np.random.default_rng(1).normal(0, 6, (*noisy.shape[:-1], 1))
    source = add_cells(viewer, (noisy + offsets).astype(np.float32))
    widget = dock(viewer)
    set_noise(widget, f"{NOISE} + rows(sigma=6)")
    assert "offsets of rows (6) undone" in " ".join(visible_texts(widget))
    learn(qtbot, widget)
    (model,) = session.models.values()
    assert model.describe()["correction"] == "rows(sigma=6)"
    (strength,) = (x for x in widget.findChildren(QSlider) if x.accessibleName() == "Strength")
    strength.setValue(0.5)
    assert noise_text(widget).endswith(" + rows(sigma=6)")
    field(widget, "Gain").setValue(2.5)
    assert noise_text(widget).startswith("poisson(gain=2.5")
    assert noise_text(widget).endswith(" + rows(sigma=6)")
    denoise(qtbot, widget)
    assert messages(widget) == []
    result = viewer.layers[-1]
    assert result.name.startswith(source.name)
    assert result.metadata["noise2score"]["noise"] == noise_text(widget)
    # rows of a hardly denoised image differ less than before
    before, after = (np.asarray(layer.data).mean(-1) for layer in (source, result))
    assert np.std(np.diff(after, axis=-1)) < 0.7 * np.std(np.diff(before, axis=-1))


@pytest.mark.parametrize("kernel", ["A", "noise_kernel([[0.4, 0.8, 0.4]])"])
def test_the_network_is_trained_for_the_correlation_of_the_noise(
    viewer, qtbot, cells, session, kernel
):
    add_cells(viewer, cells[0])
    widget = dock(viewer)
    set_noise(widget, f"gaussian(sigma=7) @ {kernel}")
    learn(qtbot, widget)
    (model,) = session.models.values()
    facts = model.describe()
    assert kernel in (facts["correlation"], facts.get("correlation of the noise"))
    denoise(qtbot, widget)
    assert not [text for text in messages(widget) if "correlat" in text]


@pytest.mark.parametrize(
    ("word", "family"),
    [
        ("two-ph", "EMCCD or photomultiplier"), ("scmos", "Poisson: photon counting"),
        ("TEM", "Poisson: photon counting"), ("b-scan", "Log-gamma"), ("mri", "Rician"),
    ],
)  # fmt: skip
def test_the_name_of_an_instrument_leads_to_its_family(viewer, qtbot, session, word, family):
    from qtpy.QtCore import Qt

    widget = dock(viewer)
    click(qtbot, button(widget, "Family and numbers"))
    search = field(widget, "Instrument")
    qtbot.keyClicks(search, word)
    popup = search.completer().popup()
    qtbot.waitUntil(popup.isVisible, timeout=TIMEOUT)
    lines = [popup.model().index(i, 0).data() for i in range(popup.model().rowCount())]
    assert any(family in line for line in lines)
    qtbot.keyClick(popup, Qt.Key.Key_Down)
    while family not in popup.currentIndex().data():
        qtbot.keyClick(popup, Qt.Key.Key_Down)
    qtbot.keyClick(popup, Qt.Key.Key_Return)
    chosen = field(widget, "Family")
    qtbot.waitUntil(lambda: family in chosen.currentText(), timeout=TIMEOUT)
    qtbot.waitUntil(lambda: not search.text(), timeout=TIMEOUT)


def test_channels_have_noise_check_and_preview_each(viewer, qtbot, session):
    from qtpy.QtWidgets import QSlider

    from napari_noise2score import train

    rng = np.random.default_rng(0)
    noisy = np.stack([rng.normal(110, sigma, (4, 128, 128)) for sigma in (4, 8)], axis=1)
    layer = viewer.add_image(noisy.astype(np.float32), name="two", axis_labels="tcyx")
    session.add_model(train(noisy, axes="TCYX", steps=2), "two")
    widget = dock(viewer)
    set_noise(widget, "gaussian(sigma=4)")
    click(qtbot, button(widget, "Family and numbers"))
    channel = field(widget, "Channel")
    assert [channel.itemText(i) for i in range(channel.count())] == [
        "all channels", "channel 1", "channel 2",
    ]  # fmt: skip
    channel.setCurrentIndex(2)
    assert viewer.dims.current_step[1] == 1  # the channel whose noise is edited is seen
    field(widget, "Sigma").setValue(9)
    assert noise_text(widget) == "gaussian(sigma=4) ; gaussian(sigma=9)"
    (strength,) = (x for x in widget.findChildren(QSlider) if x.accessibleName() == "Strength")
    strength.setValue(1)
    assert noise_text(widget) == "gaussian(sigma=4) ; gaussian(sigma=27)"
    strength.setValue(0)
    channel.setCurrentIndex(1)
    assert field(widget, "Sigma").value() == 4
    wait_for_preview(qtbot, widget)
    assert preview(widget).layer.metadata["noise2score"]["noise"] == noise_text(widget)

    check = button(widget, "Check").parent().parent()
    click(qtbot, button(widget, "Noise check"))
    field(check, "Channel").setCurrentIndex(2)
    click(qtbot, button(widget, "Check"))
    wait_until_idle(qtbot, widget)
    assert messages(widget) == []
    assert list(session.checks[layer]) == [1]
    channel.setCurrentIndex(2)
    shown = label_with_tooltip(widget, "The part of the noise's variance")
    qtbot.waitUntil(lambda: shown.text().startswith("explains"), timeout=TIMEOUT)
    click(qtbot, button(widget, "Use this model"))
    first, second = parse_noise(noise_text(widget)).models
    assert str(first) == "gaussian(sigma=4)"
    assert second.components.base.name == "gaussian"
    # the same for all again
    channel.setCurrentIndex(0)
    set_noise(widget, "gaussian(sigma=5)")
    assert channel.currentIndex() == 0
    assert field(widget, "Sigma").value() == 5


def test_a_polish_of_channels_learned_by_themselves_is_served(viewer, qtbot, session, cells):
    noisy = cells[0][:1, :2].reshape(2, 32, 32)
    viewer.add_image(noisy, name="two", axis_labels="cyx")
    widget = dock(viewer)
    set_noise(widget, f"{NOISE} ; {NOISE}")
    button(widget, "Live preview").setChecked(False)
    learn(qtbot, widget)
    button(widget, "Polish first (1 to 5 min)").setChecked(True)
    denoise(qtbot, widget)
    assert messages(widget) == []
    result = viewer.layers["two denoised"]
    assert len(set(result.metadata["noise2score"]["polish"])) == 2


def test_a_model_of_other_pixels_is_marked(viewer, qtbot, session, model):
    noisy = simulate_cells((1, 1, 32, 32))[0][0, 0]
    viewer.add_image(noisy, name="near", scale=(0.1, 0.1), units=("um", "um"))
    widget = dock(viewer)
    set_noise(widget, NOISE)
    learn(qtbot, widget)
    assert messages(widget) == []
    viewer.add_image(noisy, name="far", scale=(0.4, 0.4), units=("um", "um"))
    field(widget, "Use").setCurrentText("near")
    expected = "trained on pixels of 0.1 micrometer, and these are of 0.4 micrometer"
    qtbot.waitUntil(lambda: any(expected in x for x in messages(widget)), timeout=TIMEOUT)


def test_a_hidden_layer_that_a_person_selects_is_previewed(viewer, qtbot, cells, session, model):
    hidden = add_cells(viewer, cells[0], visible=False)
    viewer.add_image(cells[0], name="other", axis_labels="tzyx")
    session.add_model(model, "cells")
    widget = dock(viewer)
    viewer.layers.selection.active = hidden
    set_noise(widget, NOISE)
    wait_for_preview(qtbot, widget)
    assert "cells preview" in viewer.layers
    assert field(widget, "Layer").currentText() == "cells"
    button(widget, "Live preview").setChecked(False)
    assert "cells preview" not in viewer.layers
