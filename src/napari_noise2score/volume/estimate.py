"""Find the noise model of an image of any axes, reading no more of it than is needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from ..errors import UserError
from ..noise import NoiseModel
from ..noise.estimate import NoiseEstimate, estimate_from_shots
from ..score.axes import parse_axes
from ..score.model import ScoreModel
from .image import Image

# what is looked at: so many scenes, shots of each, and pixels along Y and X
SCENES = 8
SHOTS = 4
SIZE = 1024


def estimate_noise(
    image: Any, axes: str | None = None, model: ScoreModel | None = None, *, repeats: str = "T"
) -> NoiseModel:
    """Find the noise model of an image: family, parameters and correlation.

    Parameters
    ----------
    image : Image or array-like, or a sequence of `Image`
        Noisy, in grey levels: numpy, dask or zarr. Several are taken as one data set.
    axes : str, optional
        Axes of the image; needed where it is not an `Image`, but for a plain YX one.
    model : ScoreModel, optional
        The model that the noise is to be used with: if it was trained for correlated noise,
        that correlation is taken as known.
    repeats : str
        Axis along which the same scene was recorded several times; it may move and bleach.
        Where there is none the noise is read off single planes.

    Returns
    -------
    NoiseModel

    Raises
    ------
    UserError
        If the image cannot tell: too small, constant, saturated, copies, filtered.

    Examples
    --------
    >>> from napari_noise2score.sample import simulate_cells
    >>> noisy, _ = simulate_cells((4, 8, 128, 128))  # poisson(gain=2, offset=100) + gaussian(sigma=3)
    >>> found = estimate_noise(noisy, "TZYX")
    >>> type(found).__name__, round(found.base.gain)
    ('Sum', 2)
    """  # noqa: E501
    return examine_noise(image, axes, model, repeats=repeats).noise


def examine_noise(
    image: Any, axes: str | None = None, model: ScoreModel | None = None, *, repeats: str = "T"
) -> NoiseEstimate:
    """Find the noise model of an image, with all that speaks for it.

    Parameters
    ----------
    image, axes, model, repeats
        As for `estimate_noise`.

    Returns
    -------
    NoiseEstimate
        The model, its rivals, confidence intervals, variance by brightness, correlation and
        what digitisation did.

    Raises
    ------
    UserError
        As for `estimate_noise`.
    """
    images = list(image) if isinstance(image, Sequence) else [image]
    each = max(1, SCENES // len(images))
    scenes = [
        scene
        for one in images[:: -(-len(images) // SCENES)]
        for scene in _scenes(one, axes, repeats.upper(), each)
    ]
    return estimate_from_shots(scenes, model.kernel if model else None)


def _scenes(image: Any, axes: str | None, repeats: str, most: int) -> list[np.ndarray]:
    """Read the middle of a few scenes, each ``(shots, Y, X)``."""
    if isinstance(image, Image):
        data, axes = image.data, axes or image.axes
    else:
        data = image if hasattr(image, "dtype") else np.asarray(image)
    if axes is None and data.ndim != 2:
        raise UserError(
            f"the image has {data.ndim} dimensions: say which they are, as in axes='ZYX'"
        )
    letters = parse_axes(axes or "YX", data.ndim)
    shape = dict(zip(letters, data.shape, strict=True))
    plane = {a: _middle(shape[a], SIZE) for a in "YX"}
    shots = _middle(shape.get(repeats, 1), SHOTS)
    others = [a for a in letters if a not in ("Y", "X", repeats)]
    positions = list(product(*(range(shape[a]) for a in others)))
    positions = positions[:: -(-len(positions) // most)]
    scenes = []
    for position in positions:
        at: dict[str, Any] = dict(zip(others, position, strict=True)) | plane | {repeats: shots}
        piece = data[tuple(at[a] for a in letters)]
        piece = np.asarray(piece.compute() if hasattr(piece, "dask") else piece)
        left = [a for a in letters if a not in others]
        order = [left.index(a) for a in (repeats, "Y", "X") if a in left]
        scenes.append(piece.transpose(order).reshape(-1, *piece.transpose(order).shape[-2:]))
    return scenes


def _middle(size: int, most: int) -> slice:
    start = max(0, (size - most) // 2)
    return slice(start, min(size, start + most))
