"""Settings of a training from a YAML file, checked line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import UserError


class TrainSettings(BaseModel):
    """Settings of ``noise2score train``, from its options or a YAML file.

    Attributes
    ----------
    axes : str, optional
        Axes of the images, where the files do not say.
    ndim : {2, 3}
        Train on planes or volumes.
    steps : int, optional
        Number of steps.
    minutes : float, optional
        Time to train, in minutes.
    device : str
        Where to train.
    seed : int
        Source of chance.
    correlation : str, optional
        Correlation of the noise, as ``A`` or ``kernel([[0.1, 0.8, 0.1]])``.

    Examples
    --------
    >>> TrainSettings.read(None, {"steps": 100}).steps
    100
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    axes: str | None = None
    ndim: Literal[2, 3] = 2
    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    device: str = "auto"
    seed: int = Field(0, ge=0)
    correlation: str | None = None

    @classmethod
    def read(cls, path: Path | None, given: dict[str, Any]) -> TrainSettings:
        """Read a YAML file, over which the settings given otherwise take precedence.

        Parameters
        ----------
        path : Path or None
            The file.
        given : dict
            Settings from elsewhere.

        Returns
        -------
        TrainSettings

        Raises
        ------
        UserError
            Naming the line, if a setting is unknown or out of range.
        """
        values, lines = _read_yaml(path) if path is not None else ({}, {})
        try:
            return cls(**(values | given))
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0])
            what = first["msg"].lower()
            if first["type"] == "extra_forbidden":
                what = f"no such setting; there are {', '.join(cls.model_fields)}"
            where = f"{path}, line {lines[key]}: " if key in lines and key not in given else "--"
            raise UserError(f"{where}{key}: {what}") from None


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Values by key, and the line that each key stands on."""
    try:
        text = path.read_text()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not a YAML file") from None
    if root is None:
        return {}, {}
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}, line 1: write settings as 'name: value', one to a line")
    return values, {str(k.value): k.start_mark.line + 1 for k, _ in root.value}
