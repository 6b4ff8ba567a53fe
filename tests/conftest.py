"""Start a screen for the window tests, or skip them with the reason; define common fixtures."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from forking import ForkServer
from hypothesis import settings

from napari_noise2score.sample import simulate_cells

LINUX = sys.platform.startswith("linux")
PACKAGES = "libegl1 libgl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1"

# several threads are 20 times slower if other processes use the same cores
os.environ.setdefault("OMP_NUM_THREADS", "1")

# deadline: tests assert no times; derandomize: the same examples in every run of the suite
settings.register_profile(
    "project", deadline=None, derandomize="NOISE2SCORE_SEED" not in os.environ
)
settings.load_profile("project")


@pytest.fixture
def seed(request):
    """Return the seed of a random test: fixed unless NOISE2SCORE_SEED is set, and printed."""
    number = os.environ.get("NOISE2SCORE_SEED", "0")
    print(f"NOISE2SCORE_SEED={number}")
    return f"{number} {request.node.name}"


@pytest.fixture(scope="session")
def fork_server():
    """Return a `ForkServer`, which runs command lines without the seconds that imports take."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork on this system")
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def short_polish(monkeypatch):
    """Let a polish take three steps, or as many as the function that is returned is given.

    It is used although such a polish may do harm.
    """
    from napari_noise2score.denoising.polishing import polish_steps
    from napari_noise2score.score.polish import Polish

    def set_steps(steps):
        defaults = polish_steps.__kwdefaults__ | {"steps": steps}
        monkeypatch.setattr(polish_steps, "__kwdefaults__", defaults)

    set_steps(3)
    monkeypatch.setattr(Polish, "does_harm", False)
    return set_steps


def pytest_configure(config):
    config.addinivalue_line("markers", "window: needs napari, Qt, OpenGL and a screen")
    # doctests of the widgets cannot be collected if Qt cannot be imported
    config.option.doctest_ignore_import_errors = missing_toolkit() is not None
    if LINUX and not has_screen() and shutil.which("Xvfb"):
        config._xvfb = start_xvfb()


def pytest_unconfigure(config):
    if xvfb := getattr(config, "_xvfb", None):
        xvfb.terminate()
        xvfb.wait()


def pytest_runtest_setup(item):
    if item.get_closest_marker("window") and (reason := missing_window()):
        pytest.skip(reason)


def has_screen() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def start_xvfb() -> subprocess.Popen:
    """Start a virtual screen on a free display."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1280x800x24", "-nolisten", "tcp"],
        pass_fds=[writer],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=end_with_parent,
    )
    os.close(writer)
    with os.fdopen(reader) as display:
        if number := display.readline().strip():  # empty if Xvfb could not start
            os.environ["DISPLAY"] = f":{number}"
    return process


def end_with_parent() -> None:
    """Let Linux end this process when its parent ends, even if the tests crash."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


@cache
def missing_toolkit() -> str | None:
    """Return why napari or Qt cannot be imported, None if they can."""
    for package in ("napari", "qtpy", "pyqtgraph", "superqt", "pytestqt"):
        if importlib.util.find_spec(package) is None:
            extra = "test" if package == "pytestqt" else "gui"
            return f"no {package}: pip install -e '.[gui,test]' (extra '{extra}')"
    try:
        from qtpy import QtWidgets  # noqa: F401
    except Exception as error:
        return f"Qt cannot be loaded ({error}): install the Debian packages {PACKAGES}"
    return None


@cache
def missing_window() -> str | None:
    """Return why no window can be opened, None if it can; Qt would end the process silently."""
    if reason := missing_toolkit():
        return reason
    if not LINUX:
        return None
    if not has_screen():
        return "no screen: install the Debian package xvfb"
    from qtpy.QtCore import QLibraryInfo

    if hasattr(QLibraryInfo, "path"):  # Qt 6
        plugins = Path(QLibraryInfo.path(QLibraryInfo.LibraryPath.PluginsPath))
        try:
            for plugin in plugins.glob("platforms/libqxcb.so"):
                ctypes.CDLL(str(plugin))
            ctypes.CDLL("libGL.so.1")
        except OSError as error:
            return f"Qt cannot open a window ({error}): install the Debian packages {PACKAGES}"
    return None


@pytest.fixture(scope="module", autouse=True)
def narrow_networks(request):
    """Train networks a quarter as wide as those of a user, ten times as fast.

    A module that sets ``WIDE_NETWORKS = True`` and a test that uses `wide_networks` train the
    user's: those that say how well noise is removed.
    """
    if getattr(request.module, "WIDE_NETWORKS", False):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_noise2score.score._trainer.NETWORK_WIDTH", 8)
        yield


@pytest.fixture
def wide_networks(monkeypatch):
    """Train networks as wide as those of a user, in one test."""
    monkeypatch.setattr("napari_noise2score.score._trainer.NETWORK_WIDTH", 32)


@pytest.fixture(scope="module")
def cells():
    return simulate_cells((2, 4, 32, 32))


@pytest.fixture(scope="module")
def model(cells):
    """Return a model with the shape of a real one, trained for two steps only.

    It states no error of the score: after two steps it would hide the noise model.
    """
    from napari_noise2score import train

    return replace(train([cells[0]], axes="TZYX", steps=2, context="none"), score_errors=())


@pytest.fixture
def session(monkeypatch, tmp_path_factory):
    from napari_noise2score.widgets import _kept_models
    from napari_noise2score.widgets._session import session

    kept = tmp_path_factory.mktemp("kept")
    monkeypatch.setattr(_kept_models, "folder", lambda: kept)
    for known in (session.models, session.kept):
        known.clear()
    yield session
    for known in (session.models, session.kept):
        known.clear()


@pytest.fixture
def viewer(make_napari_viewer, session):
    from napari.settings import get_settings
    from superqt.utils import WorkerBase

    viewer = make_napari_viewer()
    yield viewer
    WorkerBase.await_workers(120_000)
    get_settings().experimental.async_ = False  # a lazy layer sets it


@pytest.fixture
def notifications():
    """Return a function that lists the messages of napari's notifications in this test."""
    from napari.utils.notifications import notification_manager

    notification_manager.records.clear()
    return lambda: [record.message for record in notification_manager.records]
