"""Messages in full beside the control that they concern, in colours that suit napari's theme."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from napari.utils.theme import get_theme
from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QLabel

from ._work import message_of, report

if TYPE_CHECKING:
    import napari.viewer

#: The colour of each kind of message, on a dark and on a bright background.
COLOURS = {"warning": ("#f0b429", "#8a5300"), "error": ("#ff8a80", "#b3261e")}

LONGEST = 24  # letters of a word that fit into a line of the dock
BREAK = "\N{ZERO WIDTH SPACE}"


def wrapped(text: str) -> str:
    """Return a text with places to wrap in the words that are too long for a line of the dock.

    Examples
    --------
    >>> wrapped("written to a.tif"), len(wrapped("x" * 100)) - 100
    ('written to a.tif', 4)
    """
    return re.sub(rf"\S{{{LONGEST}}}(?=\S)", lambda found: found[0] + BREAK, text)


class WrappedLabel(QLabel):
    """A text of any length, which wraps even where a path has no space."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(text)

    def setText(self, text: str | None) -> None:
        """Show a text."""
        super().setText(wrapped(text or ""))

    def text(self) -> str:
        """Return the text without the places to wrap."""
        return super().text().replace(BREAK, "")


class Message(WrappedLabel):
    """A text that wraps and can be copied; hidden while there is nothing to say.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer whose theme gives the colours.
    tip : str
        Tooltip: what the message is about.
    """

    def __init__(self, viewer: napari.viewer.Viewer, tip: str):
        super().__init__()
        self._viewer, self._kind = viewer, ""
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setToolTip(tip)
        self.hide()
        viewer.events.theme.connect(self._repaint)

    def say(self, text: str, kind: str = "") -> None:
        """Show a text instead of the previous one; nothing if it is empty.

        Parameters
        ----------
        text : str
            What to say.
        kind : {"", "warning", "error"}
            Sets the colour; a text without kind has that of the theme.
        """
        self._kind = kind
        self.setText(f"⚠ {text}" if text and kind else text)
        self.setVisible(bool(text))
        self._repaint()

    def fail(self, error: Exception) -> None:
        """Show an error; as a notification too if the dock is out of sight."""
        self.say(message_of(error), "error")
        if not self.isVisible():
            report(error)

    def _repaint(self, _event: Any = None) -> None:
        if isalive(self):
            colour = colour_of(self._viewer, self._kind)
            self.setStyleSheet(f"color: {colour}" if colour else "")


def colour_of(viewer: Any, kind: str) -> str:
    """Return the colour of a kind of message in the theme of a viewer; empty for the theme's own.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer.
    kind : str
        A key of `COLOURS`, or empty.
    """
    if kind not in COLOURS:
        return ""
    bright = QColor(get_theme(viewer.theme).background.as_hex()).lightness() > 128
    return COLOURS[kind][bright]
