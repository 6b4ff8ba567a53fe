"""Check whether a noise model explains the noise of an image, reading no more than is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from ..errors import UserError
from ..image.arrays import read_piece
from ..image.image import Image, as_images
from ..noise import NoiseModel, parse_noise
from ..noise.check import NoiseCheck, Sight, check_curve, check_mixed_curve, check_residual
from ..noise.correlated import parts
from ..noise.estimate import NoiseEstimate
from ..score.model import ScoreModel
from .denoise import denoise
from .estimate import examine_noise
from .scenes import middle, shots_of, spread_over
from .tiles import TileProgress

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
    residual = check_residual(sights, noise, found.recording)
    _, kernel, read = parts(noise)
    if kernel is not None and read:
        curve = check_mixed_curve(shots_of(images, None, repeats), noise)
    else:
        curve = check_curve(found, noise)
    yield NoiseCheck(noise, found, curve, residual, source)


def _sights(
    images: Sequence[Image],
    noise: NoiseModel,
    model: ScoreModel | None,
    denoised: Any,
    repeats: str,
) -> Iterator[Sight]:
    """Read a few planes, and what they are compared with."""
    each = -(-PLANES // len(images))
    left = PLANES
    for image in spread_over(images, PLANES):
        clean = denoised
        if model is not None and denoised is None:
            clean = denoise(image, model, noise, tile=TILES[model.ndim])
        for place, following in _places(image, repeats, each)[:left]:
            left -= 1
            y = _read(image.data, place)
            if clean is not None:
                yield Sight(y, x=_read(clean, place) - noise.offset)
            else:
                yield Sight(y, _read(image.data, following) if following else None)


Place = tuple[Any, ...]


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
    found = []
    for position in positions[len(positions) // most // 2 :: -(-len(positions) // most)]:
        at: dict[str, Any] = plane | dict(zip(others, position, strict=True))
        place = tuple(at[a] for a in image.axes)
        following = None
        if shots > 1:
            at[repeats.upper()] += 1
            following = tuple(at[a] for a in image.axes)
        found.append((place, following))
    return found


def _read(data: Any, place: Place) -> np.ndarray:
    """Read a plane, ``(Y, X)``, in double precision."""
    return read_piece(data, place).astype(np.float64)
