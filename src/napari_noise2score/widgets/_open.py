"""napari's reader of formats that napari cannot open by itself: lazy layers with their metadata."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.colormaps import Colormap
from napari.utils.notifications import show_warning

from ..errors import DataWarning
from ..image.arrays import read_piece
from ..image.files import find_images, read_image, series_numbers
from ..image.formats import format_of
from ..image.image import Image
from ..image.paths import local_path
from ._layers import file_metadata

MAX_IMAGES = 16  # layers of more images would make the list of layers useless
CHUNK = 2**26  # pixels; a plane larger than this is read in pieces
COLOURS = {1: ("gray",), 2: ("magenta", "green")}
CYCLE = ("cyan", "yellow", "magenta", "red", "green", "blue")

LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | Sequence[str]) -> Callable[..., list[LayerData]] | None:
    """Return the function that opens a file, or None if it is not an image that can be read.

    Parameters
    ----------
    path : str or sequence of str
        A file, a folder of DICOM files, or several files, as npe2 passes them.

    Returns
    -------
    callable or None
        `open_layers`.
    """
    file = local_path(path if isinstance(path, str) else path[0])
    return open_layers if file is not None and file.exists() and format_of(file) else None


def open_layers(path: str | Sequence[str]) -> list[LayerData]:
    """Open all images of a file as layers, one for each channel; pixels stay in the file.

    Parameters
    ----------
    path : str or sequence of str
        As for `get_reader`.

    Returns
    -------
    list of tuple
        Data, settings and type of each layer. Only the layers of the first image are visible.

    Raises
    ------
    UserError
        If a file cannot be read, also because a library is missing, or does not name its axes.
    """
    layers = []
    paths: list[Any] = [path] if isinstance(path, str) else list(path)
    folder = Path(paths[0]).parent
    if len(paths) > 1 and format_of(folder) is format_of(Path(paths[0])):
        paths = [folder]  # the files of a DICOM series
    for one in paths:
        for file in find_images(one):
            numbers = series_numbers(file, "all")
            if len(numbers) > MAX_IMAGES:
                show_warning(
                    f"{file}: {MAX_IMAGES} of {len(numbers)} images are opened; read the others by "
                    "read_image(path, series=N) in the console"
                )
            for number in numbers[:MAX_IMAGES]:
                image = _read(file, number)
                layers += image_layers(image, visible=number in (None, 1))
    return layers


def _read(file: str | os.PathLike[str], number: int | None) -> Image:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        image = read_image(file, series=number)
    for warning in caught:
        show_warning(str(warning.message))
    return image


def image_layers(image: Image, visible: bool = True) -> list[LayerData]:
    """Return the layers of an image, as npe2 takes them: one for each channel.

    Parameters
    ----------
    image : Image
        The image; red, green and blue become one layer.
    visible : bool
        Whether the layers are shown.

    Returns
    -------
    list of tuple
        Data, settings and type of each layer.

    Examples
    --------
    >>> image = Image(np.zeros((2, 8, 8)), "CYX", channels=("DAPI", "actin"), name="cells")
    >>> [(data.shape, settings["name"]) for data, settings, _ in image_layers(image)]
    [((8, 8), 'cells: DAPI'), ((8, 8), 'cells: actin')]
    """
    data, axes = lazy(image.data, image.axes), image.axes
    # axes that napari shows last
    order = [*(i for i, a in enumerate(axes) if a not in "YX"), axes.index("Y"), axes.index("X")]
    if image.rgb:
        order.append(order.pop(order.index(axes.index("C"))))
    data, axes = data.transpose(order), "".join(axes[i] for i in order)
    world = axes.replace("C", "")
    settings: dict[str, Any] = {
        "scale": [image.scale.get(a, 1.0) for a in world],
        "translate": [image.translate.get(a, 0.0) for a in world],
        "units": [image.units.get(a) or "pixel" for a in world],
        "axis_labels": tuple(world.lower()),
        "metadata": file_metadata(image),
        "visible": visible,
    }
    if image.rgb or "C" not in axes:
        one = settings | {"name": image.name, "rgb": image.rgb}
        if not image.rgb:
            one |= _display(image, 0, data)
        return [(data, one, "image")]
    at = axes.index("C")
    layers: list[LayerData] = []
    for c in range(data.shape[at]):
        name = image.channels[c] if c < len(image.channels) else f"channel {c + 1}"
        plane = data[(slice(None),) * at + (c,)]
        one = settings | {"name": f"{image.name}: {name}", "blending": "additive"}
        layers.append((plane, one | _display(image, c, plane), "image"))
    return layers


def lazy(data: Any, axes: str) -> Any:
    """Return an image as a dask array with a plane, or a piece of one, in each chunk.

    Parameters
    ----------
    data : array-like
        The pixels.
    axes : str
        Its axes.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        numpy arrays remain as they are.
    """
    if isinstance(data, np.ndarray) or hasattr(data, "dask"):
        return data
    import dask.array as da

    shape = dict(zip(axes, data.shape, strict=True))
    rows = max(1, min(shape["Y"], CHUNK // shape["X"]))
    chunks = [{"Y": rows, "X": shape["X"]}.get(a, 1) for a in axes]
    # a unique name, as another file may have the same path later
    return da.from_array(data, chunks=chunks, name=False, asarray=False)


def _display(image: Image, channel: int, data: Any) -> dict[str, Any]:
    """Return colour and contrast of a channel: those of the file, or else those of a plane."""
    said = (*image.omero.get("channels", ()),)[channel : channel + 1]
    count = len(image.channels) or max(1, len(image.omero.get("channels", ())))
    if "C" in image.axes:
        count = image.data.shape[image.axes.index("C")]
    own: dict[str, Any] = {"colormap": COLOURS.get(count, CYCLE)[channel % len(CYCLE)]}
    described = said[0] if said and isinstance(said[0], dict) else {}
    if colour := _colour(described.get("color")):
        own["colormap"] = colour
    limits = described.get("window", {})
    start, end = limits.get("start"), limits.get("end")
    if not (isinstance(start, int | float) and isinstance(end, int | float) and start < end):
        middle = tuple(n // 2 for n in data.shape[:-2])
        plane = read_piece(data, middle)
        valid = plane[np.isfinite(plane)]
        start, end = (
            (float(v) for v in np.quantile(valid, (0.001, 0.999))) if valid.size else (0, 1)
        )
    return own | {"contrast_limits": (start, end if end > start else start + 1)}


def _colour(text: Any) -> Colormap | None:
    """Return a colormap from black to a colour such as ``"00FF00"``, None if it is not one."""
    try:
        red, green, blue = bytes.fromhex(str(text).lstrip("#")[:6])
    except ValueError:
        return None
    if red == green == blue:
        return None
    colours = [(0, 0, 0), (red / 255, green / 255, blue / 255)]
    return Colormap(colours, name=f"#{str(text).lstrip('#')[:6]}")
