"""The command ``estimate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from ._options import Axes, Device, Input, Json, Series
from ._progress import track


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
    best = calibrated(source, axes, score, method or "auto", device, series) if score else None
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


def calibrated(
    source: str, axes: str | None, score: Any, method: str, device: str, series: str | None
) -> Any:
    """Find the noise of a data set that serves a model best."""
    from ..estimation._with_model import calibrate_steps
    from ..image.files import read_images

    images = read_images(source, axes, series)
    run = calibrate_steps(images, score, method=method, device=device)
    for progress in track(run, "estimating the noise", lambda p: (p.done / p.total, "")):
        pass
    return progress.found
