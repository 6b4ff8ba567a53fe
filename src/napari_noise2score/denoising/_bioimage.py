"""Describe an exported model in the format of the BioImage Model Zoo, and package its files."""

from __future__ import annotations

import hashlib
import re
import shutil
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from .. import __version__
from ..errors import UserError, one_line

OPSET = 17
FORMAT_VERSION = "0.5.4"
RDF = "rdf.yaml"
INPUT, OUTPUT = "noisy", "denoised"  # names of the tensors
HOMEPAGE = "https://github.com/napari-noise2score/napari-noise2score"
ARTICLES = {
    "Kim & Ye, Noise2Score: Tweedie's approach to self-supervised image denoising without clean "
    "images, NeurIPS 2021": "https://arxiv.org/abs/2106.07009",
    "Xie et al., Unsupervised image denoising with score function, NeurIPS 2023": (
        "https://arxiv.org/abs/2304.08384"
    ),
}


@dataclass(frozen=True)
class Exported:
    """A model that was exported to a folder, and what is known of it.

    Attributes
    ----------
    folder : Path
        Holds ``weights.onnx`` and ``weights.pt``.
    axes : str
        ``"C"`` and the axes of space.
    noisy, denoised : ndarray
        The test image and its result, float32, shape ``(1, channels, *space)``.
    halo : tuple of int
        Pixels along each axis of space within which a border changes the result.
    noise : str
        The noise model.
    notes : mapping
        Provenance of a result, see `result_notes`.
    left_out : sequence of str
        What the exported model does not do, one sentence each.
    authors : tuple of str
        Names of those who trained the model.
    licence : str
        SPDX identifier.
    """

    folder: Path
    axes: str
    noisy: np.ndarray
    denoised: np.ndarray
    halo: tuple[int, ...]
    noise: str
    notes: Mapping[str, Any]
    left_out: list[str]
    authors: tuple[str, ...]
    licence: str


def save_package(exported: Exported, path: Path, *, zipped: bool) -> None:
    """Write the package of an exported model: its files and their description, ``rdf.yaml``.

    Parameters
    ----------
    exported : Exported
        The model.
    path : Path
        The folder or file to write.
    zipped : bool
        Whether to write a .zip file rather than a folder.

    Raises
    ------
    UserError
        If the licence or an author is not accepted by the format.
    """
    folder = exported.folder
    np.save(folder / "test-input.npy", exported.noisy)
    np.save(folder / "test-output.npy", exported.denoised)
    _write_cover(exported, folder / "cover.png")
    (folder / "README.md").write_text(_documentation(exported), encoding="utf-8")
    description = yaml.safe_dump(_describe(exported), sort_keys=False, allow_unicode=True)
    (folder / RDF).write_text(description, encoding="utf-8")
    _check(folder / RDF)
    if zipped:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for one in sorted(folder.iterdir()):
                file.write(one, one.name)
    else:
        path.mkdir()
        for one in folder.iterdir():
            shutil.copyfile(one, path / one.name)


def _check(path: Path) -> None:
    """Raise a `UserError` unless the library of the format accepts a description."""
    from bioimageio.spec import InvalidDescr, load_description
    from loguru import logger

    logger.disable("bioimageio")  # it reports every file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = load_description(path, format_version="latest")
    finally:
        logger.enable("bioimageio")
    if isinstance(found, InvalidDescr):
        wrong = next(
            error for detail in found.validation_summary.details for error in detail.errors
        )
        place = ".".join(str(part) for part in wrong.loc[:2])
        raise UserError(f"the model cannot be described: {place}: {one_line(wrong.msg)}")


def _describe(exported: Exported) -> dict[str, Any]:
    """Return the description of the model, whose values are YAML."""
    channels = [f"channel{c}" for c in range(exported.noisy.shape[1])]
    batch = {"type": "batch", "size": 1}
    channel = {"type": "channel", "channel_names": channels}
    space_in, space_out = [], []
    for axis, halo in zip(exported.axes[1:].lower(), exported.halo, strict=True):
        one = {"type": "space", "id": axis}
        space_in.append(one | {"size": {"min": 2 * halo + 1, "step": 1}})
        same = {"tensor_id": INPUT, "axis_id": axis}
        space_out.append(one | {"size": same, "halo": halo})
    grey = {"type": "float32", "unit": "arbitrary unit"}

    def file(name: str) -> dict[str, str]:
        digest = hashlib.sha256((exported.folder / name).read_bytes()).hexdigest()
        return {"source": name, "sha256": digest}

    def tensor(name: str, description: str, space: list[Any], test: str) -> dict[str, Any]:
        axes = [batch, channel, *space]
        about = {"id": name, "description": description, "axes": axes, "data": grey}
        return about | {"test_tensor": file(test)}

    noisy = "Noisy image in raw grey levels, not normalized."
    clean = "Denoised image in the grey levels of the noisy one."
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": _name(exported),
        "description": _summary(exported),
        "authors": [{"name": name} for name in exported.authors],
        "cite": [{"text": text, "url": url} for text, url in ARTICLES.items()],
        "license": exported.licence,
        "git_repo": HOMEPAGE,
        "tags": ["denoising", "self-supervised", "noise2score", f"{len(exported.halo)}d"],
        "documentation": file("README.md"),
        "covers": [file("cover.png")],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": [tensor(INPUT, noisy, space_in, "test-input.npy")],
        "outputs": [tensor(OUTPUT, clean, space_out, "test-output.npy")],
        "weights": {
            "onnx": file("weights.onnx") | {"opset_version": OPSET},
            "torchscript": file("weights.pt")
            | {"pytorch_version": torch.__version__.partition("+")[0], "parent": "onnx"},
        },
        "config": {"napari_noise2score": dict(exported.notes)},
    }


def _name(exported: Exported) -> str:
    """Return a name of the characters that the format allows."""
    plain = re.sub(r"[^A-Za-z0-9_+\- ()]", "-", str(exported.notes["model"]))
    return f"Noise2Score {plain}"[:64].rstrip()


def _summary(exported: Exported) -> str:
    return f"Self-supervised denoising for the noise model {exported.noise}."[:1024]


def _documentation(exported: Exported) -> str:
    """Return the documentation, in Markdown."""
    sizes = ", ".join(
        f"{n} along {axis}" for axis, n in zip(exported.axes[1:], exported.halo, strict=True)
    )
    left_out = "\n".join(f"- {sentence}" for sentence in exported.left_out)
    facts = "\n".join(f"- {key}: `{value}`" for key, value in exported.notes.items())
    return f"""# {_name(exported)}

{_summary(exported)} Exported by [napari-noise2score {__version__}]({HOMEPAGE}).

Give it raw grey levels, as the camera or scanner wrote them: it normalizes them itself. The result
has the same grey levels. An image of any size is accepted; programs that cut it into tiles need an
overlap of {sizes} pixels on each side.

The noise model is fixed. For images with another gain, offset or read noise, export again; nothing
has to be trained again for it.

## What this export leaves out

{left_out}

## How it was made

{facts}

## Validation

The ONNX and the TorchScript file were compared with `napari_noise2score.denoise` on the test image
when they were written; the largest difference was below 0.0001 of the range of the result.
"""


def _write_cover(exported: Exported, path: Path) -> None:
    """Write a picture of the test image, its left half noisy and its right half denoised."""
    from PIL import Image as Picture

    noisy, denoised = (
        a[0, 0] if a.ndim == 4 else a[0, 0, a.shape[2] // 2]
        for a in (exported.noisy, exported.denoised)
    )
    middle = noisy.shape[1] // 2
    both = np.concatenate([noisy[:, :middle], denoised[:, middle:]], axis=1)
    low, high = np.quantile(denoised, [0.01, 0.998])
    grey = ((both - low) / max(high - low, 1e-12)).clip(0, 1)
    picture = Picture.fromarray((255 * grey).astype(np.uint8))
    # the format asks for a ratio of 2:1
    side = min(picture.size)
    picture = picture.crop((0, 0, side, side // 2)).resize((512, 256))
    picture.save(path)
