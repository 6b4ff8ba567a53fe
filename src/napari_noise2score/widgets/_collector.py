"""Keep Python's garbage collector from stopping the window while a dock is open.

With torch imported, a full collection looks at a million objects, for a third of a second.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

_open: WeakSet[Any] = WeakSet()
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
        if _open:
            gc.freeze()
        if collects:
            gc.enable()


def opened(dock: Any) -> None:
    """Spare an open dock full collections."""
    if dock not in _open and _loaded:
        gc.freeze()
    _open.add(dock)


def closed(dock: Any) -> None:
    """Collect everything again once the last dock is closed, such as the viewer itself."""
    _open.discard(dock)
    if not _open:
        gc.unfreeze()
