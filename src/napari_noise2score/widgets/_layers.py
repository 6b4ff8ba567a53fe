"""Between a napari layer and an array with axes, there and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from napari.utils.transforms import Affine

from .. import __version__
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
}


def layer_data(layer: Image) -> Any:
    """Give the array of a layer, at full resolution and without transparency."""
    data = layer.data[0] if layer.multiscale else layer.data
    if layer.rgb and data.shape[-1] == 4:
        import dask.array as da  # not where a dock is opened, as it takes a while

        data = da.asarray(data)[..., :3]  # how opaque a pixel is shown was never measured
    return data


def layer_axes(layer: Image) -> str:
    """Tell the axes of a layer where the layer says them, else give an empty string.

    Parameters
    ----------
    layer : napari.layers.Image
        Its axis labels are read, and whether it is rgb. A single plane is ``YX``.

    Returns
    -------
    str
        One letter of ``TCZYX`` for each dimension of the array, or nothing.

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
    """Give a layer as an image that says of itself what the layer says, for a file to keep.

    Parameters
    ----------
    layer : napari.layers.Image
        The layer; its pixels stay where they are.
    axes : str
        What the dimensions of its array are.

    Returns
    -------
    Image
        With the place and the pixel size in the world, but not a rotation or shear.

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
    return VolumeImage(
        data,
        axes,
        scale={a: float(v) for a, v in zip(world, scale, strict=True) if a != "C"},
        translate={a: float(v) for a, v in zip(world, start, strict=True) if a != "C"},
        units={a: unit for a, unit in units.items() if unit != "pixel" and a != "C"},
        rgb=layer.rgb,
        name=layer.name,
        omero={} if "C" in axes else {"channels": [_channel(layer)]},
        source=_file_of(layer),
    )


def _channel(layer: Image) -> dict[str, Any]:
    """Say how a layer of one channel is shown, in the words of OME-Zarr."""
    colours = layer.colormap.colors
    # a file can only say what the brightest pixels look like
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
    """Say where a layer was read from, nothing if it was not."""
    data = layer.data[0] if layer.multiscale else layer.data
    path = layer.source.path or getattr(getattr(data, "store", None), "root", None) or ""
    return str(Path(path).resolve()) if path and Path(path).exists() else str(path)


def describe(layer: Image, axes: str) -> str:
    """Say the size along each axis, so that a wrong letter is seen.

    Examples
    --------
    >>> describe(Image(np.zeros((3, 64, 65))), "TYX")
    'T 3 · Y 64 · X 65'
    """
    shape = layer_data(layer).shape
    if len(axes) != len(shape):
        return "sizes " + " × ".join(map(str, shape))
    return " · ".join(f"{a} {n}" for a, n in zip(axes.upper(), shape, strict=True))


def describe_repeats(layer: Image, axes: str, ndim: int) -> str:
    """Say what a network learns from, nothing if the axes do not fit.

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
    """Give the noise that an image's metadata state, as those of the sample do, else nothing."""
    known = layer.metadata.get("noise2score", {}) if layer is not None else {}
    # where there is a model, it is the noise that was removed
    return known.get("noise", "") if "model" not in known else ""


def result_settings(layer: Image, model: str, noise: Any) -> dict[str, Any]:
    """Give what a denoised layer takes from the layer it was made of, as for ``add_image``.

    Parameters
    ----------
    layer : napari.layers.Image
        The noisy layer.
    model : str
        Name of the model.
    noise : NoiseModel
        The noise that is removed.

    Returns
    -------
    dict
        Name, place, pixel size, units, axis labels, looks and origin.
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
        "metadata": {
            "noise2score": {
                "source": layer.name,
                "model": model,
                "noise": str(noise),
                "version": __version__,
            }
        },
    }
    if not layer.rgb:
        settings["colormap"] = layer.colormap
        settings["gamma"] = layer.gamma
        settings["contrast_limits"] = layer.contrast_limits
    return settings


def store_settings(result: dict[str, Any], path: Path) -> dict[str, Any]:
    """Give what the layer of a result that lies in a store takes, beyond that of one in memory."""
    origin = result["metadata"]["noise2score"] | {"path": str(path)}
    return result | {"multiscale": True, "metadata": {"noise2score": origin}}


def spread_settings(result: dict[str, Any]) -> dict[str, Any]:
    """Give what the layer of a result's uncertainty takes from that of the result itself.

    It lies where the result lies, but its grey levels are others.
    """
    looks = {"colormap", "gamma", "contrast_limits"}
    settings = {key: value for key, value in result.items() if key not in looks}
    settings["name"] = result["name"].replace("denoised", "uncertainty")
    if not result["rgb"]:
        settings["colormap"] = "magma"
    return settings


def preview_settings(layer: Image, place: Sequence[int], model: str, noise: Any) -> dict[str, Any]:
    """Give what the layer of one denoised plane takes from the layer it was made of.

    Parameters
    ----------
    layer : napari.layers.Image
        The noisy layer.
    place : sequence of int
        Index into the noisy image of the first pixel of the plane.
    model, noise
        As for `result_settings`.
    """
    settings = result_settings(layer, model, noise)
    settings["name"] = f"{layer.name} preview"
    settings["metadata"]["noise2score"]["preview"] = True
    to_world = Affine(
        scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=layer.shear
    )
    settings["translate"] = to_world(np.asarray(place[: layer.ndim], float))
    return settings


def is_preview(layer: Any) -> bool:
    """Tell whether a layer is a preview, and no image of its own."""
    return "preview" in layer.metadata.get("noise2score", {})


def is_result(layer: Any) -> bool:
    """Tell whether a layer is already denoised."""
    return "model" in layer.metadata.get("noise2score", {})


def plane_on_view(viewer: Any, layer: Image, axes: str) -> tuple[int, ...]:
    """Tell which plane of a layer the viewer shows.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer, with the layer in it.
    layer : napari.layers.Image
        The layer.
    axes : str
        What its dimensions are.

    Returns
    -------
    tuple of int
        Index along each dimension of its array, 0 along those that fill the canvas.

    Raises
    ------
    UserError
        If what is shown is no plane of Y and X, or lies beside the image.
    """
    shape = layer_data(layer).shape
    axes = parse_axes(axes, len(shape))
    if viewer.dims.ndisplay != 2:
        raise UserError("the viewer shows a volume; switch it to 2-D")
    before = viewer.dims.ndim - layer.ndim  # dimensions of the viewer that the layer has not
    shown = {axis - before for axis in viewer.dims.displayed}
    if shown != {axes.index("Y"), axes.index("X")}:
        raise UserError("the canvas does not show Y and X")
    at = np.rint(layer.world_to_data(viewer.dims.point[-layer.ndim :])).astype(int)
    index = [0 if axis in shown else int(i) for axis, i in enumerate(at)]
    if not all(0 <= i < n for i, n in zip(index, shape, strict=False)):
        raise UserError(f"'{layer.name}' has no plane here")
    return tuple(index) + (0,) * (len(shape) - len(index))


def display_type(layer: Image) -> np.dtype:
    """Tell the type that a denoised layer needs, for napari to show it as its source.

    napari takes floating point colours to lie between 0 and 1, so an rgb result has the type
    of its source. All else is float32.

    Examples
    --------
    >>> display_type(Image(np.zeros((40, 40, 3), np.uint8)))
    dtype('uint8')
    >>> display_type(Image(np.zeros((40, 40), np.uint8)))
    dtype('float32')
    """
    return layer_data(layer).dtype if layer.rgb else np.dtype(np.float32)


def check_layer(layer: Image | None) -> Image:
    """Give the layer back, or say that there is none."""
    if layer is None:
        raise UserError("there is no image layer: open an image, or a sample from the File menu")
    return layer
