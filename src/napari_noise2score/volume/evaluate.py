"""Compare denoised images with clean ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from skimage.metrics import structural_similarity

from ..errors import UserError
from ..image.files import find_images, read_image


def evaluate(
    denoised: str,
    clean: str,
    *,
    data_range: float = 255,
    affine: bool = False,
    axes: str | None = None,
) -> dict[str, dict[str, float]]:
    """Measure PSNR and SSIM of images against clean ones.

    Parameters
    ----------
    denoised, clean : str
        A file, folder or glob each. Images are paired by name without ending; a single clean
        one serves for all.
    data_range : float
        Grey levels from black to white; estimates are clipped to ``[0, data_range]``.
    affine : bool
        Whether to fit scale and offset of each estimate to the clean image first, which gives
        the scale-invariant PSNR.
    axes : str, optional
        Axes of the images, where the files do not say.

    Returns
    -------
    dict
        For each image by name, and for ``"mean"``: ``psnr`` in dB and ``ssim``, which is taken
        plane by plane.

    Raises
    ------
    UserError
        If images cannot be paired, differ in shape, or the clean one exceeds the range.
    """
    estimates, truths = find_images(denoised), find_images(clean)
    by_name = {Path(path).stem: path for path in truths}
    rows: dict[str, dict[str, float]] = {}
    for path in estimates:
        name = Path(path).name
        match = truths[0] if len(truths) == 1 else by_name.get(Path(path).stem)
        if match is None:
            raise UserError(f"{name}: no clean image of that name in {clean}")
        x, image = read_image(path, axes), read_image(match, axes)
        if x.data.shape != image.data.shape:
            raise UserError(
                f"{name} has shape {x.data.shape}, but {Path(match).name} has {image.data.shape}"
            )
        truth = np.asarray(image.data, dtype=np.float64)
        if truth.max() > data_range:
            raise UserError(
                f"{Path(match).name} reaches {truth.max():g}, above the data range {data_range:g}; "
                "give --data-range"
            )
        estimate = np.asarray(x.data, dtype=np.float64)
        rows[name] = compare(estimate, truth, x.axes, data_range, affine)
    mean = {key: float(np.mean([row[key] for row in rows.values()])) for key in ("psnr", "ssim")}
    return rows | {"mean": mean}


def compare(
    estimate: np.ndarray, truth: np.ndarray, axes: str, data_range: float, affine: bool = False
) -> dict[str, float]:
    """Give PSNR and SSIM of one estimate; see `evaluate`."""
    if affine:
        part = np.stack([estimate.ravel(), np.ones(estimate.size)], axis=1)
        (slope, shift), *_ = np.linalg.lstsq(part, truth.ravel(), rcond=None)
        estimate = slope * estimate + shift
    estimate = np.clip(estimate, 0, data_range)
    error = float(np.mean((estimate - truth) ** 2))
    psnr = 10 * np.log10(data_range**2 / error) if error else float("inf")
    order = [axes.index(a) for a in "TCZYX" if a in axes]
    pairs: Any = zip(*(_planes(a.transpose(order)) for a in (estimate, truth)), strict=True)
    ssim = np.mean([structural_similarity(a, b, data_range=data_range) for a, b in pairs])
    return {"psnr": float(psnr), "ssim": float(ssim)}


def _planes(image: np.ndarray) -> np.ndarray:
    return image.reshape(-1, *image.shape[-2:])
