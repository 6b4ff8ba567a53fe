"""What the noise check says of single shots of photographs, of the right model and of a wrong one.

    python benchmarks/check.py DATA [--set Kodak24] [--images 12]

For each noise: how often the model that it was drawn from is called correlated in a wrong way, the
median and the worst residual correlation, and how often that is seen of the same model with A
added or taken away.
"""

from __future__ import annotations

import numpy as np
from sixteen import add_noise, photographs

from napari_noise2score import check_noise, parse_noise

NOISES = [
    "gaussian(sigma=10)", "gaussian(sigma=25)", "poisson(gain=1)", "poisson(gain=5)",
    "gamma(alpha=40)", "rayleigh(sigma=0.2)", "gaussian(sigma=10) @ A", "gaussian(sigma=25) @ A",
    "poisson(gain=5) @ A", "gamma(alpha=40) @ A",
]  # fmt: skip


def main() -> None:
    clean = photographs()
    print(
        "noise | right model called wrong | residual correlation, median (worst) | wrong one seen"
    )
    every = []
    for text in NOISES:
        other = text.removesuffix(" @ A") if "@" in text else f"{text} @ A"
        rows = []
        for y in add_noise(parse_noise(text), clean, 1):
            right, wrong = (check_noise(y, noise) for noise in (text, other))
            seen = ["correlated" in check.verdict for check in (right, wrong)]
            rows.append([seen[0], abs(right.residual.correlation), seen[1]])
        every += rows
        called, size, seen = np.array(rows, dtype=float).T
        print(
            f"`{text}` | {called.mean():.0%} | {np.median(size):.2f} ({size.max():.2f}) "
            f"| {seen.mean():.0%}",
            flush=True,
        )
    called, _, seen = np.array(every, dtype=float).mean(0)
    print(f"all | {called:.0%} | | {seen:.0%}")


if __name__ == "__main__":
    main()
