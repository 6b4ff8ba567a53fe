"""Provide the noise models that many tests go through, and small crops of images."""

from __future__ import annotations

BASE_NOISES = [
    "gaussian(sigma=25)",
    "gaussian(a=0.098, b=25)",
    "gamma(alpha=26)",
    "poisson(gain=5)",
    "rayleigh(sigma=0.3)",
]
ALL_NOISES = [
    *BASE_NOISES,
    *(f"{base} @ A" for base in BASE_NOISES),
    *(
        f"{base}{correlation} + gaussian(sigma=10)"
        for base in BASE_NOISES[2:]
        for correlation in ("", " @ A")
    ),
    "gaussian(sigma=25) @ kernel([[0.1, 0.8, 0.1]])",
    "poisson(gain=2.1, offset=100) + gaussian(sigma=3.2)",
    "rician(sigma=10)",
    "nakagami(m=1)",
    "tweedie(power=1.5, dispersion=3)",
    "emccd(gain=20)",
]


def small_crops(stack, size=32):
    """Cut a stack into crops, so that patches are small and a training step three times faster."""
    rows, columns = (range(0, n - n % size, size) for n in stack.shape[-2:])
    return [stack[..., y : y + size, x : x + size] for y in rows for x in columns]
