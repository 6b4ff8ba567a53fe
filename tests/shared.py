"""What many tests share: every noise model of the design, as it is written; small images."""

from __future__ import annotations

BASES = [
    "gaussian(sigma=25)",
    "gaussian(a=0.098, b=25)",
    "gamma(alpha=26)",
    "poisson(gain=5)",
    "rayleigh(sigma=0.3)",
]
EVERY = [
    *BASES,
    *(f"{base} @ A" for base in BASES),
    *(f"{base}{a} + gaussian(sigma=10)" for base in BASES[2:] for a in ("", " @ A")),
    "gaussian(sigma=25) @ kernel([[0.1, 0.8, 0.1]])",
    "poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)",
    "rician(sigma=10)",
    "nakagami(m=1)",
    "tweedie(power=1.5, dispersion=3)",
    "emccd(gain=20)",
]


def pieces(stack, size=32):
    """Cut a stack into small images: patches are no larger then, and a step takes a third."""
    rows, columns = (range(0, n - n % size, size) for n in stack.shape[-2:])
    return [stack[..., y : y + size, x : x + size] for y in rows for x in columns]
