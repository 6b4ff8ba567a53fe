"""Self-supervised denoising: learn the score once, then choose and tune the noise model live.

Neither torch nor Qt is imported until something is used that needs it.
"""

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("napari-noise2score")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

# Read by torch when it is first imported. Without it, torch's threads spin while they wait for each
# other, and training slows down twentyfold as soon as anything else wants a core: a window does.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_WHERE = {
    "Emccd": "noise",
    "Empirical": "noise",
    "Gamma": "noise",
    "Gaussian": "noise",
    "LogGamma": "noise",
    "Nakagami": "noise",
    "NoiseModel": "noise",
    "NoncentralChi": "noise",
    "Poisson": "noise",
    "Rayleigh": "noise",
    "Rician": "noise",
    "Tweedie": "noise",
    "parse_noise": "noise",
    "Progress": "progress",
    "Polish": "score.polish",
    "ScoreModel": "score.model",
    "Training": "score.training",
    "train": "score.training",
    "train_steps": "score.training",
    "Image": "image.image",
    "NoiseCheck": "estimation.goodness_of_fit",
    "NoiseReport": "estimation.noise_report",
    "calibrate_camera": "estimation.camera",
    "calibrate_camera_steps": "estimation.camera",
    "check_noise": "estimation.noise_check",
    "check_steps": "estimation.noise_check",
    "denoise": "denoising.denoise",
    "denoise_steps": "denoising.denoise",
    "estimate_noise": "estimation.estimate",
    "estimate_sigma_map": "estimation.sigma_map",
    "estimate_steps": "estimation.estimate",
    "evaluate": "denoising.evaluate",
    "export_model": "denoising.export",
    "polish": "denoising.polishing",
    "polish_steps": "denoising.polishing",
    "uncertainty": "denoising.denoise",
    "uncertainty_steps": "denoising.denoise",
    "read_image": "image.files",
    "read_sample": "sample",
    "write_image": "image.write",
    "UserError": "errors",
}

__all__ = [
    "Emccd",
    "Empirical",
    "Gamma",
    "Gaussian",
    "Image",
    "LogGamma",
    "Nakagami",
    "NoiseCheck",
    "NoiseModel",
    "NoiseReport",
    "NoncentralChi",
    "Poisson",
    "Polish",
    "Progress",
    "Rayleigh",
    "Rician",
    "ScoreModel",
    "Training",
    "Tweedie",
    "UserError",
    "__version__",
    "calibrate_camera",
    "calibrate_camera_steps",
    "check_noise",
    "check_steps",
    "denoise",
    "denoise_steps",
    "estimate_noise",
    "estimate_sigma_map",
    "estimate_steps",
    "evaluate",
    "export_model",
    "parse_noise",
    "polish",
    "polish_steps",
    "read_image",
    "read_sample",
    "train",
    "train_steps",
    "uncertainty",
    "uncertainty_steps",
    "write_image",
]

if TYPE_CHECKING:
    from .denoising.denoise import denoise, denoise_steps, uncertainty, uncertainty_steps
    from .denoising.evaluate import evaluate
    from .denoising.export import export_model
    from .denoising.polishing import polish, polish_steps
    from .errors import UserError
    from .estimation.camera import calibrate_camera, calibrate_camera_steps
    from .estimation.estimate import estimate_noise, estimate_steps
    from .estimation.goodness_of_fit import NoiseCheck
    from .estimation.noise_check import check_noise, check_steps
    from .estimation.noise_report import NoiseReport
    from .estimation.sigma_map import estimate_sigma_map
    from .image.files import read_image
    from .image.image import Image
    from .image.write import write_image
    from .noise import (
        Emccd,
        Empirical,
        Gamma,
        Gaussian,
        LogGamma,
        Nakagami,
        NoiseModel,
        NoncentralChi,
        Poisson,
        Rayleigh,
        Rician,
        Tweedie,
        parse_noise,
    )
    from .progress import Progress
    from .sample import read_sample
    from .score.model import ScoreModel
    from .score.polish import Polish
    from .score.training import Training, train, train_steps


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
