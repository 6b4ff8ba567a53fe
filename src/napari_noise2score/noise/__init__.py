"""Noise models p(y | x), their text form, and the registry of noise families."""

from .base import Components, NoiseModel
from .calibration_map import CalibrationMap
from .corrected import Corrected, with_correction
from .correction import Correction
from .correlated import Correlated
from .emccd import Emccd
from .empirical import Empirical
from .family import Form, NoiseFamily
from .fitting import READ_NOISE, FittedParameters
from .gamma import Gamma
from .gaussian import Gaussian
from .kernel import A, Kernel, measure_kernel
from .log_gamma import LogGamma
from .nakagami import Nakagami
from .noncentral_chi import NoncentralChi
from .parameter import Parameter
from .parse import parse_correction, parse_noise
from .per_channel import PerChannel
from .poisson import Poisson
from .rayleigh import Rayleigh
from .registry import families, register
from .rician import Rician
from .sum import Sum
from .tweedie import Tweedie

__all__ = [
    "READ_NOISE",
    "A",
    "CalibrationMap",
    "Components",
    "Corrected",
    "Correction",
    "Correlated",
    "Emccd",
    "Empirical",
    "FittedParameters",
    "Form",
    "Gamma",
    "Gaussian",
    "Kernel",
    "LogGamma",
    "Nakagami",
    "NoiseFamily",
    "NoiseModel",
    "NoncentralChi",
    "Parameter",
    "PerChannel",
    "Poisson",
    "Rayleigh",
    "Rician",
    "Sum",
    "Tweedie",
    "families",
    "measure_kernel",
    "parse_correction",
    "parse_noise",
    "register",
    "with_correction",
]
