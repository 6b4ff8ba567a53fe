"""Keep what was done: commands to copy, settings to save and to load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog, QWidget

from ..errors import UserError
from ._protocol import Protocol, commands, protocol_of, settings_text
from ._session import session
from ._settings_file import read_settings

if TYPE_CHECKING:
    from ._image_row import ImageRow
    from ._model_section import ModelSection
    from ._noise_section import NoiseSection
    from ._result_section import ResultSection


class ProtocolActions(QObject):
    """What the buttons Copy as command, Save settings and Load settings do.

    Parameters
    ----------
    dock : QWidget
        The dock.
    image, noise, model, result
        Its sections.
    """

    def __init__(
        self,
        dock: QWidget,
        image: ImageRow,
        noise: NoiseSection,
        model: ModelSection,
        result: ResultSection,
    ):
        super().__init__(dock)
        self._dock = dock
        self._image, self._noise, self._model, self._result = image, noise, model, result
        result.copy_button.clicked.connect(self._copy_command)
        result.save_button.clicked.connect(self._save_settings)
        result.load_button.clicked.connect(self._load_settings)

    def _copy_command(self) -> None:
        """Copy the commands that do the same in a terminal."""
        if (done := self._protocol()) is None or (clipboard := QGuiApplication.clipboard()) is None:
            return
        result, spread = self._result.path_of(self._image.layer), self._result.uncertainty
        text = commands(
            done.settings, done.image, result, done.model, done.learns, spread.isChecked()
        )
        clipboard.setText(text)
        self._result.protocol.say("\n".join(["Copied:", text, *done.remarks]))

    def _save_settings(self) -> None:
        """Ask for a file name, and write the settings for the command line."""
        if (done := self._protocol()) is None:
            return
        suggested = session.folder / f"{done.model.stem}.yaml"
        path, _ = QFileDialog.getSaveFileName(
            self._dock, "Save settings", str(suggested), "Settings (*.yaml)"
        )
        if not path:
            return
        file = Path(path if path.endswith((".yaml", ".yml")) else f"{path}.yaml")
        session.folder = file.parent
        try:
            file.write_text(settings_text(done.settings, file.name), encoding="utf-8")
        except OSError as error:
            self._result.protocol.fail(error)
        else:
            self._result.protocol.say("\n".join([f"Saved to {file}.", *done.remarks]))

    def _load_settings(self) -> None:
        """Ask for a file of settings, and set the controls to them."""
        path, _ = QFileDialog.getOpenFileName(
            self._dock, "Load settings", str(session.folder), "Settings (*.yaml *.yml)"
        )
        if not path:
            return
        session.folder = Path(path).parent
        try:
            remarks = read_settings(Path(path), self._model, self._result, self._noise)
        except UserError as error:
            self._result.protocol.fail(error)
        else:
            self._result.protocol.say("\n".join([f"Loaded {path}.", *remarks]))

    def _protocol(self) -> Protocol | None:
        """Return what is to be done with the layer; None if it has no axes, which is said."""
        try:
            source = self._image.source()
        except UserError as error:
            self._image.fail(error)
            return None
        chooser, polish = self._model.chooser, self._result.polish.isChecked()
        settings = self._model.settings.values | {"polish": polish}
        return protocol_of(source, self._noise.text, chooser.name, chooser.model, settings)
