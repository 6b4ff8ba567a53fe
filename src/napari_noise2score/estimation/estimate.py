"""Find the noise model of an image of any axes, reading no more of it than is needed."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from ..errors import DataWarning
from ..image.image import as_images
from ..noise import NoiseModel, parse_noise
from ..score.model import ScoreModel
from ._from_images import NoiseEstimate, estimate_from_shots
from ._refine import refine_from_shots
from ._sampling import read_scenes, shots_of
from ._with_model import calibrate


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
        A score trained on images like this one. What it says of the noise is used, too, see
        `calibrate`; a correlation that it was trained for is taken as known.
    repeats : str
        Axis along which the same scene was recorded several times; it may move and bleach.
        Where there is none the noise is read off single planes.

    Returns
    -------
    NoiseModel

    Raises
    ------
    UserError
        If the image cannot tell: too small, constant, saturated, copies, filtered, or without a
        valid pixel. Single frames that are black, saturated or copies are left out, with a
        `DataWarning`.

    Examples
    --------
    >>> from napari_noise2score.sample import simulate_cells
    >>> noisy, _ = simulate_cells((4, 8, 128, 128))  # poisson(gain=2, offset=100) + gaussian(sigma=3)
    >>> found = estimate_noise(noisy, "TZYX")
    >>> type(found).__name__, round(found.base.gain)
    ('Sum', 2)
    """  # noqa: E501
    if model is not None:
        return calibrate(image, model, axes, repeats=repeats).noise
    return examine_noise(image, axes, repeats=repeats).noise


def examine_noise(
    image: Any, axes: str | None = None, model: ScoreModel | None = None, *, repeats: str = "T"
) -> NoiseEstimate:
    """Find the noise model of an image, with all that speaks for it.

    Parameters
    ----------
    image, axes, repeats
        As for `estimate_noise`.
    model : ScoreModel, optional
        The model that the noise is to be used with: if it was trained for correlated noise,
        that correlation is taken as known. Its score is not asked.

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
    scenes, left_out = read_scenes(as_images(image, axes), None, repeats)
    for text in left_out:
        warnings.warn(text, DataWarning, stacklevel=2)
    found = estimate_from_shots(scenes, model.kernel if model else None)
    return replace(found, left_out=tuple(left_out))


def refine_noise(
    image: Any, noise: NoiseModel | str, axes: str | None = None, *, repeats: str = "T"
) -> NoiseModel:
    """Find the level of a noise and of its read noise anew, and keep all else.

    For noise whose kind is known and whose parameters are not, or only nearly: the photons of a
    camera, speckle, ``poisson(gain=5) @ A + gaussian(sigma=10)``. One frame is enough.

    Parameters
    ----------
    image, axes, repeats
        As for `estimate_noise`.
    noise : NoiseModel or str
        Its family, offset and correlation are taken as given, and that it has read noise or none.

    Returns
    -------
    NoiseModel

    Raises
    ------
    UserError
        If the image cannot tell, or its noise is nothing like this one.

    Examples
    --------
    >>> from napari_noise2score.sample import simulate_cells
    >>> noisy, _ = simulate_cells((4, 8, 128, 128))  # poisson(gain=2, offset=100) + gaussian(sigma=3)
    >>> found = refine_noise(noisy, "poisson(gain=5, offset=100) + gaussian(sigma=1)", "TZYX")
    >>> round(found.base.gain), round(found.read.sigma)
    (2, 3)
    """  # noqa: E501
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    return refine_from_shots(shots_of(as_images(image, axes), None, repeats), noise)
