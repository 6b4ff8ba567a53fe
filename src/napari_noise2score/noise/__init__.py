"""Noise models p(y | x), their one spelling, and the solution of ``s = f(x, y)``."""

from .models import Gamma, Gaussian, NoiseModel, Poisson, Rayleigh, Sum
from .spelling import parse_noise
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
