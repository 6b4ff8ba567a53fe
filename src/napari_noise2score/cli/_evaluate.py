"""The command ``evaluate``."""

from __future__ import annotations

import json
import math
from typing import Annotated

import typer

from ._options import Axes, Input, Json


def evaluate(
    denoised: Input,
    clean: Input,
    data_range: Annotated[
        float | None,
        typer.Option(
            help="Grey levels from black to white; 255 of 8 bits, else the clean images' own."
        ),
    ] = None,
    affine: Annotated[
        bool, typer.Option("--affine", help="First fit scale and offset of each to the clean one.")
    ] = False,
    axes: Axes = None,
    as_json: Json = False,
) -> None:
    """Compare denoised with clean images: PSNR and SSIM of each, and their means."""
    from ..denoising.evaluate import evaluate as compare

    rows = compare(denoised, clean, data_range=data_range, affine=affine, axes=axes)
    if as_json:
        # JSON has no infinity, the PSNR of equal images
        finite = {
            name: {k: v if v is None or math.isfinite(v) else None for k, v in row.items()}
            for name, row in rows.items()
        }
        print(json.dumps(finite, indent=1))
        return
    print(f"data range {rows['mean']['data range']:g}")
    wide = max(len(name) for name in rows)
    print(f"{'image':<{wide}}  PSNR (dB)    SSIM")
    for name, row in rows.items():
        ssim = "–" if row["ssim"] is None else f"{row['ssim']:.4f}"
        print(f"{name:<{wide}}  {row['psnr']:9.3f}  {ssim}")
