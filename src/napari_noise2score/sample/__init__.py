"""Simulated images of five instruments, to try the package without a file.

Each is computed when it is asked for, in seconds, and is always the same: nothing is downloaded. As
the signal is known, the error of a denoised image can be measured. The noise is that of the
instrument, not of a formula: `SAMPLES` names the noise model that describes it best.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UserError
from ._cells import GAIN, NOISE, OFFSET, READ_NOISE, SCALE, UNITS, cells_images, simulate_cells
from ._confocal import NOISE as CONFOCAL_NOISE
from ._confocal import confocal_images
from ._mri import NOISE as MRI_NOISE
from ._mri import mri_images
from ._oct import NOISE as OCT_NOISE
from ._oct import oct_images
from ._scmos import NOISE as SCMOS_NOISE
from ._scmos import scmos_images

if TYPE_CHECKING:
    from ..image.image import Image

__all__ = [
    "GAIN",
    "NOISE",
    "OFFSET",
    "READ_NOISE",
    "SAMPLES",
    "SCALE",
    "UNITS",
    "Sample",
    "read_sample",
    "simulate_cells",
]


class Sample(NamedTuple):
    """A simulated image that can be asked for by name."""

    title: str
    noise: str  # the noise model that describes it best, as text
    simulate: Callable[[], tuple[Image, Image]]  # the noisy image, and the one without noise


SAMPLES = {
    "cells": Sample("Simulated cells (3-D + time, photon noise)", NOISE, cells_images),
    "confocal": Sample("Confocal time-lapse (photomultiplier)", CONFOCAL_NOISE, confocal_images),
    "scmos": Sample("Two-channel z-stack (widefield, sCMOS)", SCMOS_NOISE, scmos_images),
    "mri": Sample("MRI head (magnitude volume, Rician)", MRI_NOISE, mri_images),
    "oct": Sample("OCT B-scan of a retina (log-compressed speckle)", OCT_NOISE, oct_images),
}
"""All samples by name."""


def read_sample(name: str, *, clean: bool = False) -> Image:
    """Simulate one of the samples.

    Parameters
    ----------
    name : {"cells", "confocal", "scmos", "mri", "oct"}
        A key of `SAMPLES`.
    clean : bool
        Whether to return the image without noise, in the same grey levels.

    Returns
    -------
    Image
        With axes, pixel size, units and channel names. Integers as from the instrument, or float32
        without noise.

    Raises
    ------
    UserError
        If there is no such sample.

    Examples
    --------
    >>> image = read_sample("mri")
    >>> image.axes, image.units["Z"], str(image.data.dtype)
    ('ZYX', 'millimeter', 'uint16')
    """
    if name not in SAMPLES:
        raise UserError(f"there is no sample '{name}'; there are {', '.join(SAMPLES)}")
    noisy, truth = SAMPLES[name].simulate()
    return replace(truth if clean else noisy, name=f"{name} truth" if clean else name)
