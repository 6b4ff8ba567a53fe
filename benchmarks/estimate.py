"""How well the noise of images is told from the images: family, parameters, correlation.

    python benchmarks/estimate.py DATA [--set Kodak24] [--images 12] [--only FAMILY ...]
        [--sources SOURCE ...] [--csv OUT]

The first gray images of DATA/natural/SET, the micrographs of DATA/w2s/avg400 and the embedded stack
(its truth, made noisy again; one stack for every four images) get noise of every family at three
levels, in float, neither clipped nor rounded. The noise is estimated from four shots and from
a single one (the stack: four time points or one, eight planes); the images of SET also together, as
one data set. The micrographs, averages of 400 frames, are blurred by a pixel: what noise is left in
them would count as noise that was added.

A case counts as "right" where the family is the one that was drawn from. Poisson noise with or
without an offset and with or without read noise is one family, the camera: each is a special case
of the next. So is everything else with and without read noise next to nothing. "Same" also counts
what has another name but is the same noise where the image is dark, middling and bright (5th,
50th and 95th percentile): a standard deviation within 5 % and a skewness within 0.1. Rician noise
far above its σ and Gaussian noise are such a pair.

Errors are relative: of each parameter of the true model, 100 % where what was found has none; of
the standard deviation of the noise, the largest of dark, middle and bright; of kernels, the
largest of a tap, absolute. The interval column is the share of parameters inside their 95 %
confidence interval. Median and worst case, the family right or not.
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

from napari_noise2score import Image, UserError, estimate_noise, parse_noise
from napari_noise2score.estimation._flatness import smooth
from napari_noise2score.noise import Gaussian, NoiseModel, Poisson
from napari_noise2score.sample import simulate_cells

# of images with grey levels up to 255, and of the stack, which has 8 to about 100
LEVELS = {
    "gaussian": (["gaussian(sigma={})"], [(5,), (25,), (50,)], [(1,), (3,), (10,)]),
    "growing gaussian": (
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
    f"{name}, {shots}"
    for name in ("images", "data set", "micrographs", "stack")
    for shots in ("4 shots", "1 shot")
]
QUANTILES = 0.05, 0.5, 0.95
SAME_STD, SAME_SKEW = 0.05, 0.1


def pictures(source: str, data: Path, name: str, count: int) -> Iterator[np.ndarray]:
    """Give the clean pictures."""
    if source.startswith("micrographs"):
        for path in sorted((data / "w2s" / "avg400").glob("*.*")):
            yield smooth(iio.imread(path).astype(float), 1.0)
        return
    yield from load(data / "natural" / name, False, count)


def cases(source: str, given: argparse.Namespace, noise: NoiseModel, level: int) -> Iterator[tuple]:
    """Give clean pixels, noisy image and axes of each case."""
    count = int(source.split(", ")[1].split()[0])
    if source.startswith("stack"):
        for seed in range(-(-given.images // 4)):
            clean = simulate_cells((4, 8, 256, 256), seed)[1][:count].astype(float)
            random = np.random.default_rng([level, seed])
            yield clean, noise.sample(clean, random), "TZYX"
        return
    together = []
    for i, clean in enumerate(pictures(source, given.data, given.set, given.images)):
        random = np.random.default_rng([level, i])
        shots = np.stack([noise.sample(clean, random) for _ in range(count)])
        if source.startswith("data set"):
            together.append((clean.ravel(), Image(shots, "TYX")))
        else:
            yield clean, shots, "TYX"
    if together:
        pixels, images = zip(*together, strict=True)
        yield np.concatenate(pixels), list(images), None


def parameters(noise: NoiseModel) -> dict[str, float]:
    """Name what the model was given, as confidence intervals do."""
    base, _, read = noise.components
    values = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    values = {k: v for k, v in values.items() if v and not (k == "offset" and v == 0)}
    return values | ({"read noise": read} if read else {})


def family(noise: NoiseModel) -> tuple:
    base, kernel, read = noise.components
    growing = isinstance(base, Gaussian) and not base.constant_variance
    own_read = bool(read) and not isinstance(base, Poisson)
    return type(base), growing, own_read, kernel is not None


def three_moments(noise: NoiseModel, mean: torch.Tensor) -> np.ndarray:
    """Give the standard deviation and the skewness where y has these means."""
    rows = []
    for m in mean:
        x = noise.clean_from_mean(m[None]).clamp(min=noise.lowest)
        width = float(noise.variance(x)[0]) ** 0.5
        if noise.components.kernel is not None or width == 0:
            rows.append((width, 0.0))
            continue
        edges = float(m) + width * torch.linspace(-10, 14, 6001, dtype=torch.float64)
        mass, middle = noise.bin_probabilities(edges, x)[0], noise.bin_centers(edges)
        away = middle - (mass * middle).sum() / mass.sum()
        third = float((mass * away**3).sum() / mass.sum())
        rows.append((width, third / width**3))
    return np.array(rows)


def examine(noise: NoiseModel, clean: np.ndarray, noisy: Any, axes: str | None) -> dict:
    """Estimate one case and compare."""
    try:
        estimate = estimate_noise(noisy, axes=axes)
    except UserError as error:
        return {"found": str(error), "right": False, "same": False, "failed": True}
    found = estimate.noise
    mean = noise.mean(torch.tensor(np.quantile(clean, QUANTILES)))
    own, other = three_moments(noise, mean), three_moments(found, mean)
    off = np.abs(other[:, 0] / own[:, 0] - 1)
    right = family(found) == family(noise)
    kernels = noise.components.kernel, found.components.kernel
    same = (kernels[0] is None) == (kernels[1] is None)
    same &= bool(off.max() <= SAME_STD and np.abs(other - own)[:, 1].max() <= SAME_SKEW)
    row = {"found": str(found), "right": right, "same": right or same, "failed": False}
    given, got = parameters(noise), parameters(found)
    intervals = estimate.intervals
    for name, value in given.items():
        row[f"error of {name}"] = abs(got[name] / value - 1) if right and name in got else 1.0
        if name in intervals:  # the excess of multiplied counts is chosen, and has none
            low, high = intervals[name]
            row[f"{name} inside"] = float(low <= value <= high) if right else np.nan
    row |= {f"std {n}": v for n, v in zip(("dark", "middle", "bright"), off, strict=True)}
    if all(kernels):
        row["kernel"] = kernel_error(*kernels)
    elif kernels[0]:
        row["kernel"] = 1.0
    return row


def kernel_error(first, second) -> float:
    arrays = [np.array(k.taps) / k.total for k in (first, second)]
    size = np.max([a.shape for a in arrays], axis=0)
    wide = [
        np.pad(a, [((n - m) // 2,) * 2 for n, m in zip(size, a.shape, strict=True)]) for a in arrays
    ]
    return float(np.abs(wide[0] - wide[1]).max())


def spread(values: list[float], factor: float = 100) -> str:
    return f"{factor * np.median(values):.3g} ({factor * max(values):.3g})"


def summary(rows: list[dict]) -> str:
    """One line of the table: median and worst case."""
    good = [row for row in rows if not row["failed"]]
    cells = [f"{np.mean([row[key] for row in rows]):.0%}" for key in ("right", "same")]
    if good:
        names = [key for key in good[0] if key.startswith("error of ")]
        cells.append(", ".join(
            f"{key[9:]} {spread([row[key] for row in good])}" for key in names
        ))  # fmt: skip
        ends = "dark", "middle", "bright"
        cells.append(spread([max(row[f"std {n}"] for n in ends) for row in good]))
        inside = [v for row in good for k, v in row.items() if k.endswith(" inside")]
        inside = [v for v in inside if np.isfinite(v)]
        cells.append(f"{np.mean(inside):.0%}" if inside else "–")
        cells.append(spread([r["kernel"] for r in good], 1) if "kernel" in good[0] else "–")
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", default="Kodak24")
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--only", nargs="*", default=list(LEVELS))
    parser.add_argument("--sources", nargs="*", default=SOURCES)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    every = []
    print("noise | source | right | same | parameters, % | std, % | inside interval | kernel")
    for name in given.only:
        (text,), *levels = LEVELS[name]
        for source in given.sources:
            for level, values in enumerate(levels[source.startswith("stack")]):
                spelled = text.format(*values)
                noise = parse_noise(spelled)
                rows = [
                    {"noise": spelled, "source": source, "case": i} | examine(noise, *case)
                    for i, case in enumerate(cases(source, given, noise, level))
                ]
                every += rows
                print(f"`{spelled}` | {source} | {summary(rows)}", flush=True)
    for source in given.sources:
        rows = [row for row in every if row["source"] == source]
        right, same = (np.mean([row[key] for row in rows]) for key in ("right", "same"))
        print(f"{source}: family right {right:.1%}, same noise {same:.1%} of {len(rows)} cases")
    if given.csv:
        keys = list(dict.fromkeys(key for row in every for key in row))
        with given.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, keys)
            writer.writeheader()
            writer.writerows(every)


if __name__ == "__main__":
    main()
