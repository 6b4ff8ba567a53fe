"""Denoise every image of a folder with one model and one noise model, a row for each file."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
)

from ..errors import UserError
from ..progress import Progress
from ._fold import Fold
from ._message import Message
from ._session import session
from ._work import message_of

if TYPE_CHECKING:
    import napari.viewer

    from ..score.model import ScoreModel
    from ._job_bar import JobBar

FORMATS = {"OME-Zarr": ".ome.zarr", "OME-TIFF": ".ome.tif"}
TABLE_HEIGHT = 150  # pixels


class FolderSection(Fold):
    """Denoise the files of a folder; a stopped job goes on where it was when it is started again.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose theme gives the colours.
    job : JobBar
        Where the files are denoised.

    Attributes
    ----------
    start_button : QPushButton
        Starts the job, once the dock connects it.
    """

    def __init__(self, viewer: napari.viewer.Viewer, job: JobBar):
        super().__init__(
            "Folder", "Denoise every image of a folder with the model and the noise model above."
        )
        self._job = job
        self._folder, self._out = QLineEdit(), QLineEdit()
        self._folder.setToolTip("The folder with the images, of any format that can be read.")
        self._out.setToolTip("The folder that the results are written to. Nothing is replaced.")
        self._format = QComboBox()
        self._format.addItems(list(FORMATS))
        self._format.setToolTip("The format of the results. OME-Zarr can be of any size.")
        self._estimate = QCheckBox("Estimate the noise of each file")
        self._estimate.setToolTip(
            "Find the noise of each file in the file itself, instead of the noise model above: for "
            "files of different gain or exposure. Takes a few seconds for each."
        )
        self.start_button = QPushButton("Denoise the folder")
        self.start_button.setToolTip(
            "Denoise each file in the background. A file that fails is named, and the next is "
            "taken. Start it again after Stop to go on with what is left."
        )
        self._message = Message(viewer, "What is missing, or how the job ended.")
        self._table = QTreeWidget()
        self._table.setToolTip("Each file, and what became of it.")
        self._table.setAccessibleName("Files")
        self._table.setHeaderLabels(["File", "State"])
        self._table.setRootIsDecorated(False)
        self._table.setMinimumHeight(TABLE_HEIGHT)
        self._table.hide()
        form = QFormLayout()
        form.addRow("Images in", self._with_dialog(self._folder))
        form.addRow("Results in", self._with_dialog(self._out))
        form.addRow("Format", self._format)
        self.rows.addLayout(form)
        for row in (self._estimate, self.start_button, self._message, self._table):
            self.rows.addWidget(row)

    def _with_dialog(self, line: QLineEdit) -> QHBoxLayout:
        """Return a row of a path and a button that chooses it."""
        choose = QPushButton("…")
        choose.setToolTip("Choose the folder.")
        choose.setAccessibleName("Choose the folder")
        choose.setFixedWidth(32)
        choose.clicked.connect(lambda: self._ask(line))
        row = QHBoxLayout()
        row.addWidget(line, stretch=1)
        row.addWidget(choose)
        return row

    def _ask(self, line: QLineEdit) -> None:
        start = line.text() or str(session.folder)
        if path := QFileDialog.getExistingDirectory(self, "Folder", start):
            session.folder = Path(path)
            line.setText(path)

    def run(self, model: ScoreModel | None, noise: str, device: str, axes: str) -> None:
        """Denoise the folder in the background.

        Parameters
        ----------
        model : ScoreModel or None
            The score.
        noise : str
            The noise model, unless that of each file is estimated.
        device : str
            What the network runs on.
        axes : str
            Axes of files that do not state their own.
        """
        self._message.say("")
        folder, out = Path(self._folder.text().strip()), Path(self._out.text().strip())
        estimate = self._estimate.isChecked()
        try:
            if model is None:
                raise UserError("there is no model yet: press Denoise for one layer, or load one")
            if not noise and not estimate:
                raise UserError("the noise is not known: estimate it above, or for each file")
            if not self._folder.text().strip() or not folder.is_dir():
                raise UserError("choose the folder with the images")
            if not self._out.text().strip():
                raise UserError("choose a folder for the results")
            if out.resolve() == folder.resolve():
                raise UserError("the results need a folder of their own, beside the images")
        except UserError as error:
            self._message.fail(error)
            return
        suffix = FORMATS[self._format.currentText()]
        states: list[Row] = []

        def take(batch: Sequence[Any]) -> None:
            for progress in batch:
                if progress.result is not None:
                    states.append(progress.result)
                    self._show(progress.result)
            self._job.show_progress(batch[-1].fraction)
            self._job.say(f"File {int(batch[-1].done) + 1} of {int(batch[-1].total)}")

        def end(outcome: str) -> None:
            last = {row.file: row.state for row in states}
            failed = [f"{file}: {state}" for file, state in last.items() if state not in FINE]
            done = sum(state == DONE for state in last.values())
            self._job.say(f"{outcome.capitalize()}: {done} of {len(last)} files are denoised.")
            text = "\n⚠ ".join(failed) if outcome == "done" else self._job.problem
            self._message.say(text, "error")

        self._table.clear()
        self._table.show()
        self._job.say("Looking into the folder…")
        noise = "" if estimate else noise
        steps = folder_steps(folder, out, suffix, model, noise, device, axes)
        self._job.run(steps, f"Denoising {folder.name}", take, end)

    def _show(self, row: Row) -> None:
        """Show the state of a file in its row."""
        while self._table.topLevelItemCount() <= row.number:
            self._table.addTopLevelItem(QTreeWidgetItem())
        item = self._table.topLevelItem(row.number)
        if item is not None:
            for column, text in enumerate((row.file, row.state)):
                item.setText(column, text)
                item.setToolTip(column, text)
            self._table.scrollToItem(item)
        header = self._table.header()
        if header is not None:
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)


class Row(NamedTuple):
    """The state of one file of a folder."""

    number: int
    file: str
    state: str


WAITING, BEGUN, DONE = "waiting", "denoising", "done"
FINE = WAITING, BEGUN, DONE


def folder_steps(
    folder: Path,
    out: Path,
    suffix: str,
    model: ScoreModel,
    noise: str,
    device: str,
    axes: str = "",
) -> Generator[Progress[Row], None, None]:
    """Denoise each image of a folder into a file of the same name; a failed one stops no other.

    Parameters
    ----------
    folder, out : Path
        Where the images are, and where the results are written.
    suffix : str
        Ending of the results, ``".ome.zarr"`` or ``".ome.tif"``.
    model : ScoreModel
        The score.
    noise : str
        The noise model; estimated for each file if it is empty.
    device : str
        What the network runs on.
    axes : str
        Axes of files that do not state their own.

    Yields
    ------
    Progress of Row
        Whenever the state of a file changes, and after each block. A result that is complete is
        not computed again; one that was begun is finished.
    """
    from ..image.files import find_images

    files = find_images(folder)
    names = [Path(file).name for file in files]
    stems = [_stem(name) for name in names]
    for number, name in enumerate(names):
        yield Progress(0, len(files), result=Row(number, name, WAITING))
    out.mkdir(parents=True, exist_ok=True)
    for number, (file, name, stem) in enumerate(zip(files, names, stems, strict=True)):
        yield Progress(number, len(files), result=Row(number, name, BEGUN))
        stem = stem if stems.count(stem) == 1 else name
        target = out / f"{stem} denoised{suffix}"
        try:
            for fraction in _one_file(file, target, model, noise, device, axes):
                yield Progress(number + fraction, len(files))
            state = DONE
        except Exception as error:
            state = message_of(error).removeprefix(f"{file}: ")
        yield Progress(number + 1, len(files), result=Row(number, name, state))


def _stem(name: str) -> str:
    """Return the name of a file without the ending of its format.

    Examples
    --------
    >>> _stem("cell.2.ome.tif"), _stem("head.nii.gz")
    ('cell.2', 'head')
    """
    from ..image.formats import FORMATS as KNOWN

    endings = (s for kind in KNOWN for s in kind.suffixes if name.lower().endswith(s))
    ending = max(endings, key=len, default="")
    return name[: len(name) - len(ending)].removesuffix(".ome")


def _one_file(
    file: Any, target: Path, model: ScoreModel, noise: str, device: str, axes: str
) -> Iterator[float]:
    """Denoise a file, and yield the share that is done."""
    from ..denoising.denoise import denoise_steps
    from ..estimation.estimate import estimate_for_denoising
    from ..image.files import read_image

    try:
        image = read_image(file)
    except UserError:
        if not axes:
            raise
        image = read_image(file, axes)
    notes: dict[str, Any] = {}
    found: Any = noise
    if not noise:
        for estimate in estimate_for_denoising(image, model=model, device=device):
            yield 0.0
            if estimate.result is not None:
                found, notes = estimate.result.noise, estimate.result.provenance()
    for progress in denoise_steps(
        image, model, found, target, device=device, noise_notes=notes, resume=True
    ):
        yield progress.fraction
