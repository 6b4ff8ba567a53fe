"""Return what was understood of an image: its axes, sizes, units, channels and grey levels."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..image.image import Image
from ..image.valid import look_for_valid
from ..solve.quantization import estimate_quantization
from ._read_frames import middle, read_planes, spread_over

MAX_PLANES = 12
MAX_SIDE = 512  # pixels of a plane along Y and X


def image_facts(image: Image) -> dict[str, Any]:
    """Return what was understood of an image, as JSON values.

    At most 12 planes are read, and the middle 512 × 512 pixels of each.

    Parameters
    ----------
    image : Image

    Returns
    -------
    dict
        ``name``, ``axes``, ``shape``, ``type``, ``scale``, ``units``, ``channels``, ``rgb`` and, of
        the pixels that were read, ``valid share``; of the valid ones ``grey levels`` (lowest and
        highest), ``grey-level step`` (0 if they are not rounded), ``saturation`` (None if none is)
        and ``saturated share``.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(9, (64, 64)).astype("uint8")
    >>> facts = image_facts(Image(counts, "YX"))
    >>> facts["axes"], facts["valid share"], facts["grey-level step"], facts["saturation"]
    ('YX', 1.0, 1.0, None)
    """
    facts = {
        "name": image.name,
        "axes": image.axes,
        "shape": [int(n) for n in image.data.shape],
        "type": str(image.data.dtype),
        "scale": {a: image.scale[a] for a in image.axes if a in image.scale},
        "units": {a: image.units[a] for a in image.axes if a in image.units},
        "channels": list(image.channels),
        "rgb": image.rgb,
    }
    valid, _ = (image.valid, True) if image.valid else look_for_valid(image.data, image.axes)
    sizes = dict(zip(image.axes, image.data.shape, strict=True))
    others = [a for a in image.axes if a not in "YX"]
    window = {a: middle(sizes[a], MAX_SIDE) for a in "YX"}
    places = spread_over(list(product(*(range(sizes[a]) for a in others))), MAX_PLANES)
    planes = [
        read_planes(image.data, image.axes, valid, dict(zip(others, at, strict=True)) | window)
        for at in places
    ]
    seen = sum(plane.size for plane in planes)
    values = np.concatenate([np.ma.compressed(plane) for plane in planes])
    facts["valid share"] = round(values.size / seen, 4)
    if values.size:
        digits = estimate_quantization(values)
        top = digits.saturation if np.isfinite(digits.saturation) else None
        facts["grey levels"] = [float(values.min()), float(values.max())]
        facts["grey-level step"] = digits.step
        facts["saturation"] = top
        facts["saturated share"] = float(np.mean(values >= top)) if top is not None else 0.0
    return facts
