"""The level of a noise that is known but for it, and of its read noise, read off images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..errors import UserError
from ..noise.base import NoiseModel
from ..noise.parameter import round_to_four_digits
from ._dct_power import fit_waves, spectrum
from ._fit import errors_of
from ._frames import Shots, look_over, moments_of, powers_of, still_pixels, valid_sample
from ._from_images import in_units, told_in_one_line, unit_of
from ._noise_variance import at_least_some
from ._robust_fit import MAX_RESIDUAL

# the variance of some families follows the level only nearly: until it changes no more than this
SETTLED, ROUNDS = 1e-3, 30
# how often outliers among the variances of white noise are looked for
AGAIN = 20


def refine_from_shots(scenes: Sequence[np.ndarray], noise: NoiseModel) -> NoiseModel:
    """Find the level of a noise and of its read noise anew, and keep all else.

    Parameters
    ----------
    scenes : sequence of ndarray
        Shots of each scene one after the other, in grey levels, shape ``(shots, Y, X)``; one shot
        of each will do.
    noise : NoiseModel
        Its family, offset, correlation, and how its variance goes with brightness are taken as
        given, and that it has read noise or none.

    Returns
    -------
    NoiseModel

    Raises
    ------
    UserError
        If the images cannot tell, or their noise is nothing like this one.

    Notes
    -----
    Of white noise the variance by brightness is that of `moments_of`; the level and the read noise
    are fitted to it. Of correlated noise it is the power of each cosine wave of patches: read
    noise has as much in all, the rest has what the correlation leaves, and what pictures have is
    seen where patches hold more of them.

    Examples
    --------
    >>> from napari_noise2score.noise import A, Poisson
    >>> scene = np.kron(np.random.default_rng(0).uniform(20, 200, (8, 8)), np.ones((32, 32)))
    >>> noisy = (Poisson(5) @ A + Gaussian(10)).sample(scene, np.random.default_rng(1))
    >>> found = refine_from_shots([noisy[None]], Poisson(8) @ A + Gaussian(6))
    >>> round(found.base.base.gain), round(found.read.sigma)
    (5, 10)
    """
    base, kernel, read = noise.components
    if read and kernel is None and base.constant_variance:
        raise UserError(f"'{noise}': both are the same noise; write one gaussian(sigma=…)")
    with told_in_one_line():
        unit = unit_of(valid_sample(scenes))
        if unit == 1:
            return _refined(scenes, noise)
        scenes = [in_units(shots, unit) for shots in scenes]
        return _refined(scenes, noise.in_unit(1 / unit)).in_unit(unit)


def _refined(scenes: Sequence[np.ndarray], noise: NoiseModel) -> NoiseModel:
    base: NoiseModel
    base, kernel, _ = noise.components
    shots = look_over(scenes)
    measure = _by_brightness if kernel is None else _by_waves
    measured = measure(shots, noise)
    for _ in range(ROUNDS):
        level, square = measured(base)
        if level <= 0:
            raise UserError(f"the noise of the images is nothing like '{noise}': estimate it")
        base = base.scaled(level)
        if abs(level - 1) < SETTLED:
            break
    refined: NoiseModel = base if kernel is None else base @ kernel
    return refined.with_read_noise(round_to_four_digits(square**0.5)) if square > 0 else refined


Fit = Callable[[NoiseModel], tuple[float, float]]


def _by_brightness(shots: Shots, noise: NoiseModel) -> Fit:
    """Give what fits the level of a base and the square of its read noise to variances."""
    still = still_pixels(shots, None)
    moments = moments_of(shots, None, still)
    seen = moments.variance
    width, _ = errors_of(moments, not shots.repeated, still is not None)

    def fit(base: NoiseModel) -> tuple[float, float]:
        parts = [moments.over(lambda mean: _variance(base, mean))]
        if noise.components.read_noise:
            parts.append(np.ones_like(seen))
        columns = np.stack(parts, axis=1)
        # first by relative errors: dark places alone, of next to no noise, are no guide
        weight = 1 / at_least_some(seen)
        for _ in range(AGAIN):
            found = np.linalg.lstsq(columns * weight[:, None], seen * weight, rcond=None)[0]
            away = (seen - columns @ found) / width
            far = MAX_RESIDUAL * np.where((away < 0) & (not shots.repeated), 2, 1)
            weight = 1 / (width * (1 + (away / far) ** 2))
        return float(found[0]), float(found[1]) if len(found) > 1 else 0.0

    return fit


def _by_waves(shots: Shots, noise: NoiseModel) -> Fit:
    """Give what fits the level of a base and the square of its read noise to powers of waves."""
    own, kernel, _ = noise.components
    assert kernel is not None
    powers = powers_of(shots)
    # what blurs noise that is not added to the picture blurs the picture, too
    mean = powers.mean if own.additive else powers.mean / kernel.total
    left = spectrum(kernel)

    def fit(base: NoiseModel) -> tuple[float, float]:
        columns = [_variance(base, mean)[:, None] * left]
        if noise.components.read_noise:
            columns.append(np.ones_like(powers.noise))
        found, _ = fit_waves(powers, np.stack(columns, axis=-1))
        return float(found[0]), float(found[1]) if len(found) > 1 else 0.0

    return fit


def _variance(base: NoiseModel, mean: np.ndarray) -> np.ndarray:
    x = base.clean_from_mean(torch.from_numpy(np.asarray(mean, dtype=np.float64)))
    return base.variance(x.clamp(min=base.lowest)).numpy()
