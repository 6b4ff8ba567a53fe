"""The command ``calibrate-camera``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from ._options import Overwrite, on_disk
from ._progress import finish
from ._terminal import say

if TYPE_CHECKING:
    from ..image.image import Image

MAPS = ("offset", "gain", "read_noise")


def calibrate_camera(
    dark: Annotated[
        str, typer.Argument(help="Frames without light: a stack, a folder, or a quoted glob.")
    ],
    flat: Annotated[
        str,
        typer.Argument(
            help="Evenly lit frames, likewise; each stack of several frames is one brightness."
        ),
    ],
    output: Annotated[
        Path, typer.Argument(parser=on_disk, metavar="OUTPUT", help="A folder for the maps.")
    ],
    overwrite: Overwrite = False,
) -> None:
    """Measure offset, gain and read noise of each pixel of a camera from dark and flat frames."""
    import numpy as np

    from .. import __version__
    from ..estimation.camera import calibrate_camera_steps
    from ..image.image import Image
    from ..image.output import check_output, written
    from ..image.write import write_image
    from ..noise import parse_noise

    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: a file; name a folder for the maps")
    paths = {name: output / f"{name}.tif" for name in MAPS}
    table = output / "defective_pixels.csv"
    images = {"dark": _read_frames(dark), "flat": _read_frames(flat)}
    inputs = [file for some in images.values() for image in some for file in image.files]
    output.mkdir(parents=True, exist_ok=True)
    for path in [*paths.values(), table]:
        check_output(path, inputs=inputs, overwrite=overwrite)
    run = calibrate_camera_steps(images["dark"], images["flat"])
    found = finish(run, "calibrating the camera")
    notes = {
        "calibration": found.sentence,
        "dark frames": found.dark_frames,
        "flat frames": found.flat_frames,
        "version": __version__,
    }
    for name, path in paths.items():
        values = getattr(found, name).astype(np.float32)
        image = Image(values, "YX", name=name, notes={**notes, "map": name})
        write_image(path, image, overwrite=overwrite)
    with written(table, overwrite) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["y", "x", "reason"])
        writer.writerows(found.defects)
    text = (
        f"poisson(gain=map({paths['gain']}), offset=map({paths['offset']})) + "
        f"gaussian(sigma=map({paths['read_noise']}))"
    )
    noise = parse_noise(text)
    say(found.sentence)
    say("train with --correction, and denoise with --noise:")
    print(noise)


def _read_frames(source: str) -> list[Image]:
    """Open the images of frames; axes that a file does not name are those of frames in time."""
    from ..image.files import find_images, read_image

    images = []
    for path in find_images(source):
        try:
            images.append(read_image(path))
        except UserError as error:
            try:
                images.append(read_image(path, "TYX"))
            except UserError:
                raise error from None
    return images
