"""Export a model with its solver for one noise model, for programs that run ONNX or TorchScript."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from ..image.axes import layout
from ..image.image import Image, as_image
from ..image.output import check_output, written
from ..noise import NoiseModel, parse_noise
from ..score.correction import corrections_for
from ..score.model import ScoreModel
from ..score.polish import Polish
from ._bioimage import INPUT, OPSET, OUTPUT, Exported, save_package
from ._folded_denoiser import FoldedDenoiser
from .denoise import denoise
from .halo import halo_of
from .job import prepare
from .provenance import result_notes

PACKAGES = ("onnx", "onnxruntime", "bioimageio.spec")
# of the largest difference between the exported model and `denoise`, in units of the range of x
MAX_DIFFERENCE = 1e-4
EXAMPLE_SIDE = 256  # pixels along Y and X of the test image that are used, or a few more


def export_model(
    model: ScoreModel,
    noise: NoiseModel | str,
    out: str | os.PathLike[str],
    *,
    image: Any = None,
    axes: str | None = None,
    polish: Polish | Sequence[Polish] | None = None,
    authors: Sequence[str] = (),
    licence: str = "CC-BY-4.0",
    overwrite: bool = False,
) -> Path:
    """Export network and solver for one noise model in the format of the BioImage Model Zoo.

    Normalization, network, the look-up table of the noise model, pooling and the removal of the
    bias are one function of the grey levels, as ONNX and as TorchScript, which Fiji, ilastik,
    QuPath and others can run. Before anything is published, both are run on a test image and
    compared with `denoise`.

    Parameters
    ----------
    model : ScoreModel
        The model.
    noise : NoiseModel or str
        The noise model, or its text. It is fixed in what is exported.
    out : path-like
        A new folder, or a file ending in .zip.
    image : Image or array-like, optional
        A noisy image, of which the middle becomes the test image of the export and is published
        with it. By default a patch of the training images that the model keeps.
    axes : str, optional
        Axes of the image, as for `denoise`.
    polish : Polish, optional
        A polish of this model and noise model, which takes the place of the solver.
    authors : sequence of str
        Names of those who trained the model.
    licence : str
        SPDX identifier of the licence under which the exported model may be used.
    overwrite : bool
        Replace an existing .zip file.

    Returns
    -------
    Path
        The folder or file.

    Raises
    ------
    UserError
        If the packages of the extra ``export`` are not installed, the noise is correlated between
        pixels, the model does not fit the noise or the image, or the output exists.

    Warns
    -----
    DataWarning
        If the model sees neighbouring planes or time points, which an exported model does not.

    Examples
    --------
    >>> from napari_noise2score import train
    >>> noisy = np.random.default_rng(0).normal(100, 10, (96, 96)).astype("float32")
    >>> model = train(noisy, steps=2)
    >>> folder = export_model(model, "gaussian(sigma=10)", Path(tempfile.mkdtemp()) / "model")
    >>> sorted(path.name for path in folder.iterdir())[-3:]
    ['test-output.npy', 'weights.onnx', 'weights.pt']
    """
    check_packages()
    noise = parse_noise(noise) if isinstance(noise, str) else noise
    if corrections_for(noise, model):
        raise UserError(
            "calibration maps and offsets of rows or columns cannot be part of an exported model: "
            "train on images in which they are undone"
        )
    path = check_output(out, overwrite=overwrite)
    example = _example(model, image, axes)
    # the neighbours of the test image are left out, as those of any image of the exported model
    with warnings.catch_warnings():
        if image is None:
            warnings.simplefilter("ignore")
        job = prepare(example, model, noise, device="cpu", polish=polish)
    folded = FoldedDenoiser(job).eval()
    pixels = torch.from_numpy(np.array(example.data, dtype=np.float32))
    y = pixels[None] if example.axes[0] == "C" else pixels[None, None]
    expected = denoise(example, model, noise, device="cpu", polish=polish).data.compute()
    halo = halo_of(job.model, folded.reach)
    with (
        tempfile.TemporaryDirectory(prefix="noise2score-") as work,
        written(path, overwrite) as part,
    ):
        exported = Exported(
            folder=Path(work),
            axes=("C" + example.axes.removeprefix("C")),
            noisy=y.numpy(),
            denoised=expected.reshape(y.shape).astype(np.float32),
            halo=tuple(halo),
            noise=str(noise),
            notes=result_notes(model, noise, polish=polish),
            left_out=_left_out(model),
            authors=tuple(authors),
            licence=licence,
        )
        _write_weights(folded, y, Path(work))
        _compare(exported)
        save_package(exported, part, zipped=path.suffix.lower() == ".zip")
    return path


def check_packages() -> None:
    """Raise a `UserError` unless the packages that an export needs are installed."""
    missing = [name for name in PACKAGES if find_spec(name.partition(".")[0]) is None]
    if missing:
        raise UserError(
            f"exporting needs {', '.join(missing)}: pip install 'napari-noise2score[export]'"
        )


def _left_out(model: ScoreModel) -> list[str]:
    """Return what `denoise` does and the exported model does not, one sentence each."""
    sentences = [
        "Invalid pixels (NaN, padding, defects) are not found: replace them before denoising."
    ]
    if model.context.offsets:
        sentences.append(
            f"The model was trained to use {model.context}, and the export sees single planes or "
            "volumes: its result is noisier than that of noise2score. Better export a model that "
            "was trained with context none."
        )
    return sentences


def _example(model: ScoreModel, image: Any, axes: str | None) -> Image:
    """Return the test image, with the axes C (if there are channels), Z (if 3-D), Y and X."""
    channels = len(model.channel_coordinates) or model.channels
    space = "ZYX"[-model.ndim :]
    if image is None:
        values = _stored_example(model, channels)
    else:
        values = _middle_of(as_image(image, axes), model, channels)
    # large enough for one pixel beyond the halo on both sides
    smallest = [2 * n + s for n, s in zip(halo_of(model, 0), model.network.stride, strict=True)]
    short = [max(0, n + 16 - size) for n, size in zip(smallest, values.shape[1:], strict=True)]
    values = np.pad(values, [(0, 0), *((0, n) for n in short)], mode="reflect")
    if channels == 1:
        return Image(values[0], space, name=model.name)
    return Image(values, f"C{space}", name=model.name, rgb=model.joint)


def _stored_example(model: ScoreModel, channels: int) -> np.ndarray:
    """Return a patch of the training images, shape ``(channels, *space)``."""
    if model.patches is None:
        raise UserError(
            "the model keeps no patch of its training images to test the export with: name an "
            "image like them (--image)"
        )
    y = model.patches.y
    if model.channel_coordinates:
        y = y[:: len(y) // channels][:channels, 0][None]
    example: np.ndarray = y[0].cpu().numpy()
    return example


def _middle_of(image: Image, model: ScoreModel, channels: int) -> np.ndarray:
    """Return the middle of an image, shape ``(channels, *space)``."""
    where = layout(image.axes, image.data.shape, model.ndim)
    if where.all_channels != channels:
        raise UserError(
            f"the model has {channels} channel{'s' * (channels > 1)}, but the image (axes "
            f"{image.axes}) has {where.all_channels}"
        )
    index: list[Any] = []
    for axis, size in zip(image.axes, image.data.shape, strict=True):
        if axis in "YX":
            start = max(0, (size - EXAMPLE_SIDE) // 2)
            index.append(slice(start, start + EXAMPLE_SIDE))
        else:
            keeps = axis == "C" or (axis == "Z" and model.ndim == 3)
            index.append(slice(None) if keeps else size // 2)
    values = np.asarray(image.data[tuple(index)], dtype=np.float32)
    kept = [a for a, i in zip(image.axes, index, strict=True) if isinstance(i, slice)]
    wanted = ["C", *"ZYX"[-model.ndim :]]
    if "C" not in kept:
        values, kept = values[None], ["C", *kept]
    values = values.transpose([kept.index(a) for a in wanted])
    if not np.isfinite(values).all():
        raise UserError("the test image has invalid pixels: choose one without")
    return values


def _write_weights(folded: FoldedDenoiser, y: torch.Tensor, folder: Path) -> None:
    """Write the module as TorchScript and ONNX, for images of any size."""
    names = {axis: f"axis{axis}" for axis in range(2, y.ndim)}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        onnx: Any = torch.onnx
        onnx.register_custom_op_symbolic("aten::expm1", _expm1, OPSET)
        jit: Any = torch.jit
        traced = jit.trace(folded, (y,), check_trace=False)
        jit.save(traced, folder / "weights.pt")
        onnx.export(
            folded,
            (y,),
            folder / "weights.onnx",
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: names, OUTPUT: names},
        )


def _expm1(graph: Any, value: Any) -> Any:
    """Write ``exp(x) - 1``, which ONNX has no operation for."""
    return graph.op("Sub", graph.op("Exp", value), graph.op("Constant", value_t=torch.tensor(1.0)))


def _compare(exported: Exported) -> None:
    """Raise a `RuntimeError` unless the exported models give what `denoise` does."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        exported.folder / "weights.onnx", providers=["CPUExecutionProvider"]
    )
    jit: Any = torch.jit
    script = jit.load(exported.folder / "weights.pt")
    with torch.inference_mode():
        found = {
            "ONNX": session.run(None, {INPUT: exported.noisy})[0],
            "TorchScript": script(torch.from_numpy(exported.noisy)).numpy(),
        }
    for name, result in found.items():
        difference = np.abs(result - exported.denoised).max() / np.ptp(exported.denoised)
        if not difference < MAX_DIFFERENCE:
            raise RuntimeError(f"the exported {name} differs by {difference:.1e} of the range")
