"""The level of noise of a known correlation, read off the power of the waves of patches.

Of noise of a known correlation the power in each cosine wave of a patch is known but for its level.
What pictures have in each is seen where patches hold more of them. Least squares tell both apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..noise.kernel import Kernel
from ._dct import ORDER, SIDE, SORTS, WAVES, power_of
from ._moments import BINS, LEAST, random_patches

# patches looked at in all
MOST = 400_000
# groups of patches of a brightness by structure, as shares of all; the first is taken for the
# noise and some picture, the others, less this one, for what pictures there are
SORTED = 0.1, 0.2, 0.35, 0.55, 0.8
# how far what they show is from what is left in the calmest, as a share of it, and how far the
# power of the calmest is known at best
UNLIKE, KNOWN, ROUNDS = 0.1, 0.02, 10
# patches were sorted by some of the waves, and the mean says nothing
USED = (ORDER > 0) & ~SORTS


class Powers(NamedTuple):
    """Power of the waves of patches, by brightness.

    Attributes
    ----------
    mean : ndarray
        Brightness in grey levels, shape ``(ranges,)``.
    noise : ndarray
        Mean power in the calmest patches, shape ``(ranges, waves)``.
    pictures : ndarray
        How much more less calm patches have, shape ``(ranges, waves, groups)``; of subtracted
        shots there are no groups.
    """

    mean: np.ndarray
    noise: np.ndarray
    pictures: np.ndarray


def wave_powers(
    frames: Sequence[np.ndarray],
    noises: Sequence[np.ndarray] = (),
    cut: Sequence[np.ndarray] = (),
) -> Powers:
    """Measure the power of waves by brightness.

    Parameters
    ----------
    frames : sequence of 2-D ndarray
        Noisy planes, in grey levels: single shots or means of some.
    noises : sequence of 2-D ndarray
        What is left of each frame's shots when they are subtracted from each other.
    cut : sequence of 2-D ndarray
        Infinite where a pixel is not valid, else 0.

    Returns
    -------
    Powers

    Raises
    ------
    ValueError
        If there are too few patches.
    """
    chance, most = np.random.default_rng(0), MOST // len(frames)
    parts = [
        patch_powers(frame, (noises or frames)[i], most, chance, cut[i] if cut else None)
        for i, frame in enumerate(frames)
    ]
    light, power = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(light)
    ranges = np.split(order, [len(order) * i // BINS for i in range(1, BINS)])
    if len(order) < LEAST * BINS:
        raise ValueError("too few patches to tell their noise")
    mean = np.array([light[inside].mean() for inside in ranges])
    if noises:
        calm = np.stack([power[inside].mean(0)[USED] for inside in ranges])
        return Powers(mean, calm.astype(np.float64), np.zeros((*calm.shape, 0)))
    groups = []
    for inside in ranges:
        by = inside[np.argsort(power[inside][:, SORTS].mean(1))]
        ends = [0, *(int(share * len(by)) for share in SORTED)]
        groups.append([power[by[a:b]].mean(0)[USED] for a, b in pairwise(ends)])
    calm, *others = np.moveaxis(np.array(groups, dtype=np.float64), 1, 0)
    return Powers(mean, calm, np.stack([other - calm for other in others], axis=-1))


def patch_powers(
    frame: np.ndarray,
    noise: np.ndarray,
    most: int,
    chance: np.random.Generator,
    cut: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Give brightness and the power of each wave of noise in random patches of a frame.

    Parameters
    ----------
    frame, noise : ndarray
        A plane, and that of which the power is asked, which may be the same.
    most : int
        How many patches.
    chance : numpy.random.Generator
        Chooses them.
    cut : ndarray, optional
        Infinite where a pixel is not valid: patches that hold one are left out.

    Returns
    -------
    light, power : ndarray
        Shapes ``(patches,)`` and ``(patches, waves)``.
    """
    cut = np.zeros(frame.shape, bool) if cut is None else cut
    light, *_, values = random_patches(frame, noise, noise, cut, most, chance)
    return light, (values @ WAVES) ** 2


def fit_waves(powers: Powers, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell noise from pictures by least squares.

    Parameters
    ----------
    powers : Powers
        What was measured.
    noise : ndarray
        Power of each noise that is looked for where its level is 1, shape
        ``(ranges, waves, noises)``.

    Returns
    -------
    level, error : ndarray
        Of each noise, shape ``(noises,)``.
    """
    count, waves, groups = powers.pictures.shape
    pictures = np.zeros((count, waves, count * groups))
    for i in range(count):  # they are like each other at one brightness
        pictures[i, :, i * groups : (i + 1) * groups] = powers.pictures[i]
    seen, noise, pictures = (
        part.reshape(count * waves, *part.shape[2:]) for part in (powers.noise, noise, pictures)
    )
    level, _, error = without_pictures(seen, noise, pictures, KNOWN, ROUNDS)
    parts = np.concatenate([noise, pictures], axis=1)
    inverse = np.linalg.pinv((parts.T / error**2) @ parts)
    return level, np.sqrt(np.diag(inverse)[: len(level)])


def without_pictures(
    seen: np.ndarray, noise: np.ndarray, pictures: np.ndarray, known: float, rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tell the power of noise in waves from that of pictures.

    Parameters
    ----------
    seen : ndarray
        Power of each wave, shape ``(waves,)``.
    noise, pictures : ndarray
        What each noise of level 1, and each picture, has in the waves, ``(waves, any)``.
    known : float
        How far it is known at best, as a share.
    rounds : int
        How often it is asked; after the first time, waves that hold much of a picture say less.

    Returns
    -------
    level, left, error : ndarray
        Of each noise; what is picture in each wave, and how far the power of each is known.
    """
    parts, count = np.concatenate([noise, pictures], axis=1), noise.shape[1]
    if not np.isfinite(parts).all() or not np.all(seen > 0):
        # LAPACK would print what it thinks of it
        raise np.linalg.LinAlgError("the power of patches is not a positive number")
    error = known * seen
    for _ in range(rounds):
        found = np.linalg.lstsq(parts / error[:, None], seen / error, rcond=None)[0]
        left = pictures @ found[count:]
        error = np.hypot(known * seen, UNLIKE * left)
    return found[:count], left, error


def spectrum(kernel: Kernel) -> np.ndarray:
    """Give the power of noise of variance 1, correlated by a kernel, in each wave that is used."""
    taps = np.array(kernel.taps)
    wide = 2 * max(SIDE, *taps.shape)
    product = np.fft.ifft2(np.abs(np.fft.fft2(taps, (wide, wide))) ** 2).real
    row, column = np.divmod(np.arange(SIDE**2), SIDE)
    apart = product[row[:, None] - row, column[:, None] - column]
    return power_of(apart)[USED]


def variances_with_read(powers: Powers, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Give the variance of pixels whose noise is correlated but for read noise on top.

    Parameters
    ----------
    powers : Powers
        What was measured.
    kernel : Kernel
        The correlation.

    Returns
    -------
    variance, error : ndarray
        In each range of brightness, shape ``(ranges,)``.
    """
    ranges = np.arange(len(powers.mean))
    noise = np.zeros((*powers.noise.shape, len(ranges) + 1))
    noise[ranges, :, ranges] = spectrum(kernel)
    noise[..., -1] = 1
    level, error = fit_waves(powers, noise)
    variance = np.maximum(level[:-1], 0) * kernel.power + max(level[-1], 0.0)
    return variance, np.hypot(error[:-1] * kernel.power, error[-1])
