"""Denoise a layer into an OME-Zarr file, or finish one that was interrupted."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from ..errors import UserError
from ..image.arrays import read_piece
from ..progress import Progress

if TYPE_CHECKING:
    from ..image.image import Image
    from ..score.polish import Polish

SUFFIX = ".ome.zarr"
STORES = f"OME-Zarr (*{SUFFIX})"


class Target(NamedTuple):
    """Where to write, and whether to continue an interrupted job there."""

    path: Path
    spread: Path | None  # where the uncertainty is written, if requested
    resume: bool


class Result(NamedTuple):
    """A denoised image and its uncertainty, if requested."""

    data: Any  # an array, or the levels of what was written
    spread: Any = None
    target: Target | None = None  # where it was written
    widest: float = 0  # the greatest uncertainty of what was written
    # fingerprint of the polish, if there is one, or of those of the channels
    polish: str | list[str | None] = ""


def valid_name(name: str) -> str:
    """Return a name that every system allows for a file.

    Examples
    --------
    >>> valid_name("cells: DAPI")
    'cells_ DAPI'
    """
    return re.sub(r'[<>:"/\\|?*]', "_", name)


def suggestion(name: str, folder: Path) -> Path:
    """Return a path for the denoised layer that does not exist yet.

    Examples
    --------
    >>> suggestion("cells: DAPI", Path("data")).as_posix()
    'data/cells_ DAPI denoised.ome.zarr'
    """
    stem = f"{valid_name(name)} denoised"
    names = chain([stem], (f"{stem} {number}" for number in count(2)))
    # a file dialog opens an existing store as a folder
    return next(path for name in names if not (path := folder / (name + SUFFIX)).exists())


def ask_where(parent: QWidget, suggested: Path, spread: bool) -> Target | None:
    """Ask for a file name and, if a job was interrupted there, whether to finish it.

    Returns
    -------
    Target or None
        None if the person cancelled.

    Raises
    ------
    UserError
        If the file exists already, or the folder is inside a store.
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
    image: Image,
    model: Any,
    noise: Any,
    device: str,
    dtype: np.dtype,
    noise_notes: Mapping[str, Any],
    target: Target,
    polish: Polish | Sequence[Polish | None] | None,
) -> Generator[Progress[Result], None, None]:
    """Denoise an image into a store, and open what was written."""
    from ..denoising.denoise import denoise_steps, uncertainty_steps
    from ..denoising.jobs import left_of
    from ..image.ome_zarr import open_levels

    stores: list[tuple[Callable[..., Any], Path]] = [(denoise_steps, target.path)]
    if target.spread is not None:
        stores.append((uncertainty_steps, target.spread))
    for steps, path in stores:
        # starting again discards the remains of the earlier job
        overwrite = left_of(path) and not target.resume
        for progress in steps(
            image, model, noise, path, device=device, dtype=dtype, noise_notes=noise_notes,
            polish=polish, resume=target.resume, overwrite=overwrite,
        ):  # fmt: skip
            yield replace(progress, result=None)
    levels = [open_levels(path, image.axes) for _, path in stores]
    spread = levels[1] if target.spread else None
    widest = read_piece(spread[-1].max(), ()) if spread else 0
    yield Progress(1, 1, result=Result(levels[0], spread, target, float(widest)))


def _paths(path: Path) -> tuple[Path, Path]:
    """Return the path with the suffix of a store, and the path of its uncertainty beside it."""
    stem = path.name.removesuffix(".zarr").removesuffix(".ome")
    beside = stem.removesuffix(" denoised") + " uncertainty"
    return path.with_name(stem + SUFFIX), path.with_name(beside + SUFFIX)


def _ask_resume(parent: QWidget, path: Path) -> bool | None:
    """Ask whether to finish an interrupted job; return None if the person cancelled."""
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("Denoise to OME-Zarr")
    box.setText(f"'{path.name}' was started before and not finished.")
    box.setInformativeText("To finish it, use the same image, model and noise model as before.")
    finish = box.addButton("Finish it", QMessageBox.ButtonRole.AcceptRole)
    restart = box.addButton("Start again", QMessageBox.ButtonRole.DestructiveRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(finish)
    box.exec()
    if box.clickedButton() is finish:
        return True
    return False if box.clickedButton() is restart else None
