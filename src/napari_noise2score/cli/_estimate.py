"""The command ``estimate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from ._options import CORRECTION_HELP, Axes, Device, Input, Json, Series
from ._progress import finish

if TYPE_CHECKING:
    from ..estimation.noise_report import NoiseReport
    from ..noise import NoiseModel


def estimate(
    source: Input,
    model: Annotated[
        Path | None, typer.Option(help="A trained model, whose score is used as well.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="With a model: auto, images, curve, perturbation, quality-gaussian, "
            "quality-poisson, quality-gamma."
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="Keep this family, offset and correlation; estimate strength and read noise: "
            "'poisson(gain=5) @ A + gaussian(sigma=10)'."
        ),
    ] = None,
    correction: Annotated[str | None, typer.Option(help=CORRECTION_HELP)] = None,
    per_channel: Annotated[
        bool | None,
        typer.Option(
            "--per-channel/--pooled",
            help="A noise model for each channel, or one for all. Default: one if their estimates "
            "agree within their intervals.",
        ),
    ] = None,
    axes: Axes = None,
    series: Series = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the noise model of images, from repeats (axis T) or from single planes, and check it."""
    from ..estimation.estimate import estimate_steps
    from ..image.files import read_images
    from ..score.model import ScoreModel

    if method and noise:
        raise UserError(
            "--method finds the noise model and --noise keeps one: give only one of them"
        )
    if method and model is None:
        raise UserError("--method chooses how a trained model is used: give --model as well")
    score = ScoreModel.load(model) if model else None
    images = read_images(source, axes, series)
    run = estimate_steps(
        images, model=score, noise=noise, correction=correction or "", method=method or "auto",
        device=device, per_channel=per_channel,
    )  # fmt: skip
    report = finish(run, "estimating the noise")
    if report.check_error:
        raise UserError(report.check_error)
    if as_json:
        print(json.dumps(report.describe(), indent=1))
        return
    print(report.noise)
    if report.channels_sentence:
        print(f"  {report.channels_sentence}")
    for number, own in enumerate(report.channels, 1):
        print(f"channel {number}: {own.noise}")
        _print_evidence(own, score is not None, noise is not None)
    if not report.channels:
        _print_evidence(report, score is not None, noise is not None)
    if report.check is not None:
        print(f"  {'check':<22}{report.check.summary}\n  {report.check.verdict}")
    if report.polish is not None:
        print(f"  {report.polish.sentence}.")
    if model is None and (options := _training_options(report.noise)):
        print(f"  {'to learn from it':<22}train {options}")


def _training_options(noise: NoiseModel) -> str:
    """Return the options of ``train`` that a noise model asks for, empty if there are none."""
    found = []
    if any(noise.corrections):
        found.append(f"--correction '{' ; '.join(map(str, noise.corrections))}'")
    kernels = {own.components.kernel for own in getattr(noise.plain, "models", (noise.plain,))}
    if len(kernels) == 1 and (kernel := kernels.pop()) is not None:
        found.append(f"--correlation '{kernel}'")
    return " ".join(found)


def _print_evidence(report: NoiseReport, with_model: bool, refined: bool) -> None:
    """Print what a noise model was found from."""
    if with_model and not refined:
        print(f"  {'found by':<22}{report.method}")
        for name in ("variance factor", "power of the mean"):
            if name in report.notes:
                print(f"  {name:<22}{report.notes[name]:.3g}")
    if report.rivals:
        if with_model:
            print(f"  {'from the images':<22}{report.notes.get('from the images', report.noise)}")
        facts = report.describe()
        for name, (low, high) in report.intervals.items():
            print(f"  {name:<22}{low:.4g} to {high:.4g} (95 %)")
        print(f"  {'measured from':<22}{report.source}")
        print(f"  {'grey levels':<22}{facts['grey levels']}")
        print(f"  {'correlation':<22}{report.correlation:.2f}")
        nearest = facts["rivals"][0]
        print(f"  {'next best':<22}{nearest['noise']} (misfit +{nearest['behind']:.0f})")
