"""Whatever a person gives wrongly: one line, exit code 2, nothing left, nothing changed."""

from __future__ import annotations

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
    noisy,
)

from napari_noise2score import train
from napari_noise2score.cli.main import main

NOISE = "gaussian(sigma=12)"
MAX_LINE = 420  # characters: the message's 400 and the name of the program

GOOD = {
    "denoise": [
        "denoise", "{world}/good.tif", "{out}/x.tif", "--model", "{world}/m.n2s", "--noise", NOISE,
    ],
    "train": ["train", "{world}/good.tif", "--model", "{out}/new.n2s", "--steps", "1"],
    "estimate": ["estimate", "{world}/good.tif"],
    "simulate": ["simulate", "{world}/good.tif", "{out}/x.tif", "--noise", NOISE],
    "evaluate": ["evaluate", "{world}/good.tif", "{world}/good.tif", "--data-range", "65535"],
}  # fmt: skip


def cases() -> Iterator[tuple[str, list[str]]]:
    """Give a name and a command line for everything that must be refused."""
    reading = {
        "denoise": ["denoise", "{in}", "{out}/x.tif", "--model", "{world}/m.n2s", "--noise", NOISE],
        "train": ["train", "{in}", "--model", "{out}/new.n2s", "--steps", "1"],
        "estimate": ["estimate", "{in}"],
        "simulate": ["simulate", "{in}", "{out}/x.tif", "--noise", NOISE],
        "evaluate": ["evaluate", "{in}", "{world}/good.tif", "--data-range", "65535"],
    }
    for command, words in reading.items():
        for name in INPUTS:
            given = [word.replace("{in}", f"{{world}}/{name}") for word in words]
            yield f"{command} {name}", given
        for name in NAMES if command in ("denoise", "estimate") else ():
            yield f"{command} {name[:30]!r}", [word.replace("{in}", name) for word in words]
    for name in MODELS:
        model = f"{{world}}/bad-{name}.n2s"
        words = GOOD["denoise"]
        yield f"model {name}", [model if word == "{world}/m.n2s" else word for word in words]
        yield f"info {name}", ["info", model]
    for name in ("absent.n2s", "good.tif", "folder", "pipe.tif", "store.ome.zarr"):
        words = GOOD["denoise"]
        yield f"model {name}", [f"{{world}}/{name}" if w == "{world}/m.n2s" else w for w in words]
    for text in NOISES:
        name = repr(text[:40])
        yield f"noise {name}", [*GOOD["denoise"][:-1], text]
        yield f"simulate {name}", [*GOOD["simulate"][:-1], text]
    for name in CONFIGS:
        words = ["train", "{world}/good.tif", "--model", "{out}/new.n2s", "--config"]
        yield f"config {name}", [*words, f"{{world}}/{name}.yml"]
    for command, *option in OPTIONS:
        yield f"{command} {' '.join(option)[:40]}", [*GOOD[command], *option]
    for place in OUTPUTS:
        for ending in ENDINGS if "{ending}" in place else [""]:
            name = place.replace("{ending}", ending)
            for command in ("denoise", "simulate"):
                words = [name if w == "{out}/x.tif" else w for w in GOOD[command]]
                yield f"{command} to {name[:60]}", words
        for option in ([], ["--overwrite"]):
            # a model may have any ending
            if "/x." not in place and place != "{out}/x" and ("there" not in place or not option):
                words = [
                    place.replace("{ending}", ".n2s") if "new" in w else w for w in GOOD["train"]
                ]
                yield f"train to {place[:60]} {option}", [*words, *option]
    yield "uncertainty over the input", [*GOOD["denoise"], "--uncertainty", "{world}/good.tif"]
    yield "uncertainty over the result", [*GOOD["denoise"], "--uncertainty", "{out}/x.tif"]
    yield (
        "result over the model",
        [w.replace("{out}/x.tif", "{world}/m.n2s") for w in [*GOOD["denoise"], "--overwrite"]],
    )
    yield "no command", []
    yield "no such command", ["dance"]


CASES = list(cases())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of everything bad, beside a good image and a good model."""
    root = tmp_path_factory.mktemp("world")
    for name, make in INPUTS.items():
        make(root / name)
    tifffile.imwrite(root / "good.tif", noisy(), imagej=True, metadata={"axes": "TYX"})
    train(noisy()[:, :32, :32], axes="TYX", steps=1, name="m").save(root / "m.n2s")
    for name, damage in MODELS.items():
        damage(root / "m.n2s", root / f"bad-{name}.n2s")
    for name, text in CONFIGS.items():
        if text is not None:
            (root / f"{name}.yml").write_bytes(text)
    os.link(root / "good.tif", root / "hard-link.tif")
    (root / "soft-link.tif").symlink_to(root / "good.tif")
    (root / "folder").mkdir()
    iio.imwrite(root / "folder" / "a.png", noisy()[0].astype(np.uint8))
    make_store(root / "store.ome.zarr")
    for ending in (*ENDINGS, ".n2s"):
        (root / f"dangling{ending}").symlink_to(root / "nowhere" / "x")
        os.mkfifo(root / f"pipe{ending}") if ending != ".tif" else None
        if ending.endswith("zarr"):
            make_store(root / f"there{ending}")
        else:
            (root / f"there{ending}").write_bytes(b"somebody's only copy")
    return root


def look(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return what tells whether anything in a folder was touched: size, time, mode and number."""
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
def before(world):
    """What is there before the first case; after the last every byte is as it was."""
    whole = digests(world)
    yield look(world)
    assert digests(world) == whole


def test_there_are_as_many_cases_as_are_promised():
    assert len(CASES) >= 400


@pytest.mark.parametrize("words", [words for _, words in CASES], ids=[name for name, _ in CASES])
def test_it_is_one_line(words, world, before, tmp_path, monkeypatch, capfd):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    filled = [w.replace("{world}", str(world)).replace("{out}", str(out)) for w in words]
    monkeypatch.setattr(sys, "argv", ["noise2score", *filled])
    with pytest.raises(SystemExit) as ended:
        main()
    printed, said = capfd.readouterr()
    assert ended.value.code == 2, said
    if words:  # without a command it is the help
        assert printed == ""
        assert said.startswith("noise2score: ")
        assert said.count("\n") == 1, said
        assert len(said) <= MAX_LINE
        assert said[:-1].isprintable()
        assert "Traceback" not in said
    assert list(out.iterdir()) == []
    assert look(world) == before
