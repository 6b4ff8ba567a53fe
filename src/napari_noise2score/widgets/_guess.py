"""Which noise to begin with, where nobody chose one for a layer."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from napari.layers import Image

from ._layers import known_noise
from ._session import session

DEFAULT = "poisson(gain=1)"


class Found(NamedTuple):
    """The noise that was read off an image, as text."""

    noise: str


def find_noise(data: Any, axes: str, model: Any = None) -> Generator[Found, None, None]:
    """Read the noise off an image; on a background thread, as it takes a few seconds."""
    from ..volume.estimate import estimate_noise

    yield Found(str(estimate_noise(data, axes, model)))


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
