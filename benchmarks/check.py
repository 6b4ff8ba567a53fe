"""Measure how often the noise check rejects a correct and a wrong model of single frames.

    python benchmarks/check.py DATA [--set Kodak24] [--images 12]

For each noise model, print how often the check says that the correct model has the wrong
correlation, the median and worst residual correlation, and how often the check detects that A was
wrongly added to the model or removed from it.
"""

from __future__ import annotations

import numpy as np
from sixteen import add_noise, load_photographs
from table import table

from napari_noise2score import check_noise, parse_noise

NOISES = [
    "gaussian(sigma=10)", "gaussian(sigma=25)", "poisson(gain=1)", "poisson(gain=5)",
    "gamma(alpha=40)", "rayleigh(sigma=0.2)", "gaussian(sigma=10) @ A", "gaussian(sigma=25) @ A",
    "poisson(gain=5) @ A", "gamma(alpha=40) @ A",
]  # fmt: skip


def main() -> None:
    clean = load_photographs()
    add = table(
        "check", "noise", "correct model rejected", "residual correlation, median (worst)",
        "wrong model found",
    )  # fmt: skip
    all_rows = []
    for text in NOISES:
        wrong_text = text.removesuffix(" @ A") if "@" in text else f"{text} @ A"
        rows = []
        for y in add_noise(parse_noise(text), clean, 1):
            correct, wrong = (check_noise(y, noise) for noise in (text, wrong_text))
            found = ["correlated" in check.verdict for check in (correct, wrong)]
            rows.append([found[0], abs(correct.residual.correlation), found[1]])
        all_rows += rows
        rejected, residual, detected = np.array(rows, dtype=float).T
        add(
            text, f"{rejected.mean():.0%}", f"{np.median(residual):.2f} ({residual.max():.2f})",
            f"{detected.mean():.0%}",
        )  # fmt: skip
    rejected, _, detected = np.array(all_rows, dtype=float).mean(0)
    add("all", f"{rejected:.0%}", "", f"{detected:.0%}")


if __name__ == "__main__":
    main()
