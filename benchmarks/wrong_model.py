"""Measure what is lost where the noise model is not quite right.

    python benchmarks/wrong_model.py DATA [--steps 100] [--models FOLDER] [--polish]

Two photographs are given noise that their noise model does not quite describe, and a score is
learned of them. PSNR (range 255) of the noisy images; of s = f without and with pooling under the
wrong noise model, and polished; and of s = f with pooling in the right case: the same noise with
its own model, or the same images without what the model cannot describe. What was clipped is lost:
results and photographs are then compared within the grey levels that were recorded. Trained models
are saved in FOLDER and loaded from there in later runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from keep import load_or_train
from sixteen import load, mean_psnr
from table import table

from napari_noise2score import ScoreModel, denoise, parse_noise, polish, train
from napari_noise2score.noise import Empirical, NoiseModel

SIGMA = 25.0
LOOKS = 2.0  # of log-compressed speckle
STRETCH = 1.7


class Case(NamedTuple):
    """Noisy images, the noise model that is used, and the right case."""

    name: str
    noisy: list[np.ndarray]
    used: str
    right: list[np.ndarray]
    right_noise: NoiseModel | str
    unit: float = 1.0
    limits: tuple[float, float] = (-np.inf, np.inf)


def log_speckle(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return the logarithm of speckle, of mean 0 and standard deviation `SIGMA`."""
    drawn = np.log(rng.gamma(LOOKS, size=(100_000 + int(np.prod(shape)))))
    values: np.ndarray = (drawn - drawn.mean()) / drawn.std() * SIGMA
    return values[-int(np.prod(shape)) :].reshape(shape)


def cases(clean: list[np.ndarray]) -> list[Case]:
    """Return one case of each kind."""
    rng = np.random.default_rng(0)

    def noisy(noise: str) -> list[np.ndarray]:
        return [parse_noise(noise).sample(x, rng) for x in clean]

    white = [x + rng.normal(0, SIGMA, x.shape) for x in clean]
    clipped = [np.clip(np.rint(y), 30, 190).astype(np.uint8) for y in white]
    speckle = [x + log_speckle(x.shape, rng) for x in clean]
    measured = Empirical.from_sampler(
        lambda x, rng: x + log_speckle(x.shape, rng), np.linspace(0, 255, 64)
    )
    poisson = noisy("poisson(gain=5)")
    correlated = [x + correlated_noise(x.shape, rng) for x in clean]
    comb = [np.rint(np.rint(y.clip(0, 255)) * STRETCH).astype(np.uint16) for y in white]
    stretched = [y.clip(0, 255) * STRETCH for y in white]
    mixed = noisy("gamma(alpha=26) + gaussian(sigma=10)")
    gaussian = f"gaussian(sigma={SIGMA:g})"
    wide = f"gaussian(sigma={STRETCH * SIGMA:g})"
    return [
        Case("clipped at 30 and 190", clipped, gaussian, white, gaussian, limits=(30, 190)),
        Case("log-compressed speckle as Gaussian", speckle, gaussian, speckle, measured),
        Case("gain 20 % too high", poisson, "poisson(gain=6)", poisson, "poisson(gain=5)"),
        Case("gain 20 % too low", poisson, "poisson(gain=4)", poisson, "poisson(gain=5)"),
        Case("neighbour correlation 0.1", correlated, gaussian, white, gaussian),
        Case("stretched grey levels", comb, wide, stretched, wide, STRETCH),
        Case("gamma and Gaussian as Poisson", mixed, "poisson(gain=4.5)", mixed,
             "gamma(alpha=26) + gaussian(sigma=10)"),
    ]  # fmt: skip


def correlated_noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise whose neighbours along Y and X have a correlation of 0.1."""
    frequencies = [2 * np.pi * np.fft.fftfreq(n) for n in shape]
    power = 1 + 0.2 * (np.cos(frequencies[0])[:, None] + np.cos(frequencies[1]))
    spectrum = np.fft.fft2(rng.normal(0, SIGMA, shape)) * np.sqrt(power)
    noise: np.ndarray = np.fft.ifft2(spectrum).real
    return noise


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--polish", action="store_true")
    options = parser.parse_args()
    images = load(options.data / "natural" / "Set12", False)
    clean = [x[:256, :256] for x in images if min(x.shape) >= 256][:2]
    learned: dict[int, ScoreModel] = {}
    add = table(
        "wrong_model", "case", "noisy", "s = f", "pooled", "polished", "pooled, right model"
    )

    def learn(noisy: list[np.ndarray], name: str) -> ScoreModel:
        def train_model() -> ScoreModel:
            return train(noisy, axes="YX", steps=options.steps)

        if id(noisy) not in learned:
            learned[id(noisy)] = load_or_train(options.models, name, train_model)
        return learned[id(noisy)]

    def quality(noisy: list[np.ndarray], case: Case, solve: Callable[[np.ndarray], np.ndarray]):
        found = [np.clip(solve(y) / case.unit, *case.limits) for y in noisy]
        return mean_psnr(found, [np.clip(x, *case.limits) for x in clean], "YX")

    for case in cases(clean):
        model = learn(case.noisy, case.name.replace(" ", "_"))
        right = learn(case.right, f"{case.name}_right".replace(" ", "_"))
        polished = polish(case.noisy, model, case.used, axes="YX") if options.polish else None

        def solved(model: ScoreModel, noise, with_polish=None):
            def solve(y: np.ndarray) -> np.ndarray:
                out = np.empty(y.shape, np.float32)
                return denoise(y, model, noise, out, axes="YX", polish=with_polish)

            return solve

        alone = replace(model, score_errors=())
        figures = {
            "noisy": quality(case.noisy, case, lambda y: y),
            "alone": quality(case.noisy, case, solved(alone, case.used)),
            "pooled": quality(case.noisy, case, solved(model, case.used)),
        }
        if polished is not None:
            figures["polished"] = quality(case.noisy, case, solved(model, case.used, polished))
        figures["right"] = quality(case.right, case, solved(right, case.right_noise))
        names = "noisy", "alone", "pooled", "polished", "right"
        add(case.name, *(f"{figures[k]:.2f}" if k in figures else "" for k in names))


if __name__ == "__main__":
    main()
