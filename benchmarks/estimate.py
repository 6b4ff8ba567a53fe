"""Measure how well the noise of images is estimated: family, parameters and correlation.

    python benchmarks/estimate.py DATA [--set Kodak24] [--images 12] [--only FAMILY ...]
        [--sources SOURCE ...] [--csv OUT]

Noise of every family at three levels is added to the first gray images of DATA/natural/SET, to the
micrographs of DATA/w2s/avg400, and to the embedded stack (to its clean version; one stack per four
images). Pixels are floating-point numbers, neither clipped nor rounded. The noise is estimated from
four frames and from one (of the stack: four time points of eight planes, or one); for the images of
SET also from all images together, as one data set. The micrographs are averages of 400 frames and
are blurred by one pixel, because the noise left in them would count as added noise.

A case counts as "right" if the estimated family is that of the added noise. Poisson noise with or
without an offset and with or without read noise is one family, the camera, because each of them is
a special case of the next. "Same" also counts an estimate of another family that describes the same
noise at the 5th, 50th and 95th percentile of the clean image: a standard deviation within 5 % and a
skewness within 0.1. For example, Rician noise far above its σ is the same as Gaussian noise.

Errors are relative. A parameter of the true model that the estimate lacks has an error of 100 %.
For the standard deviation, the largest error at the three percentiles counts; for kernels, the
largest absolute error of a coefficient. The interval column is the share of parameters inside their
95 % confidence interval. Median and worst case are printed, whether or not the family is right.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from sixteen import load
from table import table

from napari_noise2score import Image, UserError, estimate_noise, parse_noise
from napari_noise2score.estimation._flatness import smooth
from napari_noise2score.noise import Gaussian, NoiseModel, Poisson
from napari_noise2score.sample import simulate_cells

# the text of each family, its parameters for images (grey levels up to 255), and its parameters for
# the stack (grey levels from 8 to about 100)
LEVELS = {
    "gaussian": (["gaussian(sigma={})"], [(5,), (25,), (50,)], [(1,), (3,), (10,)]),
    "signal-dependent gaussian": (
        ["gaussian(a={}, b={})"],
        [(0.02, 5), (0.05, 10), (0.098, 25)],
        [(0.05, 1), (0.1, 2), (0.2, 4)],
    ),
    "poisson": (["poisson(gain={})"], [(1,), (5,), (20,)], [(0.5,), (2,), (8,)]),
    "camera": (
        ["poisson(gain={}, offset=100) + gaussian(sigma={})"],
        [(1, 3), (2, 5), (5, 10)],
        [(0.5, 2), (2, 3), (5, 10)],
    ),
    "gamma": (["gamma(alpha={})"], [(120,), (40,), (10,)], [(120,), (40,), (10,)]),
    "rayleigh": (["rayleigh(sigma={})"], [(0.1,), (0.2,), (0.3,)], [(0.1,), (0.2,), (0.3,)]),
    "nakagami": (["nakagami(m={})"], [(16,), (4,), (1,)], [(16,), (4,), (1,)]),
    "rician": (["rician(sigma={})"], [(10,), (20,), (40,)], [(2,), (5,), (10,)]),
    "tweedie": (
        ["tweedie(power={}, dispersion={})"],
        [(1.3, 2), (1.5, 1), (1.7, 0.5)],
        [(1.3, 1), (1.5, 1), (1.7, 0.5)],
    ),
    "emccd": (
        ["emccd(gain={}, offset=20)"],
        [(0.5,), (2,), (10,)],
        [(0.25,), (1,), (4,)],
    ),
    "photomultiplier": (
        ["emccd(gain={}, offset=20, excess=1.25)"],
        [(0.8,), (4,), (16,)],
        [(0.4,), (1.6,), (6,)],
    ),
    "gaussian @ A": (["gaussian(sigma={}) @ A"], [(10,), (25,), (50,)], [(3,), (5,), (10,)]),
    "poisson @ A": (["poisson(gain={}) @ A"], [(1,), (5,), (20,)], [(0.5,), (2,), (8,)]),
    "gamma @ A": (["gamma(alpha={}) @ A"], [(120,), (40,), (10,)], [(120,), (40,), (10,)]),
}
SOURCES = [
    f"{name}, {frames}"
    for name in ("images", "data set", "micrographs", "stack")
    for frames in ("4 frames", "1 frame")
]
QUANTILES = 0.05, 0.5, 0.95
MAX_STD_ERROR, MAX_SKEWNESS_ERROR = 0.05, 0.1  # for two models to count as the same noise


def clean_images(source: str, data: Path, name: str, count: int) -> Iterator[np.ndarray]:
    """Yield the clean images of a source."""
    if source.startswith("micrographs"):
        for path in sorted((data / "w2s" / "avg400").glob("*.*")):
            yield smooth(iio.imread(path).astype(float), 1.0)
        return
    yield from load(data / "natural" / name, False, count)


def cases(
    source: str, options: argparse.Namespace, noise: NoiseModel, level: int
) -> Iterator[tuple]:
    """Yield clean pixels, noisy image and axes of each case."""
    count = int(source.split(", ")[1].split()[0])
    if source.startswith("stack"):
        for seed in range(-(-options.images // 4)):
            clean = simulate_cells((4, 8, 256, 256), seed)[1][:count].astype(float)
            rng = np.random.default_rng([level, seed])
            yield clean, noise.sample(clean, rng), "TZYX"
        return
    data_set = []
    for i, clean in enumerate(clean_images(source, options.data, options.set, options.images)):
        rng = np.random.default_rng([level, i])
        frames = np.stack([noise.sample(clean, rng) for _ in range(count)])
        if source.startswith("data set"):
            data_set.append((clean.ravel(), Image(frames, "TYX")))
        else:
            yield clean, frames, "TYX"
    if data_set:
        pixels, images = zip(*data_set, strict=True)
        yield np.concatenate(pixels), list(images), None


def parameters(noise: NoiseModel) -> dict[str, float]:
    """Return the nonzero parameters of a noise model, under the names of their intervals."""
    base, _, read = noise.components
    values = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    values = {k: v for k, v in values.items() if v and not (k == "offset" and v == 0)}
    return values | ({"read noise": read} if read else {})


def family(noise: NoiseModel) -> tuple:
    """Return what must agree for two noise models to count as the same family."""
    base, kernel, read = noise.components
    signal_dependent = isinstance(base, Gaussian) and not base.constant_variance
    has_read_noise = bool(read) and not isinstance(base, Poisson)
    return type(base), signal_dependent, has_read_noise, kernel is not None


def std_and_skewness(noise: NoiseModel, mean: torch.Tensor) -> np.ndarray:
    """Return the standard deviation and skewness of y at each mean of y, shape ``(mean, 2)``."""
    rows = []
    for m in mean:
        x = noise.clean_from_mean(m[None]).clamp(min=noise.lowest)
        std = float(noise.variance(x)[0]) ** 0.5
        if noise.components.kernel is not None or std == 0:
            rows.append((std, 0.0))
            continue
        edges = float(m) + std * torch.linspace(-10, 14, 6001, dtype=torch.float64)
        mass, middle = noise.bin_probabilities(edges, x)[0], noise.bin_centers(edges)
        deviation = middle - (mass * middle).sum() / mass.sum()
        third = float((mass * deviation**3).sum() / mass.sum())
        rows.append((std, third / std**3))
    return np.array(rows)


def examine(noise: NoiseModel, clean: np.ndarray, noisy: Any, axes: str | None) -> dict:
    """Estimate the noise of one case and compare it with the true noise."""
    try:
        estimate = estimate_noise(noisy, axes=axes)
    except UserError as error:
        return {"found": str(error), "right": False, "same": False, "failed": True}
    found = estimate.noise
    mean = noise.mean(torch.tensor(np.quantile(clean, QUANTILES)))
    true_moments, found_moments = std_and_skewness(noise, mean), std_and_skewness(found, mean)
    std_error = np.abs(found_moments[:, 0] / true_moments[:, 0] - 1)
    right = family(found) == family(noise)
    kernels = noise.components.kernel, found.components.kernel
    same = (kernels[0] is None) == (kernels[1] is None)
    same &= bool(
        std_error.max() <= MAX_STD_ERROR
        and np.abs(found_moments - true_moments)[:, 1].max() <= MAX_SKEWNESS_ERROR
    )
    row = {"found": str(found), "right": right, "same": right or same, "failed": False}
    true_parameters, found_parameters = parameters(noise), parameters(found)
    intervals = estimate.intervals
    for name, value in true_parameters.items():
        row[f"error of {name}"] = (
            abs(found_parameters[name] / value - 1) if right and name in found_parameters else 1.0
        )
        if name in intervals:  # the excess factor has none, as it is chosen and not fitted
            low, high = intervals[name]
            row[f"{name} inside"] = float(low <= value <= high) if right else np.nan
    row |= {f"std {n}": v for n, v in zip(("dark", "middle", "bright"), std_error, strict=True)}
    if all(kernels):
        row["kernel"] = kernel_error(*kernels)
    elif kernels[0]:
        row["kernel"] = 1.0
    return row


def kernel_error(first, second) -> float:
    arrays = [np.array(k.taps) / k.total for k in (first, second)]
    size = np.max([a.shape for a in arrays], axis=0)
    padded = [
        np.pad(a, [((n - m) // 2,) * 2 for n, m in zip(size, a.shape, strict=True)]) for a in arrays
    ]
    return float(np.abs(padded[0] - padded[1]).max())


def median_and_worst(values: list[float], factor: float = 100) -> str:
    return f"{factor * np.median(values):.3g} ({factor * max(values):.3g})"


def summary(rows: list[dict]) -> list[str]:
    """Return the cells of one row of the table: median and worst case."""
    good = [row for row in rows if not row["failed"]]
    cells = [f"{np.mean([row[key] for row in rows]):.0%}" for key in ("right", "same")]
    if good:
        names = [key for key in good[0] if key.startswith("error of ")]
        cells.append(", ".join(
            f"{key[9:]} {median_and_worst([row[key] for row in good])}" for key in names
        ))  # fmt: skip
        ends = "dark", "middle", "bright"
        cells.append(median_and_worst([max(row[f"std {n}"] for n in ends) for row in good]))
        inside = [v for row in good for k, v in row.items() if k.endswith(" inside")]
        inside = [v for v in inside if np.isfinite(v)]
        cells.append(f"{np.mean(inside):.0%}" if inside else "–")
        cells.append(
            median_and_worst([r["kernel"] for r in good], 1) if "kernel" in good[0] else "–"
        )
    return cells + [""] * (6 - len(cells))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", default="Kodak24")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--only", nargs="*", default=list(LEVELS))
    parser.add_argument("--sources", nargs="*", default=SOURCES)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    all_rows = []
    add = table(
        "estimate_cases", "noise", "source", "right", "same", "parameters, error in %",
        "std, error in %", "inside interval", "kernel",
    )  # fmt: skip
    for name in options.only:
        (template,), *levels = LEVELS[name]
        for source in options.sources:
            for level, values in enumerate(levels[source.startswith("stack")]):
                text = template.format(*values)
                noise = parse_noise(text)
                rows = [
                    {"noise": text, "source": source, "case": i} | examine(noise, *case)
                    for i, case in enumerate(cases(source, options, noise, level))
                ]
                all_rows += rows
                add(text, source, *summary(rows))
    for source in options.sources:
        rows = [row for row in all_rows if row["source"] == source]
        right, same = (np.mean([row[key] for row in rows]) for key in ("right", "same"))
        print(f"{source}: family right {right:.1%}, same noise {same:.1%} of {len(rows)} cases")
    if options.csv:
        keys = list(dict.fromkeys(key for row in all_rows for key in row))
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, keys)
            writer.writeheader()
            writer.writerows(all_rows)


if __name__ == "__main__":
    main()
