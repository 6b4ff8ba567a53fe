"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..budget import MAX_SEED
from ..image.paths import local_path
from ..noise.tables import help_text


def on_disk(text: str) -> Path:
    """Return an argument as a local path; ``file://`` addresses are accepted."""
    path = local_path(text)
    if path is None:
        raise typer.BadParameter(
            f"{text}: results and models are local files, not network addresses"
        )
    return path


Input = Annotated[
    str,
    typer.Argument(help="An image of any format that doctor lists; a folder; or a quoted glob."),
]
Axes = Annotated[
    str | None,
    typer.Option(
        help="Axes of the images, letters of STCZYX; needed only if the file does not name them."
    ),
]
Series = Annotated[
    str | None,
    typer.Option(
        help="Which image (scene, position, series) of a file: a number from 1, or all; default 1."
    ),
]
CORRECTION_HELP = (
    "Undo this first: 'rows(sigma=4)', 'columns(sigma=4)', 'pattern(file=dark.tif)', or a noise "
    "model with maps, as calibrate-camera prints it."
)
NOISE_HELP = f'Such as "poisson(gain=2.1) + gaussian(sigma=3)". Families: {help_text()}.'
Noise = Annotated[str, typer.Option(help=NOISE_HELP)]
Model = Annotated[
    Path, typer.Option(parser=on_disk, metavar="FILE", help="Model file, usually NAME.n2s.")
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1 or mps.")]
Seed = Annotated[
    int, typer.Option(min=0, max=MAX_SEED, help="Seed; the same seed gives the same result.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing result.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
