"""Check whether a noise model explains the noise of an image, reading no more than is needed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from ..denoising.denoise import denoise
from ..denoising.tiles import TileProgress
from ..errors import DataWarning, ReadError, UserError
from ..image.arrays import read_piece
from ..image.axes import MAX_CHANNELS
from ..image.image import Image, as_images
from ..image.valid import valid_of
from ..noise import NoiseModel, parse_noise
from ..noise.kernel import Kernel
from ..score.model import ScoreModel
from ._check_assumptions import findings
from ._faulty_frames import faults_of
from ._frames import look_over
from ._from_images import NoiseEstimate, estimate_from_shots, in_units, told_in_one_line
from ._sampling import middle, read_planes, read_scenes, shots_of, spread_over
from .estimate import examine_noise
from .goodness_of_fit import NoiseCheck, Sight, check_curve, check_mixed_curve, check_residual

# how many planes the residual is looked at in, and pixels of them along Y and X
PLANES = 4
SIZE = 512
# not more than needs to be denoised for them
TILES = {2: (256, 256), 3: (8, 128, 128)}


def check_noise(
    image: Any,
    axes: str | None = None,
    noise: NoiseModel | str | None = None,
    model: ScoreModel | None = None,
    *,
    denoised: Any = None,
    repeats: str = "T",
    found: NoiseEstimate | None = None,
) -> NoiseCheck:
    """Check whether a noise model explains the noise of an image.

    Parameters
    ----------
    image : Image or array-like, or a sequence of `Image`
        Noisy, in grey levels: numpy, dask or zarr. Several are taken as one data set.
    axes : str, optional
        Axes of the image; needed where it is not an `Image`, but for a plain YX one.
    noise : NoiseModel or str, optional
        The noise model to check; the one that `estimate_noise` finds, if there is none given.
    model : ScoreModel, optional
        Checks what denoising with this model takes away from the image.
    denoised : array-like, optional
        Checks what was taken away to get this, the denoised image, by whatever means: of the shape
        and in the grey levels of the image, as `denoise` gives it.
    repeats : str
        Axis along which the same scene was recorded several times. Without model and denoised
        image, successive shots are compared along it; where there is none, flat parts are looked
        at.
    found : NoiseEstimate, optional
        What `examine_noise` gave for the image, if it was asked before.

    Returns
    -------
    NoiseCheck
        Its ``summary`` is one line; ``curve`` and ``residual`` hold what there is to be drawn.

    Raises
    ------
    UserError
        If the image cannot tell its noise, see `estimate_noise`, or something does not fit it.

    Examples
    --------
    >>> from napari_noise2score.sample import simulate_cells
    >>> noisy, _ = simulate_cells((2, 2, 128, 128))  # a gain of 2, an offset of 100
    >>> print(check_noise(noisy, "TZYX", "poisson(gain=6, offset=100)").verdict)
    The noise is ...% weaker than the model says.
    """
    steps = check_steps(image, axes, noise, model, denoised=denoised, repeats=repeats, found=found)
    *_, check = steps
    assert isinstance(check, NoiseCheck)
    return check


def check_steps(
    image: Any,
    axes: str | None = None,
    noise: NoiseModel | str | None = None,
    model: ScoreModel | None = None,
    *,
    denoised: Any = None,
    repeats: str = "T",
    found: NoiseEstimate | None = None,
) -> Iterator[TileProgress | NoiseCheck]:
    """Do what `check_noise` does, step by step; closing the generator stops.

    Parameters
    ----------
    image, axes, noise, model, denoised, repeats, found
        As for `check_noise`.

    Yields
    ------
    TileProgress or NoiseCheck
        How far it is; in the end the check itself.

    Raises
    ------
    UserError
        As for `check_noise`.
    """
    images = as_images(image, axes)
    if denoised is not None and (len(images) > 1 or denoised.shape != images[0].data.shape):
        raise UserError("the denoised image must have the shape of the one image that is checked")
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    total = 1 + min(PLANES, sum(len(_places(one, repeats, PLANES)) for one in images))
    yield TileProgress(0, total)
    if found is None:
        found = examine_noise(images, model=model, repeats=repeats)
    noise = noise or found.noise
    yield TileProgress(1, total)
    sights = []
    for sight in _sights(images, noise, model, denoised, repeats):
        sights.append(sight)
        yield TileProgress(1 + len(sights), total)
    if sights[0].x is not None:
        source = "denoised"
    else:
        source = "single frames" if sights[0].other is None else "repeats"
    _, kernel, read = noise.components
    with told_in_one_line():
        residual = check_residual(sights, noise, found.recording)
        if kernel is not None and read:
            curve = check_mixed_curve(shots_of(images, None, repeats), noise)
        else:
            curve = check_curve(found, noise)
    against = _findings(images, noise, found, repeats)
    yield NoiseCheck(noise, found, curve, residual, source, against)


def sentence_on_noise(
    image: Any,
    axes: str | None = None,
    noise: NoiseModel | str | None = None,
    *,
    repeats: str = "T",
    found: NoiseEstimate | None = None,
) -> str:
    """Return one line on whether a noise model explains the noise of an image, and warn if not.

    For a job that denoises by an estimate: whatever the image is, this does not end it.

    Parameters
    ----------
    image, axes, noise, repeats, found
        As for `check_noise`.

    Returns
    -------
    str
        Both numbers and the verdict, or why the noise cannot be checked. Where the model explains
        less than 0.9 of the noise, or something contradicts it, the verdict is a `DataWarning`,
        too.

    Examples
    --------
    >>> from napari_noise2score.sample import simulate_cells
    >>> noisy, _ = simulate_cells((2, 2, 128, 128))  # a gain of 2, an offset of 100
    >>> sentence_on_noise(noisy, "TZYX", "poisson(gain=2, offset=100) + gaussian(sigma=3)")
    'explains the noise: 0...; residual correlation: ... The model explains the noise.'
    """
    try:
        check = check_noise(image, axes, noise, repeats=repeats, found=found)
    except ReadError:
        raise
    except UserError as error:
        return f"the noise could not be checked: {error}"
    if not check.explains:
        warnings.warn(f"{check.summary}. {check.verdict}", DataWarning, stacklevel=2)
    return f"{check.summary}. {check.verdict}"


def _findings(
    images: Sequence[Image], noise: NoiseModel, found: NoiseEstimate, repeats: str
) -> tuple[str, ...]:
    """Say what contradicts the assumptions of an estimate, if the images can tell."""
    _, kernel, _ = found.noise.components
    try:
        with told_in_one_line():
            scenes, _ = read_scenes(images, None, repeats)
            shots = look_over(scenes)
            pattern = 1.0
            if shots.repeated:
                pattern = _level([scenes[0][:1]], noise, kernel)
            channels = []
            counts = {dict(zip(i.axes, i.data.shape, strict=True)).get("C", 1) for i in images}
            if len(counts) == 1 and 1 < (count := counts.pop()) <= MAX_CHANNELS:
                for channel in range(count):
                    own, _ = read_scenes(images, None, repeats, channel)
                    channels.append(_level(own[:1], noise, kernel))
                if 0 in channels:
                    channels = []
            return findings(shots, kernel is None, pattern, channels)
    except UserError:
        return ()


def _level(scenes: Sequence[np.ndarray], noise: NoiseModel, kernel: Kernel | None) -> float:
    """Return how strong the noise of scenes is in units of a model; 0 if it cannot be told."""
    try:
        own = estimate_from_shots(scenes, kernel)
    except UserError:
        return 0.0
    if kernel is None and own.noise.components.kernel is not None:
        return 0.0  # of another kind
    return check_curve(own, noise).level


def _sights(
    images: Sequence[Image],
    noise: NoiseModel,
    model: ScoreModel | None,
    denoised: Any,
    repeats: str,
) -> Iterator[Sight]:
    """Read a few planes, and what they are compared with."""
    each = -(-PLANES // len(images))
    left, seen = PLANES, 0
    for image in spread_over(images, PLANES):
        clean = denoised
        if model is not None and denoised is None:
            clean = denoise(image, model, noise, tile=TILES[model.ndim])
        for place, following in _places(image, repeats, each)[:left]:
            left -= 1
            y = _read(image, place)
            if clean is not None:
                seen += 1
                index = tuple(place[a] for a in image.axes)
                yield Sight(y, x=_arranged(read_piece(clean, index), image.axes) - noise.offset)
                continue
            other = _read(image, following) if following else None
            # frames that say nothing of the noise were left out of the estimate, too
            if other is None or not any(faults_of([y, other])):
                seen += 1
                yield Sight(y, other)
    if not seen:
        for scene in read_scenes(images, None, repeats)[0][:PLANES]:
            scene = in_units(scene, 1.0)
            yield Sight(scene[0], scene[1] if len(scene) > 1 else None)


Place = dict[str, Any]


def _places(image: Image, repeats: str, most: int) -> list[tuple[Place, Place | None]]:
    """Give the index of a few planes, cut to their middle, and of the next shot of each."""
    shape = dict(zip(image.axes, image.data.shape, strict=True))
    plane = {a: middle(shape[a], SIZE) for a in "YX"}
    others = [a for a in image.axes if a not in plane]
    shots = shape.get(repeats.upper(), 1)
    # pairs of shots, none of which shares one with another
    pairs = range(0, shots - 1, 2) if shots > 1 else range(1)
    loop = [pairs if a == repeats.upper() else range(shape[a]) for a in others]
    positions = list(product(*loop))
    found: list[tuple[Place, Place | None]] = []
    for position in positions[len(positions) // most // 2 :: -(-len(positions) // most)]:
        at: Place = plane | dict(zip(others, position, strict=True))
        following = None
        if shots > 1:
            following = at | {repeats.upper(): at[repeats.upper()] + 1}
        found.append((at, following))
    return found


def _read(image: Image, place: Place) -> np.ndarray:
    """Read a plane, ``(Y, X)``, in double precision; masked where it is not valid."""
    planes = read_planes(image.data, image.axes, valid_of(image), place)
    return in_units(planes, 1.0)[0]


def _arranged(piece: np.ndarray, axes: str) -> np.ndarray:
    """Return a plane as ``(Y, X)``, in double precision."""
    return (piece if axes.index("Y") < axes.index("X") else piece.T).astype(np.float64)
