"""Noise models p(y | x), their one spelling, and the solution of ``s = f(x, y)``."""

from .base import NoiseModel
from .correlated import Correlated
from .emccd import Emccd
from .empirical import Empirical
from .gaussian import Gaussian
from .kernel import A, Kernel, measure_kernel
from .poisson import Poisson
from .rician import Rician
from .solver import Solver, make_closed_form, make_solver, reach_of
from .speckle import Gamma, Nakagami, Rayleigh
from .spelling import parse_noise
from .sum import Sum
from .table import Table
from .transform import Transform
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
    "Solver",
    "Sum",
    "Table",
    "Transform",
    "Tweedie",
    "make_closed_form",
    "make_solver",
    "measure_kernel",
    "parse_noise",
    "reach_of",
]
