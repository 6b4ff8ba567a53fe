"""A settings file contains names and values; anything else is refused with its line number."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from napari_noise2score import UserError, train
from napari_noise2score.denoising.settings import TrainSettings


def refusal(path, given_values=None):
    """Return the message with which a settings file is refused."""
    with pytest.raises(UserError) as caught:
        TrainSettings.read(path, given_values or {})
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 1000
    return message


BOMB = "a: &a [1, 1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(20)
)
BAD_SETTINGS = {
    "a number for a name": ("1: 2", "line 1: the name of a setting"),
    "nothing for a name": ("steps: 5\nnull: 2", "line 2: the name of a setting"),
    "true for a name": ("yes: 2", "line 1: the name of a setting"),
    "a date for a name": ("2020-01-01: 2", "line 1: the name of a setting"),
    "a list for a name": ("? [1, 2]\n: 3", "line 1: the name of a setting"),
    "a mapping for a name": ("{a: 1}: 3", "line 1: the name of a setting"),
    "a merge": ("steps: 1\n<<: {seed: 3}", "line 2: the name of a setting"),
    "twice": ("seed: 1\nsteps: 2\nseed: 3", "line 3: 'seed' is already set on line 1"),
    "a list for a value": ("steps: 5\nseed: [1, 2]", "line 2: 'seed' must have a single value"),
    "a mapping for a value": ("seed: {a: 1}", "line 1: 'seed' must have a single value"),
    "an alias bomb": (BOMB, "line 1: 'a' must have a single value"),
    "an alias within itself": ("seed: &a [*a]", "line 1: 'seed' must have a single value"),
    "an unknown alias": ("seed: *a", "line 1: not a YAML file"),
    "a tag of Python": (
        "seed: !!python/object/apply:os.system [echo]",
        "line 1: 'seed' must have a single",
    ),
    "a tag of Python, plain": (
        "seed: !!python/name:os.system ''",
        "line 1: the value of 'seed' cannot be read",
    ),
    "a tag of a name": ("!!python/name:os.system x: 1", "line 1: the name of a setting"),
    "a tag of the wrong type": ("seed: !!int abc", "line 1: the value of 'seed' cannot be read"),
    "binary": ("seed: !!binary a", "line 1: the value of 'seed' cannot be read"),
    "deeply nested": ("seed: " + "[" * 20_000, "not a YAML file"),
    "a huge seed": ("seed: " + "9" * 300, "line 1: seed: "),
    "too many digits": ("seed: " + "9" * 10_000, "line 1: "),
    "a negative seed": ("seed: -1", "line 1: seed: "),
    "a seed too large for torch": (f"seed: {2**63}", "line 1: seed: "),
    "a fractional seed": ("seed: 1.5", "line 1: seed: "),
    "too many steps": (f"steps: {10**30}", "line 1: steps: "),
    "no steps": ("steps: 0", "line 1: steps: "),
    "minutes nan": ("minutes: .nan", "line 1: minutes: "),
    "infinite minutes": ("minutes: .inf", "line 1: minutes: "),
    "too many minutes": ("minutes: 1.0e+300", "line 1: minutes: "),
    "no minutes": ("minutes: 0", "line 1: minutes: "),
    "ndim": ("\n\nndim: 4", "line 3: ndim: "),
    "axes a number": ("axes: 3", "line 1: axes: "),
    "unknown": ("steps: 2\nstep: 3", "line 2: step: no such setting"),
    "control characters": ('"a\\e[31m": 3', "line 1: a"),
    "two documents": ("seed: 1\n---\nseed: 2", "line 2: not a YAML file"),
    "a list": ("- seed", "write settings as 'name: value'"),
    "a text": ("seed", "write settings as 'name: value'"),
    "no YAML": ("seed: 1\n  a: {", "line 2: not a YAML file"),
    "a control character": ("seed: \x01", "not a YAML file"),
    "tabs": ("seed: 1\n\tsteps: 1", "not a YAML file"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_what_is_no_setting_is_refused_with_its_line_number(case, tmp_path):
    text, phrase = BAD_SETTINGS[case]
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    message = refusal(path)
    assert message.startswith(str(path))
    assert phrase in message


def test_a_file_that_is_no_small_text_is_refused(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"seed: 1\naxes: \xff\xfe")
    assert "line 2: not UTF-8 text" in refusal(path)
    path.write_bytes("seed: 1".encode("utf-16"))
    assert "line 1: not UTF-8 text" in refusal(path)
    path.write_text("# " + "a" * 2**20)
    assert "too large" in refusal(path)
    assert "a folder" in refusal(tmp_path)
    assert "no such file" in refusal(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    assert "a device or a pipe" in refusal(tmp_path / "pipe")
    assert "a device or a pipe" in refusal("/dev/zero")


def test_plain_settings_are_read(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("\ufeff# mine\naxes: TYX\nsteps: 5  # few\nseed: 9223372036854775807\n")
    assert TrainSettings.read(path, {"steps": 7}).model_dump(exclude_defaults=True) == {
        "axes": "TYX",
        "steps": 7,
        "seed": 2**63 - 1,
    }
    for nothing in ("", "# nothing", "---", "null"):
        path.write_text(nothing)
        assert TrainSettings.read(path, {}) == TrainSettings()


@given(st.one_of(st.text(max_size=80), st.text("ab:{}[]&*!<>-?|%@`'\"#\n\t 01.", max_size=60)))
@example("? ")
@example("a: &b\nc: *b")
def test_any_text_is_settings_or_is_refused_in_one_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        TrainSettings.read(path, {})
    except UserError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize(
    "budget",
    [
        {"steps": 0},
        {"steps": -1},
        {"steps": 10**30},
        {"steps": 1.5},
        {"steps": "5"},
        {"minutes": 0},
        {"minutes": -1},
        {"minutes": float("nan")},
        {"minutes": float("inf")},
        {"minutes": 1e300},
        {"minutes": "five"},
        {"steps": 1, "seed": -1},
        {"steps": 1, "seed": 2**63},
        {"steps": 1, "seed": 1e30},
        {"steps": 1, "seed": None},
        {"steps": 1, "seed": "0"},
    ],
)
def test_budgets_and_seeds_are_bounded_in_the_library_too(budget):
    image = np.random.default_rng(0).normal(100, 10, (16, 16))
    with pytest.raises(UserError) as caught:
        train(image, **budget)
    assert str(caught.value).isprintable()


def test_the_largest_seed_is_accepted():
    image = np.random.default_rng(0).normal(100, 10, (16, 16))
    assert train(image, steps=1, seed=2**63 - 1).provenance["seed"] == 2**63 - 1
