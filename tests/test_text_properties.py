"""Any text for noise, correlation, axes, tiles or device is parsed, or refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from napari_noise2score import UserError
from napari_noise2score.denoising.tile_size import parse_tile
from napari_noise2score.image.axes import LETTERS, layout, parse_axes
from napari_noise2score.noise import (
    A,
    Emccd,
    Gamma,
    Gaussian,
    Kernel,
    LogGamma,
    Nakagami,
    NoncentralChi,
    Poisson,
    Rayleigh,
    Rician,
    Tweedie,
    parse_noise,
)
from napari_noise2score.noise.kernel import parse_kernel
from napari_noise2score.score.device import choose_device

MAX_MESSAGE_LENGTH = 1000


def result_or_refusal(call, *args):
    """Return the result of a call, or None if it is refused in one line; fail otherwise."""
    try:
        return call(*args)
    except UserError as error:
        message = str(error)
        assert message.isprintable()
        assert 0 < len(message) < MAX_MESSAGE_LENGTH
        return None


# any number: a model is built with it, or it is refused
number = st.one_of(
    st.floats(), st.integers(), st.sampled_from([1e300, 1e-300, 5e-324, -0.0, 10**400])
)
optional = st.one_of(st.none(), number)
FAMILIES = st.one_of(
    st.tuples(st.just(Gaussian), number),
    st.tuples(st.just(Gaussian), st.none(), number, number),
    st.tuples(st.just(Poisson), number, number),
    st.tuples(st.just(Gamma), number),
    st.tuples(st.just(Rayleigh), number),
    st.tuples(st.just(Nakagami), number),
    st.tuples(st.just(NoncentralChi), number, number),
    st.tuples(st.just(LogGamma), number, number),
    st.tuples(st.just(Rician), number),
    st.tuples(st.just(Tweedie), number, number, number),
    st.tuples(st.just(Emccd), number, number, number),
)
rows = st.lists(st.lists(number, max_size=4), max_size=4)
kernels = st.one_of(
    st.just(A.taps), rows, st.lists(number, min_size=3, max_size=3).map(lambda r: [r])
)


@given(FAMILIES, st.one_of(st.none(), kernels), optional)
@example((Poisson, 2.0, -0.0), None, None)
@example((Tweedie, 1.5, 3.0, -100.0), A.taps, 10)
@example((Gaussian, 1.0), [[-0.0, 1.0, 0.2]], None)
def test_every_noise_that_can_be_built_is_read_back_from_its_text(family, taps, read):
    build, *values = family
    noise = result_or_refusal(build, *values)
    if noise is None:
        return
    if taps is not None and (kernel := result_or_refusal(Kernel, taps)) is not None:
        noise = noise @ kernel
    if read is not None and (level := result_or_refusal(Gaussian, read)) is not None:
        noise = noise + level
    assert parse_noise(str(noise)) == noise
    assert str(parse_noise(str(noise))) == str(noise)
    assert str(noise).isprintable()


NAME_TOKENS = "gaussian poisson emccd empirical kernel A map sigma gain offset file"
OTHER_TOKENS = "@ + ; ( ) [ ] = , ' \" 1 2.5 1e300 -1 nan inf 0x10 1_000 １２ ٣ e ."
TOKENS = [*NAME_TOKENS.split(), *OTHER_TOKENS.split(), " ", "\t", "\n", "\0", "9" * 5000]
texts = st.one_of(st.text(), st.lists(st.sampled_from(TOKENS), max_size=30).map("".join))


@pytest.mark.slow
@given(texts)
def test_any_text_is_a_noise_or_is_refused_in_one_line(text):
    if (noise := result_or_refusal(parse_noise, text)) is not None:
        assert parse_noise(str(noise)) == noise


@given(texts)
def test_any_text_is_a_correlation_or_is_refused_in_one_line(text):
    for kernel_text in (text, f"kernel({text})", f"kernel([[{text}]])"):
        result_or_refusal(parse_kernel, kernel_text)
        result_or_refusal(parse_noise, f"gaussian(sigma=1) @ {kernel_text}")


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("25", 25),
        ("+2.5e1", 25),
        ("25.", 25),
        (".5", 0.5),
        ("1E3", 1000),
        ("0" * 5000 + "25", 25),
        ("25." + "0" * 5000, 25),
        ("0x10", None),
        ("1_000", None),
        ("１２", None),
        ("٣", None),
        ("1e", None),
        ("1e1e1", None),
        ("1,5", None),
        ("1 000", None),
        ("--1", None),
        ("True", None),
        ("1j", None),
        ("", None),
        ("1e300", None),
        ("1e-300", None),
        ("1e999", None),
        ("9" * 5000, None),
        ("nan", None),
        ("-inf", None),
        ("infinity", None),
    ],
)
def test_only_plain_numbers_of_moderate_size_are_accepted(value, parsed):
    noise = result_or_refusal(parse_noise, f"gaussian(sigma={value})")
    assert (noise and noise.sigma) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "a" * 10**6,
        "gaussian(sigma=" + "1" * 10**6 + ")",
        "gaussian(sigma=1" + " " * 10**5,
        "gaussian(" * 20_000,
        "gaussian(" + "'" * 100_001,
        "gaussian(" + "'\"" * 50_000 + ")",
        "empirical(file=" + '"a"' * 30_000 + ")",
        "empirical(file=" + "a" * 100_000 + ")",
        "empirical(file='\0')",
        "gaussian(sigma=1) @ kernel(" + "[" * 100_000 + "]" * 100_000 + ")",
        "gaussian(sigma=1) @ kernel([[" + "9" * 10_000 + "]])",
        "gaussian(sigma=1) @ kernel([[1e300]])",
        "gaussian(sigma=1) @ kernel([[1e-300]])",
        "gaussian(sigma=1) @ kernel([[NaN, 1, 0]])",
        "gaussian(sigma=1) @ kernel([[Infinity]])",
        'gaussian(sigma=1) @ kernel([["1"]])',
        "gaussian(sigma=1) @ kernel([[true]])",
        "gaussian(sigma=1) @ kernel([" + "[0,1,0]," * 10_000 + "[0,1,0]])",
        "gaussian(sigma=1) @ kernel({})",
        "gaussian(sigma=1)" + " + gaussian(sigma=1)" * 10_000,
        "gaussian(sigma=1)\n\x1b[31m",
        "poisson(gain=1e300)",
        "poisson(gain=1, offset=1e300)",
        "emccd(gain=1, excess=1e300)",
        "emccd(gain=1, excess=1.0000000000001)",
        "gamma(alpha=1e300)",
        "nakagami(m=1e9)",
        "tweedie(power=1.9999999, dispersion=1)",
        "gaussian(a=1e300, b=1)",
    ],
)
def test_extreme_texts_are_refused_in_one_line(text):
    # a regular expression that backtracks would take forever
    assert result_or_refusal(parse_noise, text) is None


@pytest.mark.parametrize("value", [None, "1", b"1", True, [1], 1j, object(), np.nan])
def test_parameters_that_are_no_numbers_are_refused(value):
    for build in (Poisson, Gamma, Rayleigh, Nakagami, Rician, Emccd, Gaussian):
        assert result_or_refusal(build, value) is None
    assert result_or_refusal(lambda: Tweedie(value, 1.0)) is None
    assert result_or_refusal(lambda: Poisson(1.0, value)) is None
    assert result_or_refusal(lambda: Kernel([[value]])) is None
    assert result_or_refusal(parse_noise, value) is None


@given(
    st.one_of(st.text(), st.text(LETTERS + LETTERS.lower() + "S ", max_size=7)), st.integers(0, 7)
)
def test_any_axes_are_read_or_refused_in_one_line(text, ndim):
    axes = result_or_refusal(parse_axes, text, ndim)
    if axes is not None:
        assert len(axes) == ndim == len(set(axes))
        assert {"Y", "X"} <= set(axes) <= set(LETTERS)
        assert parse_axes(axes, ndim) == axes
        image_layout = result_or_refusal(layout, axes, (3,) * ndim, 2)
        assert image_layout is not None


@pytest.mark.parametrize("axes", [None, 3, ["Y", "X"], b"YX", "YX" * 10**6, "Y\nX", "ＹＸ", "ßYX"])
def test_axes_that_are_no_letters_are_refused(axes):
    assert result_or_refusal(parse_axes, axes, 2) is None


@given(st.one_of(st.text(), st.text("0123456789xX -+_.e", max_size=20)))
def test_any_size_of_a_tile_is_read_or_refused_in_one_line(text):
    tile = result_or_refusal(parse_tile, text)
    if tile is not None:
        assert parse_tile("x".join(map(str, tile))) == tile


@pytest.mark.parametrize(
    "text", ["", "x", "１２x１２", "1_0x10", "-5x5", "9" * 5000, "5x5x5x5x5", "5.0x5"]
)
def test_sizes_of_tiles_that_are_no_numbers_are_refused(text):
    assert result_or_refusal(parse_tile, text) is None


@given(st.text())
@example("cuda:99999999999999999999")
@example("cpu:1")
@example("cpu:-1")
@example("meta")
@example("")
def test_any_text_is_a_device_or_is_refused_in_one_line(text):
    if (device := result_or_refusal(choose_device, text)) is not None:
        assert device.type in ("cpu", "cuda", "mps")
