"""Axes, pixel size and units of a layer from its file, where another reader has left them out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image

from ..image.paths import local_path
from ._layers import file_metadata, layer_axes, layer_data
from ._session import session
from ._work import start

if TYPE_CHECKING:
    import napari.viewer

    from ..image.image import Image as VolumeImage


def when_known(viewer: napari.viewer.Viewer, layer: Image, then: Callable[[], None]) -> None:
    """Complete a layer from the file that it was read from, and call back.

    napari's own reader of TIFF files takes only the pixels. Axes, pixel size and units that the
    layer lacks are set as the file states them; what it has is kept. The file is read on a
    background thread.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer with the layer.
    layer : Image
        The layer.
    then : callable
        Called on the window's thread when the layer is complete; at once if nothing is looked up.
    """
    waiting = session.lookups.get(layer)
    if waiting is not None:
        waiting.append(then)
        return
    path = layer.source.path
    file = local_path(path) if path else None
    known = bool(layer_axes(layer)) and (layer.ndim > 2 or not _is_unplaced(layer))
    if file is None or layer in session.looked_up or known:
        then()
        return
    session.looked_up.add(layer)
    session.lookups[layer] = [then]

    def take(found: list[VolumeImage]) -> None:
        if layer in viewer.layers:
            complete(viewer, layer, found[0])

    def finish() -> None:
        for callback in session.lookups.pop(layer, []):
            callback()

    # if the file cannot be read, the window asks for the axes
    start(_read(file), yielded=take, returned=lambda _failure: None, finished=finish)


def _read(file: Any) -> Generator[VolumeImage, None, None]:
    from ..image.files import read_image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other readers, too, open the first image of a file
        yield read_image(file)


def complete(viewer: napari.viewer.Viewer, layer: Image, image: VolumeImage) -> None:
    """Set the axes, pixel size and units that a layer lacks, if an image describes its pixels.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer with the layer. It goes on showing the same part of it.
    layer : Image
        The layer.
    image : Image
        What its file holds, as from `read_image`.
    """
    axes = matching_axes(image, layer_data(layer).shape)
    if not axes or (layer.rgb and axes[-1] != "C"):
        return
    world = axes[:-1] if layer.rgb else axes
    layer.metadata = file_metadata(image) | layer.metadata
    if not layer_axes(layer) or layer.ndim == 2:
        layer.axis_labels = tuple(world.lower())
    if not _is_unplaced(layer) or layer_axes(layer) != axes:
        return
    scale = np.array([image.scale.get(a, 1.0) if a != "C" else 1.0 for a in world])
    place = {
        "units": [image.units.get(a, "pixel") if a != "C" else "pixel" for a in world],
        "scale": scale,
        "translate": [image.translate.get(a, 0.0) if a != "C" else 0.0 for a in world],
    }
    point = np.array(viewer.dims.point[-layer.ndim :])
    zoom, centre = viewer.camera.zoom, np.array(viewer.camera.center)
    # what was drawn on it stays on it
    drawn = [x for x in viewer.layers if not isinstance(x, Image) and x.ndim == layer.ndim]
    for each in [layer, *filter(_is_unplaced, drawn)]:
        for name, value in place.items():
            setattr(each, name, value)
    shown = list(viewer.dims.displayed)[-2:]
    steps = scale[[axis - viewer.dims.ndim for axis in shown]]
    centre[-2:] = centre[-2:] * steps
    viewer.camera.center = tuple(centre)
    viewer.camera.zoom = zoom / float(steps[-1])
    first = viewer.dims.ndim - layer.ndim
    viewer.dims.set_point(range(first, viewer.dims.ndim), tuple(point * scale))


def matching_axes(image: VolumeImage, shape: tuple[int, ...]) -> str:
    """Return the axes of an array with the pixels of an image, empty if it has another shape.

    Other readers drop axes of length 1.

    Examples
    --------
    >>> from napari_noise2score import Image
    >>> image = Image(np.zeros((3, 1, 8, 9)), "TZYX")
    >>> matching_axes(image, (3, 1, 8, 9)), matching_axes(image, (3, 8, 9))
    ('TZYX', 'TYX')
    >>> matching_axes(image, (3, 9, 8))
    ''
    """
    whole = list(zip(image.axes, image.data.shape, strict=True))
    for named in (whole, [(a, n) for a, n in whole if n > 1 or a in "YX"]):
        if tuple(n for _, n in named) == tuple(shape):
            return "".join(a for a, _ in named)
    return ""


def _is_unplaced(layer: Any) -> bool:
    """Return whether a layer has no pixel size, position or unit of its own."""
    matrix = layer.affine.affine_matrix
    return bool(
        np.all(layer.scale == 1)
        and not np.any(layer.translate)
        and np.array_equal(matrix, np.eye(len(matrix)))
        and all(str(unit) == "pixel" for unit in layer.units)
    )
