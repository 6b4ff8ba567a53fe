"""Compare the information of data with that of their noise, and count false alarms.

    python benchmarks/information.py data DATA [--sets oct mri ...] [--steps 150] [--keep FOLDER]
    python benchmarks/information.py alarms DATA [--models 0 1 ...] [--first 0] [--count 5]
                                            [--steps 100]
    python benchmarks/information.py bound DATA [--first 0] [--count 5]

``data`` trains on each data set and prints F = E[s²] (1 + σ_a²) and −loss on held-out patches and
on patches of the training, the information of the estimated noise model and of Gaussian noise of
the same variance, and what the noise check says about both.

``alarms`` trains a small network on a small simulated image per noise model and photograph, and
counts how often the noise check finds something although the noise model is the right one.
``bound`` does the same without training, with the best score that is possible, that of pixels whose
x is known: a trained score finds less information. ``--models`` (numbers of the noise models),
``--first`` and ``--count`` (photographs) choose the cases, so that a run can be made in pieces.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import imageio.v3 as iio
import numpy as np
import tifffile
import torch
from keep import load_or_train
from scipy import ndimage
from table import table

from napari_noise2score import NoiseModel, estimate_noise, parse_noise, train
from napari_noise2score.errors import UserError
from napari_noise2score.estimation.information import check_information, compare_information
from napari_noise2score.image.axes import layout
from napari_noise2score.noise import Gaussian
from napari_noise2score.score import _trainer, information
from napari_noise2score.score._survey import survey
from napari_noise2score.solve._score_grid import tabulate_noise, tabulated_scores

NOISES = [
    "gaussian(sigma=25)", "gaussian(a=0.098, b=25)", "poisson(gain=5)", "poisson(gain=20)",
    "gamma(alpha=26)", "rayleigh(sigma=0.3)", "rician(sigma=40)", "nakagami(m=1)",
    "tweedie(power=1.5, dispersion=1)", "emccd(gain=8, offset=20, excess=1.25) + gaussian(sigma=2)",
    "poisson(gain=5) + gaussian(sigma=10)", "gaussian(sigma=25) @ A", "poisson(gain=5) @ A",
    "gamma(alpha=26) @ A + gaussian(sigma=10)",
]  # fmt: skip
FMD = [
    "TwoPhoton_MICE", "TwoPhoton_BPAE_B", "Confocal_BPAE_B", "Confocal_FISH", "WideField_BPAE_G",
]  # fmt: skip
SIDE = 128  # pixels of a simulated image
HELD_OUT_SIDE, PATCHES = 64, 16
SMALL_WIDTH, SMALL_BATCH = 16, 4  # of the network for simulated images, and of its batches
ROWS_PER_SIGMA_A = 4


def load(data: Path, name: str) -> tuple[np.ndarray, str]:
    if name in FMD:
        paths = sorted((data / "fmd/raw").glob(f"{name}_?.png"))
        return np.stack([iio.imread(path) for path in paths]), "TYX"
    if name == "w2s":
        return tifffile.imread(data / "w2s/avg1/input_avg1_001_1.tif"), "YX"
    files = {
        "oct": ("oct/1/test.tif", "YX"), "mri": ("mri/rician60.tif", "ZYX"),
        "sar": ("sar/noisy.tif", "ZYX"), "lowlight": ("lowlight/noisy.tif", "TYX"),
    }  # fmt: skip
    path, axes = files[name]
    return tifffile.imread(data / path), axes


def measure_data(options: argparse.Namespace) -> None:
    add = table(
        "information_data", "data", "σ_a", "F", "−loss", "training F", "training −loss", "noise",
        "−loss / its F", "its F", "verdict",
    )  # fmt: skip
    for name in options.sets:
        y, axes = load(options.data, name)
        model = load_or_train(
            options.keep,
            name,
            lambda y=y, axes=axes: train(y, axes=axes, steps=options.steps, context="none"),
        )
        found = model.information
        row = [
            name, f"{found.sigma_a:.2f}", f"{found.overall:.2f}", f"{-found.overall_loss:.2f}",
            f"{found.training_information:.2f}", f"{-found.training_loss:.2f}",
        ]  # fmt: skip
        try:
            report = estimate_noise(y, axes=axes)
        except UserError as error:
            add(*row, "not estimated", "", "", error)
            noises: list[tuple[NoiseModel, tuple[float, float]]] = [
                (
                    Gaussian(
                        float(torch.sqrt(model.transform.variance(torch.tensor(float(y.mean())))))
                    ),
                    (1, 1),
                )
            ]
        else:
            curve = report.check.curve
            gaussian = Gaussian(float(np.sqrt(np.median(curve.variance))))
            # as strong as the noise is where the image is dark, and where it is bright
            noises = [(report.noise, curve.strengths()), (gaussian, (1, 1))]
        for noise, strengths in noises:
            whole, *_ = compare_information(model, noise, strengths)
            bound = -found.overall_loss / whole.structure
            verdict = check_information(model, noise, strengths)
            add(*row, noise, f"{bound:.2f}", f"{whole.structure:.2f}", verdict)


def simulated(data: Path, text: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of a photograph, and the same with noise."""
    image = iio.imread(data / f"natural/Set12/{number % 12 + 1:02d}.png").astype(np.float64)
    start = [(n - SIDE) // 2 for n in image.shape]
    x = np.maximum(image[start[0] : start[0] + SIDE, start[1] : start[1] + SIDE], 1)
    y = parse_noise(text).sample(x, np.random.default_rng(number))
    return x, y.astype(np.float32)


def count_alarms(options: argparse.Namespace, best_score: bool) -> None:
    alarms, cases = 0, 0
    add = table("information_alarms", "noise", "image", "structure", "score", "limit", "verdict")
    for text in [NOISES[i] for i in options.models]:
        noise = parse_noise(text)
        if best_score and noise.components.kernel is not None:
            continue
        for number in range(options.first, options.first + options.count):
            x, y = simulated(options.data, text, number)
            model: Any
            if best_score:
                model = with_best_score(noise, x, y)
            else:
                kernel = noise.components.kernel
                with (
                    patch.object(_trainer, "NETWORK_WIDTH", SMALL_WIDTH),
                    patch.dict(_trainer.BATCH_SIZE, {2: SMALL_BATCH}),
                ):
                    model = train(y, steps=options.steps, seed=number, correlation=kernel)
            compared = compare_information(model, noise)
            verdict = check_information(model, noise)
            alarms, cases = alarms + bool(verdict), cases + 1
            highest = max(compared, key=lambda part: part.structure - part.limit)
            figures = highest.structure, highest.score, highest.limit
            add(text, number, *(f"{figure:.2f}" for figure in figures), verdict)
    print(f"{alarms} false alarms in {cases} cases")


def with_best_score(noise: NoiseModel, x: np.ndarray, y: np.ndarray) -> Any:
    """Return a model whose information is that of the score given x, in a corner of the image."""
    facts = survey([y], [layout("YX", y.shape, 2)], np.random.default_rng(0), None)
    transform, sigma_a = facts["transform"], facts["sigma_a"]
    first, last = transform.forward(torch.tensor([y.min(), y.max()]).double()).tolist()
    margin = 8 * (1 + sigma_a)
    tabulated = tabulate_noise(
        noise, transform, sigma_a, first - 2, last + 2, facts["quantization"]
    )
    count = 2 + int((last - first + 2 * margin) * ROWS_PER_SIGMA_A / sigma_a)
    rows = torch.linspace(first - margin, last + margin, count, dtype=torch.float64)
    f, _ = tabulated_scores(tabulated.masses, tabulated.z, tabulated.sigma, rows)
    table = torch.nan_to_num(f).numpy()
    corner = (slice(-HELD_OUT_SIDE, None),) * 2
    columns = np.interp(x[corner], tabulated.x.numpy(), np.arange(len(tabulated.x)))

    def score(_network: Any, z: torch.Tensor, *_: Any) -> torch.Tensor:
        at = (z.numpy() - float(rows[0])) / float(rows[1] - rows[0])
        values = [
            ndimage.map_coordinates(table, [columns, a[0]], order=1, mode="nearest") for a in at
        ]
        return torch.from_numpy(np.stack(values)[:, None]).float()

    held_out = torch.from_numpy(y[corner].copy()).expand(PATCHES, 1, -1, -1)
    sample = information.PatchSample(held_out, None, HELD_OUT_SIDE**2)
    model = SimpleNamespace(**facts, device="cpu", network=None)
    with patch.object(information, "perturbed_score", score):
        model.information = information.measure_information(model, sample, sample, True, 0)
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["data", "alarms", "bound"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="*", default=["oct", "mri", "sar", "lowlight", *FMD, "w2s"])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--models", nargs="*", type=int, default=range(len(NOISES)))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=5)
    options = parser.parse_args()
    if options.what == "data":
        measure_data(options)
    else:
        count_alarms(options, options.what == "bound")


if __name__ == "__main__":
    main()
