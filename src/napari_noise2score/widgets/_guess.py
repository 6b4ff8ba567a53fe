"""The noise model of a layer, and the job that finds it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from napari.layers import Image

from ..errors import UserError
from ..noise.parse import parse_noise
from ..noise.per_channel import PerChannel
from ..progress import Progress
from ._layers import known_noise
from ._session import session

if TYPE_CHECKING:
    from ..denoising.polish_need import PolishNeed
    from ..estimation.goodness_of_fit import NoiseCheck


class Found(NamedTuple):
    """The noise model that was estimated from an image, as text, and how it was found."""

    noise: str
    notes: Mapping[str, Any]
    polish: PolishNeed | None = None
    check: NoiseCheck | None = None


def find_noise(
    data: Any, axes: str, model: Any = None, device: str = "auto", keep: str = ""
) -> Generator[Progress[Found], None, None]:
    """Estimate the noise of an image; on a background thread, as it takes a few seconds.

    Parameters
    ----------
    data : array-like
        The image, in grey levels.
    axes : str
        Its axes.
    model : ScoreModel, optional
        The trained model that the noise is to be used with.
    device : str
        Where to evaluate the model.
    keep : str
        Noise model whose family, offset and correlation are kept.

    Yields
    ------
    Progress
        The last one's result is what was found. A warning is issued if the model does not
        explain the noise.
    """
    # imported here, on the background thread, as torch takes seconds
    from ..estimation.estimate import estimate_for_denoising

    for progress in estimate_for_denoising(
        data, axes=axes, model=model, noise=keep or None, device=device
    ):
        if (report := progress.result) is None:
            yield Progress(progress.done, progress.total, progress.message)
        else:
            found = Found(str(report.noise), report.provenance(), report.polish, report.check)
            yield Progress(progress.done, progress.total, progress.message, found)


def noise_of(layer: Image) -> str:
    """Return the noise model of a layer as text, empty if it is not known.

    It is the one that a person chose or that was estimated, or else that of the layer's metadata.
    """
    return session.noises.get(layer) or known_noise(layer)


def correction_in(noise: str) -> str | None:
    """Return the text of what a noise model undoes, for `train`; None if it undoes nothing.

    Examples
    --------
    >>> correction_in("gaussian(sigma=10) + rows(sigma=4)")
    'rows(sigma=4)'
    """
    try:
        each = parse_noise(noise).corrections if noise else ()
    except UserError:
        return None
    return " ; ".join(map(str, each)) or None


def correlation_in(noise: str) -> str | None:
    """Return the text of the correlation of a noise model, for `train`; None if there is none.

    Examples
    --------
    >>> correlation_in("poisson(gain=2) @ A")
    'A'
    """
    try:
        model = parse_noise(noise) if noise else None
    except UserError:
        return None
    if model is None or isinstance(model, PerChannel) or model.components.kernel is None:
        return None
    return str(model.components.kernel)
