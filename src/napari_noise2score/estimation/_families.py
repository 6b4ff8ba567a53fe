"""The families of noise: how variance and third moment go with the mean, and what model that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from ..noise.base import MAX_SHAPE
from ..noise.emccd import Emccd
from ..noise.gaussian import Gaussian
from ..noise.poisson import Poisson
from ..noise.rician import Rician
from ..noise.speckle import Gamma, Nakagami, Rayleigh
from ..noise.tweedie import Tweedie

READ = "read noise"

Curve = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Family(NamedTuple):
    """A family of noise: its variance and third moment as functions of the mean.

    Attributes
    ----------
    names : tuple of str
        Its parameters, in the order in which ``build`` takes them.
    start : callable
        First parameters, from a straight line and a parabola through the variances.
    variance, third : callable
        Of mean and parameters.
    build : callable
        The noise model of parameters.
    lowest, highest : tuple of float
        Ends of the range of each parameter.
    chosen : int
        How many more parameters stand in it, chosen beforehand.
    whole : Family, optional
        The family of which this is a special case.
    """

    names: tuple[str, ...]
    start: Callable[[np.ndarray, np.ndarray], Sequence[float]]
    variance: Curve
    third: Curve
    build: Callable[..., Any]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    chosen: int = 0
    whole: Family | None = None


def _line(m: np.ndarray, v: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of a straight line, relative errors alike."""
    rows = np.stack([m, np.ones_like(m)], axis=1) / v[:, None]
    slope, rest = np.linalg.lstsq(rows, np.ones_like(v), rcond=None)[0]
    return float(slope), float(rest)


def _share(m: np.ndarray, v: np.ndarray) -> float:
    """Coefficient of variation of multiplicative noise."""
    return float(np.sqrt(np.median(v / np.maximum(m, 1e-9) ** 2)))


def _camera_start(m: np.ndarray, v: np.ndarray) -> tuple[float, float, float]:
    gain, rest = _line(m, v)
    gain = max(gain, 0.01 * float(np.median(v)) / float(np.ptp(m) + 1))
    return gain, -rest / gain, 0.1 * float(np.sqrt(v.min()))


def _tweedie_start(m: np.ndarray, v: np.ndarray) -> tuple[float, float]:
    rows = np.stack([np.log(np.maximum(m, 1e-9)), np.ones_like(m)], axis=1)
    power, _ = np.linalg.lstsq(rows, np.log(v), rcond=None)[0]
    power = min(max(float(power), 1.1), 1.9)
    return power, float(np.exp(np.median(np.log(v) - power * rows[:, 0])))


# mean and standard deviation of η in y = (1 + η) x, and the skewness of its distribution
RAYLEIGH_MEAN, RAYLEIGH_STD = math.sqrt(math.pi / 2), math.sqrt(2 - math.pi / 2)
RAYLEIGH_SKEW = 2 * math.sqrt(math.pi) * (math.pi - 3) / (4 - math.pi) ** 1.5


def _rayleigh_share(sigma: float) -> float:
    return RAYLEIGH_STD * sigma / (1 + RAYLEIGH_MEAN * sigma)


def _rayleigh_sigma(share: float) -> float:
    share = min(share, 0.29)
    return share / (RAYLEIGH_STD - RAYLEIGH_MEAN * share)


def _nakagami(looks: float) -> tuple[float, float]:
    """Coefficient of variation and skewness of an amplitude of so many looks."""
    looks = max(looks, 0.5)
    first = math.exp(math.lgamma(looks + 0.5) - math.lgamma(looks)) / math.sqrt(looks)
    third = math.exp(math.lgamma(looks + 1.5) - math.lgamma(looks)) / looks**1.5
    variance = max(1 - first**2, 1e-12)
    return math.sqrt(variance) / first, (third - 3 * first + 2 * first**3) / variance**1.5


@cache
def _rice() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and third moment of magnitudes with σ = 1."""
    x = torch.linspace(0, 12, 121, dtype=torch.float64)
    edges = torch.linspace(0, 24, 1201, dtype=torch.float64)
    masses = Rician(1.0).masses(edges, x.clamp(min=1e-6))
    middle = (edges[1:] + edges[:-1]) / 2
    mean = masses @ middle
    away = middle - mean[:, None]
    return mean.numpy(), (masses * away**2).sum(1).numpy(), (masses * away**3).sum(1).numpy()


def _rician(which: int) -> Curve:
    def curve(m: np.ndarray, at: np.ndarray) -> np.ndarray:
        table = _rice()
        inside = np.interp(m / at[0], table[0], table[which])
        # darker than magnitudes of nothing can be
        missing = np.maximum(table[0][0] - m / at[0], 0) if which == 1 else 0.0
        return at[0] ** (which + 1) * (inside + missing)

    return curve


def _with_read(base: Any) -> Callable[..., Any]:
    """Build a model with read noise on top, unless that is next to nothing."""

    def build(*values: float) -> Any:
        *own, level = values
        return base(*own) + Gaussian(level) if level > 0 else base(*own)

    return build


INF = np.inf


def _cameras(base: Callable[..., Any], factor: float, skew: float, chosen: int) -> list[Family]:
    """Give counts with and without an offset and read noise.

    Their variance is ``factor × gain × signal``, their third moment ``skew × gain² × signal``.
    """

    def counts(names: tuple[str, ...], whole: Family | None) -> Family:
        def parts(at: np.ndarray) -> dict[str, Any]:
            return {"offset": 0.0, READ: 0.0} | dict(zip(names, at, strict=True))

        def start(m: np.ndarray, v: np.ndarray) -> list[float]:
            if names == ("gain",):
                return [float(np.median(v / np.maximum(m, 1e-9))) / factor]
            gain, offset, read = _camera_start(m, v)
            if "offset" not in names:
                gain, read = max(_line(m, v)[0], 1e-6), float(np.sqrt(v.min()))
            values = {"gain": gain / factor, "offset": offset, READ: read}
            return [values[name] for name in names]

        def variance(m: np.ndarray, at: np.ndarray) -> np.ndarray:
            own = parts(at)
            return factor * at[0] * (m - own["offset"]) + own[READ] ** 2

        def third(m: np.ndarray, at: np.ndarray) -> np.ndarray:
            return skew * at[0] ** 2 * (m - parts(at)["offset"])

        lowest = {"gain": 1e-9, "offset": -INF, READ: 0.0}
        return Family(
            names, start, variance, third, _with_read(base) if READ in names else base,
            tuple(lowest[name] for name in names), (INF,) * len(names), chosen, whole,
        )  # fmt: skip

    whole = counts(("gain", "offset", READ), None)
    fewer: list[tuple[str, ...]] = [("gain",), ("gain", "offset"), ("gain", READ)]
    return [*(counts(names, whole) for names in fewer), whole]


def _multiplied(excess: float) -> list[Family]:
    """Give the same of multiplied counts, whose excess noise is one parameter more."""

    def build(gain: float, offset: float = 0.0) -> Emccd:
        return Emccd(gain, offset, excess)

    return _cameras(build, excess, excess * (2 * excess - 1), 1)


FAMILIES = (
    Family(
        ("sigma",),
        lambda m, v: (float(np.sqrt(np.median(v))),),
        lambda m, at: np.full_like(m, at[0] ** 2),
        lambda m, at: np.zeros_like(m),
        Gaussian,
        (1e-9,), (INF,),
    ),
    Family(
        ("a", "b"),
        lambda m, v: _line(m, np.sqrt(v)),
        lambda m, at: (at[0] * m + at[1]) ** 2,
        lambda m, at: np.zeros_like(m),
        lambda a, b: Gaussian(a=a, b=b),
        (0.0, 1e-6), (INF, INF),
    ),
    *_cameras(Poisson, 1, 1, 0),
    # an EMCCD, and a photomultiplier as most are
    *_multiplied(2),
    *_multiplied(1.25),
    Family(
        ("alpha",),
        lambda m, v: (_share(m, v) ** -2,),
        lambda m, at: m**2 / at[0],
        lambda m, at: 2 * m**3 / at[0] ** 2,
        Gamma,
        (1.0,), (MAX_SHAPE,),
    ),
    Family(
        ("alpha", READ),
        lambda m, v: (_share(m, v) ** -2, float(np.sqrt(v.min()) / 2)),
        lambda m, at: m**2 / at[0] + at[1] ** 2,
        lambda m, at: 2 * m**3 / at[0] ** 2,
        _with_read(Gamma),
        (1.0, 0.0), (MAX_SHAPE, INF),
    ),
    Family(
        ("sigma",),
        lambda m, v: (_rayleigh_sigma(_share(m, v)),),
        lambda m, at: (_rayleigh_share(at[0]) * m) ** 2,
        lambda m, at: RAYLEIGH_SKEW * (_rayleigh_share(at[0]) * m) ** 3,
        Rayleigh,
        (1e-6,), (1.0,),
    ),
    Family(
        ("sigma", READ),
        lambda m, v: (_rayleigh_sigma(_share(m, v)), float(np.sqrt(v.min()) / 2)),
        lambda m, at: (_rayleigh_share(at[0]) * m) ** 2 + at[1] ** 2,
        lambda m, at: RAYLEIGH_SKEW * (_rayleigh_share(at[0]) * m) ** 3,
        _with_read(Rayleigh),
        (1e-6, 0.0), (1.0, INF),
    ),
    Family(
        ("m",),
        lambda m, v: (_share(m, v) ** -2 / 4,),
        lambda m, at: (_nakagami(at[0])[0] * m) ** 2,
        lambda m, at: _nakagami(at[0])[1] * (_nakagami(at[0])[0] * m) ** 3,
        Nakagami,
        (0.5,), (MAX_SHAPE,),
    ),
    Family(
        ("sigma",),
        lambda m, v: (float(np.sqrt(v.max())),),
        _rician(1),
        _rician(2),
        Rician,
        (1e-9,), (INF,),
    ),
    Family(
        ("power", "dispersion"),
        _tweedie_start,
        lambda m, at: at[1] * np.maximum(m, 0) ** at[0],
        lambda m, at: at[0] * at[1] ** 2 * np.maximum(m, 0) ** (2 * at[0] - 1),
        Tweedie,
        # nearer to 1 and 2 it is but another name for photons and speckle
        (1.1, 1e-9), (1.9, INF),
    ),
)  # fmt: skip
