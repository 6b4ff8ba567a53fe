"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..budget import MAX_SEED
from ..image.paths import local_path


def on_disk(text: str) -> Path:
    """Return the path that an argument names, which may be an address of a disk."""
    path = local_path(text)
    if path is None:
        raise typer.BadParameter(f"{text}: results and models lie on a disk, not in the network")
    return path


Input = Annotated[str, typer.Argument(help="TIFF, PNG, NPY, zarr; a folder or a quoted glob.")]
Axes = Annotated[
    str | None,
    typer.Option(help="Axes of the images, letters of TCZYX; only where the file does not say."),
]
Series = Annotated[
    str | None,
    typer.Option(help="Of files that hold several images: which, from 1, or all; the first."),
]
Noise = Annotated[
    str, typer.Option(help='As "gaussian(sigma=25)", "poisson(gain=2.1) + gaussian(sigma=3)".')
]
Model = Annotated[
    Path, typer.Option(parser=on_disk, metavar="FILE", help="Model file, by custom NAME.n2s.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Seed = Annotated[
    int, typer.Option(min=0, max=MAX_SEED, help="The same seed gives the same result.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
