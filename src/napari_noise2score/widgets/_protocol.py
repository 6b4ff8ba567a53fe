"""What was done in the window, for the command line: commands to copy, and a file of settings."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from ._guess import correction_in, correlation_in
from ._layers import FILE
from ._session import session
from ._write import valid_name

if TYPE_CHECKING:
    from ..score.model import ScoreModel
    from ._source import Source

HEADER = """\
# Settings of Noise2Score. With them, the command line does what was done in the window:
#   noise2score train IMAGE --model MODEL.n2s --config {name}
#   noise2score denoise IMAGE RESULT --model MODEL.n2s --config {name}
"""
BY_TIME = "# A training by time differs each time; 'steps: N' repeats it exactly.\n"


def settings_text(settings: Mapping[str, Any], name: str) -> str:
    """Return a file of settings, as ``--config`` of the command line reads it.

    Parameters
    ----------
    settings : mapping
        Settings by name; those that are None are left out.
    name : str
        The name of the file, for the comment at its beginning.

    Examples
    --------
    >>> print(settings_text({"axes": "TYX", "steps": 100, "correlation": None}, "cells.yaml"))
    # Settings of Noise2Score. With them, the command line does what was done in the window:
    #   noise2score train IMAGE --model MODEL.n2s --config cells.yaml
    #   noise2score denoise IMAGE RESULT --model MODEL.n2s --config cells.yaml
    axes: TYX
    steps: 100
    <BLANKLINE>
    """
    given = {key: value for key, value in settings.items() if value is not None}
    text = HEADER.format(name=quoted(name)) + (BY_TIME if "minutes" in given else "")
    return text + yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=10_000)


def commands(
    settings: Mapping[str, Any],
    image: str,
    result: str | Path,
    model: str | Path,
    learns: bool,
    uncertainty: bool,
) -> str:
    """Return the commands that do what was done in the window, one on each line.

    Parameters
    ----------
    settings : mapping
        As for `settings_text`.
    image : str
        The image.
    result, model : path-like
        Where the result goes, and the model.
    learns : bool
        Whether the model has no file yet, and must be learned.
    uncertainty : bool
        Whether the uncertainty is written, too.

    Examples
    --------
    >>> settings = {"axes": "TYX", "steps": 9, "noise": "gaussian(sigma=2)", "polish": False}
    >>> print(commands(settings, "a.tif", "b.ome.zarr", "m.n2s", True, False))
    noise2score train a.tif --model m.n2s --axes TYX --steps 9
    noise2score denoise a.tif b.ome.zarr --model m.n2s --noise 'gaussian(sigma=2)' --no-polish --axes TYX
    """  # noqa: E501
    learning = (
        "axes", "ndim", "context", "correlation", "correction", "device", "seed", "steps",
        "minutes",
    )  # fmt: skip
    lines = []
    if learns:
        lines.append(_command("train", [image], settings, learning, model))
    applying = ("noise", "polish", "axes", "device", "dtype", "uncertainty")
    spread = {"uncertainty": beside(str(result))} if uncertainty else {}
    words = [image, str(result)]
    lines.append(_command("denoise", words, {**settings, **spread}, applying, model))
    return "\n".join(lines)


def beside(result: str) -> str:
    """Return the name of the uncertainty of a result.

    Examples
    --------
    >>> beside("cells denoised.ome.zarr")
    'cells uncertainty.ome.zarr'
    """
    path = Path(result)
    stem, dot, ending = path.name.partition(".")
    return str(path.with_name(f"{stem.removesuffix(' denoised')} uncertainty{dot}{ending}"))


def quoted(word: str) -> str:
    """Return a word as the shell of this system needs it."""
    return subprocess.list2cmdline([word]) if sys.platform == "win32" else shlex.quote(word)


def _command(
    name: str, words: list[str], settings: Mapping[str, Any], keys: tuple[str, ...], model: Any
) -> str:
    words = ["noise2score", name, *words, "--model", str(model)]
    for key in keys:
        value = settings.get(key)
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{key}")
        elif value is not None:
            words += [f"--{key}", str(value)]
    return " ".join(map(quoted, words))


class Protocol(NamedTuple):
    """What was done with a layer.

    Attributes
    ----------
    settings : dict
        As for `settings_text`.
    image : str
        The file of the layer, empty if it has none.
    model : Path
        The file of the model, or the name that it would have.
    learns : bool
        Whether the model has no file yet, and must be learned.
    remarks : list of str
        What the command line would do in another way.
    """

    settings: dict[str, Any]
    image: str
    model: Path
    learns: bool
    remarks: list[str]


def protocol_of(
    source: Source, noise: str, name: str, model: ScoreModel | None, settings: Mapping[str, Any]
) -> Protocol:
    """Return what was done with a layer.

    Parameters
    ----------
    source : Source
        The layer.
    noise : str
        Its noise model; empty if it is not known, so that the command line estimates it.
    name : str
        The name of its model, empty if there is none yet.
    model : ScoreModel or None
        Its model.
    settings : mapping
        Settings for a training, and ``polish``.
    """
    image = source.image()
    training = session.recipes.get(name, {} if model is not None else dict(settings))
    training = {key: value for key, value in training.items() if key != "polish"}
    file = session.files.get(model.fingerprint) if model is not None else None
    facts: dict[str, Any] = {"axes": source.axes, **training}
    if model is None and (correction := correction_in(noise)):
        facts["correction"] = correction
    if model is None and not facts.get("correlation"):
        facts["correlation"] = correlation_in(noise)
    facts |= {
        "device": settings["device"],
        "noise": noise or "auto",
        # with auto, the command line polishes where it pays
        "polish": settings["polish"] if noise else None,
        "dtype": "same" if source.layer.rgb else "float32",
    }
    remarks = []
    if not image.source:
        remarks.append("The layer has no file: put its path in place of IMAGE.")
    channels = source.layer.metadata.get(FILE, {}).get("channels", ())
    if len(channels) > 1 and "C" not in source.axes:
        del facts["axes"]
        remarks.append(
            f"The file has {len(channels)} channels: the command denoises all of them, not only "
            "this layer."
        )
    return Protocol(
        facts,
        image.source or "IMAGE",
        file or Path(f"{valid_name(name or source.layer.name)}.n2s"),
        file is None,
        remarks,
    )
