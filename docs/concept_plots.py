"""Draw the plots of docs/concepts.md, in colours that both themes of the site can show.

python docs/concept_plots.py        # needs matplotlib, which the extra "docs" installs
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from scipy.stats import norm, poisson

from napari_noise2score import parse_noise, read_sample
from napari_noise2score.sample import NOISE

mpl.use("svg")
from matplotlib import pyplot as plt

IMAGES = Path(__file__).parent / "images" / "concepts"
GREY, BLUE, ORANGE, GREEN = "#808890", "#4a86e8", "#e8833a", "#3aa675"
STYLE = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 13,
    "legend.frameon": False,
    "legend.labelcolor": GREY,
    "font.family": "sans-serif",
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "napari-noise2score",
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
}
GAIN = 5.0  # of the photons in all plots but the last, in grey levels


def save(figure: plt.Figure, name: str) -> None:
    """Write a figure as SVG, the same bytes in every run."""
    figure.tight_layout()
    figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def noise_model() -> None:
    """Draw how photon counts scatter around three clean grey levels."""
    figure, axis = plt.subplots(figsize=(6, 2.6))
    for x, colour in ((20, BLUE), (60, GREEN), (150, ORANGE)):
        k = np.arange(60)
        axis.vlines(GAIN * k, 0, poisson.pmf(k, x / GAIN), colors=colour, lw=2.5)
        axis.axvline(x, color=colour, ls=":", lw=1)
        axis.annotate(f"x = {x}", (x, 0.005 + poisson.pmf(round(x / GAIN), x / GAIN)), color=colour)
    axis.set(xlabel="recorded grey level y", ylabel="p(y | x)", xlim=(0, 240), ylim=(0, 0.24))
    save(figure, "noise-model")


def mixture(y: np.ndarray, variance: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return density and score of noisy pixels of which most are near 60, others near 130."""
    spread = [np.sqrt(s**2 + variance) for s in (14, 18)]
    weighted = [
        w * norm.pdf(y, m, s) for w, m, s in zip((0.7, 0.3), (60, 130), spread, strict=True)
    ]
    slopes = [-p * (y - m) / s**2 for p, m, s in zip(weighted, (60, 130), spread, strict=True)]
    return sum(weighted), sum(slopes) / sum(weighted)


def score() -> None:
    """Draw a density of noisy grey levels, and its score as arrows."""
    y = np.linspace(0, 200, 400)
    p, s = mixture(y)
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(6, 3.8), sharex=True)
    top.fill_between(y, p, color=BLUE, alpha=0.3, lw=0)
    top.plot(y, p, color=BLUE)
    for at in (25, 40, 80, 105, 155, 180):
        slope = np.interp(at, y, s)
        top.annotate(
            "",
            (at + 170 * slope, np.interp(at, y, p)),
            (at, np.interp(at, y, p)),
            arrowprops={"arrowstyle": "-|>", "color": ORANGE, "lw": 2},
        )
    top.set(ylabel="how often\na grey level occurs", yticks=[])
    bottom.plot(y, s, color=ORANGE)
    bottom.axhline(0, color=GREY, lw=1)
    bottom.set(xlabel="recorded grey level y of a pixel", ylabel="score s", xlim=(0, 200))
    save(figure, "score")


def perturbation() -> None:
    """Draw the density of photon counts before and after perturbations of two sizes."""
    y = np.linspace(20, 100, 500)
    k = np.arange(40)
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.3), sharey=True)
    for axis, steps in zip(axes, (0.15, 0.35, 0.8), strict=True):
        sigma = steps * GAIN
        p = (poisson.pmf(k, 12)[:, None] * norm.pdf(y, GAIN * k[:, None], sigma)).sum(axis=0)
        axis.fill_between(y, p, color=BLUE, alpha=0.3, lw=0)
        axis.plot(y, p, color=BLUE, lw=1.2)
        axis.set(title=f"σ_a = {steps} steps", xlabel="y + σ_a u", yticks=[], ylim=(0, 0.07))
        axis.title.set_fontsize(12)
    axes[0].set_ylabel("density")
    save(figure, "perturbation")


def transform() -> None:
    """Draw the noise by brightness before and after a stabilizing transform."""
    x = np.linspace(1, 200, 200)
    rng = np.random.default_rng(0)
    y = GAIN * rng.poisson(x / GAIN, (20_000, x.size))
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.6))
    left.plot(x, y.std(axis=0), color=ORANGE)
    left.set(title="as recorded", xlabel="brightness x", ylabel="noise of y", ylim=(0, 35))
    z = 2 / np.sqrt(GAIN) * np.sqrt(y + 3 / 8 * GAIN)
    right.plot(x, z.std(axis=0), color=BLUE)
    right.set(title="after z = T(y)", xlabel="brightness x", ylabel="noise of z", ylim=(0, 2))
    save(figure, "transform")


def table() -> None:
    """Draw the look-up table of photon noise, and two pixels in it."""
    y = torch.linspace(10, 200, 96, dtype=torch.float64)
    s = torch.linspace(-0.12, 0.12, 97, dtype=torch.float64)
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 3), sharey=True)
    for axis, gain in zip(axes, (GAIN, 2 * GAIN), strict=True):
        x = parse_noise(f"poisson(gain={gain})").solve(y[None, :], s[:, None])
        shown = axis.imshow(
            x,
            extent=(10, 200, -0.12, 0.12),
            origin="lower",
            aspect="auto",
            vmin=0,
            vmax=300,
            interpolation="none",
        )
        axis.plot([100], [0.05], "o", color="white", mec="black")
        found = parse_noise(f"poisson(gain={gain})").solve(torch.tensor(100.0), torch.tensor(0.05))
        axis.annotate(f"x = {float(found):.0f}", (106, 0.056), color="white", weight="bold")
        axis.set(title=f"poisson(gain={gain:g})", xlabel="recorded grey level y")
        axis.title.set_fontsize(12)
    axes[0].set_ylabel("score s")
    bar = figure.colorbar(shown, ax=axes[1])
    bar.set_label("clean grey level x")
    bar.outline.set_visible(False)
    save(figure, "table")


def estimator() -> None:
    """Draw the variance of the sample by brightness, with the curves of three gains."""
    image = np.asarray(read_sample("cells").data, dtype=np.float64)
    difference = np.diff(image, axis=0) / np.sqrt(2)
    noise = np.diff(difference, axis=3) / np.sqrt(2)
    smooth = (image[:-1] + image[1:])[..., 1:] / 2
    for axis in (2, 3):
        smooth = (smooth + np.roll(smooth, 1, axis) + np.roll(smooth, -1, axis)) / 3
    edges = np.quantile(smooth, np.linspace(0, 1, 25))
    place = np.digitize(smooth, edges[1:-1])
    mean = [smooth[place == i].mean() for i in range(24)]
    variance = [noise[place == i].var() for i in range(24)]
    figure, axis = plt.subplots(figsize=(6, 2.8))
    axis.plot(mean, variance, "o", color=BLUE, label="measured in the images")
    x = np.linspace(98, max(mean), 50)
    for gain, colour in ((1, GREY), (2, ORANGE), (3, GREY)):
        text = NOISE.replace("gain=2", f"gain={gain}")
        found = parse_noise(text).variance(torch.from_numpy(x - 100)).numpy()
        axis.plot(x, found, color=colour, ls="-" if gain == 2 else ":", label=f"gain {gain}")
    axis.set(xlabel="brightness", ylabel="variance of the noise", ylim=(0, None))
    axis.legend()
    save(figure, "estimator")


if __name__ == "__main__":
    IMAGES.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        for draw in (noise_model, score, perturbation, transform, table, estimator):
            draw()
