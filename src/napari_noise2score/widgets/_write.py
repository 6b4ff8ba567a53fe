"""Denoise a layer into an OME-Zarr image: where to, and whether to finish what was begun."""

from __future__ import annotations

import re
from collections.abc import Generator
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from ..errors import UserError

if TYPE_CHECKING:
    from ..image.image import Image

ENDING = ".ome.zarr"
STORES = f"OME-Zarr (*{ENDING})"


class Target(NamedTuple):
    """Where to write, and whether to go on with a job that was cut off there."""

    path: Path
    spread: Path | None  # where its uncertainty goes, if that is asked for
    resume: bool


class Stored(NamedTuple):
    """Where a result was written, and all its levels, lazy; those of its uncertainty, too."""

    target: Target
    levels: list[Any]
    spread: list[Any]
    widest: float  # the greatest uncertainty


def suggestion(name: str, folder: Path) -> Path:
    """Suggest where to write what was made of a layer, by a name that is free.

    Examples
    --------
    >>> suggestion("cells: DAPI", Path("data")).as_posix()
    'data/cells_ DAPI denoised.ome.zarr'
    """
    stem = re.sub(r'[<>:"/\\|?*]', "_", f"{name} denoised")
    names = chain([stem], (f"{stem} {number}" for number in count(2)))
    # a dialog that is given a store would enter it
    return next(path for name in names if not (path := folder / (name + ENDING)).exists())


def ask_where(parent: QWidget, suggested: Path, spread: bool) -> Target | None:
    """Ask for a name, and if a job was cut off there, whether to finish it; None if given up.

    Raises
    ------
    UserError
        If there is something of that name, or the folder is one of a store.
    """
    from ..denoising.jobs import left_of
    from ..image.output import check_output

    name, _ = QFileDialog.getSaveFileName(
        parent, "Denoise to OME-Zarr", str(suggested), STORES, "",
        QFileDialog.Option.DontConfirmOverwrite,
    )  # fmt: skip
    if not name:
        return None
    path, uncertain = _paths(Path(name))
    wanted = [path, uncertain] if spread else [path]
    begun = [store for store in wanted if left_of(store)]
    if not begun:
        for store in wanted:
            if store.exists():
                raise UserError(f"{store} exists already: choose another name")
            check_output(store)
    resume = bool(begun) and _ask_resume(parent, path)
    return None if resume is None else Target(path, uncertain if spread else None, resume)


def write(
    image: Image, model: Any, noise: Any, device: str, dtype: np.dtype, target: Target
) -> Generator[Any, None, None]:
    """Denoise an image into a store, and open what was written."""
    from ..denoising.jobs import denoise_to_file, left_of
    from ..image.ome_zarr import open_levels

    stores = {"denoised": target.path}
    if target.spread is not None:
        stores["uncertainty"] = target.spread
    for what, path in stores.items():
        # to begin anew is to give up what is left of the job before
        anew = left_of(path) and not target.resume
        yield from denoise_to_file(
            path, image, model, noise, what=what, dtype=dtype, device=device,
            resume=target.resume, overwrite=anew,
        )  # fmt: skip
    levels = [open_levels(path, image.axes) for path in stores.values()]
    spread = levels[1] if target.spread else []
    widest = spread[-1].max().compute(scheduler="synchronous", callbacks=[]) if spread else 0
    yield Stored(target, levels[0], spread, float(widest))


def _paths(path: Path) -> tuple[Path, Path]:
    """Give the store its ending, and its uncertainty a name beside it."""
    stem = path.name.removesuffix(".zarr").removesuffix(".ome")
    beside = stem.removesuffix(" denoised") + " uncertainty"
    return path.with_name(stem + ENDING), path.with_name(beside + ENDING)


def _ask_resume(parent: QWidget, path: Path) -> bool | None:
    """Ask whether a job that was cut off is to be finished: yes, no, or neither."""
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("Denoise to OME-Zarr")
    box.setText(f"'{path.name}' was begun before and not finished.")
    box.setInformativeText(
        "Finishing it takes the same image, model and noise as it was begun with."
    )
    finish = box.addButton("Finish it", QMessageBox.ButtonRole.AcceptRole)
    anew = box.addButton("Begin anew", QMessageBox.ButtonRole.DestructiveRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(finish)
    box.exec()
    if box.clickedButton() is finish:
        return True
    return False if box.clickedButton() is anew else None
