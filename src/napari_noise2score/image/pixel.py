"""The size of a pixel, and whether two images have the same."""

from __future__ import annotations

from typing import Any

from .image import Image

PIXEL = "pixel size"  # key of a model's provenance
METRES = {
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "meter": 1.0,
}
SAME = 1.25  # sizes that differ by less than this factor count as the same


def pixel_size(image: Image) -> tuple[float, str] | None:
    """Return the size of a pixel along X and its unit, None if they are not known.

    Examples
    --------
    >>> import numpy as np
    >>> plane = np.zeros((8, 8))
    >>> pixel_size(Image(plane, "YX", scale={"X": 0.1}, units={"X": "micrometer"}))
    (0.1, 'micrometer')
    >>> pixel_size(Image(plane, "YX")) is None
    True
    """
    size, unit = image.scale.get("X"), image.units.get("X", "")
    return (float(size), unit) if size and unit in METRES else None


def other_pixel_size(trained: Any, image: Image) -> str:
    """Return a sentence if an image has other pixels than a model was trained on.

    Parameters
    ----------
    trained : object
        What the provenance of the model holds under `PIXEL`, which may be anything.
    image : Image
        The image.

    Examples
    --------
    >>> import numpy as np
    >>> image = Image(np.zeros((8, 8)), "YX", scale={"X": 0.4}, units={"X": "micrometer"})
    >>> other_pixel_size([100, "nanometer"], image)[:71]
    'the model was trained on pixels of 100 nanometer, and these are of 0.4 '
    >>> other_pixel_size([0.4, "micrometer"], image), other_pixel_size(None, image)
    ('', '')
    """
    own = pixel_size(image)
    if own is None or not isinstance(trained, list) or len(trained) != 2:
        return ""
    size, unit = trained
    if not isinstance(size, int | float) or unit not in METRES or size <= 0:
        return ""
    factor = own[0] * METRES[own[1]] / (size * METRES[unit])
    if 1 / SAME < factor < SAME:
        return ""
    return (
        f"the model was trained on pixels of {size:.4g} {unit}, and these are of {own[0]:.4g} "
        f"{own[1]}: its structures have another size in pixels; train on this image"
    )
