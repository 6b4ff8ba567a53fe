"""The noise model of a layer for which none was chosen in the Denoise dock."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from napari.layers import Image

from ..progress import Progress
from ._layers import known_noise
from ._session import session

if TYPE_CHECKING:
    from ..denoising.polish_need import PolishNeed

DEFAULT = "poisson(gain=1)"


class Found(NamedTuple):
    """The noise model that was estimated from an image, as text, and how it was found."""

    noise: str
    notes: Mapping[str, Any]
    polish: PolishNeed | None = None


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
            found = Found(str(report.noise), report.provenance(), report.polish)
            yield Progress(progress.done, progress.total, progress.message, found)


def is_known(layer: Image) -> bool:
    """Return whether the noise of a layer was chosen, estimated or in its metadata."""
    return bool(session.noises.get(layer) or known_noise(layer))


def noise_of(layer: Image) -> str:
    """Return the noise model of a layer as text.

    It is used by the preview while training and by the one-click denoising: the one that was chosen
    in the Denoise dock for this layer or estimated from it, otherwise that of its metadata.
    """
    return session.noises.get(layer) or known_noise(layer) or DEFAULT
