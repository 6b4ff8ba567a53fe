"""Noise models p(y | x), their one spelling, and the solution of ``s = f(x, y)``."""

from .base import NoiseModel
from .gaussian import Gaussian
from .poisson import Poisson
from .speckle import Gamma, Rayleigh
from .spelling import parse_noise
from .sum import Sum
from .table import Table, make_solver
from .transform import Transform

__all__ = [
    "Gamma",
    "Gaussian",
    "NoiseModel",
    "Poisson",
    "Rayleigh",
    "Sum",
    "Table",
    "Transform",
    "make_solver",
    "parse_noise",
]
