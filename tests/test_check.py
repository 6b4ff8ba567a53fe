"""A noise model is checked against images, in Python, on the command line and in the window."""

from __future__ import annotations

import json

import numpy as np
import pytest
from skimage import data
from typer.testing import CliRunner
from window import (
    TIMEOUT,
    add_cells,
    button,
    click,
    dock,
    field,
    label_with_tooltip,
    messages,
    noise_text,
    plot_curve,
    set_noise,
    visible_texts,
    wait_until_idle,
)

from napari_noise2score import (
    Image,
    UserError,
    check_noise,
    denoise,
    estimate_noise,
    parse_noise,
    train,
)
from napari_noise2score.cli.main import app
from napari_noise2score.image.write import write_image
from napari_noise2score.sample import NOISE, simulate_cells

TRUE_NOISE = "poisson(gain=3, offset=20)"


def picture(size=256):
    """Return an image of flat squares of many grey levels with soft edges."""
    levels = np.random.default_rng(3).uniform(20, 220, (8, 8))
    flat = np.kron(levels, np.ones((size // 8, size // 8)))
    for axis in (0, 1):
        flat = sum(np.roll(flat, k, axis) for k in range(-2, 3)) / 5
    return flat


def noisy_frames(text=TRUE_NOISE, count=4, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([parse_noise(text).sample(picture(), rng) for _ in range(count)])


@pytest.fixture(scope="module")
def repeats():
    return noisy_frames()


@pytest.mark.slow
def test_the_right_model_explains_the_noise(repeats):
    check = estimate_noise(repeats, axes="TYX").check
    assert check.noise == check.found
    assert check.explains
    assert check.curve.explained > 0.95
    assert abs(check.residual.correlation) < 0.03
    assert check.residual.variance == pytest.approx(1, abs=0.05)
    assert check.source == "repeats"
    assert check.summary == (
        f"explains the noise: {check.curve.explained:.2f}; "
        f"residual correlation: {check.residual.correlation:.2f}"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "explained", "phrase"),
    [
        ("poisson(gain=6, offset=20)", 0.5, "(29|30)% weaker than the model"),
        ("poisson(gain=1.5, offset=20)", 0.5, "4[0-2]% stronger than the model"),
        ("gaussian(sigma=19)", 0.7, "weaker than the model says where the image is dark, and .* s"),
    ],
)
def test_the_verdict_states_how_far_the_level_is_wrong_and_in_which_direction(
    repeats, noise, explained, phrase
):
    check = check_noise(repeats, noise, axes="TYX")
    assert not check.explains
    assert check.curve.explained == pytest.approx(explained, abs=0.1)
    with pytest.raises(UserError, match=phrase):
        raise UserError(check.verdict)


@pytest.mark.slow
def test_a_single_frame_is_checked_by_its_flat_areas(repeats):
    check = check_noise(repeats[0], TRUE_NOISE)
    assert check.source == "single frames"
    assert check.curve.explained > 0.9
    assert check.explains, check.verdict
    assert not check_noise(repeats[0], "poisson(gain=6, offset=20)").explains


@pytest.mark.slow
@pytest.mark.parametrize("text", ["gaussian(sigma=10)", "poisson(gain=5)", "poisson(gain=5) @ A"])
def test_texture_in_a_single_frame_does_not_count_as_correlation(text):
    noisy = parse_noise(text).sample(data.grass().astype(float), np.random.default_rng(0))
    right = check_noise(noisy, text)
    assert abs(right.residual.correlation) < 0.1
    assert "correlated" not in right.verdict
    assert right.residual.variance < (3 if text.startswith("gaussian") else 1.5)
    # no wider than that of a normal distribution, whatever the filter
    assert right.residual.expected.max() < 0.15
    wrong_text = text.removesuffix(" @ A") if "@" in text else f"{text} @ A"
    wrong = check_noise(noisy, wrong_text)
    assert abs(wrong.residual.correlation) > 0.3
    assert f"{'more' if '@' in text else 'less'} correlated than the model says" in wrong.verdict


@pytest.mark.slow
def test_correlated_noise_is_detected_unless_the_model_includes_it():
    text = "gaussian(sigma=20) @ A"
    noisy = noisy_frames(text)
    right = check_noise(noisy, text, axes="TYX")
    assert right.explains, right.verdict
    white_check = check_noise(noisy, "gaussian(sigma=9.2)", axes="TYX")  # the same level
    assert white_check.curve.explained > 0.9
    assert white_check.residual.correlation == pytest.approx(0.476, abs=0.03)  # of A, by hand
    assert "set the correlation" in white_check.verdict


@pytest.mark.slow
def test_the_residual_of_a_denoised_image_is_checked(repeats):
    truth = np.broadcast_to(picture() + 20, repeats.shape)  # the offset stays in the result
    check = check_noise(repeats, TRUE_NOISE, axes="TYX", denoised=truth)
    assert check.source == "denoised"
    assert check.residual.variance == pytest.approx(1, abs=0.05)
    assert check.explains
    # if a denoiser removes some of the picture, the noise model is not wrong
    distorted = np.broadcast_to(picture() + 20 + 40 * np.sin(np.arange(256) / 3), repeats.shape)
    distorted_check = check_noise(repeats, TRUE_NOISE, axes="TYX", denoised=distorted)
    assert "some of the picture is removed with it" in distorted_check.verdict
    with pytest.raises(UserError, match="shape of the one image"):
        check_noise(repeats, TRUE_NOISE, axes="TYX", denoised=truth[0])


def test_checking_with_a_model_equals_checking_with_its_denoised_image(model):
    noisy = simulate_cells((2, 4, 64, 64))[0]
    check = check_noise(noisy, NOISE, axes="TZYX", model=model)
    clean = denoise(noisy, model, NOISE, axes="TZYX")
    from_denoised = check_noise(noisy, NOISE, axes="TZYX", denoised=clean)
    assert check.source == from_denoised.source == "denoised"
    np.testing.assert_allclose(
        check.residual.correlations, from_denoised.residual.correlations, atol=1e-3
    )


@pytest.mark.slow
def test_the_command_line_prints_the_check(tmp_path):
    write_image(tmp_path / "noisy.tif", Image(noisy_frames(count=2).astype("float32"), "TYX"))
    command = ["estimate", str(tmp_path / "noisy.tif")]
    text = CliRunner().invoke(app, command).stdout
    assert "explains the noise: 0.9" in text
    assert "The model explains the noise." in text
    check = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)["check"]
    assert check["explains the noise"] > 0.9
    assert abs(check["residual correlation"]) < 0.05


def checked_model(widget):
    """Return the text that says which noise model was checked."""
    return label_with_tooltip(widget, "The noise model that was checked").text()


@pytest.fixture
def checked(viewer, qtbot, session):
    """Return a layer and the dock, after a check with the keyboard alone."""
    from qtpy.QtCore import Qt

    viewer.window.show()
    layer = viewer.add_image(noisy_frames(count=2), name="frames", axis_labels="tyx")
    widget = dock(viewer)
    assert not button(widget, "Use this model").isVisibleTo(widget)
    button(widget, "Noise check").setChecked(True)
    qtbot.waitUntil(button(widget, "Check").isVisible, timeout=TIMEOUT)
    field(widget, "Residual of").setFocus()
    qtbot.keyClick(field(widget, "Residual of"), Qt.Key.Key_Tab)
    assert widget.window().focusWidget() is button(widget, "Check")
    qtbot.keyClick(button(widget, "Check"), Qt.Key.Key_Space)
    wait_until_idle(qtbot, widget)
    assert button(widget, "Use this model").isVisible()
    return layer, widget


@pytest.mark.slow
@pytest.mark.window
def test_the_dock_shows_whether_the_model_is_right(viewer, qtbot, checked, notifications):
    layer, widget = checked
    assert "The model explains the noise." in visible_texts(widget)
    assert any(text.startswith("Explains the noise: 0.9") for text in visible_texts(widget))
    assert "poisson(gain=" in checked_model(widget)
    assert "95 % intervals: gain" in checked_model(widget)
    mean, variance = plot_curve(widget, "measured").getData()
    np.testing.assert_allclose(variance / (mean - 20), 3, rtol=0.15)
    field(widget, "Noise model").setCurrentText("chosen for the layer")
    click(qtbot, button(widget, "Check"))
    # beside the button only, as the window is seen
    assert any("no noise was chosen for 'frames' yet" in text for text in messages(widget))
    assert notifications() == []
    set_noise(widget, "poisson(gain=6, offset=20)")
    click(qtbot, button(widget, "Check"))
    wait_until_idle(qtbot, widget)
    assert any("weaker than the model says" in text for text in visible_texts(widget))
    for theme in ("light", "dark"):
        viewer.theme = theme
        colour = plot_curve(widget, "model").opts["pen"].color()
        assert (colour.lightness() > 128) == (theme == "dark")
    viewer.layers.remove(layer)
    assert not button(widget, "Use this model").isVisibleTo(widget)


@pytest.mark.slow
@pytest.mark.window
def test_use_this_model_makes_it_the_noise_of_the_layer(viewer, qtbot, checked, notifications):
    _, widget = checked
    click(qtbot, button(widget, "Use this model"))
    shown = checked_model(widget)
    assert f"Checked {noise_text(widget)[:12]}" in shown
    # the intervals are shown for the estimated model only
    assert "95 % intervals" in shown
    field(widget, "Noise model").setCurrentText("chosen for the layer")
    click(qtbot, button(widget, "Check"))
    wait_until_idle(qtbot, widget)
    assert checked_model(widget) == shown
    viewer.add_image(np.zeros((8, 8)), name="other")  # napari selects it
    assert not button(widget, "Use this model").isVisibleTo(widget)
    assert notifications() == []


@pytest.mark.slow
@pytest.mark.window
def test_the_residual_of_a_model_can_be_checked_in_the_dock(
    viewer, qtbot, cells, session, notifications
):
    noisy = np.tile(cells[0], (1, 1, 4, 4))
    add_cells(viewer, noisy, metadata={"noise2score": {"noise": NOISE}})
    widget = dock(viewer)
    model = train(noisy, axes="TZYX", steps=2, context="none")
    session.add_model(model, "cells")
    click(qtbot, button(widget, "Noise check"))
    field(widget, "Residual of").setCurrentText("denoising with 'cells'")
    field(widget, "Noise model").setCurrentText("chosen for the layer")
    click(qtbot, button(widget, "Check"))
    wait_until_idle(qtbot, widget)
    without_model, with_model = (
        check_noise(noisy, NOISE, axes="TZYX", model=used) for used in (None, model)
    )
    assert with_model.source == "denoised"
    assert without_model.summary != with_model.summary
    assert with_model.summary[0].upper() + with_model.summary[1:] in visible_texts(widget)
    assert f"Checked {NOISE}" in checked_model(widget)
    assert notifications() == []


@pytest.mark.window
def test_an_image_that_cannot_be_checked_gives_a_notification(
    viewer, qtbot, session, notifications
):
    viewer.add_image(np.full((128, 128), 7.0), name="flat")
    widget = dock(viewer)
    click(qtbot, button(widget, "Check"))
    wait_until_idle(qtbot, widget)
    assert "constant" in notifications()[-1]
    assert not button(widget, "Use this model").isVisibleTo(widget)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
def test_read_noise_is_distinguished_from_correlated_noise(count):
    text = "poisson(gain=5) @ A + gaussian(sigma={})"
    clean, rng = data.camera()[::2, ::2].astype(float), np.random.default_rng(0)
    noisy = np.stack([parse_noise(text.format(10)).sample(clean, rng) for _ in range(count)])
    right = check_noise(noisy, text.format(10), axes="TYX")
    assert right.explains, right.verdict
    assert right.curve.explained > (0.9 if count == 1 else 0.97)
    wrong = check_noise(noisy, text.format(20), axes="TYX")
    assert not wrong.explains
    assert "weaker than the model says" in wrong.verdict
