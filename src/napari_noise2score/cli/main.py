"""The command line, ``noise2score``: the calls of the library, with progress and plain errors."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..budget import MAX_SEED
from ..errors import ReadError, UserError, is_memory_error
from ..image.paths import local_path
from . import _terminal as terminal
from ._terminal import interrupts_between_steps, say

# typer ships a click of its own or takes the installed one, as its version has it
Usage: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Self-supervised denoising: learn the score once, then choose and tune the noise model.",
)

# seconds of training until the first checkpoint, and between two of them
CHECKPOINT_FIRST = 10.0
CHECKPOINT_EVERY = 60.0
BYTES_OF_TRAINING = 40_000_000  # a checkpoint, twice while it is replaced, and the model
MAX_OPENED_FIRST = 200  # files of a folder that are opened and checked before the first is denoised


def _on_disk(text: str) -> Path:
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
    Path, typer.Option(parser=_on_disk, metavar="FILE", help="Model file, by custom NAME.n2s.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Seed = Annotated[
    int, typer.Option(min=0, max=MAX_SEED, help="The same seed gives the same result.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("noise2score-demo"),
    headless: Annotated[bool, typer.Option("--headless", help="Open no window.")] = False,
) -> None:
    """Train on the embedded sample, denoise it, and show the result."""
    from . import _demo_run as demonstration

    demonstration.run(out, headless, track=_track, say=say)


@app.command()
def train(
    source: Input,
    model: Model,
    axes: Axes = None,
    ndim: Annotated[int | None, typer.Option(help="Train on planes (2) or volumes (3).")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time to train; 5 minutes.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same weights.")] = None,
    correlation: Annotated[
        str | None,
        typer.Option(help='Of the noise between pixels: A or "kernel([[0.1, 0.8, 0.1]])".'),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where training was cut off, if it was.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="The same settings from a YAML file.")] = None,
    series: Series = None,
    overwrite: Overwrite = False,
) -> None:
    """Learn the score of noisy images. No clean image and no noise model is needed."""
    from ._config import TrainSettings

    given = {
        "axes": axes, "ndim": ndim, "steps": steps, "minutes": minutes, "device": device,
        "seed": seed, "correlation": correlation,
    }  # fmt: skip
    settings = TrainSettings.read(config, {k: v for k, v in given.items() if v is not None})
    from ..image.files import read_images
    from ..image.identity import files_of, identify_image, key_of
    from ..image.output import check_output, written
    from ..score.model import ScoreModel
    from ..score.training import describe_kept, train_steps

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
                f"{model} exists already, and other images or settings made it; "
                "choose another name, or --overwrite it"
            )
    run = train_steps(
        images,
        name=model.stem,
        resume=checkpoint if begun else None,
        **settings.model_dump(exclude={"axes"}),
    )
    progress, saved = None, CHECKPOINT_FIRST - CHECKPOINT_EVERY
    stopped: BaseException | None = None
    with written(model, overwrite or resume) as part, interrupts_between_steps() as interrupt:
        try:
            for progress in _track(run, "training", _describe_training):
                interrupt()
                if progress.seconds - saved > CHECKPOINT_EVERY:
                    progress.checkpoint(checkpoint)
                    saved = progress.seconds
        except (KeyboardInterrupt, OSError, MemoryError, RuntimeError, ReadError) as error:
            if progress is None or (isinstance(error, RuntimeError) and not is_memory_error(error)):
                raise
            stopped = error
            with suppress(OSError):  # the disk may be what failed
                progress.checkpoint(checkpoint)
        assert progress is not None
        learned = progress.snapshot()
        notes = {"job": job, "finished": stopped is None}
        replace(learned, provenance={**learned.provenance, **notes}).save(part)
    if stopped is not None:
        say(f"stopped at step {progress.step}: {model} is saved; go on with --resume")
        raise stopped
    checkpoint.unlink(missing_ok=True)
    say(
        f"{model}: {progress.step} steps in {progress.seconds:.0f} s, "
        f"held-out loss {learned.provenance['val_loss']:.4f}. {describe_kept(learned)}".rstrip()
    )


def _finished(model: Any, job: str) -> bool:
    """Return whether a model is the result of this very training."""
    return bool(model.provenance.get("finished")) and model.provenance.get("job") == job


@app.command()
def denoise(
    source: Input,
    output: Annotated[
        Path,
        typer.Argument(
            parser=_on_disk, metavar="OUTPUT", help=".ome.zarr, .tif, .npy, .png or a folder."
        ),
    ],
    model: Model,
    noise: Noise,
    axes: Axes = None,
    tile: Annotated[
        str | None, typer.Option(help="Size of a tile, as 512x512 (or 16x256x256 in 3-D).")
    ] = None,
    device: Device = "auto",
    dtype: Annotated[
        str, typer.Option(help="float32, or same: rounded and clipped to the input's type.")
    ] = "float32",
    uncertainty: Annotated[
        Path | None,
        typer.Option(
            parser=_on_disk,
            metavar="FILE",
            help="Also write the posterior standard deviation, in grey levels, here.",
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
        bool, typer.Option("--resume", help="Go on where this was cut off, if it was.")
    ] = False,
    series: Series = None,
    overwrite: Overwrite = False,
) -> None:
    """Denoise images with a trained score under a noise model."""
    import numpy as np

    from ..denoising.cluster import connect, on_cluster
    from ..denoising.jobs import denoise_to_file
    from ..denoising.tiles import parse_tile, prepare
    from ..estimation.noise_check import sentence_on_noise
    from ..image.files import read_image, read_images
    from ..image.ome_zarr import VERSIONS
    from ..noise import parse_noise
    from ..score.model import ScoreModel

    if ome_zarr not in VERSIONS:
        raise UserError(f"--ome-zarr {ome_zarr}: {' and '.join(VERSIONS)} are written")
    if dtype not in ("float32", "same"):
        raise UserError(f"--dtype {dtype}: give float32 or same")
    size, score, found = parse_tile(tile) if tile is not None else None, ScoreModel.load(model), {}
    if noise.strip() == "auto":
        best = _calibrated(source, axes, score, "auto", device, series)
        spec, found = best.noise, dict(best.notes)
        say(f"noise, estimated: {spec} (by {best.method})")
        said = sentence_on_noise(read_images(source, axes, series), noise=spec)
        say(f"noise check: {said}")
        found["noise check"] = said
    else:
        spec = parse_noise(noise)

    def check(image: Any) -> None:
        prepare(image, score, spec, tile=size, device=device)

    def write(
        path: Path | str, number: int | None, target: Path, what: str, same: bool, client: Any
    ) -> None:
        image = read_image(path, axes, number)
        kind = image.data.dtype if same else np.dtype("float32")
        share = on_cluster(client, image, score, str(spec), device) if client else None
        run = denoise_to_file(
            target, image, score, spec, what=what, dtype=kind, tile=size, device=device,
            ome_zarr=ome_zarr, overwrite=overwrite, resume=resume, run=share, found=found,
            inputs=[model],
        )  # fmt: skip
        try:
            _follow(run, Path(path).name)
        except BaseException as error:
            for note in getattr(error, "__notes__", []):
                say(note)
            raise

    same = dtype == "same"
    results = [(output, "denoised", same)]
    if uncertainty:
        results.append((uncertainty, "uncertainty", False))
    shares = workers is not None or scheduler is not None
    plans = [
        _plan(source, axes, target, overwrite or resume, s, check, [model], shares, series)
        for target, _, s in results
    ]
    if uncertainty and (both := {t for *_, t in plans[0]} & {t for *_, t in plans[1]}):
        raise UserError(f"{both.pop()}: the result and its uncertainty need different names")
    with connect(scheduler, workers) if shares else nullcontext() as client:
        for plan, (_, what, s) in zip(plans, results, strict=True):
            for path, number, target in plan:
                write(path, number, target, what, s, client)


@app.command()
def estimate(
    source: Input,
    model: Annotated[
        Path | None, typer.Option(help="A trained model: what it says of the noise is used, too.")
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
            help="Keep to this noise, and find only its level and its read noise anew: "
            "'poisson(gain=5) @ A + gaussian(sigma=10)'."
        ),
    ] = None,
    axes: Axes = None,
    series: Series = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the noise model of images, from repeats (axis T) or from single planes, and check it."""
    from ..estimation.estimate import examine_noise, refine_noise
    from ..estimation.noise_check import check_noise
    from ..image.files import read_images
    from ..score.model import ScoreModel

    if method and noise:
        raise UserError("--method finds the noise and --noise keeps to one: give either")
    if method and model is None:
        raise UserError("--method says how a trained model is asked: give --model, too")
    score = ScoreModel.load(model) if model else None
    images = read_images(source, axes, series)
    if noise:
        refined = refine_noise(images, noise)
        check = check_noise(images, noise=refined, model=score)
        if as_json:
            print(json.dumps({"noise": str(refined), "check": check.describe()}, indent=1))
        else:
            print(f"{refined}\n  {'check':<22}{check.summary}\n  {check.verdict}")
        return
    best = _calibrated(source, axes, score, method or "auto", device, series) if score else None
    facts: dict[str, Any] = {}
    # a method by name answers by itself, also where the images alone could not
    if best is None or method in (None, "auto", "images"):
        found = examine_noise(images, model=score)
        check = check_noise(
            images, noise=best.noise if best else found.noise, model=score, found=found
        )
        facts = found.describe() | {"check": check.describe()}
    if best is not None:
        facts |= {"noise": str(best.noise), **best.notes}
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    print(facts["noise"])
    if best is not None:
        print(f"  {'found by':<22}{best.method}")
        for name in ("level", "power of the mean"):
            if name in facts:
                print(f"  {name:<22}{facts[name]:.3g}")
    if "rivals" not in facts:
        return
    if best is not None:
        print(f"  {'from the images':<22}{facts.get('from the images', facts['noise'])}")
    for name, (low, high) in facts["95 % interval"].items():
        print(f"  {name:<22}{low:.4g} to {high:.4g} (95 %)")
    print(f"  {'read off':<22}{facts['read off']}")
    print(f"  {'grey levels':<22}{facts['grey levels']}")
    print(f"  {'shared by neighbours':<22}{facts['correlation']:.2f}")
    nearest = facts["rivals"][0]
    print(f"  {'next best':<22}{nearest['noise']} (misfit +{nearest['behind']:.0f})")
    print(f"  {'check':<22}{check.summary}\n  {check.verdict}")


@app.command()
def simulate(
    clean: Input,
    output: Annotated[
        Path,
        typer.Argument(
            parser=_on_disk, metavar="OUTPUT", help="A file or, for many images, a folder."
        ),
    ],
    noise: Noise,
    seed: Seed = 0,
    axes: Axes = None,
    series: Series = None,
    overwrite: Overwrite = False,
) -> None:
    """Make clean images noisy, in floating point, neither rounded nor clipped."""
    import numpy as np

    from .. import __version__
    from ..image.axes import layout, read_block
    from ..noise import parse_noise

    spec = parse_noise(noise)
    chance = np.random.default_rng(seed)

    def fill(target: Any, image: Any, name: str) -> None:
        # a plane at a time: a volume need not fit in memory
        where = layout(image.axes, image.data.shape)
        plane = [slice(0, n) for n in where.space_shape]
        for position in where.positions():
            clean = read_block(image.data, where, position, plane).astype(np.float64)
            if not np.isfinite(clean).all():
                raise UserError(f"{name} holds pixels that are not numbers (NaN or infinite)")
            noisy = spec.sample(clean, chance).astype(np.float32)
            target[where.index(position, plane)] = where.from_block(noisy)

    notes = {"noise": str(spec), "seed": seed, "version": __version__}
    plan = _plan(clean, axes, output, overwrite, series=series)
    _write_all(
        plan, axes, overwrite, fill,
        lambda image: replace(image, name=f"{image.name} noisy", notes=notes),
    )  # fmt: skip


@app.command()
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
    """Compare with clean images: PSNR and SSIM of each image, and their means."""
    from ..denoising.evaluate import evaluate as compare

    rows = compare(denoised, clean, data_range=data_range, affine=affine, axes=axes)
    if as_json:
        # JSON has no infinite number, as equal images have
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


@app.command()
def info(model: Annotated[Path, typer.Argument(help="Model file.")], as_json: Json = False) -> None:
    """Say what a model file holds."""
    from ..score.model import ScoreModel

    facts = ScoreModel.load(model).describe()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    wide = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:<{wide}}  {value}")


def main() -> None:
    """Run the command line; a mistake of the user's is one line and exit code 2."""
    # wherever it stands, as for a command that has just failed it is added at the end
    words = [word for word in sys.argv[1:] if word != "--debug"]
    sys.exit(terminal.run(lambda: _run(words), debug="--debug" in sys.argv[1:]))


def _run(words: list[str]) -> int | None:
    try:
        code = typer.main.get_command(app)(words, standalone_mode=False)
    except Usage as error:
        # with no command at all the message is the help, which is longer than a line
        if words:
            raise UserError(" ".join(error.format_message().split())) from None
        print(error.format_message(), file=sys.stderr)
        return terminal.MISTAKE
    except typer.Abort:
        raise KeyboardInterrupt from None
    if code == terminal.INTERRUPTED:
        raise KeyboardInterrupt
    return code


def _track(
    run: Iterator[Any], name: str, describe: Callable[[Any], tuple[float, str]]
) -> Iterator[Any]:
    """Pass a job's progress on, with a bar on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=1.0, note="starting")
        for progress in run:
            done, note = describe(progress)
            bar.update(task, completed=done, note=note)
            yield progress


def _follow(run: Iterator[Any], name: str) -> None:
    """Work through a job's tiles, with a bar on the terminal and a line for what happens."""
    for progress in _track(run, name, lambda p: (p.done / p.total, f"tile {p.done} of {p.total}")):
        if progress.note:
            say(f"{name}: {progress.note}")


def _describe_training(progress: Any) -> tuple[float, str]:
    note = (
        f"step {progress.step}  loss {progress.loss:.3f}  held out {progress.val_loss:.3f}  "
        f"{progress.rate:.1f}/s  {progress.seconds_left:.0f} s left"
    )
    return progress.fraction, note


def _calibrated(
    source: str, axes: str | None, score: Any, method: str, device: str, series: str | None
) -> Any:
    """Find the noise of a data set that serves a model best."""
    from ..estimation._with_model import calibrate_steps
    from ..image.files import read_images

    images = read_images(source, axes, series)
    run = calibrate_steps(images, score, method=method, device=device)
    for progress in _track(run, "estimating the noise", lambda p: (p.done / p.total, "")):
        pass
    return progress.found


def _plan(
    source: str,
    axes: str | None,
    output: Path,
    replace_existing: bool,
    same: bool = False,
    check: Callable[[Any], None] = lambda image: None,
    inputs: Sequence[Path] = (),
    only_zarr: bool = False,
    series: str | None = None,
) -> list[tuple[Path | str, int | None, Path]]:
    """Return every input with the output it will have; check them before the first is begun."""
    import numpy as np

    from ..image.files import find_images, read_image, series_numbers
    from ..image.output import check_output
    from ..image.paths import local_path
    from ..image.write import SUFFIXES, check_image_output

    paths = find_images(source)
    read = [(path, number) for path in paths for number in series_numbers(path, series)]
    folder = local_path(source)
    every = len(read) > len(paths)
    many = len(read) > 1 or (folder is not None and folder.is_dir() and paths[0] != folder)
    targets = [output]
    if many and output.suffix.lower() in SUFFIXES:
        raise UserError(f"{output}: several images are written, a file for each; name a folder")
    if many:
        targets = [
            output / _result_name(path, same, number if every else None) for path, number in read
        ]
        if len(set(targets)) < len(targets):
            raise UserError(f"{source}: some images differ only in their ending; rename them")
    # of a large folder the names are all checked, and the images only as far as takes seconds
    step = -(-len(read) // MAX_OPENED_FIRST)
    for count, ((path, number), target) in enumerate(zip(read, targets, strict=True)):
        if only_zarr and target.suffix.lower() != ".zarr":
            raise UserError(f"{target}: only .ome.zarr and .zarr are written by workers")
        if count % step:
            check_output(target, inputs=[path, *inputs], overwrite=replace_existing)
            continue
        image = read_image(path, axes, number)
        kind = image.data.dtype if same else np.dtype("float32")
        # what is there already may be this very result, or what is left of it
        check_image_output(target, image, kind, replace_existing, inputs)
        check(image)
    return [(path, number, target) for (path, number), target in zip(read, targets, strict=True)]


def _write_all(
    plan: list[tuple[Path | str, int | None, Path]],
    axes: str | None,
    overwrite: bool,
    fill: Callable[[Any, Any, str], None],
    describe: Callable[[Any], Any],
) -> None:
    """Fill one output file for each input."""
    import numpy as np

    from ..image.files import read_image
    from ..image.write import open_output

    for path, number, target in plan:
        image = read_image(path, axes, number)
        with open_output(target, describe(image), np.dtype("float32"), overwrite) as array:
            fill(array, image, Path(path).name)


def _result_name(path: Path | str, same: bool, number: int | None = None) -> str:
    """Return the input's own name, but for formats that cannot hold floating point numbers."""
    path = Path(path)
    if number is not None:
        stem = path.name.removesuffix(path.suffix).removesuffix(".ome")
        return f"{stem}-series{number}{path.name[len(stem) :]}"
    if path.suffix.lower() in (".jpg", ".jpeg") or (path.suffix.lower() == ".png" and not same):
        return f"{path.stem}.tif"
    return path.name
