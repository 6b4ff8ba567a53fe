"""Compare denoised images with clean ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from skimage.metrics import structural_similarity

from ..errors import UserError
from ..image.axes import LETTERS
from ..image.files import find_images, read_image
from ..image.image import Image
from ..image.valid import valid_of

SSIM_WINDOW = 7


def evaluate(
    denoised: str,
    clean: str,
    *,
    data_range: float | None = None,
    affine: bool = False,
    axes: str | None = None,
) -> dict[str, dict[str, float | None]]:
    """Measure PSNR and SSIM of images against clean ones.

    Parameters
    ----------
    denoised, clean : str
        A file, folder or glob each. Images are paired by name without ending; a single clean
        one serves for all.
    data_range : float, optional
        Grey levels from black to white. By default 255 where the clean images are of 8 bits,
        otherwise from the lowest to the highest grey level of all of them. Where it is given, or
        255, and no clean image is negative, estimates are clipped to ``[0, data_range]``.
    affine : bool
        Whether to fit scale and offset of each estimate to the clean image first, which gives
        the scale-invariant PSNR.
    axes : str, optional
        Axes of the images, where the files do not say.

    Returns
    -------
    dict
        For each image by name, and for ``"mean"``: ``psnr`` in dB, infinite for equal images;
        ``ssim``, taken plane by plane, None where planes are smaller than its window of 7 pixels;
        and ``data range``.

    Raises
    ------
    UserError
        If images cannot be paired, differ in shape, hold pixels that are not numbers, or a clean
        one exceeds the range or is of one grey level.
    """
    if data_range is not None and not 0 < data_range < float("inf"):
        raise UserError(f"data range {data_range:g}: give a positive number of grey levels")
    estimates, truths = find_images(denoised), find_images(clean)
    by_name = {Path(path).stem: path for path in truths}
    pairs: list[tuple[Any, Any]] = []
    for path in estimates:
        match = truths[0] if len(truths) == 1 else by_name.get(Path(path).stem)
        if match is None:
            raise UserError(f"{Path(path).name}: no clean image of that name in {clean}")
        pairs.append((path, match))
    used = list(dict.fromkeys(match for _, match in pairs))
    given = data_range is not None
    if data_range is None:
        data_range, given = _range_of(used, axes)
    rows: dict[str, dict[str, float | None]] = {}
    for path, match in pairs:
        x, image = read_image(path, axes), read_image(match, axes)
        name = Path(path).name
        if x.data.shape != image.data.shape:
            raise UserError(
                f"{name} has shape {x.data.shape}, but {Path(match).name} has {image.data.shape}"
            )
        truth, estimate = _pixels(image, match), _pixels(x, path)
        low = min(0.0, float(truth.min())) if given else float(truth.min())
        if truth.max() - low > data_range * (1 + 1e-9):
            raise UserError(
                f"{Path(match).name} spans {low:g} to {truth.max():g}, more than the data range "
                f"{data_range:g}; give --data-range"
            )
        clip = given and low == 0
        valid = _valid_pixels(x, image)
        rows[name] = compare(estimate, truth, x.axes, data_range, affine, clip=clip, valid=valid)
        rows[name]["data range"] = float(data_range)
    mean = {key: _mean([row[key] for row in rows.values()]) for key in ("psnr", "ssim")}
    return rows | {"mean": mean | {"data range": float(data_range)}}


def compare(
    estimate: np.ndarray,
    truth: np.ndarray,
    axes: str,
    data_range: float,
    affine: bool = False,
    *,
    clip: bool = True,
    valid: np.ndarray | None = None,
) -> dict[str, float | None]:
    """Return PSNR and SSIM of one estimate, of the valid pixels alone; see `evaluate`.

    Examples
    --------
    >>> truth = np.arange(25.0).reshape(5, 5)
    >>> compare(truth, truth, "YX", 24)
    {'psnr': inf, 'ssim': None}
    """
    use = np.ones(truth.shape, bool) if valid is None else valid
    if affine:
        part = np.stack([estimate[use], np.ones(int(use.sum()))], axis=1)
        (slope, shift), *_ = np.linalg.lstsq(part, truth[use], rcond=None)
        estimate = slope * estimate + shift
    if clip:
        estimate = np.clip(estimate, 0, data_range)
    error = float(np.mean((estimate[use] - truth[use]) ** 2))
    psnr = 10 * np.log10(data_range**2 / error) if error else float("inf")
    order = [axes.index(a) for a in LETTERS if a in axes]
    planes = [_planes(a.transpose(order)) for a in (estimate, truth, use)]
    if min(planes[0].shape[1:]) < SSIM_WINDOW:
        return {"psnr": float(psnr), "ssim": None}
    triples: Any = zip(*planes, strict=True)
    ssim = [_ssim(a, b, part, data_range) for a, b, part in triples]
    whole = [value for value in ssim if value is not None]
    return {"psnr": float(psnr), "ssim": float(np.mean(whole)) if whole else None}


def _ssim(a: np.ndarray, b: np.ndarray, use: np.ndarray, data_range: float) -> float | None:
    """Return the mean structural similarity of the windows around valid pixels of a plane."""
    _, each = structural_similarity(a, b, data_range=data_range, win_size=SSIM_WINDOW, full=True)
    inner = (slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2)),) * 2
    found = each[inner][use[inner]]
    return float(found.mean()) if found.size else None


def _valid_pixels(estimate: Image, truth: Image) -> np.ndarray | None:
    """Return which pixels count: padding that both images have was never recorded."""
    order = sorted(range(len(truth.axes)), key=lambda axis: LETTERS.index(truth.axes[axis]))
    both = np.ones(np.asarray(truth.data).transpose(order).shape, bool)
    for image in (estimate, truth):
        invalid = valid_of(image).invalid(np.asarray(image.data).transpose(order))
        if invalid is None:
            return None
        both &= invalid
    return ~both.transpose(np.argsort(order))


def _range_of(truths: list[Any], axes: str | None) -> tuple[float, bool]:
    """Return the data range of clean images, and whether it is that of their type."""
    images = [read_image(path, axes) for path in truths]
    if all(image.data.dtype == np.uint8 for image in images):
        return 255.0, True
    spans = [
        (float(values.min()), float(values.max()))
        for image, path in zip(images, truths, strict=True)
        if (values := _pixels(image, path)).size
    ]
    low, high = min(a for a, _ in spans), max(b for _, b in spans)
    if low == high:
        raise UserError(f"{Path(truths[0]).name} is of one grey level, {low:g}; give --data-range")
    return high - low, False


def _pixels(image: Image, path: Any) -> np.ndarray:
    values = np.asarray(image.data, dtype=np.float64)
    if not values.size:
        raise UserError(f"{Path(path).name} is empty: its shape is {values.shape}")
    if not np.isfinite(values).all():
        raise UserError(
            f"{Path(path).name} holds pixels that are not numbers (NaN or infinite); "
            "compare images without them"
        )
    return values


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _planes(image: np.ndarray) -> np.ndarray:
    return image.reshape(-1, *image.shape[-2:])
