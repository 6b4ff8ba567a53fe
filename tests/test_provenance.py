"""Files, layers and lazy images record in the same way how a result was made."""

from __future__ import annotations

import numpy as np
import pytest
from test_model_file import small_model

from napari_noise2score import Image, denoise, read_image, uncertainty
from napari_noise2score.denoising.provenance import result_notes
from napari_noise2score.widgets._layers import result_settings

NOISE = "gaussian(sigma=10)"
FOUND = {"noise found by": "images", "noise check": "explains 98 %"}


@pytest.fixture(scope="module")
def image():
    return Image(np.random.default_rng(0).normal(140, 10, (32, 32)).astype(np.float32), "YX")


@pytest.mark.parametrize("make", [denoise, uncertainty])
@pytest.mark.parametrize("name", ["x.tif", "x.ome.zarr", "x.npy", "x.png"])
def test_a_file_and_a_lazy_image_have_the_same_notes(make, name, image, tmp_path):
    model = small_model()
    expected = result_notes(model, NOISE, noise_notes=FOUND)
    dtype = "uint8" if name.endswith("png") else "float32"
    path = make(image, model, NOISE, tmp_path / name, noise_notes=FOUND, dtype=dtype)
    notes = dict(read_image(path, "YX").notes)
    assert notes.pop("job")
    assert notes == expected == make(image, model, NOISE, noise_notes=FOUND).notes


def test_a_layer_has_the_same_notes_and_its_source(image):
    from napari.layers import Image as Layer

    model = small_model()
    notes = result_notes(model, NOISE, noise_notes=FOUND)
    settings = result_settings(Layer(image.data, name="cells"), notes)
    assert settings["metadata"]["noise2score"] == {"source": "cells", **notes}


def test_notes_state_model_noise_perturbation_and_version(image):
    model = small_model()
    notes = result_notes(model, NOISE, sigma_a=0.4)
    assert (notes["model"], notes["fingerprint"]) == (model.name, model.fingerprint)
    assert (notes["noise"], notes["sigma_a"]) == (NOISE, 0.4)
    assert result_notes(model, NOISE)["sigma_a"] == model.sigma_a
    assert notes["version"]
