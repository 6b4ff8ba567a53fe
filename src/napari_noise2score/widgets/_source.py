"""The image that a job works on: a layer with its axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ._layers import layer_data, layer_image

if TYPE_CHECKING:
    from napari.layers import Image

    from ..image import image as volume_image


class Source(NamedTuple):
    """A layer and what its dimensions mean.

    Attributes
    ----------
    layer : napari.layers.Image
        The layer.
    axes : str
        One letter of ``STCZYX`` for each dimension of its array.
    """

    layer: Image
    axes: str

    @property
    def data(self) -> Any:
        """The array of the layer, at full resolution."""
        return layer_data(self.layer)

    def image(self) -> volume_image.Image:
        """Return the layer as an image, as a file stores it."""
        return layer_image(self.layer, self.axes)
