"""The command ``train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from ._checkpoints import run_with_checkpoints
from ._options import CORRECTION_HELP, Axes, Input, Model, Overwrite, Series
from ._terminal import interrupts_between_steps, say

if TYPE_CHECKING:
    from ..progress import Progress
    from ..score.training import Training

BYTES_OF_TRAINING = 40_000_000  # a checkpoint, twice while it is replaced, and the model


def train(
    source: Input,
    model: Model,
    axes: Axes = None,
    ndim: Annotated[int | None, typer.Option(help="Train on planes (2) or volumes (3).")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Training time; default 5.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the random numbers.")] = None,
    context: Annotated[
        str | None,
        typer.Option(
            help="Neighbouring time points (T) or planes (Z) that the network sees beside a plane: "
            "auto, none, T, Z or TZ. Default: auto, where they look alike."
        ),
    ] = None,
    reach: Annotated[
        int | None, typer.Option(help="Neighbours on each side, 1 to 7. Default: 1.")
    ] = None,
    correlation: Annotated[
        str | None,
        typer.Option(help='Of the noise between pixels: A or "kernel([[0.1, 0.8, 0.1]])".'),
    ] = None,
    correction: Annotated[str | None, typer.Option(help=CORRECTION_HELP)] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            help="Whether the network sees channels together (joint) or each by itself (separate). "
            "Default: colours together, other channels each by itself."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training, if any.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="The same settings from a YAML file.")] = None,
    series: Series = None,
    overwrite: Overwrite = False,
) -> None:
    """Learn the score of noisy images. Neither clean images nor a noise model are needed."""
    from ..denoising.settings import TrainSettings

    given = {
        "axes": axes, "ndim": ndim, "steps": steps, "minutes": minutes, "device": device,
        "seed": seed, "context": context, "reach": reach, "correlation": correlation,
        "correction": correction, "channels": channels,
    }  # fmt: skip
    settings = TrainSettings.read(config, {k: v for k, v in given.items() if v is not None})
    from ..image.files import read_images
    from ..image.identity import files_of, identify_image, key_of
    from ..image.output import check_output, written
    from ..score.model import ScoreModel
    from ..score.training import describe_context, describe_kept, train_steps

    images = read_images(source, settings.axes, series)
    inputs: list[Any] = [file for image in images for file in files_of(image)]
    if config is not None:
        inputs.append(config)
    checkpoint = model.parent / f"{model.name}.resume"
    begun = resume and checkpoint.exists()
    for path in (model, checkpoint):
        check_output(path, inputs=inputs, overwrite=overwrite or resume, nbytes=BYTES_OF_TRAINING)
    job = key_of({"images": list(map(identify_image, images)), **settings.model_dump()})
    if resume and not begun and model.exists():
        if _finished(ScoreModel.load(model), job):
            say(f"{model} is complete already")
            return
        if not overwrite:
            raise UserError(
                f"{model} exists already and was trained on other images or with other "
                "settings; choose another name, or replace it with --overwrite"
            )
    run = train_steps(
        images,
        name=model.stem,
        resume=checkpoint if begun else None,
        **settings.model_dump(exclude={"axes"}),
    )
    with written(model, overwrite or resume) as part, interrupts_between_steps() as interrupt:
        state, stopped = run_with_checkpoints(
            run, "training", _describe_training, checkpoint, interrupt
        )
        learned = state.snapshot()
        notes = {"job": job, "finished": stopped is None}
        replace(learned, provenance={**learned.provenance, **notes}).save(part)
    if stopped is not None:
        say(f"stopped at step {state.step}: {model} is saved; go on with --resume")
        raise stopped
    checkpoint.unlink(missing_ok=True)
    if sentence := describe_context(learned):
        say(sentence)
    say(
        f"{model}: {state.step} steps in {state.seconds:.0f} s, "
        f"held-out loss {learned.provenance['val_loss']:.4f}. {describe_kept(learned)}".rstrip()
    )


def _finished(model: Any, job: str) -> bool:
    """Return whether a model is the result of exactly this training run."""
    return bool(model.provenance.get("finished")) and model.provenance.get("job") == job


def _describe_training(progress: Progress[Training]) -> tuple[float, str]:
    state = progress.result
    assert state is not None
    note = (
        f"step {state.step}  loss {state.loss:.3f}  held out {state.val_loss:.3f}  "
        f"{state.rate:.1f}/s  {state.seconds_left:.0f} s left"
    )
    return progress.fraction, note
