"""The command ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._options import Axes, Noise, Overwrite, on_disk
from ._terminal import say


def export(
    model: Annotated[Path, typer.Argument(help="Model file, usually NAME.n2s.")],
    noise: Noise,
    out: Annotated[
        Path,
        typer.Option(parser=on_disk, metavar="PATH", help="A new folder, or a file NAME.zip."),
    ],
    image: Annotated[
        str | None,
        typer.Option(
            help="Take the test image, which is published, from this noisy image; by default from "
            "the patches that the model keeps.",
        ),
    ] = None,
    axes: Axes = None,
    polish: Annotated[
        Path | None, typer.Option(help="A polish of this model and noise, NAME.polish.")
    ] = None,
    author: Annotated[
        list[str] | None, typer.Option(help="Who trained the model; may be repeated.")
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of the exported model, an SPDX identifier.")
    ] = "CC-BY-4.0",
    overwrite: Overwrite = False,
) -> None:
    """Export a model for one noise model, for Fiji, ilastik, QuPath and the BioImage Model Zoo."""
    from ..denoising.export import check_packages, export_model
    from ..image.files import read_image
    from ..score.model import ScoreModel
    from ..score.polish import Polish

    check_packages()
    made = export_model(
        ScoreModel.load(model),
        noise,
        out,
        image=None if image is None else read_image(image, axes),
        polish=None if polish is None else Polish.load(polish),
        authors=author or (),
        licence=licence,
        overwrite=overwrite,
    )
    say(f"exported and compared with noise2score's own result: {made}")
