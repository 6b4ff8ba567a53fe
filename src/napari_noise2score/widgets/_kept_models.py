"""Models that were learned and not saved: kept in a folder of the user, and offered again."""

from __future__ import annotations

import contextlib
import warnings
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qtpy.QtCore import QStandardPaths

from ..errors import DataWarning, UserError
from ._session import session
from ._write import valid_name

if TYPE_CHECKING:
    from ..score.model import ScoreModel

NOISE = "noise found with it"  # key of a model's provenance
MOST = 20  # models that are kept; then the oldest ones are removed
STAMP = "%Y-%m-%d %H.%M.%S"  # in the name of a file, which all systems allow


class Kept(NamedTuple):
    """A model of an earlier session that was not saved."""

    name: str
    when: datetime
    path: Path

    @property
    def title(self) -> str:
        """Name and date for a menu."""
        return f"{self.name} (not saved, {self.when:%d %b %H:%M})"


def folder() -> Path:
    """Return the folder of the models that are kept; it may not exist."""
    data = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.GenericDataLocation)
    return Path(data) / "napari-noise2score" / "models"


def keep(model: ScoreModel, name: str) -> None:
    """Write a model that was learned to the folder; warn if that is not possible.

    Parameters
    ----------
    model : ScoreModel
        The model.
    name : str
        The name under which it is offered again.
    """
    path = folder() / f"{valid_name(name)} {datetime.now():{STAMP}}.n2s"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
    except (UserError, OSError) as error:
        text = f"the model is lost when napari is closed unless you save it: {error}"
        warnings.warn(text, DataWarning, stacklevel=2)
        return
    session.kept[model.fingerprint] = path
    _remove_oldest()


def forget(model: ScoreModel) -> None:
    """Remove a model from the folder, as it was saved elsewhere or is not wanted."""
    if (path := session.kept.pop(model.fingerprint, None)) is not None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def kept_models() -> list[Kept]:
    """Return the models of earlier sessions that were not saved, the newest first."""
    own = set(session.kept.values())
    return [kept for kept in _all() if kept.path not in own]


def unsaved() -> list[str]:
    """Return the names of the models of this session that are only in the folder."""
    return [name for name, model in session.models.items() if model.fingerprint in session.kept]


def _all() -> list[Kept]:
    found = []
    for path in folder().glob("*.n2s"):
        name, _, stamp = path.stem[:-9].rpartition(" ")
        with contextlib.suppress(ValueError):
            when = datetime.strptime(stamp + path.stem[-9:], STAMP)
            found.append(Kept(name, when, path))
    return sorted(found, key=lambda kept: kept.when, reverse=True)


def _remove_oldest() -> None:
    for kept in _all()[MOST:]:
        with contextlib.suppress(OSError):
            kept.path.unlink(missing_ok=True)
