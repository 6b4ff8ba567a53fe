"""Keep Python's garbage collector from stopping the window while a dock is open.

With torch imported, a full collection looks at a million objects, for a third of a second.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

_open: WeakSet[QWidget] = WeakSet()
_loaded = False


@contextmanager
def imports() -> Iterator[None]:
    """Import large libraries without a collection; later ones leave out what there is by then."""
    global _loaded  # noqa: PLW0603
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        _loaded = True
        if any(map(isalive, list(_open))):
            gc.freeze()
        if collects:
            gc.enable()


def opened(dock: QWidget) -> None:
    """Spare an open dock full collections."""
    if dock in _open:
        return
    if _loaded:
        gc.freeze()
    _open.add(dock)
    dock.destroyed.connect(_soon)


def closed(dock: QWidget) -> None:
    """Collect everything again once the last dock is closed, such as the viewer itself."""
    _open.discard(dock)
    _collect_if_closed()


def _soon() -> None:
    QTimer.singleShot(0, _collect_if_closed)


def _collect_if_closed() -> None:
    if not any(map(isalive, list(_open))):
        gc.unfreeze()
