"""Convert between napari layers and arrays with axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from napari.utils.transforms import Affine

from ..errors import UserError
from ..image.axes import layout, parse_axes

if TYPE_CHECKING:
    from ..image import image as volume_image

AXIS_NAMES = {
    "t": "T",
    "time": "T",
    "c": "C",
    "ch": "C",
    "channel": "C",
    "z": "Z",
    "y": "Y",
    "x": "X",
    "s": "S",
    "sample": "S",
}
FILE = "noise2score file"  # key of a layer's metadata: the file that its pixels are in


def layer_data(layer: Image) -> Any:
    """Return the array of a layer, at full resolution and without transparency."""
    data = layer.data[0] if layer.multiscale else layer.data
    if layer.rgb and data.shape[-1] == 4:
        import dask.array as da  # here, as this import would delay the opening of a dock

        data = da.asarray(data)[..., :3]  # opacity is not a measured channel
    return data


def layer_axes(layer: Image) -> str:
    """Return the axes of a layer as its axis labels name them.

    Parameters
    ----------
    layer : napari.layers.Image
        The layer. A single plane is ``YX`` whatever its labels; the last axis of an rgb layer
        is ``C``.

    Returns
    -------
    str
        One letter of ``STCZYX`` for each dimension of the array, empty if the labels do not name
        them all.

    Examples
    --------
    >>> layer_axes(Image(np.zeros((3, 64, 64)), axis_labels=("time", "y", "x")))
    'TYX'
    >>> layer_axes(Image(np.zeros((7, 64, 64, 3)), rgb=True))  # three axes without a name
    ''
    """
    letters = [AXIS_NAMES.get(label.strip().lower(), "") for label in layer.axis_labels]
    if not all(letters) or len(set(letters)) < len(letters):
        if layer.ndim > 2:
            return ""
        letters = ["Y", "X"]
    return "".join(letters) + ("C" if layer.rgb else "")


def layer_image(layer: Image, axes: str) -> volume_image.Image:
    """Return a layer as an image with the layer's metadata, as a file stores them.

    Parameters
    ----------
    layer : napari.layers.Image
        The layer; its pixels are not copied.
    axes : str
        One letter for each dimension of its array.

    Returns
    -------
    Image
        The image with its position and pixel size in world coordinates; without rotation and
        shear.

    Examples
    --------
    >>> layer = Image(np.zeros((3, 64, 64)), scale=(2, 0.1, 0.1), units=("s", "um", "um"))
    >>> image = layer_image(layer, "TYX")
    >>> image.scale["X"], image.units["X"]
    (0.1, 'micrometer')
    """
    from ..image.image import Image as VolumeImage

    data = layer_data(layer)
    axes = parse_axes(axes, data.ndim)
    world = [a for a in axes if not (layer.rgb and a == "C")]
    start = np.asarray(layer.data_to_world(np.zeros(layer.ndim)))
    steps = np.array([layer.data_to_world(step) for step in np.eye(layer.ndim)]) - start
    scale = np.diag(steps)
    if not np.allclose(steps, np.diag(scale)):
        scale, start = layer.scale, layer.translate
    units = {a: str(unit) for a, unit in zip(world, layer.units, strict=True)}
    file = layer.metadata.get(FILE, {})
    return VolumeImage(
        data,
        axes,
        scale={a: float(v) for a, v in zip(world, scale, strict=True) if a != "C"},
        translate={a: float(v) for a, v in zip(world, start, strict=True) if a != "C"},
        units={a: unit for a, unit in units.items() if unit != "pixel" and a != "C"},
        rgb=layer.rgb,
        name=layer.name,
        channels=tuple(file.get("channels", ())) if "C" in axes else (),
        omero={} if "C" in axes else {"channels": [_channel(layer)]},
        header=file.get("header", {}),
        notes=layer.metadata.get("noise2score", {}) if is_result(layer) else {},
        source=_file_of(layer),
        files=tuple(file.get("files", ())),
    )


def file_metadata(image: volume_image.Image) -> dict[str, Any]:
    """Return what a file states about an image as metadata of a layer.

    Parameters
    ----------
    image : Image
        The image, as from `read_image`.

    Returns
    -------
    dict
        Its provenance if we wrote it; and its files, channels and header, so that a result of the
        layer can be written in the format of the file, and never over it.
    """
    file = {"files": image.files, "channels": image.channels, "header": dict(image.header)}
    notes = {"noise2score": dict(image.notes)} if image.notes else {}
    return notes | {FILE: file}


def _channel(layer: Image) -> dict[str, Any]:
    """Return how a layer of one channel is shown, as OME-Zarr stores it."""
    colours = layer.colormap.colors
    # a file stores only the colour of the brightest pixels
    plain = len(colours) == 2 and not np.any(colours[0][:3])
    brightest = np.rint(255 * colours[-1][:3]).astype(int) if plain else (255, 255, 255)
    low, high = layer.contrast_limits_range
    start, end = layer.contrast_limits
    return {
        "label": layer.name,
        "color": "{:02X}{:02X}{:02X}".format(*brightest),
        "window": {"min": float(low), "start": float(start), "end": float(end), "max": float(high)},
        "active": True,
    }


def _file_of(layer: Image) -> str:
    """Return the path that a layer was read from, empty if it was not read from a file."""
    data = layer.data[0] if layer.multiscale else layer.data
    path = layer.source.path or getattr(getattr(data, "store", None), "root", None) or ""
    return str(Path(path).resolve()) if path and Path(path).exists() else str(path)


def describe(layer: Image, axes: str) -> str:
    """Return the size along each axis as text, so that a wrong letter is noticed.

    Examples
    --------
    >>> describe(Image(np.zeros((3, 64, 65))), "TYX")
    'T 3 · Y 64 · X 65'
    """
    shape = layer_data(layer).shape
    if len(axes) != len(shape):
        return "sizes " + " × ".join(map(str, shape))
    return " · ".join(f"{a} {n}" for a, n in zip(axes.upper(), shape, strict=True))


def channel_names(layer: Image | None, axes: str) -> list[str]:
    """Return the names of the channels of a layer, empty ones where its file has none.

    Examples
    --------
    >>> channel_names(Image(np.zeros((2, 64, 65))), "CYX"), channel_names(None, "CYX")
    (['', ''], [])
    """
    if layer is None or "C" not in axes.upper() or len(axes) != layer_data(layer).ndim:
        return []
    count = layer_data(layer).shape[axes.upper().index("C")]
    names = [*layer.metadata.get(FILE, {}).get("channels", ())]
    return names if len(names) == count else [""] * count


def describe_pixel(layer: Image) -> str:
    """Return the size of a pixel along X as text, empty if it is not known.

    Examples
    --------
    >>> describe_pixel(Image(np.zeros((64, 65)), scale=(0.2, 0.1), units=("um", "um")))
    '0.1 µm'
    """
    unit = layer.units[-1]
    return "" if str(unit) == "pixel" else f"{layer.scale[-1]:.4g} {unit:~P}"


def describe_repeats(layer: Image, axes: str, ndim: int) -> str:
    """Return what a network is trained on as text, empty if the axes do not fit the layer.

    Examples
    --------
    >>> describe_repeats(Image(np.zeros((3, 4, 64, 65))), "TZYX", 2)
    '12 planes of 64 × 65 pixels'
    >>> describe_repeats(Image(np.zeros((3, 4, 64, 65))), "TZYX", 3)
    '3 volumes of 4 × 64 × 65 pixels'
    >>> describe_repeats(Image(np.zeros((64, 65, 3)), rgb=True), "YXC", 2)
    '1 plane of 64 × 65 pixels, 3 channels'
    """
    try:
        where = layout(axes, layer_data(layer).shape, ndim)
    except UserError:
        return ""
    count = len(list(where.positions()))
    what = ("plane" if ndim == 2 else "volume") + "s" * (count > 1)
    together = f", {where.channels} channels" if where.channels > 1 else ""
    size = " × ".join(map(str, where.space_shape))
    return f"{count} {what} of {size} pixels{together}"


def known_noise(layer: Image | None) -> str:
    """Return the noise model in a layer's metadata (the sample has one); empty if there is none."""
    known = layer.metadata.get("noise2score", {}) if layer is not None else {}
    # metadata with a model are those of a denoised layer: that noise was removed
    return known.get("noise", "") if "model" not in known else ""


def result_settings(layer: Image, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a denoised layer for ``add_image``, taken from its source layer.

    Parameters
    ----------
    layer : napari.layers.Image
        The noisy layer.
    notes : mapping
        How the result is made, as from `denoising.provenance.result_notes`.

    Returns
    -------
    dict
        Name, position, pixel size, units, axis labels, display settings and provenance.
    """
    settings: dict[str, Any] = {
        "name": f"{layer.name} denoised",
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine.affine_matrix,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
        "rgb": layer.rgb,
        "multiscale": False,
        "metadata": {"noise2score": {"source": layer.name, **notes}},
    }
    if FILE in layer.metadata:
        settings["metadata"][FILE] = layer.metadata[FILE]
    if not layer.rgb:
        settings["colormap"] = layer.colormap
        settings["gamma"] = layer.gamma
        settings["contrast_limits"] = layer.contrast_limits
    return settings


def store_settings(result: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings of a result that is stored in a file, for ``add_image``."""
    origin = result["metadata"]["noise2score"] | {"path": str(path)}
    return result | {"multiscale": True, "metadata": result["metadata"] | {"noise2score": origin}}


def spread_settings(result: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the uncertainty's layer, for ``add_image``.

    They are those of the result, apart from the display settings, as its range of grey levels
    differs.
    """
    display = {"colormap", "gamma", "contrast_limits"}
    settings = {key: value for key, value in result.items() if key not in display}
    settings["name"] = result["name"].replace("denoised", "uncertainty")
    if not result["rgb"]:
        settings["colormap"] = "magma"
    return settings


def preview_settings(
    layer: Image, place: Sequence[int], notes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings of a layer with one denoised plane, for ``add_image``.

    Parameters
    ----------
    layer : napari.layers.Image
        The noisy layer.
    place : sequence of int
        Index into the noisy image of the first pixel of the plane.
    notes
        As for `result_settings`.
    """
    settings = result_settings(layer, notes)
    settings["name"] = f"{layer.name} preview"
    settings["metadata"]["noise2score"]["preview"] = True
    to_world = Affine(
        scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=layer.shear
    )
    settings["translate"] = to_world(np.asarray(place[: layer.ndim], float))
    return settings


def is_preview(layer: Any) -> bool:
    """Return whether a layer is a preview."""
    return "preview" in layer.metadata.get("noise2score", {})


def is_result(layer: Any) -> bool:
    """Return whether a layer is a denoised image."""
    return "model" in layer.metadata.get("noise2score", {})


def plane_on_view(viewer: Any, layer: Image, axes: str) -> tuple[int, ...]:
    """Return the index of the plane of a layer that the viewer shows.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer, with the layer in it.
    layer : napari.layers.Image
        The layer.
    axes : str
        One letter for each dimension of its array.

    Returns
    -------
    tuple of int
        Index along each dimension of the array, 0 along those that fill the canvas.

    Raises
    ------
    UserError
        If the viewer does not show a plane of Y and X, or shows one outside the layer.
    """
    shape = layer_data(layer).shape
    axes = parse_axes(axes, len(shape))
    if viewer.dims.ndisplay != 2:
        raise UserError("the viewer shows a volume; switch it to 2-D")
    before = viewer.dims.ndim - layer.ndim  # dimensions of the viewer that the layer lacks
    shown = {axis - before for axis in viewer.dims.displayed}
    if shown != {axes.index("Y"), axes.index("X")}:
        raise UserError("the canvas does not show Y and X")
    at = np.rint(layer.world_to_data(viewer.dims.point[-layer.ndim :])).astype(int)
    index = [0 if axis in shown else int(i) for axis, i in enumerate(at)]
    if not all(0 <= i < n for i, n in zip(index, shape, strict=False)):
        raise UserError(f"'{layer.name}' has no plane at this position")
    return tuple(index) + (0,) * (len(shape) - len(index))


def display_type(layer: Image) -> np.dtype:
    """Return the data type of a denoised layer that napari shows like its source.

    napari expects floating-point colours between 0 and 1, so an rgb result has the type of its
    source. Every other result is float32.

    Examples
    --------
    >>> display_type(Image(np.zeros((40, 40, 3), np.uint8)))
    dtype('uint8')
    >>> display_type(Image(np.zeros((40, 40), np.uint8)))
    dtype('float32')
    """
    return layer_data(layer).dtype if layer.rgb else np.dtype(np.float32)


def check_layer(layer: Image | None) -> Image:
    """Return the layer, or raise `UserError` if there is none."""
    if layer is None:
        raise UserError("there is no image layer: open an image, or a sample from the File menu")
    return layer
