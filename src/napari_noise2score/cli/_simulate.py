"""The command ``simulate``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from ._options import Axes, Input, Noise, Overwrite, Seed, Series, on_disk
from ._plan import plan, write_all


def simulate(
    clean: Input,
    output: Annotated[
        Path,
        typer.Argument(
            parser=on_disk, metavar="OUTPUT", help="A file or, for many images, a folder."
        ),
    ],
    noise: Noise,
    seed: Seed = 0,
    axes: Axes = None,
    series: Series = None,
    overwrite: Overwrite = False,
) -> None:
    """Add noise to clean images, in floating point, neither rounded nor clipped."""
    import numpy as np

    from .. import __version__
    from ..image.axes import layout, read_block
    from ..noise import parse_noise

    spec = parse_noise(noise)
    rng = np.random.default_rng(seed)

    def fill(target: Any, image: Any, name: str) -> None:
        # one plane at a time, as a volume may not fit in memory
        where = replace(layout(image.axes, image.data.shape), joint=False)
        noises = spec.for_channels(where.all_channels)
        plane = [slice(0, n) for n in where.space_shape]
        for position in where.positions():
            clean = read_block(image.data, where, position, plane).astype(np.float64)
            if not np.isfinite(clean).all():
                raise UserError(f"{name} holds pixels that are not numbers (NaN or infinite)")
            own = noises[position[where.loop.index("C")] if "C" in where.loop else 0]
            noisy = own.sample(clean, rng).astype(np.float32)
            target[where.index(position, plane)] = where.from_block(noisy)

    notes = {"noise": str(spec), "seed": seed, "version": __version__}
    todo = plan(clean, axes, output, overwrite, series=series)
    write_all(
        todo, axes, overwrite, fill,
        lambda image: replace(image, name=f"{image.name} noisy", notes=notes),
    )  # fmt: skip
