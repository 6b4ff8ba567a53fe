"""The command ``denoise``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from ._options import NOISE_HELP, Axes, Input, Model, Overwrite, Series, on_disk
from ._plan import plan
from ._progress import finish, follow
from ._terminal import say


def denoise(
    source: Input,
    output: Annotated[
        Path,
        typer.Argument(
            parser=on_disk, metavar="OUTPUT", help=".ome.zarr, .tif, .npy, .png or a folder."
        ),
    ],
    model: Model,
    noise: Annotated[str | None, typer.Option(help=NOISE_HELP)] = None,
    axes: Axes = None,
    tile: Annotated[
        str | None, typer.Option(help="Size of a tile, as 512x512 (or 16x256x256 in 3-D).")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="float32 (default), or same: rounded and clipped to the input's type."),
    ] = None,
    uncertainty: Annotated[
        Path | None,
        typer.Option(
            parser=on_disk,
            metavar="FILE",
            help="Also write the posterior standard deviation, in grey levels, here.",
        ),
    ] = None,
    polish: Annotated[
        bool | None,
        typer.Option(
            "--polish/--no-polish",
            help="Teach a network to remove this noise, a minute or two more; kept beside the "
            "model. With --noise auto, by default where it pays.",
        ),
    ] = None,
    ome_zarr: Annotated[
        str, typer.Option(help="Version of OME-Zarr to write: 0.5 or 0.4.")
    ] = "0.5",
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine to share the work (zarr only).")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler, as tcp://host:8786.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted job, if there is one.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="Noise, axes, device, dtype and polish from a YAML file.")
    ] = None,
    series: Series = None,
    overwrite: Overwrite = False,
) -> None:
    """Denoise images with a trained score under a noise model."""
    import numpy as np

    from ..denoising.cluster import connect
    from ..denoising.denoise import denoise_steps, uncertainty_steps
    from ..denoising.job import prepare
    from ..denoising.settings import DenoiseSettings
    from ..denoising.tile_size import parse_tile
    from ..estimation.estimate import estimate_for_denoising
    from ..image.files import read_image, read_images
    from ..image.ome_zarr import VERSIONS
    from ..noise import parse_noise
    from ..score.model import ScoreModel
    from ._polish import polished

    given = {"noise": noise, "axes": axes, "device": device, "dtype": dtype, "polish": polish}
    settings = DenoiseSettings.read(config, {k: v for k, v in given.items() if v is not None})
    if settings.noise is None:
        raise UserError('--noise: name a noise model, as "poisson(gain=2)", or auto')
    inputs = [model] if config is None else [model, config]
    noise, axes, device = settings.noise, settings.axes, settings.device
    dtype, polish = settings.dtype, settings.polish
    if ome_zarr not in VERSIONS:
        raise UserError(f"--ome-zarr {ome_zarr}: use {' or '.join(VERSIONS)}")
    size, score, found = parse_tile(tile) if tile is not None else None, ScoreModel.load(model), {}
    if noise.strip() == "auto":
        images = read_images(source, axes, series)
        run = estimate_for_denoising(images, model=score, device=device)
        report = finish(run, "estimating the noise")
        spec, found = report.noise, report.provenance()
        say(f"noise, estimated: {spec} (by {report.method})")
        say(f"noise check: {report.check_sentence}")
        if report.polish is not None:
            say(report.polish.sentence)
            polish = report.polish.pays if polish is None else polish
    else:
        spec = parse_noise(noise)

    def check(image: Any) -> None:
        prepare(image, score, spec, tile=size, device=device)

    def write(
        path: Path | str, number: int | None, target: Path, what: str, same: bool, client: Any
    ) -> None:
        image = read_image(path, axes, number)
        kind = image.data.dtype if same else np.dtype("float32")
        steps = {"denoised": denoise_steps, "uncertainty": uncertainty_steps}[what]
        run = steps(
            image, score, spec, target, tile=size, device=device, dtype=kind, noise_notes=found,
            polish=taught, overwrite=overwrite, resume=resume, ome_zarr=ome_zarr, client=client,
            inputs=inputs,
        )  # fmt: skip
        follow(run, Path(path).name)

    same = dtype == "same"
    results = [(output, "denoised", same)]
    if uncertainty:
        results.append((uncertainty, "uncertainty", False))
    shares = workers is not None or scheduler is not None
    plans = [
        plan(source, axes, target, overwrite or resume, s, check, inputs, shares, series)
        for target, _, s in results
    ]
    if uncertainty and (both := {t for *_, t in plans[0]} & {t for *_, t in plans[1]}):
        raise UserError(f"{both.pop()}: the result and its uncertainty need different names")
    taught: Any = None
    if polish:
        images = read_images(source, axes, series)
        each = polished(images, model, score, spec, device, resume)
        taught = each if score.channel_coordinates and any(each) else each[0]
    with connect(scheduler, workers) if shares else nullcontext() as client:
        for todo, (_, what, s) in zip(plans, results, strict=True):
            for path, number, target in todo:
                write(path, number, target, what, s, client)
