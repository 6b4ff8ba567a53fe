"""Read the settings of ``train`` and ``denoise`` from a YAML file, and report errors by line."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..budget import MAX_MINUTES, MAX_SEED, MAX_STEPS
from ..errors import UserError, one_line, quoted
from ..score.context import MAX_REACH

MAX_BYTES = 2**16


class Settings(BaseModel):
    """Settings that are read from a YAML file, those of one command or another."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, path: Path | None, given: dict[str, Any]) -> Self:
        """Return settings read from a YAML file; settings given otherwise take precedence.

        One file may hold the settings of both commands; each takes its own.

        Parameters
        ----------
        path : Path or None
            The file.
        given : dict
            Settings from the command line.

        Returns
        -------
        Self

        Raises
        ------
        UserError
            If the file cannot be read, or a setting is unknown or out of range. The message names
            the line.
        """
        values, lines = _read_yaml(path) if path is not None else ({}, {})
        known = TrainSettings.model_fields | DenoiseSettings.model_fields
        foreign = known.keys() - cls.model_fields.keys()
        values = {key: value for key, value in values.items() if key not in foreign}
        try:
            return cls(**(values | given))
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0])
            what = first["msg"].lower()
            if first["type"] == "extra_forbidden":
                what = f"no such setting; there are {', '.join(known)}"
            where = f"{path}, line {lines[key]}: " if key in lines and key not in given else "--"
            raise UserError(f"{where}{one_line(key[:80])}: {one_line(what)}") from None


class TrainSettings(Settings):
    """Settings of ``noise2score train``, from its options or a YAML file.

    Attributes
    ----------
    axes : str, optional
        Axes of the images, if the files do not contain them.
    ndim : {2, 3}
        Train on planes (2) or volumes (3).
    steps : int, optional
        Number of training steps.
    minutes : float, optional
        Training time in minutes.
    device : str
        Device to train on.
    seed : int
        Seed of the random generators.
    context : {"auto", "none", "T", "Z", "TZ"}
        Which neighbours the network sees beside a plane.
    reach : int, optional
        Number of neighbours on each side.
    correlation : str, optional
        Correlation of the noise, as ``A`` or ``kernel([[0.1, 0.8, 0.1]])``.
    correction : str, optional
        What is undone first, as ``rows(sigma=4)`` or a noise model with calibration maps.
    channels : {"auto", "joint", "separate"}
        Whether the network sees channels together or each by itself.

    Examples
    --------
    >>> TrainSettings.read(None, {"steps": 100}).steps
    100
    """

    axes: str | None = None
    ndim: Literal[2, 3] = 2
    steps: int | None = Field(None, ge=1, le=MAX_STEPS)
    minutes: float | None = Field(None, gt=0, le=MAX_MINUTES, allow_inf_nan=False)
    device: str = "auto"
    seed: int = Field(0, ge=0, le=MAX_SEED)
    context: str = "auto"
    reach: int | None = Field(None, ge=1, le=MAX_REACH)
    correlation: str | None = None
    correction: str | None = None
    channels: Literal["auto", "joint", "separate"] = "auto"


class DenoiseSettings(Settings):
    """Settings of ``noise2score denoise``, from its options or a YAML file.

    Attributes
    ----------
    noise : str, optional
        The noise model, or ``auto``.
    axes : str, optional
        Axes of the images, if the files do not contain them.
    device : str
        Device to denoise on.
    dtype : {"float32", "same"}
        Type of the result.
    polish : bool, optional
        Whether to polish; by default only with ``auto``, where it pays.

    Examples
    --------
    >>> DenoiseSettings.read(None, {"noise": "gaussian(sigma=2)"}).dtype
    'float32'
    """

    noise: str | None = None
    axes: str | None = None
    device: str = "auto"
    dtype: Literal["float32", "same"] = "float32"
    polish: bool | None = None


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the values by key, and the line of each key.

    Only text keys with scalar values are accepted. Nested values, tags, aliases and other keys
    raise a `UserError` that names the line.
    """
    text = _read_text(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not a YAML file of settings") from None
    if root is None or root.tag == "tag:yaml.org,2002:null":
        return {}, {}
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}, line 1: write settings as 'name: value', one to a line")
    loader = yaml.SafeLoader("")
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key, value in root.value:
        where = f"{path}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            raise UserError(f"{where}: the name of a setting must be plain text")
        name = key.value
        if name in values:
            raise UserError(f"{where}: {quoted(name)} is already set on line {lines[name]}")
        if not isinstance(value, yaml.ScalarNode):
            raise UserError(f"{where}: {quoted(name)} must have a single value, not a list")
        try:
            values[name] = loader.construct_object(value)
        except (yaml.YAMLError, ValueError, OverflowError):
            raise UserError(f"{where}: the value of {quoted(name)} cannot be read") from None
        lines[name] = key.start_mark.line + 1
    return values, lines


def _read_text(path: Path) -> str:
    """Return the content of a small text file; a `UserError` if it is anything else."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device or a pipe"
            raise UserError(f"{path}: {kind}, not a file of settings")
        if found.st_size > MAX_BYTES:
            raise UserError(
                f"{path}: {found.st_size} bytes, too large for a file of settings "
                f"(at most {MAX_BYTES})"
            )
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text") from None
    except UserError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid file name"
        raise UserError(f"{path}: cannot be read ({reason})") from None
