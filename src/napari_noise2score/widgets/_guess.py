"""Which noise to begin with, where nobody chose one for a layer."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

from napari.layers import Image

from ._layers import known_noise
from ._session import session

DEFAULT = "poisson(gain=1)"


class Found(NamedTuple):
    """The noise that was read off an image, as text, and what else is to be known of it."""

    noise: str
    notes: Mapping[str, Any]


def find_noise(
    data: Any, axes: str, model: Any = None, device: str = "auto", keep: str = ""
) -> Generator[Any, None, None]:
    """Read the noise off an image; on a background thread, as it takes a few seconds.

    With a trained model it is the noise that serves its score best. Of a noise that is to be kept
    only its level and read noise are found. Yields what tells ``done`` and
    ``total``, and at last `Found`.
    """
    from ..estimation._with_model import calibrate_steps
    from ..estimation.estimate import estimate_noise, refine_noise
    from ..estimation.noise_check import sentence_on_noise

    if keep:
        found = Found(
            str(refine_noise(data, keep, axes)), {"noise found by": f"images, from {keep}"}
        )
    elif model is None:
        found = Found(str(estimate_noise(data, axes)), {"noise found by": "images"})
    else:
        for progress in calibrate_steps(data, model, axes, device=device):
            if progress.found is None:
                yield progress
            else:
                found = Found(str(progress.found.noise), progress.found.notes)
    # where the model does not explain the noise this warns, and the dock shows it
    said = sentence_on_noise(data, axes, found.noise)
    yield found._replace(notes={**found.notes, "noise check": said})


def is_known(layer: Image) -> bool:
    """Say whether the noise of a layer was chosen, found or stated before."""
    return bool(session.noises.get(layer) or known_noise(layer))


def noise_of(layer: Image) -> str:
    """Give the noise of a layer as text, of what is known of it at this moment.

    This is the one place that says which noise a preview while training and the one-click
    denoising use: what was chosen in the Denoise dock for this layer or found in it, else what its
    metadata say.
    """
    return session.noises.get(layer) or known_noise(layer) or DEFAULT
