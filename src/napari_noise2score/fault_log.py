"""Write a log of a fault of this program for users to attach to a report."""

from __future__ import annotations

import platform
import sys
import tempfile
import traceback
from datetime import datetime
from pathlib import Path

from . import __version__

PROGRAM = "noise2score"


def write_log(error: BaseException) -> Path:
    """Write the traceback of an error to a file, and return its path.

    Parameters
    ----------
    error : BaseException
        The exception to log.

    Returns
    -------
    Path
        A file among the temporary files, with versions and the command, but no pixels.
    """
    number, name = tempfile.mkstemp(
        prefix=f"{PROGRAM}-{datetime.now():%Y%m%d-%H%M%S}-", suffix=".log"
    )
    with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{PROGRAM} {__version__}, Python {platform.python_version()}, ")
        file.write(f"{platform.platform()}\n{sys.argv!r}\n\n")
        file.writelines(traceback.format_exception(error))
    return Path(name)
