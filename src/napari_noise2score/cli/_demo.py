"""Run the demo: train on the embedded sample, denoise it, measure its error, and show it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from ._progress import track
from ._terminal import say

BUDGET: dict[str, Any] = {"minutes": 1.0}
MODEL = "demo.n2s"
NAMES = ("noisy", "denoised", "truth")
FILES = (*(f"{name}{ending}" for name in NAMES for ending in (".tif", ".ome.tif", ".png")), MODEL)
# note in every file of a demo; a later demo may replace files with this note
MADE_BY = {"made by": "noise2score demo"}


def run(out: Path, headless: bool, track: Callable[..., Any], say: Callable[[str], None]) -> None:
    """Train on the sample for a minute, denoise it, and write and show the results.

    Parameters
    ----------
    out : Path
        Folder for ``noisy``, ``denoised`` and ``truth``, each as OME-TIFF (``.tif``) and as a
        PNG of the middle plane, and for the model, ``demo.n2s``.
    headless : bool
        Whether to open no window.
    track : callable
        Reports the progress of a job, called as ``track(job, name, describe)``.
    say : callable
        Prints a line of text.

    Raises
    ------
    UserError
        If the folder cannot be written, or contains a file with one of these names that was not
        written by a demo.
    """
    import numpy as np

    from ..denoising.denoise import denoise_steps
    from ..denoising.evaluate import compare
    from ..denoising.provenance import result_image, result_notes
    from ..image.image import Image
    from ..progress import run_to_end
    from ..sample import NOISE, OFFSET, SCALE, UNITS, simulate_cells
    from ..score.training import describe_context, train_steps

    _check_folder(out)
    raw, signal = simulate_cells()
    known: dict[str, Any] = {"axes": "TZYX", "scale": SCALE, "units": UNITS, "notes": MADE_BY}
    noisy = Image(raw, name="noisy", **known)
    truth = Image(signal + np.float32(OFFSET), name="truth", **known)

    say(f"embedded sample: {'×'.join(map(str, raw.shape))} (TZYX), noise {NOISE}")
    training = train_steps(raw, axes=noisy.axes, name="demo", **BUDGET)
    steps = track(
        training, "training", lambda p: (p.fraction, f"{p.result.seconds_left:.0f} s left")
    )
    state = run_to_end(steps)
    model = state.snapshot()
    model = dataclasses.replace(model, provenance={**model.provenance, **MADE_BY})
    say(f"trained: {state.step} steps in {state.seconds:.0f} s, from the noisy stack alone")
    if sentence := describe_context(model):
        say(sentence)
    result = np.zeros(raw.shape, np.float32)
    tiles = denoise_steps(noisy, model, NOISE, result)
    run_to_end(track(tiles, "denoising", lambda p: (p.fraction, f"{p.done} of {p.total}")))
    notes = result_notes(model, NOISE, noise_notes=MADE_BY)
    denoised = result_image(noisy, result, "denoised", notes)

    # both are compared without the offset, as the signal does not include it
    data_range = float(signal.max())
    for name, stack in (("noisy", raw.astype(np.float32)), ("denoised", result)):
        psnr = compare(stack - OFFSET, signal, "TZYX", data_range)["psnr"]
        print(f"{name:<9} PSNR {psnr:.2f} dB")

    images = {"noisy": noisy, "denoised": denoised, "truth": truth}
    _write(out, images, model)
    say(f"written to {out}: {', '.join(f'{name}.tif, {name}.png' for name in images)}, demo.n2s")
    if headless:
        return
    if reason := _no_window():
        say(f"no window: {reason}; open the files above instead")
        return
    from ..widgets.show import show

    show(images.values())


def _check_folder(out: Path) -> None:
    """Raise a `UserError` unless all files of a demo can be written to a folder."""
    from ..image.output import check_output

    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give a folder for the images of the demo")
    for name in FILES:
        path = check_output(out / name, overwrite=True)
        if os.path.lexists(path) and not _is_own(path):
            raise UserError(f"{path} was not written by the demo: choose another folder by --out")


def _is_own(path: Path) -> bool:
    """Return whether a file contains the note of a demo."""
    from ..image.files import read_image
    from ..score.model import ScoreModel

    try:
        notes = (
            ScoreModel.load(path).provenance if path.suffix == ".n2s" else read_image(path).notes
        )
    except (UserError, OSError):
        return False
    return MADE_BY.items() <= notes.items()


def _write(out: Path, images: dict[str, Any], model: Any) -> None:
    """Write each stack, a PNG of its middle plane, and the model."""
    import numpy as np

    from ..image.image import Image
    from ..image.system import replace
    from ..image.write import write_image

    out.mkdir(parents=True, exist_ok=True)
    truth = np.asarray(images["truth"].data)
    low, high = np.quantile(truth, [0.01, 0.999])
    for name, image in images.items():
        # an OME-TIFF with the ending .tif
        temporary = out / f"{name}.ome.tif"
        write_image(temporary, image, overwrite=True)
        replace(temporary, out / f"{name}.tif")
        plane = np.asarray(image.data[0, image.data.shape[1] // 2], dtype=np.float32)
        gray = np.clip((plane - low) / (high - low), 0, 1) * 255
        picture = Image(np.rint(gray).astype(np.uint8), "YX", name=name, notes=image.notes)
        write_image(out / f"{name}.png", picture, overwrite=True)
    model.save(out / MODEL)


def _no_window() -> str:
    """Return the reason why no window can be opened, or an empty text if one can."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return "there is no screen"
    # Qt ends the process if a library is missing, so this is tried in another process
    probe = "import napari; from qtpy.QtWidgets import QApplication; QApplication([])"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, check=False, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"Qt or napari does not start here ({last})"
    return ""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("noise2score-demo"),
    headless: Annotated[bool, typer.Option("--headless", help="Open no window.")] = False,
) -> None:
    """Train on the embedded sample, denoise it, and show the result."""
    run(out, headless, track=track, say=say)
