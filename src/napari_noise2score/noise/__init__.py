"""Noise models p(y | x), and their text form."""

from .base import NoiseModel
from .correlated import Correlated
from .emccd import Emccd
from .empirical import Empirical
from .gaussian import Gaussian
from .kernel import A, Kernel, measure_kernel
from .parse import parse_noise
from .poisson import Poisson
from .rician import Rician
from .speckle import Gamma, Nakagami, Rayleigh
from .sum import Sum
from .tweedie import Tweedie

__all__ = [
    "A",
    "Correlated",
    "Emccd",
    "Empirical",
    "Gamma",
    "Gaussian",
    "Kernel",
    "Nakagami",
    "NoiseModel",
    "Poisson",
    "Rayleigh",
    "Rician",
    "Sum",
    "Tweedie",
    "measure_kernel",
    "parse_noise",
]
