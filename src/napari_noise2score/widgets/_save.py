"""napari's writer of images with axes, pixel size, units and channel names."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils import progress
from qtpy.QtCore import QCoreApplication, QEventLoop, QThread

from ..errors import UserError
from ..image.image import Image as VolumeImage
from ..image.write import write_image
from ._layers import layer_axes, layer_image
from ._session import session

POLL = 20  # milliseconds

LayerData = tuple[Any, dict[str, Any], str]


def write_ome_tiff(path: str, layers: list[LayerData]) -> list[str]:
    """Write layers as OME-TIFF; see `save_layers`."""
    return save_layers(path, layers, (".ome.tif", ".ome.tiff"))


def write_ome_zarr(path: str, layers: list[LayerData]) -> list[str]:
    """Write layers as OME-Zarr; see `save_layers`."""
    return save_layers(path, layers, (".ome.zarr",))


def write_nifti(path: str, layers: list[LayerData]) -> list[str]:
    """Write layers as NIfTI; see `save_layers`."""
    return save_layers(path, layers, (".nii.gz", ".nii"))


def write_mrc(path: str, layers: list[LayerData]) -> list[str]:
    """Write layers as MRC; see `save_layers`."""
    return save_layers(path, layers, (".mrc",))


def save_layers(path: str, layers: list[LayerData], suffixes: tuple[str, ...]) -> list[str]:
    """Write image layers to one file; several layers become its channels.

    Parameters
    ----------
    path : str
        Where to write. napari's dialog has asked already whether to replace a file.
    layers : list of tuple
        Data, settings and type of each layer, as npe2 passes them.
    suffixes : tuple of str
        Endings of the format; the first is added to a name without any of them.

    Returns
    -------
    list of str
        What was written.

    Raises
    ------
    OSError
        If a layer does not name its axes, the layers do not fit together, the format cannot hold
        them, or a file that one of them was read from would be replaced.
    """
    if not path.lower().endswith(suffixes):
        path += suffixes[0]
    try:
        images = [_image_of(data, settings) for data, settings, _ in layers]
        image = images[0] if len(images) == 1 else _as_channels(images)
        _wait_for(write_image, path, image, overwrite=True)
    except UserError as error:
        # a ValueError would be taken for a plugin that does not know the format
        raise OSError(str(error)) from None
    return [path]


def _image_of(data: Any, settings: dict[str, Any]) -> VolumeImage:
    layer = Image(data, **settings)
    typed = (axes for other, axes in session.axes.items() if other.data is data)
    if not (axes := next(typed, "") or layer_axes(layer)):
        raise UserError(
            f"'{layer.name}' does not say what its {layer.ndim} dimensions are: choose it in the "
            "Denoise dock, fill in Axes, and save again"
        )
    return layer_image(layer, axes)


def _as_channels(images: list[VolumeImage]) -> VolumeImage:
    """Return images of one shape as the channels of one image."""
    import dask.array as da

    first = images[0]
    for other in images:
        if (other.data.shape, other.axes) != (first.data.shape, first.axes) or "C" in other.axes:
            raise UserError(
                f"'{other.name}' and '{first.name}' cannot be channels of one file, as their axes "
                "or sizes differ; select one layer and use Save Selected Layers"
            )
        if dict(other.scale) != dict(first.scale) or dict(other.units) != dict(first.units):
            raise UserError(f"the pixel sizes of '{other.name}' and '{first.name}' differ")
    at = len(first.axes) - 2
    dtype = np.result_type(*(image.data.dtype for image in images))
    data = da.stack([da.asarray(image.data).astype(dtype) for image in images], axis=at)
    shown = [channel for image in images for channel in image.omero["channels"]]
    return replace(
        first,
        data=data,
        axes=first.axes[:at] + "C" + first.axes[at:],
        channels=tuple(image.name for image in images),
        omero={"channels": shown},
        files=tuple({file: None for image in images for file in (image.source, *image.files)}),
    )


def _wait_for(work: Any, *arguments: Any, **settings: Any) -> None:
    """Do something on another thread; the window goes on drawing until it is done."""
    app = QCoreApplication.instance()
    if app is None or QThread.currentThread() is not app.thread():
        work(*arguments, **settings)
        return
    with ThreadPoolExecutor(1) as pool, progress(desc="Saving"):
        done = pool.submit(work, *arguments, **settings)
        while not done.done():
            # no clicks, as they could close what is being saved
            app.processEvents(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents, POLL)
            QThread.msleep(1)
        done.result()
