"""The question about models that were not saved, when a person closes napari."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QMainWindow, QMessageBox, QWidget

from ..errors import UserError
from ._collector import closed
from ._kept_models import forget, unsaved
from ._session import session
from ._work import report
from ._write import valid_name

MOST_NAMED = 5  # models in the question


class Closing(QObject):
    """Ask about unsaved models when the last window of napari is closed by hand or by its menu.

    A script that closes its viewer is not asked: the models are kept anyway.

    Parameters
    ----------
    dock : QWidget
        The dock in the window.
    """

    def __init__(self, dock: QWidget):
        super().__init__(dock)
        self._dock = dock
        self._watched: Any = None
        self._by_menu = self._exits = False

    def watch(self) -> None:
        """Watch the window that the dock is put into."""
        QTimer.singleShot(0, self._watch)

    def _watch(self) -> None:
        if not isalive(self):
            return
        if self._watched is not None:
            self._release()
        window = self._dock.window()
        # a dock that floats is a window of its own
        while window is not None and (parent := window.parentWidget()) is not None:
            window = parent.window()
        self._watched = window
        if window is not None:
            window.installEventFilter(self)
            self._follow_menu(window)

    def _follow_menu(self, window: Any) -> None:
        """Note when the menu closes the window: Qt takes that for the act of a script.

        The menu of napari asks `close` to confirm, which scripts do not.
        """
        close = window.close

        def close_noting_menu(*args: Any, **options: Any) -> Any:
            self._by_menu = bool(options.get("confirm_need"))
            self._exits = self._by_menu and bool(options.get("quit_app"))
            try:
                return close(*args, **options)
            finally:
                self._by_menu = self._exits = False

        window.close = close_noting_menu

    def _release(self) -> None:
        """Watch the window no more."""
        self._watched.removeEventFilter(self)
        # the method of the class comes back
        self._watched.__dict__.pop("close", None)
        self._watched = None

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Ask before the window is closed, and leave it open if the person wants that."""
        if event.type() != QEvent.Type.Close:
            return False
        if (event.spontaneous() or self._by_menu) and self._keeps_open(watched):
            event.ignore()
            # or closing this window later would close all windows, as Exit was chosen once
            if hasattr(watched, "_quit_app"):
                watched._quit_app = False  # noqa: SLF001
            return True
        self._release()  # or the window would live as long as the dock
        closed(self._dock)
        return False

    def _keeps_open(self, watched: Any) -> bool:
        """Return whether a person decides not to close the window after all."""
        others = [
            w
            for w in QApplication.topLevelWidgets()
            if w is not watched and isinstance(w, QMainWindow) and w.isVisible()
        ]
        names = unsaved()
        # Exit closes the other windows as well
        return bool(names) and (self._exits or not others) and not _ask(watched, names)


def _ask(parent: QWidget, names: list[str]) -> bool:
    """Ask what becomes of the models; return whether the window may be closed."""
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("Noise2Score")
    one = len(names) == 1
    box.setText("A model was not saved." if one else f"{len(names)} models were not saved.")
    listed = ", ".join(names[:MOST_NAMED]) + ("…" if len(names) > MOST_NAMED else "")
    box.setInformativeText(f"{listed}\n\nWhat is kept is offered the next time under Model, Use.")
    later = box.addButton("Keep for later", QMessageBox.ButtonRole.AcceptRole)
    save = box.addButton("Save…", QMessageBox.ButtonRole.ActionRole)
    discard = box.addButton("Discard", QMessageBox.ButtonRole.DestructiveRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(later)
    box.exec()
    if box.clickedButton() is save:
        return _save(parent, names)
    if box.clickedButton() is discard:
        for name in names:
            forget(session.models[name])
    return box.clickedButton() in (later, discard)


def _save(parent: QWidget, names: list[str]) -> bool:
    """Ask for a folder, and copy the models into it; return whether they are there."""
    chosen = QFileDialog.getExistingDirectory(parent, "Save models", str(session.folder))
    if not chosen:
        return False
    try:
        for name in names:
            model = session.models[name]
            path = _free(Path(chosen), valid_name(name))
            shutil.copyfile(session.kept[model.fingerprint], path)
            session.files[model.fingerprint] = path
            forget(model)
    except OSError as error:
        report(UserError(f"the models were not saved: {error}"))
        return False
    return True


def _free(folder: Path, name: str) -> Path:
    """Return the path of a model file that does not exist yet."""
    path, number = folder / f"{name}.n2s", 2
    while path.exists():
        path, number = folder / f"{name} ({number}).n2s", number + 1
    return path
