"""Which noise to begin with, where nobody chose one for a layer."""

from __future__ import annotations

from napari.layers import Image

from ._layers import known_noise
from ._session import session

DEFAULT = "poisson(gain=1)"


def noise_of(layer: Image) -> str:
    """Give the noise of a layer as text, of what is known of it at this moment.

    This is the one place that says which noise a preview while training and the one-click
    denoising use: what was chosen in the Denoise dock for this layer, else what its metadata say.
    """
    return session.noises.get(layer) or known_noise(layer) or DEFAULT
