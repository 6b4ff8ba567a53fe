"""Any invalid input ends in one line and exit code 2, and no file is created or changed."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from bad_inputs import (
    CONFIGS,
    ENDINGS,
    INPUTS,
    MODELS,
    NAMES,
    NOISES,
    OPTIONS,
    OUTPUTS,
    make_store,
    noisy_stack,
)

from napari_noise2score import train
from napari_noise2score.cli.main import main

pytestmark = pytest.mark.slow

NOISE = "gaussian(sigma=12)"
MAX_LINE_LENGTH = 420  # 400 characters of the message and the name of the program

VALID_COMMANDS = {
    "denoise": [
        "denoise", "{inputs}/good.tif", "{out}/x.tif", "--model", "{inputs}/m.n2s",
        "--noise", NOISE,
    ],
    "train": ["train", "{inputs}/good.tif", "--model", "{out}/new.n2s", "--steps", "1"],
    "estimate": ["estimate", "{inputs}/good.tif"],
    "simulate": ["simulate", "{inputs}/good.tif", "{out}/x.tif", "--noise", NOISE],
    "evaluate": ["evaluate", "{inputs}/good.tif", "{inputs}/good.tif", "--data-range", "65535"],
}  # fmt: skip


def cases() -> Iterator[tuple[str, list[str]]]:
    """Yield a name and a command line for every case that must be refused."""
    reading = {
        "denoise": [
            "denoise",
            "{in}",
            "{out}/x.tif",
            "--model",
            "{inputs}/m.n2s",
            "--noise",
            NOISE,
        ],
        "train": ["train", "{in}", "--model", "{out}/new.n2s", "--steps", "1"],
        "estimate": ["estimate", "{in}"],
        "simulate": ["simulate", "{in}", "{out}/x.tif", "--noise", NOISE],
        "evaluate": ["evaluate", "{in}", "{inputs}/good.tif", "--data-range", "65535"],
    }
    for command, arguments in reading.items():
        for name in INPUTS:
            command_line = [word.replace("{in}", f"{{inputs}}/{name}") for word in arguments]
            yield f"{command} {name}", command_line
        for name in NAMES if command in ("denoise", "estimate") else ():
            yield f"{command} {name[:30]!r}", [word.replace("{in}", name) for word in arguments]
    for name in MODELS:
        model = f"{{inputs}}/bad-{name}.n2s"
        arguments = VALID_COMMANDS["denoise"]
        yield f"model {name}", [model if word == "{inputs}/m.n2s" else word for word in arguments]
        yield f"info {name}", ["info", model]
    for name in ("absent.n2s", "good.tif", "folder", "pipe.tif", "store.ome.zarr"):
        arguments = VALID_COMMANDS["denoise"]
        yield (
            f"model {name}",
            [f"{{inputs}}/{name}" if w == "{inputs}/m.n2s" else w for w in arguments],
        )
    for text in NOISES:
        name = repr(text[:40])
        yield f"noise {name}", [*VALID_COMMANDS["denoise"][:-1], text]
        yield f"simulate {name}", [*VALID_COMMANDS["simulate"][:-1], text]
    for name in CONFIGS:
        arguments = ["train", "{inputs}/good.tif", "--model", "{out}/new.n2s", "--config"]
        yield f"config {name}", [*arguments, f"{{inputs}}/{name}.yml"]
    for command, *option in OPTIONS:
        yield f"{command} {' '.join(option)[:40]}", [*VALID_COMMANDS[command], *option]
    for output in OUTPUTS:
        for ending in ENDINGS if "{ending}" in output else [""]:
            name = output.replace("{ending}", ending)
            for command in ("denoise", "simulate"):
                arguments = [name if w == "{out}/x.tif" else w for w in VALID_COMMANDS[command]]
                yield f"{command} to {name[:60]}", arguments
        for option in ([], ["--overwrite"]):
            # a model may have any ending
            if (
                "/x." not in output
                and output != "{out}/x"
                and ("there" not in output or not option)
            ):
                arguments = [
                    output.replace("{ending}", ".n2s") if "new" in w else w
                    for w in VALID_COMMANDS["train"]
                ]
                yield f"train to {output[:60]} {option}", [*arguments, *option]
    yield (
        "uncertainty over the input",
        [*VALID_COMMANDS["denoise"], "--uncertainty", "{inputs}/good.tif"],
    )
    yield (
        "uncertainty over the result",
        [*VALID_COMMANDS["denoise"], "--uncertainty", "{out}/x.tif"],
    )
    yield (
        "result over the model",
        [
            w.replace("{out}/x.tif", "{inputs}/m.n2s")
            for w in [*VALID_COMMANDS["denoise"], "--overwrite"]
        ],
    )
    yield "no command", []
    yield "no such command", ["dance"]


CASES = list(cases())


@pytest.fixture(autouse=True)
def quick_garbage_collection():
    """Keep the command line, which collects garbage when it fails, from searching all modules."""
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def usual_garbage_collection_afterwards():
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Return a folder with all invalid inputs, a valid image and a valid model."""
    root = tmp_path_factory.mktemp("inputs")
    for name, make in INPUTS.items():
        make(root / name)
    tifffile.imwrite(root / "good.tif", noisy_stack(), imagej=True, metadata={"axes": "TYX"})
    stack = noisy_stack()[:, :32, :32]
    train(stack, axes="TYX", steps=1, name="m", context="none").save(root / "m.n2s")
    for name, damage in MODELS.items():
        damage(root / "m.n2s", root / f"bad-{name}.n2s")
    for name, text in CONFIGS.items():
        if text is not None:
            (root / f"{name}.yml").write_bytes(text)
    os.link(root / "good.tif", root / "hard-link.tif")
    (root / "soft-link.tif").symlink_to(root / "good.tif")
    (root / "folder").mkdir()
    iio.imwrite(root / "folder" / "a.png", noisy_stack()[0].astype(np.uint8))
    make_store(root / "store.ome.zarr")
    for ending in (*ENDINGS, ".n2s"):
        (root / f"dangling{ending}").symlink_to(root / "nowhere" / "x")
        os.mkfifo(root / f"pipe{ending}") if ending != ".tif" else None
        if ending.endswith("zarr"):
            make_store(root / f"there{ending}")
        else:
            (root / f"there{ending}").write_bytes(b"somebody's only copy")
    return root


def file_states(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return size, modification time, mode and inode of every file in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (
            status.st_size if not path.is_dir() else 0,
            status.st_mtime_ns,
            status.st_mode,
            status.st_ino,
        )
    return found


def digests(folder: Path) -> dict[str, str]:
    """Return a digest of every file in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def before(inputs):
    """Return the files before the first case; after the last, check that no byte has changed."""
    contents = digests(inputs)
    yield file_states(inputs)
    assert digests(inputs) == contents


def test_there_are_at_least_400_cases():
    assert len(CASES) >= 400


@pytest.mark.parametrize(
    "arguments", [arguments for _, arguments in CASES], ids=[name for name, _ in CASES]
)
def test_invalid_input_is_refused_in_one_line(
    arguments, inputs, before, tmp_path, monkeypatch, capfd
):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    command_line = [
        w.replace("{inputs}", str(inputs)).replace("{out}", str(out)) for w in arguments
    ]
    monkeypatch.setattr(sys, "argv", ["noise2score", *command_line])
    with pytest.raises(SystemExit) as stopped:
        main()
    stdout, stderr = capfd.readouterr()
    assert stopped.value.code == 2, stderr
    if arguments:  # without any, the help is printed
        assert stdout == ""
        assert stderr.startswith("noise2score: ")
        assert stderr.count("\n") == 1, stderr
        assert len(stderr) <= MAX_LINE_LENGTH
        assert stderr[:-1].isprintable()
        assert "Traceback" not in stderr
    assert list(out.iterdir()) == []
    assert file_states(inputs) == before
