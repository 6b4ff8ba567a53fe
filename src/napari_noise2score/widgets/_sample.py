"""The sample images in napari's File menu."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..sample import SAMPLES, read_sample
from ._open import LayerData, image_layers


def open_sample(name: str) -> list[LayerData]:
    """Return a sample as layers: the images without noise, hidden, and the noisy ones.

    Parameters
    ----------
    name : str
        As for `read_sample`.

    Returns
    -------
    list of tuple
        Data, settings and type of each layer, as npe2 takes them; in grey levels. Both layers of an
        image have the same contrast.
    """
    clean = image_layers(read_sample(name, clean=True), visible=False)
    noisy = image_layers(read_sample(name))
    for (truth, hidden, _), (_, shown, _) in zip(clean, noisy, strict=True):
        hidden["contrast_limits"] = [float(np.min(truth)), float(np.max(truth))]
        shown["contrast_limits"] = hidden["contrast_limits"]
        # the noise is a known one, as long as a person chooses no other
        shown["metadata"] = shown["metadata"] | {"noise2score": {"noise": SAMPLES[name].noise}}
    return clean + noisy


# npe2 calls a function without arguments
open_cells = partial(open_sample, "cells")
open_confocal = partial(open_sample, "confocal")
open_scmos = partial(open_sample, "scmos")
open_mri = partial(open_sample, "mri")
open_oct = partial(open_sample, "oct")
